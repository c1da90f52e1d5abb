"""Writes a whole synthetic cohort: the same configuration gives the same bytes with any number of workers."""

from __future__ import annotations

import errno
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from more_model.data.mimic_cxr import CHEXPERT_LABELS
from more_model.errors import DataError, EnvironmentFault
from simulation.synthetic import tables
from simulation.synthetic.chart import Rows, write_patient
from simulation.synthetic.config import SynthConfig
from simulation.synthetic.findings import ECG_LABELS
from simulation.synthetic.hospitals import cohort_digest, deal_patients, resolve_hospitals
from simulation.synthetic.readme import readme_text
from simulation.synthetic.tables import Cell, Row, Table

#: Written first and last; they tell an unfinished cohort from a foreign folder and from a finished one.
STARTED_MARKER = ".synthetic-started.json"
FINISHED_MARKER = ".synthetic-complete.json"

#: Patients per task: small enough for a moving progress bar, large enough that sending costs nothing.
_CHUNK = 16

Progress = Callable[[int, int], None]


class HospitalCounts(BaseModel):
    """What one hospital holds. ``labels``: finding -> (positive, negative) among the stated ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients: int = 0
    films: int = 0
    reports: int = 0
    ecgs: int = 0
    labels: dict[str, tuple[int, int]] = {}


class SynthReport(BaseModel):
    """What was written. ``kept`` is true where a complete tree of the same configuration was already there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    synthetic: bool = True
    digest: str
    patients: int
    hospitals: dict[str, HospitalCounts]
    kept: bool = False


def write_cohort(config: SynthConfig, root: Path, *, workers: int = 1, progress: Progress | None = None) -> SynthReport:
    """Writes the cohort under ``root``, or keeps it where it is complete and made from the same configuration.

    ``progress`` is called with (patients written, patients in all). Raises `DataError` where ``root`` holds something
    else, `EnvironmentFault` where the disk is full.
    """
    digest = cohort_digest(config)
    finished = _finished_report(root, digest)
    if finished is not None:
        if progress is not None:
            progress(config.patients, config.patients)
        return finished
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / STARTED_MARKER).write_text(json.dumps({"digest": digest}) + "\n")
        rows = _write_patients(config, root, workers, progress)
        return _write_tables(config, root, digest, rows)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise EnvironmentFault(
            f"The disk is full: the synthetic cohort under {root} is not complete.",
            remedy="Free space or choose another folder, then run the same command again; it starts over.",
        ) from error


def _finished_report(root: Path, digest: str) -> SynthReport | None:
    """The report of a complete tree of this configuration; None where there is nothing or an unfinished one."""
    if not root.exists() or not any(root.iterdir()):
        return None
    marker = root / FINISHED_MARKER
    if marker.exists():
        try:
            report = SynthReport.model_validate_json(marker.read_text())
        except ValidationError as error:
            raise _foreign(root, "a cohort whose completion marker cannot be read") from error
        if report.digest != digest:
            raise _foreign(root, "a synthetic cohort of another configuration")
        return report.model_copy(update={"kept": True})
    started = root / STARTED_MARKER
    if not started.exists():
        raise _foreign(root, "files that are not a synthetic cohort")
    if f'"{digest}"' not in started.read_text():
        raise _foreign(root, "an unfinished synthetic cohort of another configuration")
    return None


def _foreign(root: Path, what: str) -> DataError:
    return DataError(
        f"{root} holds {what}.",
        remedy="Choose an empty folder, or delete this one if nothing in it is needed.",
        avoid="mix two cohorts in one folder: their tables would name files of only one of them.",
    )


def _write_patients(config: SynthConfig, root: Path, workers: int, progress: Progress | None) -> Rows:
    dealt = deal_patients(resolve_hospitals(config.hospitals), config.patients)
    starts = range(0, config.patients, _CHUNK)
    tasks = [(config, root, config.first_subject_id + k, dealt[k : k + _CHUNK]) for k in starts]
    merged: Rows = {}
    done = 0
    for (_, _, _, places), rows in zip(tasks, _run(tasks, workers), strict=True):
        for table, more in rows.items():
            merged.setdefault(table, []).extend(more)
        done += len(places)
        if progress is not None:
            progress(done, config.patients)
    return merged


def _run(tasks: Sequence[tuple[SynthConfig, Path, int, list[int]]], workers: int) -> Iterator[Rows]:
    if workers <= 1 or len(tasks) == 1:
        yield from map(_write_chunk, tasks)
        return
    # Spawned, not forked: the parent may hold threads (torch, progress bars) that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
        yield from pool.map(_write_chunk, tasks)


def _write_chunk(task: tuple[SynthConfig, Path, int, list[int]]) -> Rows:
    config, root, first, places = task
    profiles = resolve_hospitals(config.hospitals)
    rows: Rows = {}
    for offset, place in enumerate(places):
        for table, more in write_patient(config, profiles[place], first + offset, root).items():
            rows.setdefault(table, []).extend(more)
    return rows


def _write_tables(config: SynthConfig, root: Path, digest: str, rows: Rows) -> SynthReport:
    wanted: list[Table] = [tables.PATIENTS]
    if config.jpg or config.dicom:
        wanted += tables.FILM_TABLES
        names = [_image_name(row) for row in rows.get(tables.METADATA, [])]
        (root / "mimic-cxr-jpg").mkdir(exist_ok=True)
        (root / "mimic-cxr-jpg" / "IMAGE_FILENAMES").write_text("".join(f"{name}\n" for name in names))
    if config.ecg:
        wanted += tables.ECG_TABLES
    for table in wanted:
        tables.write_table(root, table, rows.get(table, []))
    report = SynthReport(digest=digest, patients=config.patients, hospitals=_count(config, rows))
    (root / "README.txt").write_text(readme_text(config, report.digest))
    (root / FINISHED_MARKER).write_text(report.model_dump_json(indent=2) + "\n")
    return report


def _image_name(row: Row) -> str:
    subject = str(row[1])
    return f"files/p{subject[:2]}/p{subject}/s{row[2]}/{row[0]}.jpg"


def _count(config: SynthConfig, rows: Rows) -> dict[str, HospitalCounts]:
    home: dict[Cell, str] = {row[0]: str(row[1]) for row in rows[tables.PATIENTS]}

    def tally(table: Table, subject_column: int, hospital: str) -> list[Row]:
        return [row for row in rows.get(table, []) if home[row[subject_column]] == hospital]

    counts: dict[str, HospitalCounts] = {}
    for profile in resolve_hospitals(config.hospitals):
        films, ecgs = tally(tables.CHEXPERT, 0, profile.name), tally(tables.ECG_TRUTH, 1, profile.name)
        labels = _label_counts(films, CHEXPERT_LABELS) | _label_counts(ecgs, ECG_LABELS)
        counts[profile.name] = HospitalCounts(
            patients=sum(name == profile.name for name in home.values()),
            films=len(tally(tables.METADATA, 1, profile.name)),
            reports=len(tally(tables.STUDY_LIST, 0, profile.name)),
            ecgs=len(ecgs),
            labels=labels,
        )
    return counts


def _label_counts(rows: Sequence[Row], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    cells = {name: [row[place] for row in rows] for place, name in enumerate(names, start=2)}
    return {
        name: (sum(cell == 1 for cell in column), sum(cell == 0 for cell in column)) for name, column in cells.items()
    }
