"""The cases of a reader study as a researcher writes them: one JSON object per line, files beside it.

{"id": "a17", "patient": "p3", "truth": {"Edema": 1}, "xray": "a17.png", "ecg": "a17.npy", "ecg_rate_hz": 500,
 "report": "...", "explanation": "a17-explanation.png", "probability": {"Edema": 0.83}}

The keys of ``truth`` are the questions that are asked about the case.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from more_model.errors import ConfigError, InputRefused
from more_model.reader_study.pictures import MAX_SIDE_PX, ecg_png, picture_png
from more_model.settings import validated

#: What a folder of cases has to hold.
NAME = "cases.jsonl"

Label = Annotated[str, Field(min_length=1, max_length=80)]


class CaseRecord(BaseModel):
    """See the head of this module; relative paths are taken from the file's own folder.

    ``xray`` is a picture or a ``.npy`` of uint8 [H, W]; ``ecg`` a picture, or a ``.npy`` of float [12, samples] in
    millivolts with its ``ecg_rate_hz``; ``report`` is shown with and without aid. The aid is ``explanation`` (a
    picture) and/or ``probability`` (the model's, per label). ``patient`` only says which cases belong together when
    cases are resampled. Neither it nor ``id`` nor ``truth`` reaches the readers.
    """

    # Numbers are taken as names, or the message about them would say who the patient is.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    id: Annotated[str, Field(min_length=1)]
    truth: Annotated[dict[Label, Literal[0, 1]], Field(min_length=1)]
    patient: str | None = None
    xray: Path | None = None
    ecg: Path | None = None
    ecg_rate_hz: Annotated[float, Field(gt=0)] | None = None
    report: str | None = None
    explanation: Path | None = None
    probability: dict[Label, Annotated[float, Field(ge=0, le=1)]] = {}

    @model_validator(mode="after")
    def _has_something_to_read_and_an_aid(self) -> CaseRecord:
        if self.xray is None and self.ecg is None and not self.report:
            raise ValueError("no xray, no ecg and no report: there is nothing to read")
        if self.explanation is None and not self.probability:
            raise ValueError("no explanation and no probability: there is no aid to compare with")
        if self.ecg is not None and self.ecg.suffix == ".npy" and self.ecg_rate_hz is None:
            raise ValueError("an ecg as .npy needs ecg_rate_hz")
        unasked = sorted(self.probability.keys() - self.truth.keys())
        if unasked:
            raise ValueError(f"probability for {', '.join(unasked)}, which truth does not name")
        return self


@dataclass(frozen=True, slots=True)
class Case:
    """One case ready to be shown: pictures as PNG bytes without any metadata. ``unit`` says whose case it is."""

    id: str
    unit: str
    truth: Mapping[str, int]
    xray: bytes | None
    ecg: bytes | None
    report: str
    explanation: bytes | None
    probability: Mapping[str, float]


def read_cases(paths: Sequence[Path], *, max_side_px: int = MAX_SIDE_PX) -> list[Case]:
    """The cases of several files (or folders with a ``cases.jsonl``), in their order.

    Pictures are made no larger than ``max_side_px``. Raises ConfigError with every fault of every file at once: lines
    that are not valid, identifiers that occur twice, files that are missing or cannot be read.
    """
    faults: list[str] = []
    cases: list[Case] = []
    for file in [path / NAME if path.is_dir() else path for path in paths]:
        if not file.is_file():
            faults.append(f"{file}: there is no such file")
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                cases += _read_line(line, f"{file.name}:{number}", file.parent, max_side_px, faults)
    counts = Counter(case.id for case in cases)
    # By place and not by name: an identifier may be that of a patient.
    twice = sum(count > 1 for count in counts.values())
    if twice:
        faults.append(f"{twice} of the ids occur more than once")
    if not cases and not faults:
        faults.append("there is no case in the given files")
    if faults:
        raise ConfigError("reader-study cases", faults, remedy="correct all of them; nothing has been written")
    return cases


def labels_of(cases: Sequence[Case]) -> list[str]:
    """All questions of a study, in the order in which the cases name them."""
    return list(dict.fromkeys(label for case in cases for label in case.truth))


def _read_line(line: str, place: str, folder: Path, max_side_px: int, faults: list[str]) -> list[Case]:
    """The case of one line, or nothing and its faults."""
    try:
        record = validated(CaseRecord, _mapping(line), place)
    except json.JSONDecodeError as error:
        faults.append(f"{place}: not well formed: {error}")
        return []
    except ConfigError as error:
        faults += [f"{place}: {fault}" for fault in error.faults]
        return []
    pictures: dict[str, bytes | None] = {}
    for field in ("xray", "ecg", "explanation"):
        try:
            pictures[field] = _picture(record, field, folder, max_side_px)
        except InputRefused as error:
            faults.append(f"{place}: {field}: {error.cause}")
    if len(pictures) < 3:
        return []
    return [
        Case(
            id=record.id,
            unit=record.id if record.patient is None else f"patient {record.patient}",
            truth=record.truth,
            report=(record.report or "").strip(),
            probability=record.probability,
            **pictures,
        )
    ]


def _mapping(line: str) -> Mapping[str, Any]:
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ConfigError("line", ["each line has to be one JSON object"])
    return content


def _picture(record: CaseRecord, field: str, folder: Path, max_side_px: int) -> bytes | None:
    path: Path | None = getattr(record, field)
    if path is None:
        return None
    if field == "ecg" and path.suffix == ".npy":
        return ecg_png(folder / path, record.ecg_rate_hz or 0.0)
    return picture_png(folder / path, max_side_px)
