"""The three inputs of one patient, and the selections of them that a probability can rest on."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import combinations


class Part(StrEnum):
    """One of the three inputs; the values are those of `more_model.data.study.Modality`."""

    XRAY = "xray"
    ECG = "ecg"
    REPORT = "report"

    @property
    def words(self) -> str:
        """The part in a sentence, without an article."""
        return _WORDS[self]


_WORDS = {Part.XRAY: "X-ray", Part.ECG: "ECG", Part.REPORT: "report"}

#: Some of the three parts, always in the order of `Part`.
Selection = tuple[Part, ...]

#: The seven selections of at least one part, the smaller ones first.
SELECTIONS: tuple[Selection, ...] = tuple(chosen for size in (1, 2, 3) for chosen in combinations(Part, size))


def selection(parts: Iterable[Part]) -> Selection:
    """The parts in their order, each once."""
    given = set(parts)
    return tuple(part for part in Part if part in given)


def key(chosen: Selection) -> str:
    """A selection as it is written in files: ``xray+report``."""
    return "+".join(chosen)


def in_words(chosen: Selection) -> str:
    """A selection in a sentence: "X-ray, ECG and report"."""
    *first, last = (part.words for part in chosen)
    return f"{', '.join(first)} and {last}" if first else last
