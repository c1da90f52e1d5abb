"""What was found, without ever holding what it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "name", "date", "phone", "record-number", "address", "email", "web-address", "age-over-89",
    "header-identifier", "private-element", "overlay", "burned-in-flag", "burned-in-text", "unreadable",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that may name somebody. ``place`` is where to look ("characters 12-20", "(0010,0010) PatientName",
    "rows 10-40, columns 5-200"); it never holds any of the text itself, and is for the screen of the site only."""

    kind: Kind
    place: str


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many of each kind, sorted by kind: all that may leave the site."""
    return dict(sorted(Counter(finding.kind for finding in findings).items()))
