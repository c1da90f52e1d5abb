"""A policy as a file for people: the template with what a federation's card asks for in the places of its examples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.card_folder import AgreedCard

TEMPLATE = Path(__file__).parent / "policy_template.toml"

_PART, _SETTING = re.compile(r"\[(\w+)\]"), re.compile(r"# (\w+) = ")
#: Of an answer beside its tensors; of the keys, shares and signatures of a secure sum; of counts by score.
_FACTS_BYTES, _SUM_BYTES, _EVALUATION_BYTES = 16 * 1024, 1024 * 1024, 1024 * 1024

#: Part of a policy -> setting -> value.
Values = Mapping[str, Mapping[str, Any]]


def card_values(agreed: AgreedCard, code: str) -> dict[str, dict[str, Any]]:
    """What a policy names that allows what the card asks for, and nothing beyond it. ``code``: digest of the installed
    packages. How many patients, which hours, what of a GPU and, where the card names its noise instead, how large an
    epsilon: a card says nothing of these."""
    card, mode = agreed.card, agreed.privacy.mode
    privacy: dict[str, Any] = {
        "modes": [] if mode == "none" else [mode],
        "unprotected": mode == "none",
        "secure_sums": "refused" if agreed.sums is None else "required",
    }
    if agreed.privacy.delta is not None:
        privacy["delta"] = agreed.privacy.delta
    if agreed.privacy.target_epsilon is not None:
        privacy["epsilon"] = agreed.privacy.target_epsilon
    return {
        "federation": {"name": card.name, "ca_fingerprint": card.ca_fingerprint},
        "code": {"installed": [code], "bundles": [card.bundle]},
        "exchange": {
            "specifications": [card.specification],
            "max_bytes_per_round": _bytes_per_round(agreed),
            "max_rounds": card.rounds,
        },
        "privacy": privacy,
        "evaluation": {"terms": sorted(card.terms.values())},
    }


def drafted(values: Values, *, in_force: bool, heading: str) -> str:
    """The template's text under ``heading`` (whole lines of comment), with ``values`` for the examples of the same
    settings: in force, or as comments like everything else."""
    part, lines = "", [*heading.splitlines(), ""]
    for line in TEMPLATE.read_text(encoding="utf-8").partition("\n\n")[2].splitlines():
        if (found := _PART.fullmatch(line)) is not None:
            part = found[1]
        setting = _SETTING.match(line)
        if setting is not None and setting[1] in values.get(part, {}):
            # JSON writes texts, numbers, truth values and flat lists of them as TOML does.
            line = f"{setting[1]} = {json.dumps(values[part][setting[1]])}"
            line = line if in_force else f"# {line}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _bytes_per_round(agreed: AgreedCard) -> int:
    card, sums = agreed.card, agreed.sums
    if sums is None:
        answer = card.max_update_bytes + _FACTS_BYTES
    else:
        answer = card.max_update_bytes * sums.word_bits // 32 + _SUM_BYTES
    return answer + (_EVALUATION_BYTES if card.terms else 0)
