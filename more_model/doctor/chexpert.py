"""CheXpert v1.0, full or small: train, valid, and the test set that came later with its labels apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from more_model.data.csv_columns import read_columns, read_header
from more_model.data.mimic_cxr import CHEXPERT_LABELS
from more_model.doctor.finding import Diagnosis, Finding, ProtocolAnswer, Severity, Surroundings, note, warning
from more_model.doctor.samples import ENOUGH, FileSample, is_jpeg, sample_files, sample_findings
from more_model.doctor.tables import Columns, TableSpec, count_finding, not_a_table, read_tables
from more_model.errors import DataError
from more_model.evaluation.protocols.chexpert_tables import find_release

KIND = "chexpert"
SOURCE = "from Stanford (registration): https://stanfordmlgroup.github.io/competitions/chexpert/"
TEST_SOURCE = "from the same place (folder CheXpert/test); its labels from https://github.com/rajpurkarlab/cheXpert-test-set-labels"

_IMAGE_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_TEST_NAMES = ("test.csv", "test_labels.csv", "groundtruth.csv")
_TRAIN_IMAGES, _VALID_STUDIES, _TEST_STUDIES = 223_414, 200, 500
_TABLES = (
    TableSpec(
        "train",
        "train.csv",
        (*_IMAGE_COLUMNS, *CHEXPERT_LABELS),
        "the training images, and the set 5x200",
        read=("Path", "Age"),
        rows=_TRAIN_IMAGES,
        severity=Severity.WARNING,
    ),
    TableSpec(
        "valid",
        "valid.csv",
        (*_IMAGE_COLUMNS, *CHEXPERT_LABELS),
        "the 200 studies labelled by three radiologists",
        read=("Path",),
        severity=Severity.WARNING,
    ),
)


def is_here(folder: Path, names: frozenset[str]) -> bool:
    """Whether the tables in a folder are those of this data set: their names alone are too common to tell."""
    for name in sorted(names & {"train.csv", "valid.csv", *_TEST_NAMES}):
        if not_a_table(folder / name) is None:
            header = set(_header(folder / name))
            if {"Pleural Other", "Support Devices"} <= header and header & {"Path", "Study"}:
                return True
    return False


def examine(folder: Path, around: Surroundings) -> Diagnosis:
    """Everything about one folder with CheXpert."""
    test = _test_labels(folder)
    if not any((folder / name).is_file() for name in ("train.csv", "valid.csv")):
        return _test_only(folder)
    tables = read_tables(folder, _TABLES, SOURCE, synthetic=around.synthetic)
    findings = list(tables.findings)
    samples: dict[str, FileSample] = {}
    for part in ("valid", "train"):
        if part in tables.columns:
            paths = [_below_release(path) for path in tables.columns[part]["Path"]]
            samples[part] = sample_files(f"images of {part}.csv", folder, paths, looks_right=is_jpeg)
    nothing = not any(sample.present for sample in samples.values())
    for sample in samples.values():
        findings += sample_findings(sample, f"Unpack or download the images again {SOURCE}", fatal=nothing)
    findings += _value_findings(folder, tables.columns)
    if test is None:
        findings.append(note("No labels of the test set (500 studies) are there.", f"They can be had {TEST_SOURCE}"))
    else:
        samples["test"] = _sample_test(folder, test)
        findings += _test_findings(test, samples["test"])
    return Diagnosis(KIND, _release(tables.columns, test), folder, tuple(findings), tables.counts, _protocols(samples))


def _header(path: Path) -> list[str]:
    try:
        return read_header(path)
    except DataError:
        return []


def _below_release(path: str) -> str:
    """``CheXpert-v1.0-small/train/...`` -> ``train/...``."""
    parts = path.strip().split("/")
    return "/".join(parts[-4:])


def _release(columns: dict[str, Columns], test: Path | None) -> str:
    first = next((cells["Path"][0] for cells in columns.values() if cells["Path"]), "")
    size = "small" if "small" in first.partition("/")[0].lower() else "full size"
    return f"CheXpert v1.0, {size}, {'with' if test else 'without'} test labels"


def _test_labels(folder: Path) -> Path | None:
    try:
        return find_release(folder, "test").tables["test"]
    except DataError:
        return None


def _studies(paths: Sequence[str]) -> int:
    return len({path.strip().rstrip("/").rpartition("/")[0] for path in paths})


def _value_findings(folder: Path, columns: dict[str, Columns]) -> list[Finding]:
    findings = []
    if "valid" in columns:
        findings += count_finding("Studies of valid.csv", _studies(columns["valid"]["Path"]), _VALID_STUDIES)
    if "train" in columns:
        unknown = sum(age.strip() in ("0", "0.0") for age in columns["train"]["Age"])
        if unknown:
            findings.append(note(f"{unknown:,} images state age 0, which means unknown; the reader leaves it out."))
    named = {cells["Path"][0].partition("/")[0] for cells in columns.values() if cells["Path"]}
    if len(named) > 1:
        findings.append(
            warning(
                f"The tables name images of different releases: {', '.join(sorted(named))}.",
                "Take train.csv and valid.csv of one release.",
            )
        )
    if named and folder.name not in named:
        findings.append(
            note(
                f"The tables call the folder {', '.join(sorted(named))}, here it is {folder.name}: both are understood."
            )
        )
    return findings


def _sample_test(folder: Path, table: Path) -> FileSample:
    """Images where the table names them, otherwise the folders of the studies."""
    header = _header(table)
    column = "Path" if "Path" in header else "Study"
    cells = read_columns(table, (column,))[column]
    homes = (table.parent, folder)
    home = next((place for place in homes if (place / "test").is_dir()), table.parent)
    if column == "Path":
        paths = ["/".join(cell.strip().split("/")[-4:]) for cell in cells]
        return sample_files("images of the test set", home, paths, looks_right=is_jpeg)
    paths = ["/".join(cell.strip().rstrip("/").split("/")[-3:]) for cell in cells]
    return sample_files("studies of the test set", home, paths, looks_right=_holds_images)


def _holds_images(study: Path) -> bool:
    images = list(study.glob("*.jpg"))
    return bool(images) and all(is_jpeg(image) for image in images)


def _test_findings(table: Path, sample: FileSample) -> list[Finding]:
    header = _header(table)
    column = "Path" if "Path" in header else "Study"
    cells = read_columns(table, (column,))[column]
    studies = len(set(cells)) if column == "Study" else _studies(cells)
    remedy = f"Put the images of the test set (folder test/) beside {table.name}; they can be had {TEST_SOURCE}"
    missing = [label for label in CHEXPERT_LABELS if label not in header]
    findings = count_finding(f"Studies of {table.name}", studies, _TEST_STUDIES)
    if missing:
        findings.append(warning(f"{table.name} has no column {', '.join(missing)}.", f"Take the labels {TEST_SOURCE}"))
    return [*findings, *sample_findings(sample, remedy, fatal=False)]


def _test_only(folder: Path) -> Diagnosis:
    table = next(folder / name for name in _TEST_NAMES if (folder / name).is_file())
    sample = _sample_test(folder, table)
    findings = [
        note("Only the test set is here: without train.csv nothing can be trained, zero-shot can run.", SOURCE),
        *_test_findings(table, sample),
    ]
    answers = _protocols({"test": sample})
    return Diagnosis(KIND, "CheXpert v1.0, test set alone", folder, tuple(findings), {}, answers)


def _protocols(samples: dict[str, FileSample]) -> tuple[ProtocolAnswer, ...]:
    subsets = [part for part in ("valid", "test") if part in samples and samples[part].enough]
    train = "train" in samples and samples["train"].enough
    if subsets:
        reason = f"--subset {' or '.join(subsets)}" + ("" if train else ", zero-shot only")
    else:
        reason = f"neither the valid nor the test set is there with at least {ENOUGH:.0%} of its images"
    lacking = "" if train else f"train.csv is not there with at least {ENOUGH:.0%} of its images"
    return (
        *(ProtocolAnswer(name, bool(subsets), reason) for name in ("chexpert-5", "chexpert-14")),
        ProtocolAnswer("chexpert-5x200", train, lacking),
    )
