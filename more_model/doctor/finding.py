"""What the data doctor says about one data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """``error``: it cannot be used; ``warning``: part of it cannot, or figures differ; ``note``: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Verdict(StrEnum):
    """``ready``: nothing stands in the way; ``usable``: mind the warnings; ``unusable``: not as it lies there."""

    READY = "ready"
    USABLE = "usable"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about a data set, and what to do about it. Never holds an id of a patient."""

    severity: Severity
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ProtocolAnswer:
    """Whether `more-model evaluate` can run a protocol on this folder; ``reason`` where it cannot, or how it can."""

    name: str
    can_run: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One recognised data set: ``kind`` is a stable name, ``release`` its name and version in words, ``counts`` what
    its tables hold."""

    kind: str
    release: str
    folder: Path
    findings: tuple[Finding, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    protocols: tuple[ProtocolAnswer, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """From the worst finding."""
        severities = {finding.severity for finding in self.findings}
        if Severity.ERROR in severities:
            return Verdict.UNUSABLE
        return Verdict.USABLE if Severity.WARNING in severities else Verdict.READY


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else was found: (kind, folder) of everything recognised, and whether it is made up."""

    others: Sequence[tuple[str, Path]] = ()
    synthetic: bool = False

    def has(self, kind: str) -> bool:
        """Whether a data set of this kind was found."""
        return any(other == kind for other, _ in self.others)


def error(sentence: str, remedy: str = "") -> Finding:
    """A reason why the data set cannot be used."""
    return Finding(Severity.ERROR, sentence, remedy)


def warning(sentence: str, remedy: str = "") -> Finding:
    """A part that cannot be used, or a difference that changes figures."""
    return Finding(Severity.WARNING, sentence, remedy)


def note(sentence: str, remedy: str = "") -> Finding:
    """Something worth knowing."""
    return Finding(Severity.NOTE, sentence, remedy)
