"""A policy in force that allows what one federation's card asks for, and nothing else: for people who have read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.card_change import require_same_federation
from client.card_folder import AgreedCard
from client.policy import SitePolicy, load_policy
from client.policy_draft import card_values, drafted
from client.site_file import SiteFile
from more_model.errors import ConfigError
from more_model.private_file import replace

_ALL_WEEK = ("mon-sun 00:00-24:00",)
_HEADING = """\
# What this site allows: exactly what the federation asks for, as its people decided with `more-client policy allow`.
# Whatever is not allowed here is refused. Check your changes with `more-client policy check FILE`; a changed policy
# holds at once.
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a card cannot say, so that a person has to. mode, epsilon: the privacy mode that is allowed, and what a run
    may cost each patient. unprotected: updates without differential privacy. max_rounds: None as in the card."""

    minimum_patients: int
    mode: str | None = None
    epsilon: float | None = None
    unprotected: bool = False
    counts_are_public: bool = False
    gpu_share: float = 0.0
    max_rounds: int | None = None


def allow(site: SiteFile, agreed: AgreedCard, decision: Decision, code: str, *, overwrite: bool = False) -> SitePolicy:
    """Write the site's policy, in the place of one that allows nothing; ``code``: digest of the installed packages.

    Raises:
        ConfigError: a card of another federation; a decision that does not allow what the card asks for, or allows
            what it does not ask for (all at once); a policy that allows something, without ``overwrite``.
    """
    require_same_federation(site, agreed.card)
    if faults := _faults(agreed, decision):
        raise ConfigError(
            "the decision and the federation's card",
            faults,
            remedy="ask the coordinator for a card that you can agree to, or decide otherwise",
        )
    path = site.controls.policy
    if not overwrite:
        _refuse_overwriting(path)
    values = _values(agreed, decision, code, minimum_count=site.evaluation_threshold)
    replace(path, drafted(values, in_force=True, heading=_HEADING).encode(), mode=0o644)
    written = load_policy(path)
    assert written is not None
    return written


def _faults(agreed: AgreedCard, decision: Decision) -> list[str]:
    privacy, faults = agreed.privacy, []
    if privacy.mode == "none":
        if decision.mode is not None or decision.epsilon is not None:
            faults.append("no privacy mode is asked for: leave --mode and --epsilon out")
        if not decision.unprotected:
            faults.append("updates are asked for without differential privacy: say --unprotected if that may be")
        return faults
    if decision.unprotected:
        faults.append(f"the privacy mode {privacy.mode} is asked for: leave --unprotected out")
    if decision.mode != privacy.mode:
        said = decision.mode or "none"
        faults.append(f"the privacy mode {privacy.mode} is asked for, and --mode says {said}")
    if decision.epsilon is None:
        faults.append("--epsilon is missing: say what a run may cost each patient")
    elif privacy.target_epsilon is not None and decision.epsilon < privacy.target_epsilon:
        faults.append(f"epsilon {privacy.target_epsilon:g} is asked for, and --epsilon allows {decision.epsilon:g}")
    return faults


def _refuse_overwriting(path: Path) -> None:
    present = load_policy(path)
    if present is not None and present != SitePolicy():
        raise ConfigError(
            str(path),
            ["there is a policy that allows something"],
            remedy="edit it, or add --overwrite to write a new one in its place",
        )


def _values(agreed: AgreedCard, decision: Decision, code: str, *, minimum_count: int) -> dict[str, dict[str, Any]]:
    values = card_values(agreed, code)
    if decision.max_rounds is not None:
        values["exchange"]["max_rounds"] = decision.max_rounds
    if decision.epsilon is not None:
        values["privacy"]["epsilon"] = decision.epsilon
    values["evaluation"] |= {"minimum_count": minimum_count, "counts_are_public": decision.counts_are_public}
    values["schedule"] = {"time_zone": "UTC", "windows": list(_ALL_WEEK)}
    values["resources"] = {"gpu_share": decision.gpu_share, "minimum_patients": decision.minimum_patients}
    return values
