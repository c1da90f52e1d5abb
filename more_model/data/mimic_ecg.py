"""MIMIC-IV-ECG 1.0 to studies: ``record_list.csv`` for the records, ``machine_measurements.csv`` for their words.

The cardiologists' notes that ``waveform_note_links.csv`` points at are unreleased, so the machine's report lines are
the only public text. Record paths are relative to the root and have no extension.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

from more_model.data.csv_columns import clean_ids, parse_times, read_columns, require_csv
from more_model.data.reading import Reading
from more_model.data.report_text import ecg_text
from more_model.data.study import Modality, Study

#: Shorter machine texts ("Sinus rhythm") say too little; with this rule 771,693 of 800,035 records keep a text, the
#: figure that earlier work on this data set reports.
MIN_REPORT_WORDS = 4
_REPORT_COLUMNS = tuple(f"report_{number}" for number in range(18))


def read_mimic_ecg(root: Path, *, min_report_words: int = MIN_REPORT_WORDS) -> Reading:
    """ECG records, each followed by its machine report where that has at least ``min_report_words`` words.

    Raises `DataError` for missing tables or columns.
    """
    tables = require_csv(root, ("record_list", "machine_measurements"), "MIMIC-IV-ECG")
    columns = read_columns(tables["record_list"], ("subject_id", "study_id", "ecg_time", "path"))
    texts, devices = _machine_rows(tables["machine_measurements"])
    counts: Counter[str] = Counter()
    studies: list[Study] = []
    by_device = {device: {"device": device} for device in set(devices.values()) if device}
    rows = zip(
        clean_ids(columns["subject_id"]),
        clean_ids(columns["study_id"]),
        parse_times(columns["ecg_time"]),
        columns["path"],
        strict=True,
    )
    folder = str(root)
    for subject, study, time, path in rows:
        device = by_device.get(devices.get(study, ""), {})
        studies.append(_record(subject, study, time, Path(f"{folder}/{path}"), device))
        text = texts.get(study, "")
        if len(text.split()) >= min_report_words:
            studies.append(_report(subject, study, time, text))
            counts["ecg-report"] += 1
        else:
            counts["ecg-report-too-short" if text else "ecg-report-blank"] += 1
        counts["ecg-without-time"] += time is None
    counts["ecg"] = len(columns["path"])
    return Reading(studies, dict(counts))


def _record(subject: str, study: str, time: datetime | None, source: Path, attributes: dict[str, str]) -> Study:
    return Study(
        modality=Modality.ECG,
        study_id=study,
        patient_id=subject,
        group_id=study,
        time=time,
        source=source,
        attributes=attributes,
    )


def _report(subject: str, study: str, time: datetime | None, text: str) -> Study:
    return Study(
        modality=Modality.REPORT,
        study_id=f"ecg-{study}",
        patient_id=subject,
        group_id=study,
        time=time,
        text=text,
        describes=Modality.ECG,
        attributes={"language": "en"},
    )


def _machine_rows(table: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Study id -> report text, and study id -> cart."""
    columns = read_columns(table, ("study_id", "cart_id", *_REPORT_COLUMNS))
    studies = clean_ids(columns["study_id"])
    texts: list[str] = []
    # Carts print the same few lines again and again: each distinct set of lines is joined once.
    joined: dict[tuple[str, ...], str] = {}
    for lines in zip(*(columns[name] for name in _REPORT_COLUMNS), strict=True):
        text = joined.get(lines)
        if text is None:
            text = joined[lines] = ecg_text(line for line in lines if line.strip())
        texts.append(text)
    return dict(zip(studies, texts, strict=True)), dict(zip(studies, clean_ids(columns["cart_id"]), strict=True))
