"""Hospital stays from MIMIC-IV's ``hosp/admissions.csv(.gz)``."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from more_model.data.csv_columns import clean_ids, parse_times, read_columns
from more_model.errors import DataError

Stay = tuple[datetime, datetime]


def read_admissions(path: Path, patients: Collection[str]) -> dict[str, list[Stay]]:
    """Patient -> stays (admission, discharge) in order of time, for the given patients; unusable rows are left out.

    Raises `DataError` for a missing file or column, and where no given patient has a stay.
    """
    columns = read_columns(path, ("subject_id", "hadm_id", "admittime", "dischtime"))
    starts, ends = parse_times(columns["admittime"]), parse_times(columns["dischtime"])
    stays: dict[str, list[Stay]] = {}
    for patient, start, end in zip(clean_ids(columns["subject_id"]), starts, ends, strict=True):
        if patient in patients and start is not None and end is not None and start <= end:
            stays.setdefault(patient, []).append((start, end))
    if patients and not stays:
        raise DataError(
            f"The table {path} has no stay of any of the {len(patients)} patients.",
            remedy="Use the admissions table of the same release family as the X-rays and ECGs (MIMIC-IV hosp).",
        )
    return {patient: sorted(intervals) for patient, intervals in stays.items()}
