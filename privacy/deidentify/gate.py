"""One verdict a study, closed by default: what cannot be checked is not released.

`RuleGate` is the gate of an ingest (`more_model.data.gate.StudyGate`). A report takes well under a millisecond, a film
of four megapixels about a fifth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from privacy.deidentify.burned_in import check_pixels
from privacy.deidentify.dicom import check_dicom
from privacy.deidentify.finding import Finding, Kind, counts
from privacy.deidentify.notes import check_notes
from privacy.deidentify.reports import check_report
from privacy.deidentify.wfdb import check_wfdb_header

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

#: Raised by hand whenever the same study could be judged otherwise: stores made under other rules are not added to.
RULES: Final = "rules 1"
#: Kinds that can be accepted as a whole, by a site that has looked at its files: they have no name of their own.
ACCEPTABLE_KINDS: Final[frozenset[Kind]] = frozenset({"burned-in-text", "private-element"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a study may be used, and how many findings of which kind it has: nothing that needs to stay secret."""

    released: bool
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RuleGate:
    """The rules of `privacy.deidentify`.

    ``accepted``: DICOM keywords, labels of WFDB comments and kinds of `ACCEPTABLE_KINDS` that the site has looked at
    and lets pass.
    """

    accepted: frozenset[str] = frozenset()

    @property
    def rules(self) -> str:
        """`RULES`."""
        return RULES

    def judge(
        self,
        *,
        text: str | None = None,
        dataset: Dataset | None = None,
        pixels: NDArray[Any] | None = None,
        notes: Mapping[Any, Any] | None = None,
        headers: Sequence[str] = (),
    ) -> Mapping[str, int]:
        """How many findings of which kind the parts of one study have; a study without any part is unreadable.

        ``text``: a report. ``dataset``: DICOM. ``pixels``: [height, width]. ``notes``: see `check_notes`. ``headers``:
        WFDB headers.
        """
        if text is None and dataset is None and pixels is None and notes is None and not headers:
            return counts([Finding("unreadable", "a study without parts")])
        findings = check_report(text) if text is not None else []
        if dataset is not None:
            findings += check_dicom(dataset, self.accepted)
        if pixels is not None and "burned-in-text" not in self.accepted:
            findings += check_pixels(pixels)
        if notes is not None:
            findings += check_notes(notes)
        for header in headers:
            findings += check_wfdb_header(header, self.accepted)
        return verdict(findings, self.accepted).counts


def verdict(findings: Iterable[Finding], accepted: frozenset[str] = frozenset()) -> Verdict:
    """Released only if nothing was found but kinds that the site accepts as a whole."""
    passed = ACCEPTABLE_KINDS & accepted
    found = counts(finding for finding in findings if finding.kind not in passed)
    return Verdict(not found, found)
