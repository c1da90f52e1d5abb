"""One verdict a study, closed by default: what cannot be checked is not released.

`Gate` is what an ingest needs; `rule_gate` makes the one of this project. A report takes well under a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from privacy.deidentify.burned_in import check_pixels
from privacy.deidentify.dicom import check_dicom
from privacy.deidentify.finding import Finding, counts
from privacy.deidentify.reports import check_report

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


class Gate(Protocol):
    """Looks for what may name somebody in the parts of one study; finds nothing in a study that may be used."""

    def check_report(self, text: str) -> list[Finding]:
        """Findings in free text."""

    def check_dicom(self, dataset: Dataset) -> list[Finding]:
        """Findings in a DICOM header."""

    def check_pixels(self, pixels: NDArray[Any]) -> list[Finding]:
        """Findings in a picture [height, width]."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a study may be used, and how many findings of which kind it has: nothing that needs to stay secret."""

    released: bool
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RuleGate:
    """The rules of `privacy.deidentify`. ``accepted``: DICOM keywords that the site has looked at and lets pass."""

    accepted: frozenset[str] = frozenset()

    def check_report(self, text: str) -> list[Finding]:
        """See `privacy.deidentify.reports.check_report`."""
        return check_report(text)

    def check_dicom(self, dataset: Dataset) -> list[Finding]:
        """See `privacy.deidentify.dicom.check_dicom`."""
        return check_dicom(dataset, self.accepted)

    def check_pixels(self, pixels: NDArray[Any]) -> list[Finding]:
        """See `privacy.deidentify.burned_in.check_pixels`."""
        return check_pixels(pixels)


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Released only if nothing was found."""
    found = counts(findings)
    return Verdict(not found, found)


def study_verdict(
    gate: Gate,
    *,
    text: str | None = None,
    dataset: Dataset | None = None,
    pixels: NDArray[Any] | None = None,
) -> Verdict:
    """The verdict on the parts that a study has; one without any part, or with one that a check fails on, is not
    released."""
    findings: list[Finding] = []
    try:
        if text is not None:
            findings += gate.check_report(text)
        if dataset is not None:
            findings += gate.check_dicom(dataset)
        if pixels is not None:
            findings += gate.check_pixels(pixels)
    except Exception:  # noqa: BLE001 - fail closed: whatever a check stumbles over, the study stays where it is
        findings.append(Finding("unreadable", "the study"))
    if text is None and dataset is None and pixels is None:
        findings.append(Finding("unreadable", "a study without parts"))
    return verdict(findings)
