"""Answer files as the page exports them, checked against the package that the readers were given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import ConfigError
from more_model.reader_study.manifest import SCALES, Manifest
from more_model.settings import load_settings


class GivenReading(BaseModel):
    """One answer. ``visible_ms`` is the time for which the case was on the screen of a visible page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: int
    position: int
    case: str
    aided: bool
    ratings: dict[str, int]
    comment: str
    quality_limited: bool
    visible_ms: int = Field(ge=0)
    opened: datetime
    saved: datetime


class Answers(BaseModel):
    """All answers of one reader so far; ``draft`` is a case begun and not saved, and counts for nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["more-fed reader-study answers 1"]
    study: str
    package_digest: str
    page_version: str
    reader: str
    started: datetime
    complete: bool
    exported: datetime
    exported_count: int
    readings: tuple[GivenReading, ...]
    draft: Any = None


def read_answers(paths: Sequence[Path], manifest: Manifest, *, partial: bool = False) -> list[Answers]:
    """The answers of all readers, in the order of the package's readers.

    Raises ConfigError with every fault of every file at once: another study, an unknown reader or one that occurs
    twice, cases that differ from the reader's list, answers that the scale does not have, and, unless ``partial``,
    readings that are missing.
    """
    faults: list[str] = []
    found: list[Answers] = []
    for path in paths:
        try:
            answers = load_settings(Answers, path)
        except ConfigError as error:
            faults += [f"{path.name}: {fault}" for fault in error.faults]
            continue
        found.append(answers)
        faults += [f"{path.name}: {fault}" for fault in _faults(answers, manifest, partial=partial)]
    times = Counter(answers.reader for answers in found)
    faults += [f"{reader}: answers are given {count} times" for reader, count in times.items() if count > 1]
    if faults:
        raise ConfigError(
            "reader-study answers",
            faults,
            remedy="ask the readers for the files as the page exported them",
            avoid="edit an answer file: which reading it belonged to can no longer be shown",
        )
    numbers = {reader: number for number, reader in enumerate(manifest.orders)}
    return sorted(found, key=lambda answers: numbers[answers.reader])


def _faults(answers: Answers, manifest: Manifest, *, partial: bool) -> Iterator[str]:
    if answers.package_digest != manifest.digest or answers.study != manifest.study:
        yield f"it belongs to study {answers.study}, not to {manifest.study} as it was built"
        return
    if answers.reader not in manifest.orders:
        yield f"there is no reader {answers.reader} in the study"
        return
    planned = [
        (session, position, reading.case, reading.aided)
        for session, readings in enumerate(manifest.orders[answers.reader], start=1)
        for position, reading in enumerate(readings, start=1)
    ]
    given = [(reading.session, reading.position, reading.case, reading.aided) for reading in answers.readings]
    if given != planned[: len(given)]:
        yield "its readings are not those of this reader's list: cases were added, left out, moved or changed"
        return
    if len(given) < len(planned) and not partial:
        yield f"{len(planned) - len(given)} of {len(planned)} readings are missing"
    for reading in answers.readings:
        yield from _rating_faults(reading, manifest)


def _rating_faults(reading: GivenReading, manifest: Manifest) -> Iterator[str]:
    place = f"session {reading.session}, reading {reading.position}"
    if set(reading.ratings) != set(manifest.cases[reading.case].labels):
        yield f"{place}: the answered questions are not those of the case"
    allowed = SCALES[manifest.scale]
    odd = sorted(set(reading.ratings.values()) - set(allowed))
    if odd:
        yield f"{place}: answers {odd} are not on the scale from {allowed[0]} to {allowed[-1]}"
    if reading.saved < reading.opened:
        yield f"{place}: it was saved before it was opened"
