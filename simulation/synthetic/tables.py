"""The CSV tables of a synthetic cohort: names, columns in their order, and how they are written."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from more_model.data.mimic_cxr import CHEXPERT_LABELS
from simulation.synthetic.findings import ECG_LABELS

Cell = str | int | float | None
Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One table: where it lies under the cohort's root (``.gz`` is compressed) and its columns in order."""

    path: str
    columns: tuple[str, ...]


METADATA = Table(
    "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz",
    (
        "dicom_id",
        "subject_id",
        "study_id",
        "PerformedProcedureStepDescription",
        "ViewPosition",
        "Rows",
        "Columns",
        "StudyDate",
        "StudyTime",
        "ProcedureCodeSequence_CodeMeaning",
        "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
    ),
)
SPLIT = Table("mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"))
CHEXPERT = Table("mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz", ("subject_id", "study_id", *CHEXPERT_LABELS))
NEGBIO = Table("mimic-cxr-jpg/mimic-cxr-2.0.0-negbio.csv.gz", ("subject_id", "study_id", *CHEXPERT_LABELS))
RECORD_LIST = Table("mimic-cxr/cxr-record-list.csv.gz", ("subject_id", "study_id", "dicom_id", "path"))
STUDY_LIST = Table("mimic-cxr/cxr-study-list.csv.gz", ("subject_id", "study_id", "path"))
ECG_RECORDS = Table("mimic-iv-ecg/record_list.csv", ("subject_id", "study_id", "file_name", "ecg_time", "path"))
ECG_MEASUREMENTS = Table(
    "mimic-iv-ecg/machine_measurements.csv",
    (
        "subject_id",
        "study_id",
        "cart_id",
        "ecg_time",
        *(f"report_{number}" for number in range(18)),
        "bandwidth",
        "filtering",
        "rr_interval",
        "p_onset",
        "p_end",
        "qrs_onset",
        "qrs_end",
        "t_end",
        "p_axis",
        "qrs_axis",
        "t_axis",
    ),
)
PATIENTS = Table("synthetic_patients.csv", ("subject_id", "hospital", "sex", "age", "anchor_year"))
ECG_TRUTH = Table("synthetic_ecg_labels.csv", ("study_id", "subject_id", *ECG_LABELS))
LESIONS = Table("synthetic_lesions.csv", ("dicom_id", "finding", "x", "y", "radius"))

FILM_TABLES = (METADATA, SPLIT, CHEXPERT, NEGBIO, RECORD_LIST, STUDY_LIST, LESIONS)
ECG_TABLES = (ECG_RECORDS, ECG_MEASUREMENTS, ECG_TRUTH)


def write_table(root: Path, table: Table, rows: Iterable[Row]) -> None:
    """Writes one table. Compressed files carry no time and no name, so the same rows are the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(rows)
    data = text.getvalue().encode()
    path = root / table.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=6, mtime=0)
    path.write_bytes(data)


def label_cells(labels: Mapping[str, float | None], names: Sequence[str]) -> Row:
    """Cells of a label row; a label that is None or missing is left blank."""
    return tuple(labels.get(name) for name in names)
