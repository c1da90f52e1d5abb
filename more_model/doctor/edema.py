"""The pulmonary edema severity grades: four small tables over the images of MIMIC-CXR-JPG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from more_model.data.csv_columns import clean_ids, read_columns, read_header
from more_model.doctor.finding import Diagnosis, Finding, ProtocolAnswer, Severity, Surroundings, error, note, warning
from more_model.doctor.tables import TableSpec, not_a_table, read_tables
from more_model.errors import DataError, MoreError
from more_model.evaluation.protocols.edema import EDEMA_PROTOCOL, images_root

KIND = "edema-severity"
SOURCE = (
    "from PhysioNet, project mimic-cxr-pe-severity, version 1.0.1 (restricted access): "
    "https://physionet.org/content/mimic-cxr-pe-severity/1.0.1/"
)

_CONSENSUS, _EXPERT, _REGEX = (
    "consensus_image_edema_severity",
    "expert_report_edema_severity",
    "regex_report_edema_severity",
)
#: Rows of grade 0, 1, 2 and 3 as published.
_GRADES = {_CONSENSUS: (61, 44, 20, 16), _EXPERT: (216, 98, 105, 66), _REGEX: (2_801, 1_497, 1_736, 676)}
_GIVES = {
    _CONSENSUS: "141 images graded by consensus of experts",
    _EXPERT: "485 reports graded by experts",
    _REGEX: "6,710 reports graded by regular expressions, which are trained on",
}
_MISSPELT, _SPELT = "edeme_severity", "edema_severity"
_TABLES = tuple(
    TableSpec(
        stem,
        f"{stem}.csv",
        ("subject_id", "study_id", *(("dicom_id",) if stem == _CONSENSUS else ()), _SPELT),
        _GIVES[stem],
        read=(_SPELT,),
        rows=sum(grades),
        severity=Severity.ERROR if stem == _REGEX else Severity.WARNING,
    )
    for stem, grades in _GRADES.items()
)


def is_here(folder: Path, names: frozenset[str]) -> bool:
    """Whether the names in a folder are those of this data set, or one of its tables is the MICCAI 2020 split file."""
    if any(name.startswith((_CONSENSUS, _EXPERT, _REGEX)) for name in names):
        return True
    return any("edema" in name and _is_split_file(folder / name) for name in names if name.endswith((".csv", ".gz")))


def examine(folder: Path, around: Surroundings) -> Diagnosis:
    """Everything about one folder with the edema grades."""
    tables = read_tables(folder, _TABLES, SOURCE, synthetic=around.synthetic)
    findings = list(tables.findings)
    for stem, columns in tables.columns.items():
        findings += _grade_findings(stem, columns[_SPELT])
    split = next((path for path in sorted(folder.glob("*.csv*")) if _is_split_file(path)), None)
    findings += _split_findings(split)
    reason = _no_images(folder)
    if reason:
        findings.append(
            error(
                reason,
                "Put MIMIC-CXR-JPG at, in or beside this folder; it can be had from PhysioNet, project mimic-cxr-jpg.",
            )
        )
    answer = _answer(tables.columns, split, reason)
    return Diagnosis(KIND, "Pulmonary edema severity grades", folder, tuple(findings), tables.counts, (answer,))


def _is_split_file(path: Path) -> bool:
    if not_a_table(path) is not None:
        return False
    try:
        header = set(read_header(path))
    except DataError:
        return False
    return {"dicom_id", "fold"} <= header and bool({_MISSPELT, _SPELT} & header)


def _grade_findings(stem: str, cells: Sequence[str]) -> list[Finding]:
    grades = clean_ids(cells)
    strange = sum(grade not in ("0", "1", "2", "3") for grade in grades)
    if strange:
        return [error(f"{stem}.csv has {strange} grades other than 0 to 3.", f"Take the table {SOURCE}")]
    here = tuple(grades.count(grade) for grade in "0123")
    if here == _GRADES[stem]:
        return []
    spelled, known = ("/".join(map(str, row)) for row in (here, _GRADES[stem]))
    return [note(f"{stem}.csv has {spelled} rows of grade 0/1/2/3; as published {known}.")]


def _split_findings(path: Path | None) -> list[Finding]:
    if path is None:
        return [
            note(
                "The split file of MICCAI 2020 is not there; without it there is no subset test (consensus and expert "
                "need none).",
                "It is mimic-cxr-sub-img-edema-split-manualtest.csv in https://github.com/RayRuizhiLiao/joint_chestxray",
            )
        ]
    findings = []
    if _MISSPELT in read_header(path):
        findings.append(note(f"{path.name} spells its grade column {_MISSPELT!r}, as published; both are read."))
    folds = {fold.strip().upper() for fold in read_columns(path, ("fold",))["fold"]}
    if "TEST" not in folds:
        findings.append(warning(f"{path.name} has no row of fold TEST.", "Take the file whole."))
    return findings


def _no_images(folder: Path) -> str:
    try:
        images_root(folder)
    except MoreError as caught:
        return str(caught).splitlines()[0]
    return ""


def _answer(columns: Mapping[str, object], split: Path | None, reason: str) -> ProtocolAnswer:
    subsets = [name for name, stem in (("consensus", _CONSENSUS), ("expert", _EXPERT)) if stem in columns]
    subsets = subsets if _REGEX in columns else []
    if split is not None:
        subsets.append("test")
    if not reason and not subsets:
        reason = "no table to evaluate on and to train on can be read"
    return ProtocolAnswer(EDEMA_PROTOCOL.name, not reason, reason or f"--subset {' or '.join(subsets)}")
