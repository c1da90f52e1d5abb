"""The pooled figures of every round, one JSON object a line in ``evaluations.jsonl`` beside the journal."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from more_model.errors import RoundError
from server.evaluation import PooledEvaluation

NAME = "evaluations.jsonl"


@dataclass(frozen=True, slots=True)
class Figure:
    """An AUROC with its 95 % interval, and the bounds between which that of the scores surely lies."""

    value: float | None
    low: float | None
    high: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class LabelMeasured:
    """One label. ``positives`` and ``negatives``: the least and the largest number that there can be, None where they
    are withheld from a viewer; ``sites``: how many have a patient that states it; ``reason``: why there is no figure.
    """

    name: str
    auroc: Figure
    positives: tuple[int, int] | None
    negatives: tuple[int, int] | None
    sites: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Measured:
    """The global tensors after ``round`` (0: before the first), on the patients of ``split`` at ``sites``. ``missing``:
    the others, each with its state."""

    round: int
    split: str
    macro: Figure
    labels: tuple[LabelMeasured, ...]
    sites: tuple[str, ...]
    missing: tuple[str, ...] = ()


def measured(result: PooledEvaluation) -> Measured:
    """The figures of one round."""
    return _measured(_Line.model_validate(result.as_json()))


def record_evaluation(folder: Path, result: PooledEvaluation) -> None:
    """Append the figures of one round, durably. A round that is measured again counts anew."""
    line = json.dumps(result.as_json(), allow_nan=False) + "\n"
    with (folder / NAME).open("ab") as file:
        # A crash may have left half a line; what follows it must not be lost with it.
        file.write(line.encode() if _ends_whole(folder / NAME) else b"\n" + line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_evaluations(folder: Path) -> tuple[Measured, ...]:
    """Every round measured so far, in order; half a line that a crash left is passed over.

    Raises:
        RoundError: a line that is whole and says something else.
    """
    path = folder / NAME
    if not path.exists():
        return ()
    found: dict[tuple[int, str], Measured] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            content = json.loads(line)
        except ValueError:
            continue
        try:
            read = _measured(_Line.model_validate(content))
        except ValidationError as error:
            raise RoundError(
                f"{path}: line {number} is no evaluation that this version knows",
                remedy="restore the file from a backup, or move it away: it holds figures, no record of who took part",
            ) from error
        found[read.round, read.split] = read
    return tuple(found[key] for key in sorted(found))


class _FigureLine(BaseModel):
    value: float | None
    low: float | None
    high: float | None
    ci95: tuple[float, float] | None


class _LabelLine(_FigureLine):
    positives: tuple[int, int]
    negatives: tuple[int, int]
    sites: int
    reason: str | None = None


class _SiteLine(BaseModel):
    state: str


class _Line(BaseModel):
    round: int
    split: str
    macro_auroc: _FigureLine
    per_label: dict[str, _LabelLine]
    sites: dict[str, _SiteLine]


def _measured(line: _Line) -> Measured:
    labels = tuple(
        LabelMeasured(name, _figure(each), each.positives, each.negatives, each.sites, each.reason)
        for name, each in line.per_label.items()
    )
    accepted = tuple(site for site, part in line.sites.items() if part.state == "accepted")
    missing = tuple(f"{site}: {part.state}" for site, part in line.sites.items() if part.state != "accepted")
    return Measured(line.round, line.split, _figure(line.macro_auroc), labels, accepted, missing)


def _figure(line: _FigureLine) -> Figure:
    return Figure(line.value, line.low, line.high, line.ci95)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
