"""Trees of every known data set, written once, and copies that a test may damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trees.chexpert import write_chexpert
from trees.edema import write_edema
from trees.mimic_cxr_jpg import write_mimic_cxr_jpg
from trees.mimic_iv_ecg import write_mimic_iv_ecg
from trees.mimic_iv_note import write_mimic_iv_note
from trees.ptbxl import write_ptbxl

from more_model.doctor.examine import Examination, examine
from more_model.doctor.finding import Diagnosis

WRITERS: dict[str, Callable[[Path], Path]] = {
    "mimic-cxr-jpg": write_mimic_cxr_jpg,
    "chexpert": lambda root: write_chexpert(root) / "CheXpert-v1.0-small",
    "edema-severity": write_edema,
    "ptb-xl": write_ptbxl,
    "mimic-iv-ecg": lambda root: write_mimic_iv_ecg(root, rate_hz=100),
    "mimic-iv-note": write_mimic_iv_note,
}


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tree of one kind of data, to be read only."""
    written: dict[str, Path] = {}

    def tree(kind: str) -> Path:
        if kind not in written:
            written[kind] = WRITERS[kind](tmp_path_factory.mktemp(kind))
        return written[kind]

    return tree


@pytest.fixture
def copied(trees: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the tree of one kind of data."""

    def copy(kind: str) -> Path:
        source = trees(kind)
        shutil.copytree(source, tmp_path / source.name)
        return tmp_path / source.name

    return copy


@pytest.fixture
def diagnose() -> Callable[[Path, str], Diagnosis]:
    """The only diagnosis of one kind under a folder."""

    def one(root: Path, kind: str) -> Diagnosis:
        examination: Examination = examine(root)
        (diagnosis,) = [entry for entry in examination.diagnoses if entry.kind == kind]
        return diagnosis

    return one
