"""MIMIC-CXR-JPG (2.0.0, 2.1.0) and MIMIC-CXR (DICOM files and report texts) to studies.

Layout, from the releases on PhysioNet: images in ``files/p{first 2 digits}/p{subject}/s{study}/{dicom_id}.jpg|.dcm``,
the report *beside* the study folder, ``files/p10/p10000032/s50414267.txt``. Release 2.1.0 keeps ``2.0.0`` in its file
names. Labels belong to a study (one report), not to an image, and their columns are selected by name: the order differs
between releases and documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from more_model.data.csv_columns import clean_ids, find_csv, parse_times, read_columns, require_csv
from more_model.data.label_columns import label_rows, named
from more_model.data.packages import load_package
from more_model.data.reading import Reading
from more_model.data.study import Modality, Study
from more_model.errors import DataError

CHEXPERT_LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
_METADATA = "mimic-cxr-2.0.0-metadata"
_SPLIT = "mimic-cxr-2.0.0-split"
_SPLIT_WORDS = {"train": "train", "validate": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class _Image:
    dicom_id: str
    subject: str
    study: str
    view: str
    time: datetime | None
    # Text, not a Path: building a Path for every image of the release, lateral ones included, takes most of the time.
    path: str
    procedure: str = ""


def read_mimic_cxr_jpg(
    root: Path,
    *,
    reports_root: Path | None = None,
    views: Sequence[str] = ("PA", "AP"),
    labeller: Literal["chexpert", "negbio"] = "chexpert",
) -> Reading:
    """Images of the JPG release, and one report per study that has an image kept.

    ``reports_root`` is a MIMIC-CXR tree with the report texts under ``files/``. Empty ``views`` keeps every view.
    Raises `DataError` for missing files or columns, all at once.
    """
    labels_stem = f"mimic-cxr-2.0.0-{labeller}"
    tables = require_csv(root, (_METADATA, _SPLIT, labels_stem), "MIMIC-CXR-JPG")
    report_files = None if reports_root is None else _files_folder(reports_root, "MIMIC-CXR reports")
    counts: Counter[str] = Counter()
    images = _metadata_images(tables[_METADATA], _files_folder(root, "MIMIC-CXR-JPG"))
    return _reading(
        _of_views(images, views, counts),
        labels=_study_labels(tables[labels_stem]),
        splits=_official_splits(tables[_SPLIT]),
        report_files=report_files,
        counts=counts,
    )


def read_mimic_cxr(root: Path, *, labels_root: Path | None = None, views: Sequence[str] = ("PA", "AP")) -> Reading:
    """DICOM images and reports of MIMIC-CXR.

    ``labels_root`` is a MIMIC-CXR-JPG tree (its CSV files suffice): its chexpert table gives labels, its metadata and
    split tables, where present, view, time and official split. Without the metadata table, view and time come from the
    DICOM headers, which takes about a millisecond an image; an image whose header cannot be read is kept, so that the
    ingest quarantines it under its reason.
    """
    tables = require_csv(root, ("cxr-record-list",), "MIMIC-CXR")
    files = _files_folder(root, "MIMIC-CXR")
    labels: Mapping[str, Mapping[str, float]] = {}
    splits: Mapping[str, str] = {}
    facts: Mapping[str, _Image] | None = None
    if labels_root is not None:
        stem = "mimic-cxr-2.0.0-chexpert"
        labels = _study_labels(require_csv(labels_root, (stem,), "Labels of MIMIC-CXR")[stem])
        facts, splits = _jpg_tables(labels_root)
    counts: Counter[str] = Counter()
    images = list(_record_images(tables["cxr-record-list"], root, facts, counts))
    return _reading(_of_views(images, views, counts), labels=labels, splits=splits, report_files=files, counts=counts)


def mimic_cxr_times(dates: Sequence[str], times: Sequence[str]) -> list[datetime | None]:
    """``StudyDate`` (YYYYMMDD) and ``StudyTime`` (HHMMSS.fff read as a number, so without leading zeros) to times.

    A readable date with an unreadable time of day gives midnight; a date that cannot be read gives None.
    """
    days = clean_ids(dates)
    clocks = [clock.strip().split(".")[0].zfill(6) for clock in times]
    exact = parse_times([day + clock for day, clock in zip(days, clocks, strict=True)], "%Y%m%d%H%M%S")
    midnights = parse_times(days, "%Y%m%d")
    return [stamp or midnight for stamp, midnight in zip(exact, midnights, strict=True)]


def _files_folder(root: Path, dataset: str) -> Path:
    folder = root / "files"
    if folder.is_dir():
        return folder
    zipped = root / "mimic-cxr-reports.zip"
    hint = f"Unpack {zipped} there first." if zipped.is_file() else "Point the source at the root of the release."
    raise DataError(f"{dataset}: {folder} does not exist.", remedy=hint)


def _study_folder(files: str, subject: str, study: str) -> str:
    return f"{files}/p{subject[:2]}/p{subject}/s{study}"


def _metadata_images(table: Path, files: Path) -> list[_Image]:
    columns = read_columns(
        table,
        ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"),
        ("PerformedProcedureStepDescription",),
    )
    times = mimic_cxr_times(columns["StudyDate"], columns["StudyTime"])
    procedures = columns.get("PerformedProcedureStepDescription", [""] * len(times))
    rows = zip(
        columns["dicom_id"],
        clean_ids(columns["subject_id"]),
        clean_ids(columns["study_id"]),
        columns["ViewPosition"],
        times,
        procedures,
        strict=True,
    )
    folder = str(files)
    return [
        _Image(dicom, subject, study, view, time, f"{_study_folder(folder, subject, study)}/{dicom}.jpg", procedure)
        for dicom, subject, study, view, time, procedure in rows
    ]


def _jpg_tables(root: Path) -> tuple[Mapping[str, _Image] | None, Mapping[str, str]]:
    metadata, split = find_csv(root, _METADATA), find_csv(root, _SPLIT)
    images = None if metadata is None else {image.dicom_id: image for image in _metadata_images(metadata, root)}
    return images, {} if split is None else _official_splits(split)


def _record_images(
    table: Path, root: Path, facts: Mapping[str, _Image] | None, counts: Counter[str]
) -> Iterable[_Image]:
    columns = read_columns(table, ("subject_id", "study_id", "dicom_id", "path"))
    subjects, studies = clean_ids(columns["subject_id"]), clean_ids(columns["study_id"])
    for subject, study, dicom, relative in zip(subjects, studies, columns["dicom_id"], columns["path"], strict=True):
        path = f"{root}/{relative}"
        if facts is None:
            view, time = _header_facts(Path(path), counts)
        elif dicom in facts:
            view, time = facts[dicom].view, facts[dicom].time
        else:
            counts["xray-not-in-metadata"] += 1
            view, time = None, None
        yield _Image(dicom, subject, study, "UNREAD" if view is None else view, time, path)


def _header_facts(path: Path, counts: Counter[str]) -> tuple[str | None, datetime | None]:
    pydicom = load_package("pydicom", "read MIMIC-CXR without its metadata table (see labels_root)")
    try:
        header = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["StudyDate", "StudyTime", "ViewPosition"]
        )
        day, clock = str(header.get("StudyDate", "")), str(header.get("StudyTime", ""))
        view = str(header.get("ViewPosition", "") or "")
    except Exception:  # noqa: BLE001 - a damaged header raises anything; the image is kept and quarantined at ingest
        counts["xray-header-unreadable"] += 1
        return None, None
    return view, mimic_cxr_times([day], [clock])[0]


def _of_views(images: Sequence[_Image], views: Sequence[str], counts: Counter[str]) -> list[_Image]:
    if not views:
        return list(images)
    wanted = {*(view.upper() for view in views), "UNREAD"}
    kept = [image for image in images if image.view.strip().upper() in wanted]
    counts["xray-other-view"] += len(images) - len(kept)
    return kept


def _study_labels(table: Path) -> dict[str, dict[str, float]]:
    columns = read_columns(table, ("study_id", *CHEXPERT_LABELS))
    rows = label_rows(table, columns, named(CHEXPERT_LABELS))
    return dict(zip(clean_ids(columns["study_id"]), rows, strict=True))


def _official_splits(table: Path) -> dict[str, str]:
    columns = read_columns(table, ("dicom_id", "split"))
    strange = {word for word in columns["split"] if word not in _SPLIT_WORDS}
    if strange:
        raise DataError(
            f"The table {table} has split words other than train, validate and test: {', '.join(sorted(strange)[:5])}.",
            remedy="Use the split table of the release as it was published.",
        )
    return {dicom: _SPLIT_WORDS[word] for dicom, word in zip(columns["dicom_id"], columns["split"], strict=True)}


def _reading(
    images: Sequence[_Image],
    *,
    labels: Mapping[str, Mapping[str, float]],
    splits: Mapping[str, str],
    report_files: Path | None,
    counts: Counter[str],
) -> Reading:
    studies: list[Study] = []
    reported: set[str] = set()
    folder = str(report_files)
    shared: dict[tuple[str, str, str], dict[str, str]] = {}
    for image in images:
        facts = (image.view, splits.get(image.dicom_id, ""), image.procedure)
        attributes = shared.setdefault(facts, _attributes(*facts))
        studies.append(
            Study(
                modality=Modality.XRAY,
                study_id=image.dicom_id,
                patient_id=image.subject,
                group_id=image.study,
                time=image.time,
                source=Path(image.path),
                labels=labels.get(image.study, {}),
                attributes=attributes,
            )
        )
        if report_files is not None and image.study not in reported:
            reported.add(image.study)
            studies.append(_report(image, folder))
    counts["xray"], counts["xray-report"] = len(images), len(reported)
    counts["xray-without-time"] = sum(image.time is None for image in images)
    counts["xray-without-labels"] = sum(not labels.get(image.study) for image in images)
    return Reading(studies, dict(counts))


def _attributes(view: str, split: str, procedure: str) -> dict[str, str]:
    facts = {"view": "" if view == "UNREAD" else view.strip(), "official_split": split, "procedure": procedure.strip()}
    return {name: value for name, value in facts.items() if value}


def _report(image: _Image, files: str) -> Study:
    return Study(
        modality=Modality.REPORT,
        study_id=f"xray-{image.study}",
        patient_id=image.subject,
        group_id=image.study,
        time=image.time,
        source=Path(f"{_study_folder(files, image.subject, image.study)}.txt"),
        describes=Modality.XRAY,
    )
