"""The protocol for any labelled table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from more_model.data.split import SplitRule, hash_split
from more_model.data.study import Split
from more_model.errors import ConfigError, DataError
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.protocols.protocol import ProtocolChoice, check_cohort
from more_model.evaluation.protocols.table import TABLE_PROTOCOL

HEADER = "person,film,trace,words,edema,af,part"
MAPPING = """
path = "rows.csv"
patient = "person"
xray = "film"
"""
LABELS = '[labels]\nedema = "Edema"\n'
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def build(mapping: str, rows: Sequence[str], name: str = "mapping.toml") -> Path:
        (tmp_path / "rows.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        (tmp_path / name).write_text(mapping)
        return tmp_path

    return build


def rows(count: int, part: Callable[[int], str] = lambda number: "") -> list[str]:
    return [f"p{n},f{n}.png,t{n},text {n},{n % 2},{n % 3 == 0},{part(n)}" for n in range(count)]


def test_tasks_are_the_labels_of_the_mapping_and_splits_the_usual_hash(write: Write) -> None:
    root = write(MAPPING + LABELS, rows(60))
    cohort = TABLE_PROTOCOL.read(root, ProtocolChoice())
    check_cohort(cohort, "table")
    assert cohort.tasks == (LabelTask("Edema", "xray"),)
    for study in cohort.studies:
        assert cohort.split[study.study_id] is hash_split(study.patient_id, SplitRule())
    assert {split.value for split in cohort.split.values()} == {"train", "validation", "test"}
    assert any("keyed hash" in sentence for sentence in cohort.notes)
    other = TABLE_PROTOCOL.read(root, ProtocolChoice(seed=1))
    assert other.split != cohort.split


def test_a_split_column_is_followed(write: Write) -> None:
    parts = {0: "train", 1: "train", 2: "val", 3: "test"}
    mapping = MAPPING + '[labels]\nedema = "Edema"\n[split]\ncolumn = "part"\n'
    mapping += 'words = { train = "train", val = "validation", test = "test" }\n'
    cohort = TABLE_PROTOCOL.read(write(mapping, rows(12, lambda n: parts[n % 4])), ProtocolChoice())
    assert cohort.split["f3.png"] is Split.TEST
    assert [cohort.split[f"f{n}.png"] for n in range(3)] == [Split.TRAIN, Split.TRAIN, Split.VALIDATION]
    assert cohort.facts["test xray"] == 3 and cohort.notes == ()


def test_validation_patients_come_out_of_training_where_the_column_names_none(write: Write) -> None:
    mapping = MAPPING + LABELS + '[split]\ncolumn = "part"\n'
    root = write(mapping, rows(80, lambda n: "test" if n % 4 == 0 else "train"))
    cohort = TABLE_PROTOCOL.read(root, ProtocolChoice())
    assert all((cohort.split[f"f{n}.png"] is Split.TEST) == (n % 4 == 0) for n in range(80))
    assert 1 <= sum(split is Split.VALIDATION for split in cohort.split.values()) <= 20
    assert any("no validation patients" in sentence for sentence in cohort.notes)


def test_patients_without_a_stated_split_are_counted(write: Write) -> None:
    mapping = MAPPING + LABELS + '[split]\ncolumn = "part"\n'
    words = ("train", "validation", "test", "")
    cohort = TABLE_PROTOCOL.read(write(mapping, rows(20, lambda n: words[n % 4])), ProtocolChoice())
    assert any("5 of 20 patients have no split" in sentence for sentence in cohort.notes)


def test_both_modalities_and_rows_without_labels(write: Write) -> None:
    mapping = MAPPING + 'ecg = "trace"\nreport_text = "words"\nreport_describes = "xray"\n'
    mapping += '[labels]\nedema = "Edema"\naf = "AF"\n'
    root = write(mapping, [*rows(10), "p99,f99.png,t99,text,,,"])
    cohort = TABLE_PROTOCOL.read(root, ProtocolChoice())
    assert cohort.tasks == tuple(
        LabelTask(label, modality) for modality in ("xray", "ecg") for label in ("Edema", "AF")
    )
    assert len(cohort.studies) == 20
    assert {study.modality.value for study in cohort.studies} == {"xray", "ecg"}
    assert cohort.facts["studies without any label"] == 2


def test_a_mapping_may_lie_elsewhere(write: Write, tmp_path: Path) -> None:
    write(MAPPING + LABELS, rows(10), name="other.toml")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"no mapping .*mapping\.toml"):
        TABLE_PROTOCOL.read(empty, ProtocolChoice())
    cohort = TABLE_PROTOCOL.read(empty, ProtocolChoice(mapping=tmp_path / "other.toml"))
    assert len(cohort.studies) == 10


def test_a_mapping_without_labels_or_files_is_refused(write: Write) -> None:
    mapping = (
        'path = "rows.csv"\npatient = "person"\nstudy = "film"\nreport_text = "words"\nreport_describes = "xray"\n'
    )
    with pytest.raises(ConfigError) as caught:
        TABLE_PROTOCOL.read(write(mapping, rows(3)), ProtocolChoice())
    assert len(caught.value.faults) == 2


def test_a_patient_in_two_splits_is_refused_without_naming_the_patient(write: Write) -> None:
    mapping = MAPPING + LABELS + '[split]\ncolumn = "part"\n'
    with pytest.raises(DataError, match="puts 1 of 10 patients into more than one split") as caught:
        TABLE_PROTOCOL.read(write(mapping, [*rows(10, lambda _: "train"), "p3,g.png,,,1,,test"]), ProtocolChoice())
    assert "p3" not in str(caught.value)


def test_a_table_without_a_single_label_and_foreign_choices_are_refused(write: Write) -> None:
    root = write(MAPPING + LABELS, ["p1,f1.png,,,,,", "p2,f2.png,,,,,"])
    with pytest.raises(DataError, match="none of 2 X-rays and ECGs has a label"):
        TABLE_PROTOCOL.read(root, ProtocolChoice())
    with pytest.raises(ConfigError, match="3 faults"):
        TABLE_PROTOCOL.read(root, ProtocolChoice(subset="valid", views=("AP",), rate_hz=500))
