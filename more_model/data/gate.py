"""The place in an ingest where studies are checked for what may still name somebody.

The check itself is no part of this package: whoever ingests hands one in. Readers call `pass_gate` with what they have
read, once it is known to be usable and before anything of it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from more_model.errors import EnvironmentFault, InputRefused, StoreError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pydicom.dataset import Dataset

NOT_DEIDENTIFIED: Final = "not-deidentified"
GATE_FAILED: Final = "gate-failed"


class StudyGate(Protocol):
    """Judges a study by its parts. It is pickled to worker processes, so it is small and holds no open files."""

    @property
    def rules(self) -> str:
        """The name of the set of rules; another one wherever the same study could be judged otherwise."""

    @property
    def accepted(self) -> frozenset[str]:
        """What the site has looked at and lets pass; the more there is, the more studies pass."""

    def judge(
        self,
        *,
        text: str | None = None,
        dataset: Dataset | None = None,
        pixels: npt.NDArray[np.float32] | None = None,
        notes: Mapping[Any, Any] | None = None,
        headers: Sequence[str] = (),
    ) -> Mapping[str, int]:
        """How many findings of which kind; nothing for a study that may be used.

        ``text``: a whole report. ``dataset``: a DICOM data set. ``pixels``: grey levels [height, width] in [0, 1], not
        yet shrunk. ``notes``: what a JPEG or PNG file says besides its pixels, by Pillow's names and EXIF numbers.
        ``headers``: WFDB headers, those of segments included.
        """


class Withheld(InputRefused):
    """A study in which a gate found something, or which it failed on. ``found``: how many of which kind."""

    def __init__(self, found: Mapping[str, int]) -> None:
        self.found = dict(found)
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(found.items()))
        super().__init__(
            NOT_DEIDENTIFIED,
            f"The study may still name somebody ({kinds}).",
            remedy="look at it in your own viewer (more-privacy scan --show says where), and export it again without",
        )


def pass_gate(
    gate: StudyGate | None,
    *,
    text: str | None = None,
    dataset: Dataset | None = None,
    pixels: npt.NDArray[np.float32] | None = None,
    notes: Mapping[Any, Any] | None = None,
    headers: Sequence[str] = (),
) -> None:
    """Raises `Withheld` unless the gate finds nothing in these parts of a study, or there is no gate."""
    if gate is None:
        return
    try:
        found = gate.judge(text=text, dataset=dataset, pixels=pixels, notes=notes, headers=headers)
    except (EnvironmentFault, MemoryError):
        # They concern every study alike, or the reader as well: `convert` knows them.
        raise
    except Exception:  # noqa: BLE001 - fail closed: whatever a check stumbles over, the study stays where it is
        found = {GATE_FAILED: 1}
    if found:
        raise Withheld(found) from None


@dataclass(frozen=True, slots=True)
class GateRecord:
    """Which gate the studies of a store have passed: part of what a store is."""

    rules: str
    accepted: tuple[str, ...] = ()

    @classmethod
    def of(cls, gate: StudyGate) -> Self:
        """The record of a gate."""
        return cls(gate.rules, tuple(sorted(gate.accepted)))

    def __str__(self) -> str:
        return self.rules + (f", accepted: {', '.join(self.accepted)}" if self.accepted else "")

    def passes_all_of(self, other: GateRecord) -> bool:
        """Whether a study that passed ``other`` passes this one for certain."""
        return self.rules == other.rules and set(self.accepted) >= set(other.accepted)


def gate_name(record: GateRecord | None) -> str:
    """For people."""
    return "not checked" if record is None else str(record)


def check_same_or_laxer(folder: object, before: GateRecord | None, now: GateRecord | None) -> None:
    """Raises `StoreError` where a store's studies passed another gate, or none, so that some might not pass this one.

    Studies that were withheld are tried again under a laxer gate; those in the store would have passed it as well.
    """
    if now is None or (before is not None and now.passes_all_of(before)):
        return
    how = "without a check for identifiers" if before is None else f"under other rules ({before})"
    raise StoreError(
        f"The studies in {folder} were stored {how}; now it is to be {now}.",
        remedy="Ingest into a new folder, so that every study is checked; or go on as before.",
        avoid="edit store.json: it would vouch for studies that nobody has checked.",
    )
