"""The data doctor: what lies in a folder, whether it can be used, and what to do where it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from more_model.doctor.finding import Diagnosis, Finding, Surroundings, Verdict, error, note, warning
from more_model.doctor.own import examine_checkpoints
from more_model.doctor.recognise import Kind, is_synthetic, recognise
from more_model.errors import DataError, MoreError

_UNFINISHED = (".part", ".crdownload", ".aria2", ".download", ".tmp")
_RANK = {Verdict.READY: 0, Verdict.USABLE: 1, Verdict.UNUSABLE: 2}

#: Called with what is about to be examined.
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything recognised under one folder."""

    root: Path
    diagnoses: tuple[Diagnosis, ...]

    @property
    def verdict(self) -> Verdict:
        """The best of its data sets: one that can be used makes the folder usable."""
        return min((d.verdict for d in self.diagnoses), key=_RANK.__getitem__, default=Verdict.UNUSABLE)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "schema": 1,
            "root": str(self.root),
            "verdict": self.verdict.value,
            "data": [_as_dict(diagnosis) for diagnosis in self.diagnoses],
        }


def examine(root: Path, *, progress: Progress | None = None) -> Examination:
    """Recognises and examines everything at ``root`` or under it, in seconds: tables are read, of the files that they
    name a drawn sample is looked up, and a handful is opened.

    Raises `DataError` where ``root`` is missing or closed, or nothing is recognised.
    """
    if root.is_file():
        return _examine_file(root)
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", remedy="correct the path, or mount the disk that holds the data")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"{root} may not be read by this user", remedy="ask its owner for the right to read it")
    found = recognise(root)
    if not found:
        names = sorted(entry.name for entry in root.iterdir())[:12]
        raise DataError(
            f"nothing in {root} is a data set, store, base or checkpoint that is known here; it holds: "
            f"{', '.join(names) or 'nothing'}",
            remedy="point at the folder with the tables of a release (or one above it); for tables of your own put a "
            "mapping.toml beside them",
        )
    others = [(kind.name, folder) for kind, folder in found]
    diagnoses = []
    for kind, folder in found:
        if progress is not None:
            progress(f"{kind.name} in {folder}")
        around = Surroundings(others, synthetic=is_synthetic(folder))
        diagnosis = _examined(kind, folder, around)
        if around.synthetic and kind.name.startswith("mimic"):
            diagnosis = replace(diagnosis, release=f"a synthetic tree in the shape of {diagnosis.release}")
        diagnoses.append(replace(diagnosis, findings=(*diagnosis.findings, *_leftovers(folder))))
    return Examination(root, tuple(diagnoses))


def _examined(kind: Kind, folder: Path, around: Surroundings) -> Diagnosis:
    try:
        return kind.examine(folder, around)
    except MoreError as caught:
        # One damaged data set must not hide what is to be said about the others.
        return Diagnosis(kind.name, kind.name, folder, (error(caught.cause, caught.remedy),))


def _examine_file(path: Path) -> Examination:
    diagnosis = examine_checkpoints(path, Surroundings())
    if not diagnosis.counts["checkpoints"]:
        raise DataError(
            f"{path} is no checkpoint that a run wrote",
            remedy="give a folder; a checkpoint of the published code is read by `more-model import-more`",
        )
    return Examination(path, (diagnosis,))


def _leftovers(folder: Path) -> list[Finding]:
    """Traces of a download that has not ended."""
    if not folder.is_dir():
        return []
    names = {entry.name for entry in os.scandir(folder)}
    unfinished = sorted(name for name in names if name.endswith(_UNFINISHED))
    findings = []
    if unfinished:
        findings.append(
            warning(
                f"Unfinished downloads lie there: {', '.join(unfinished[:5])}.", "Let the download end, or repeat it."
            )
        )
    if "index.html" in names:
        findings.append(note("index.html was left by wget; it does no harm."))
    return findings


def _as_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "kind": diagnosis.kind,
        "release": diagnosis.release,
        "folder": str(diagnosis.folder),
        "verdict": diagnosis.verdict.value,
        "counts": dict(diagnosis.counts),
        "findings": [
            {"severity": found.severity.value, "sentence": found.sentence, "remedy": found.remedy}
            for found in diagnosis.findings
        ],
        "protocols": [
            {"name": answer.name, "can_run": answer.can_run, "reason": answer.reason} for answer in diagnosis.protocols
        ],
    }
