"""Patients of a site by split and by what their examples hold. From 1 to the site's threshold less one, a count is not
shown, and no sum is given from which it could be computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from client.data_report import DataReport, Shown, data_report, visible
from client.site_file import SiteFile
from more_model.data.pairing import PairingRule, pair
from more_model.data.split import SplitRule, assign_splits
from more_model.data.store import SiteStore
from more_model.data.study import Split, Triplet

#: What the examples of a patient hold, all together.
KINDS = ("X-ray and ECG", "X-ray only", "ECG only")


@dataclass(frozen=True, slots=True)
class Cohort:
    """``patients``: split -> kind of `KINDS` -> count. ``totals`` per split, None where one count somewhere is small.
    ``studies``: per modality, likewise. ``quarantine``: studies per reason; ``withheld``: of these, those that may name
    somebody, per kind of finding."""

    patients: Mapping[str, Mapping[str, Shown]]
    totals: Mapping[str, Shown] | None
    studies: Mapping[str, Shown] | None
    quarantine: Mapping[str, Shown]
    withheld: Mapping[str, Shown]
    deidentification: str


def cohort(file: SiteFile) -> Cohort:
    """What the store holds now; counted anew only when the store has changed.

    Raises:
        StoreError: a damaged or missing store.
        DataError: it cannot be split or paired as the site file says.
    """
    return _counted(file.store, file.pairing, file.split, file.evaluation_threshold, _state(file.store))


# Pairing a large hospital takes seconds, and people reload.
@lru_cache(maxsize=2)
def _counted(
    folder: Path, pairing: PairingRule, split: SplitRule, minimum_count: int, state: tuple[tuple[int, int], ...]
) -> Cohort:
    del state  # Only there so that a changed store is counted again.
    store = SiteStore.open_read(folder)
    triplets = pair(store.records, pairing, assign_splits(store.records, split), store.site).triplets
    counts = {each.value: _kinds([triplet for triplet in triplets if triplet.split is each]) for each in Split}
    report = data_report(folder, pairing, minimum_count=minimum_count)
    whole = not any(0 < count < minimum_count for row in counts.values() for count in row.values())
    return Cohort(
        patients={name: {kind: visible(row[kind], minimum_count) for kind in KINDS} for name, row in counts.items()},
        totals={name: sum(row.values()) for name, row in counts.items()} if whole else None,
        studies=report.studies if whole and _numbers(report) else None,
        quarantine=report.quarantine,
        withheld=report.withheld,
        deidentification=report.deidentification,
    )


def _kinds(triplets: list[Triplet]) -> Mapping[str, int]:
    xray = {triplet.patient_id for triplet in triplets if triplet.xray is not None}
    ecg = {triplet.patient_id for triplet in triplets if triplet.ecg is not None}
    return dict(zip(KINDS, (len(xray & ecg), len(xray - ecg), len(ecg - xray)), strict=True))


def _numbers(report: DataReport) -> bool:
    return all(isinstance(count, int) for count in report.studies.values())


def _state(folder: Path) -> tuple[tuple[int, int], ...]:
    paths = [folder / name for name in ("store.json", "index.jsonl", "quarantine.jsonl", "sources.jsonl")]
    found = [path.stat() if path.exists() else None for path in paths]
    return tuple((facts.st_size, facts.st_mtime_ns) if facts else (-1, 0) for facts in found)
