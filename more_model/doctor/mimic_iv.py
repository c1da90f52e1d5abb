"""MIMIC-IV-ECG 1.0 and MIMIC-IV-Note 2.2."""

from __future__ import annotations

from pathlib import Path

from more_model.data.csv_columns import find_csv
from more_model.doctor.finding import Diagnosis, Finding, Severity, Surroundings, error, note
from more_model.doctor.records import is_whole, lead_order_findings, record_files
from more_model.doctor.samples import sample_files, sample_findings
from more_model.doctor.tables import TableSpec, read_tables

ECG_KIND = "mimic-iv-ecg"
NOTE_KIND = "mimic-iv-note"
ECG_SOURCE = (
    "from PhysioNet, project mimic-iv-ecg, version 1.0 (open access): https://physionet.org/content/mimic-iv-ecg/1.0/"
)
NOTE_SOURCE = (
    "from PhysioNet, project mimic-iv-note, version 2.2 (credentialed access): "
    "https://physionet.org/content/mimic-iv-note/2.2/"
)

_RECORDS, _MACHINE, _LINKS, _DIAGNOSES = (
    "record_list",
    "machine_measurements",
    "waveform_note_links",
    "records_w_diag_icd10",
)
_ECG_TABLES = (
    TableSpec(
        _RECORDS,
        f"{_RECORDS}.csv",
        ("subject_id", "study_id", "file_name", "ecg_time", "path"),
        "patient, time and path of every record",
        read=("subject_id", "path"),
        rows=800_035,
    ),
    TableSpec(
        _MACHINE,
        f"{_MACHINE}.csv",
        ("subject_id", "study_id", "cart_id", "ecg_time", *(f"report_{number}" for number in range(18))),
        "the machine's report lines, the only public words about these records",
        read=("study_id",),
        rows=800_035,
    ),
)
_MAIN = ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text")
_DETAIL = ("note_id", "subject_id", "field_name", "field_value", "field_ordinal")
_NOTE_TABLES = tuple(
    TableSpec(
        stem,
        f"note/{stem}.csv.gz",
        _DETAIL if stem.endswith("detail") else _MAIN,
        gives,
        severity=severity,
        header_only=True,
    )
    for stem, gives, severity in (
        ("radiology", "radiology reports of all examinations", Severity.ERROR),
        ("radiology_detail", "codes and names of the examinations", Severity.NOTE),
        ("discharge", "discharge summaries", Severity.NOTE),
        ("discharge_detail", "their further fields", Severity.NOTE),
    )
)


def is_ecg(_folder: Path, names: frozenset[str]) -> bool:
    """Whether the names in a folder are those of MIMIC-IV-ECG."""
    return any(name.startswith((f"{_MACHINE}.csv", f"{_RECORDS}.csv", f"{_LINKS}.csv")) for name in names)


def is_note(_folder: Path, names: frozenset[str]) -> bool:
    """Whether the names in a folder are those of the ``note`` folder of MIMIC-IV-Note."""
    stems = {name.removesuffix(".gz").removesuffix(".csv") for name in names if ".csv" in name}
    return bool(stems & {"radiology", "radiology_detail", "discharge", "discharge_detail"})


def examine_ecg(folder: Path, around: Surroundings) -> Diagnosis:
    """Everything about one folder with MIMIC-IV-ECG."""
    tables = read_tables(folder, _ECG_TABLES, ECG_SOURCE, synthetic=around.synthetic)
    findings = list(tables.findings)
    counts = dict(tables.counts)
    records = tables.columns.get(_RECORDS)
    if records is not None:
        counts["patients"] = len(set(records["subject_id"]))
        remedy = (
            f"Continue the download of files/ {ECG_SOURCE} (the zip of the whole release spares 1.6 million requests)"
        )
        files = sample_files("record files", folder, record_files(records["path"]), looks_right=is_whole)
        findings += sample_findings(files, remedy)
        findings += lead_order_findings(folder, records["path"]) if files.present else []
    findings += _ecg_notes(folder)
    return Diagnosis(ECG_KIND, "MIMIC-IV-ECG 1.0", folder, tuple(findings), counts)


def _ecg_notes(folder: Path) -> list[Finding]:
    findings = []
    if find_csv(folder, _LINKS) is not None:
        findings.append(
            note(
                f"{_LINKS}.csv points at cardiologists' notes that are not released: its note ids are not in "
                "MIMIC-IV-Note.",
                "Use the machine's report lines; they are what the reader takes.",
            )
        )
    if find_csv(folder, _DIAGNOSES) is not None:
        findings.append(
            note(f"{_DIAGNOSES}.csv (MIMIC-IV-ECG-Ext-ICD) gives diagnoses: evaluate on them with protocol table.")
        )
    findings.append(
        note(
            "No protocol has its name: it is for training; clocks of the carts drift, so pairing by the minute with "
            "an X-ray is not safe."
        )
    )
    return findings


def examine_note(folder: Path, around: Surroundings) -> Diagnosis:
    """Everything about one folder with MIMIC-IV-Note; its tables are only opened, they hold gigabytes of text."""
    tables = read_tables(folder, _NOTE_TABLES, NOTE_SOURCE, synthetic=around.synthetic)
    findings = [
        *tables.findings,
        note(
            "Its reports carry no study_id of MIMIC-CXR: take chest X-ray reports from MIMIC-CXR.",
            "Download mimic-cxr-reports.zip from PhysioNet, project mimic-cxr, and unzip mimic-cxr-reports.zip.",
        ),
    ]
    if not any(find_csv(folder, spec.stem) for spec in _NOTE_TABLES):
        findings.append(error("There is no table of notes.", f"Download note/ {NOTE_SOURCE}"))
    return Diagnosis(NOTE_KIND, "MIMIC-IV-Note 2.2", folder, tuple(findings))
