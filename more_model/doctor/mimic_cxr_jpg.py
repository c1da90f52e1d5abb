"""MIMIC-CXR-JPG 2.0.0 and 2.1.0: five tables, images sampled for each official split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from more_model.data.csv_columns import clean_ids
from more_model.data.mimic_cxr import CHEXPERT_LABELS
from more_model.doctor.finding import Diagnosis, Finding, ProtocolAnswer, Severity, Surroundings, note, warning
from more_model.doctor.samples import ENOUGH, FileSample, is_jpeg, sample_files, sample_findings
from more_model.doctor.tables import Columns, TableSpec, TablesRead, count_finding, read_tables

KIND = "mimic-cxr-jpg"
SOURCE = (
    "from PhysioNet, project mimic-cxr-jpg, version 2.1.0 (credentialed access): "
    "https://physionet.org/content/mimic-cxr-jpg/2.1.0/"
)
PROTOCOLS = ("mimic-4", "mimic-14")

_METADATA, _SPLIT = "mimic-cxr-2.0.0-metadata", "mimic-cxr-2.0.0-split"
_CHEXPERT, _NEGBIO = "mimic-cxr-2.0.0-chexpert", "mimic-cxr-2.0.0-negbio"
_RADIOLOGIST = "mimic-cxr-2.1.0-test-set-labeled"
_IMAGES = 377_110
_IMAGES_OF_SPLIT = {"train": 368_960, "validate": 2_991, "test": 5_159}
_STUDIES_LABELLED = 227_827
_RADIOLOGIST_STUDIES = 687

_TABLES = (
    TableSpec(
        _METADATA,
        f"{_METADATA}.csv.gz",
        ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"),
        "view, time and path of every image",
        read=("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyTime"),
        rows=_IMAGES,
    ),
    TableSpec(
        _SPLIT,
        f"{_SPLIT}.csv.gz",
        ("dicom_id", "subject_id", "study_id", "split"),
        "the official split",
        read=("dicom_id", "subject_id", "split"),
        rows=_IMAGES,
    ),
    TableSpec(
        _CHEXPERT,
        f"{_CHEXPERT}.csv.gz",
        ("subject_id", "study_id", *CHEXPERT_LABELS),
        "the labels",
        read=("study_id",),
        rows=_STUDIES_LABELLED,
    ),
    TableSpec(
        _NEGBIO,
        f"{_NEGBIO}.csv.gz",
        ("subject_id", "study_id", *CHEXPERT_LABELS),
        "the labels of the second labeller (negbio), which no protocol uses",
        rows=_STUDIES_LABELLED,
        severity=Severity.NOTE,
    ),
)
_RADIOLOGIST_TABLE = TableSpec(
    _RADIOLOGIST,
    f"{_RADIOLOGIST}.csv",
    ("study_id",),
    "the radiologist's labels of 687 test studies (with release 2.1.0 only; the other tables are the same in 2.0.0)",
    rows=_RADIOLOGIST_STUDIES,
    severity=Severity.NOTE,
)


def is_here(_folder: Path, names: frozenset[str]) -> bool:
    """Whether the names in a folder are those of this data set."""
    words = ("metadata", "split", "chexpert", "negbio", "test-set-labeled")
    return any(name.startswith("mimic-cxr-2.") and any(word in name for word in words) for name in names)


def examine(folder: Path, around: Surroundings) -> Diagnosis:
    """Everything about one folder with MIMIC-CXR-JPG."""
    tables = read_tables(folder, (*_TABLES, _RADIOLOGIST_TABLE), SOURCE, synthetic=around.synthetic)
    radiologist = f"rows of {_RADIOLOGIST}.csv" in tables.counts
    findings = [*tables.findings, *_name_findings(folder)]
    metadata, split = tables.columns.get(_METADATA), tables.columns.get(_SPLIT)
    samples: dict[str, FileSample] = {}
    if metadata is not None:
        findings += _table_findings(metadata, split, tables)
        samples = _samples(folder, metadata, split)
        remedy = f"Continue the download of files/ {SOURCE} (wget -r -N -c -np goes on where it stopped)"
        nothing = not any(sample.present for sample in samples.values())
        findings += [found for sample in samples.values() for found in sample_findings(sample, remedy, fatal=nothing)]
    # An excerpt has been named as one already; with all rows there, other shares mean another split.
    if split is not None and len(split["split"]) == _IMAGES and not around.synthetic:
        for word, known in _IMAGES_OF_SPLIT.items():
            findings += count_finding(f"Images of split {word}", split["split"].count(word), known)
    if not (around.has("mimic-cxr") or around.synthetic):
        findings.append(
            note(
                "No report texts were found beside it; evaluation needs none, training on reports does.",
                "Download mimic-cxr-reports.zip from PhysioNet, project mimic-cxr, and unzip mimic-cxr-reports.zip.",
            )
        )
    release = "MIMIC-CXR-JPG 2.1.0" if radiologist else "MIMIC-CXR-JPG 2.0.0"
    return Diagnosis(KIND, release, folder, tuple(findings), tables.counts, _protocols(tables, samples, radiologist))


def _name_findings(folder: Path) -> list[Finding]:
    names = {entry.name for entry in folder.iterdir()}
    renamed = sorted(
        name for name in names if name.startswith("mimic-cxr-2.1.0-") and not name.startswith(_RADIOLOGIST)
    )
    if renamed:
        return [
            warning(
                f"{', '.join(renamed[:4])}: release 2.1.0 keeps 2.0.0 in the names of these tables, so nothing reads "
                "them.",
                "Give them the published names (mimic-cxr-2.0.0-...), or download them again.",
            )
        ]
    if any(name.startswith(_RADIOLOGIST) for name in names):
        return [note("Tables named 2.0.0 inside release 2.1.0 are right: it kept their names.")]
    return []


def _table_findings(metadata: Columns, split: Columns | None, tables: TablesRead) -> list[Finding]:
    """Do the tables belong together?"""
    findings = []
    dicoms, studies = set(metadata["dicom_id"]), set(clean_ids(metadata["study_id"]))
    if split is not None:
        stray = len(dicoms ^ set(split["dicom_id"]))
        if stray:
            findings.append(_mixed(f"{stray:,} images stand in only one of the metadata and split tables"))
        strange = set(split["split"]) - set(_IMAGES_OF_SPLIT)
        if strange:
            findings.append(_mixed(f"the split table has other words than train, validate and test ({len(strange)})"))
    labelled = tables.columns.get(_CHEXPERT)
    if labelled is not None and (stray := len(set(clean_ids(labelled["study_id"])) - studies)):
        findings.append(_mixed(f"{stray:,} labelled studies are not in the metadata table"))
    shortened = sum(len(clock.partition(".")[0]) < 6 for clock in metadata["StudyTime"] if clock.strip())
    if shortened:
        findings.append(
            note(f"{shortened:,} study times have lost their leading zeros, as published; the reader restores them.")
        )
    return findings


def _mixed(what: str) -> Finding:
    return warning(f"The tables do not belong together: {what}.", f"Take all tables of one release {SOURCE}")


def _samples(folder: Path, metadata: Columns, split: Columns | None) -> dict[str, FileSample]:
    """One sample for each split, frontal images only: those are what the protocols read."""
    words: Mapping[str, str] = {} if split is None else dict(zip(split["dicom_id"], split["split"], strict=True))
    paths: dict[str, list[str]] = {}
    rows: Sequence[Sequence[str]] = (
        metadata["dicom_id"],
        clean_ids(metadata["subject_id"]),
        clean_ids(metadata["study_id"]),
        metadata["ViewPosition"],
    )
    for dicom, subject, study, view in zip(*rows, strict=True):
        if view in ("PA", "AP"):
            path = f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"
            paths.setdefault(words.get(dicom, "unknown"), []).append(path)
    order = [word for word in ("test", "validate", "train", "unknown") if word in paths]
    return {
        word: sample_files(f"frontal images of split {word}", folder, paths[word], looks_right=is_jpeg)
        for word in order
    }


def _protocols(tables: TablesRead, samples: Mapping[str, FileSample], radiologist: bool) -> tuple[ProtocolAnswer, ...]:
    missing = [stem for stem in (_METADATA, _SPLIT, _CHEXPERT) if stem not in tables.columns]
    test = samples.get("test")
    if missing:
        reason = f"cannot be read: {', '.join(missing)}"
    elif test is None:
        reason = "there is no frontal image of split test"
    elif not test.enough:
        reason = f"only {test.share:.0%} of the test images are there or readable (at least {ENOUGH:.0%} are needed)"
    else:
        reason = ""
    train = samples.get("train")
    hint = "" if train is not None and train.enough else "zero-shot only: the training images are not all there"
    answers = [ProtocolAnswer(name, not reason, reason or hint) for name in PROTOCOLS]
    if radiologist and not reason:
        answers = [
            ProtocolAnswer(answer.name, True, "; ".join(filter(None, (answer.reason, "also --subset radiologist"))))
            for answer in answers
        ]
    return tuple(answers)
