"""Leaving a condition out of the words: which words mention it, and texts without the sentences that do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from more_model.data.study import Triplet
from more_model.settings import load_settings
from more_model.training.examples import Examples

#: After a full stop or semicolon, but not after the number of an item ("2. Left effusion."): it belongs to the item.
_SENTENCE_END = re.compile(r"(?<=[.;])(?<!\d[.;])\s+")


class ConditionWords(BaseModel):
    """Label -> the words by which a text mentions it, as in ``simulation/configs/words/conditions.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Mapping[str, tuple[str, ...]] = Field(min_length=1)


def shipped_words() -> Path:
    """The word lists that come with the package."""
    return Path(str(resources.files("simulation") / "configs" / "words" / "conditions.toml"))


def load_words(path: Path | None) -> ConditionWords:
    """A file of word lists, or the one that comes with the package.

    Raises:
        ConfigError: it is missing or not valid (all faults).
    """
    return load_settings(ConditionWords, path or shipped_words())


def mention_of(words: Sequence[str]) -> re.Pattern[str]:
    """An expression that finds any of ``words``; a ``*`` at the end lets a word go on."""
    return re.compile("|".join(map(_expression, words)), re.IGNORECASE)


def _expression(word: str) -> str:
    whole = r"\s+".join(re.escape(piece) for piece in word.rstrip("*").split())
    return rf"\b{whole}" + ("" if word.endswith("*") else r"\b")


def without_mentions(text: str | None, mention: re.Pattern[str]) -> str | None:
    """``text`` without the sentences that mention it; None where nothing is left."""
    if text is None or mention.search(text) is None:
        return text
    return " ".join(part for part in _SENTENCE_END.split(text) if mention.search(part) is None) or None


def silenced(examples: Examples, mention: re.Pattern[str], drop: Literal["sentences", "triplets"]) -> Examples:
    """``examples`` whose words never mention it: without those sentences, or without the triplets that have one."""
    if drop == "triplets":
        return examples.where(lambda triplet: not _mentions(triplet, mention))
    cut = [
        replace(
            triplet,
            xray_report=without_mentions(triplet.xray_report, mention),
            ecg_report=without_mentions(triplet.ecg_report, mention),
        )
        for triplet in examples.triplets
    ]
    return Examples(tuple(cut), examples.source_of, examples.sources)


def _mentions(triplet: Triplet, mention: re.Pattern[str]) -> bool:
    texts = (triplet.xray_report, triplet.ecg_report)
    return any(text is not None and mention.search(text) is not None for text in texts)
