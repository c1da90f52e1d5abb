"""MIMIC-CXR: DICOM images and report texts; the reports alone are enough beside MIMIC-CXR-JPG."""

from __future__ import annotations

from pathlib import Path

from more_model.data.csv_columns import clean_ids
from more_model.doctor.finding import Diagnosis, Finding, Severity, Surroundings, error, note, warning
from more_model.doctor.samples import FileSample, is_dicom, is_text, sample_files, sample_findings
from more_model.doctor.tables import Columns, TableSpec, read_tables

KIND = "mimic-cxr"
SOURCE = (
    "from PhysioNet, project mimic-cxr, version 2.1.0 (credentialed access): "
    "https://physionet.org/content/mimic-cxr/2.1.0/"
)

_RECORDS, _STUDIES, _PROVIDERS = "cxr-record-list", "cxr-study-list", "cxr-provider-list"
_ZIP = "mimic-cxr-reports.zip"
_TABLES = (
    TableSpec(
        _RECORDS,
        f"{_RECORDS}.csv.gz",
        ("subject_id", "study_id", "dicom_id", "path"),
        "the path of every DICOM image",
        read=("subject_id", "study_id", "path"),
        rows=377_110,
        severity=Severity.WARNING,
    ),
    TableSpec(
        _STUDIES,
        f"{_STUDIES}.csv.gz",
        ("subject_id", "study_id", "path"),
        "the path of every report",
        read=("path",),
        rows=227_835,
        severity=Severity.WARNING,
    ),
)


def is_here(_folder: Path, names: frozenset[str]) -> bool:
    """Whether the names in a folder are those of this data set."""
    return _ZIP in names or any(name.startswith((_RECORDS, _STUDIES)) for name in names)


def examine(folder: Path, around: Surroundings) -> Diagnosis:
    """Everything about one folder with MIMIC-CXR."""
    tables = read_tables(folder, _TABLES, SOURCE, synthetic=around.synthetic)
    records = tables.columns.get(_RECORDS)
    images = _sample_images(folder, records) if records is not None and records["path"] else None
    reports = _sample_reports(folder, records, tables.columns.get(_STUDIES))
    findings = [*tables.findings, *_file_findings(folder, images, reports, records, around)]
    findings.append(
        note("Labels and the official split are in MIMIC-CXR-JPG; protocols mimic-4 and mimic-14 run on that folder.")
    )
    known = any((folder / f"{_PROVIDERS}{end}").is_file() for end in (".csv", ".csv.gz"))
    release = f"MIMIC-CXR {'2.1.0' if known else '2.0.0'}"
    if not known:
        findings.append(note(f"Without {_PROVIDERS}.csv.gz this is release 2.0.0, or 2.1.0 without that file."))
    return Diagnosis(KIND, release, folder, tuple(findings), tables.counts)


def _sample_images(folder: Path, records: Columns) -> FileSample:
    return sample_files("DICOM images", folder, records["path"], looks_right=is_dicom)


def _sample_reports(folder: Path, records: Columns | None, studies: Columns | None) -> FileSample | None:
    if studies is not None:
        paths = studies["path"]
    elif records is not None:
        pairs = zip(clean_ids(records["subject_id"]), clean_ids(records["study_id"]), strict=True)
        paths = sorted({f"files/p{subject[:2]}/p{subject}/s{study}.txt" for subject, study in pairs})
    else:
        return None
    return sample_files("reports", folder, paths, looks_right=is_text)


def _file_findings(
    folder: Path, images: FileSample | None, reports: FileSample | None, records: Columns | None, around: Surroundings
) -> list[Finding]:
    findings: list[Finding] = []
    if reports is not None:
        findings += sample_findings(reports, _reports_remedy(folder), fatal=False)
    if images is not None and images.present:
        remedy = f"Continue the download of files/ {SOURCE} (wget -r -N -c -np goes on where it stopped)"
        return findings + sample_findings(images, remedy)
    if records is not None and _still_compressed(folder, records):
        return [*findings, error("The images lie there as .dcm.gz.", "Unpack them: gunzip -r files/")]
    if reports is not None and reports.present:
        findings.append(
            (note if around.has("mimic-cxr-jpg") else warning)(
                "Only the reports are there, no DICOM image: enough beside MIMIC-CXR-JPG (reports_root), not alone.",
                f"For DICOM images download files/ {SOURCE}",
            )
        )
        return findings
    return [*findings, error("Neither DICOM images nor reports are there.", _reports_remedy(folder))]


def _reports_remedy(folder: Path) -> str:
    if (folder / _ZIP).is_file():
        return f"Unpack the reports: unzip {_ZIP} (in the folder it lies in)."
    return f"Download {_ZIP} {SOURCE} and unpack it: unzip {_ZIP}"


def _still_compressed(folder: Path, records: Columns) -> bool:
    return any((folder / f"{path}.gz").is_file() for path in records["path"][:20])
