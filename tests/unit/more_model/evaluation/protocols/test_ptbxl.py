"""The PTB-XL protocols on a tree of its form, and on real rows of the real table."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trees.ptbxl import write_ptbxl

from more_model.data.ecg import read_ecg
from more_model.data.leads import STANDARD_LEADS
from more_model.data.study import Modality, Split
from more_model.errors import ConfigError, DataError
from more_model.evaluation.protocols.protocol import EvaluationCohort, Protocol, ProtocolChoice, check_cohort
from more_model.evaluation.protocols.ptbxl import PTBXL_PROTOCOLS

Edit = Callable[[dict[str, str]], None]
PROTOCOLS = {protocol.name: protocol for protocol in PTBXL_PROTOCOLS}
SIZES = {"ptbxl-super": 5, "ptbxl-sub": 23, "ptbxl-diag": 44, "ptbxl-form": 19, "ptbxl-rhythm": 12, "ptbxl-single": 5}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ptbxl(tmp_path_factory.mktemp("ptbxl"), rates=(100, 500))


@pytest.fixture
def edited(tree: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """A copy of the two tables, every row of the database changed by a function."""

    def edit(change: Edit) -> Path:
        shutil.copy(tree / "scp_statements.csv", tmp_path)
        with (tree / "ptbxl_database.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            change(row)
        with (tmp_path / "ptbxl_database.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path

    return edit


def read(name: str, root: Path, **choice: object) -> EvaluationCohort:
    return PROTOCOLS[name].read(root, ProtocolChoice.model_validate(choice))


@pytest.mark.parametrize("protocol", PTBXL_PROTOCOLS, ids=lambda protocol: protocol.name)
def test_every_protocol_runs_on_its_folds_with_positives_for_every_label(protocol: Protocol, tree: Path) -> None:
    cohort = protocol.read(tree, ProtocolChoice())
    check_cohort(cohort, protocol.name)
    assert cohort.tasks == protocol.tasks
    assert len(cohort.tasks) == SIZES[protocol.name]
    assert {task.modality for task in cohort.tasks} == {"ecg"}
    with (tree / "ptbxl_database.csv").open(newline="") as file:
        folds = {row["ecg_id"]: int(row["strat_fold"]) for row in csv.DictReader(file)}
    for study in cohort.studies:
        fold = folds[study.study_id]
        wanted = Split.TRAIN if fold <= 8 else Split.VALIDATION if fold == 9 else Split.TEST
        assert cohort.split[study.study_id] is wanted
        assert study.modality is Modality.ECG
        assert set(study.labels) == {task.label for task in cohort.tasks}
        assert any(study.labels.values())


def test_a_statement_of_unknown_likelihood_counts(edited: Callable[[Edit], Path]) -> None:
    root = edited(lambda row: row.update(scp_codes="{'IMI': 0.0, 'NDT': 100.0}"))
    labels = read("ptbxl-super", root).studies[0].labels
    assert labels == {"NORM": 0.0, "MI": 1.0, "STTC": 1.0, "CD": 0.0, "HYP": 0.0}
    assert read("ptbxl-sub", root).studies[0].labels["IMI"] == 1.0
    form = read("ptbxl-form", root).studies[0].labels
    assert [label for label, value in form.items() if value] == ["NDT"]


def test_records_without_a_label_of_the_task_are_left_out_and_counted(tree: Path) -> None:
    cohort = read("ptbxl-super", tree)
    assert cohort.facts["records"] == 120
    assert cohort.facts["records without a label of the task"] == 10
    assert len(cohort.studies) == 110
    assert [cohort.facts[f"{split.value} records"] for split in Split] == [88, 11, 11]
    assert read("ptbxl-rhythm", tree).facts["records without a label of the task"] == 0


@pytest.mark.parametrize(
    ("codes", "kept"),
    [
        ("{'NORM': 100.0, 'LVH': 100.0, 'NDT': 50.0}", "NORM"),
        ("{'IMI': 100.0, 'NDT': 0.0, 'LVH': 100.0}", "STTC"),
        ("{'LVH': 100.0, 'IMI': 15.0, 'CLBBB': 100.0}", "MI"),
        ("{'CLBBB': 100.0, 'LVH': 0.0}", "HYP"),
        ("{'CLBBB': 100.0, 'SR': 0.0}", "CD"),
    ],
)
def test_the_single_label_rule_keeps_the_first_of_its_order(
    edited: Callable[[Edit], Path], codes: str, kept: str
) -> None:
    cohort = read("ptbxl-single", edited(lambda row: row.update(scp_codes=codes)))
    assert all([label for label, value in study.labels.items() if value] == [kept] for study in cohort.studies)
    assert any("not comparable with ptbxl-super" in sentence for sentence in cohort.notes)


def test_sources_follow_the_rate_and_exist(tree: Path) -> None:
    low, high = read("ptbxl-super", tree), read("ptbxl-super", tree, rate_hz=500)
    assert all(str(study.source).endswith("_lr") for study in low.studies)
    assert all(str(study.source).endswith("_hr") for study in high.studies)
    assert {study.source.parent.name for study in low.studies if study.source} == {"00000", "01000"}
    for study in (*low.studies, *high.studies):
        assert study.source is not None and Path(f"{study.source}.hea").is_file()


def test_leads_are_taken_by_name(tree: Path, tmp_path: Path) -> None:
    source = read("ptbxl-super", tree).studies[0].source
    assert source is not None
    header = Path(f"{source}.hea").read_text()
    assert header.index("AVL") < header.index("AVF")
    lines = header.splitlines()
    swapped = [lines[0], *lines[1:5], lines[6], lines[5], *lines[7:]]
    samples = np.frombuffer(Path(f"{source}.dat").read_bytes(), dtype="<i2").reshape(-1, 12).copy()
    samples[:, [4, 5]] = samples[:, [5, 4]]
    target = tmp_path / source.name
    target.with_suffix(".hea").write_text("\n".join(swapped) + "\n")
    target.with_suffix(".dat").write_bytes(samples.tobytes())
    one, other = read_ecg(source), read_ecg(target)
    for lead in ("aVL", "aVF"):
        first = one.signal_mv[:, one.leads.index(lead)]
        np.testing.assert_array_equal(first, other.signal_mv[:, other.leads.index(lead)])
    assert not np.array_equal(one.signal_mv[:, STANDARD_LEADS.index("aVL")], samples[:, 4] / 1000)


def test_attributes_are_words(tree: Path) -> None:
    studies = {study.study_id: study.attributes for study in read("ptbxl-super", tree).studies}
    assert studies["940"] == {"sex": "male", "age": "90", "site": "0", "device": "CS-12 E"}, "300 masks ages above 89"
    assert studies["941"] == {"sex": "female", "site": "1", "device": "AT-6 C 5.5"}
    assert "site" not in studies["943"]
    patients = {study.patient_id for study in read("ptbxl-super", tree).studies}
    assert all(patient.isdigit() for patient in patients)


def test_differences_from_the_release_are_said(tree: Path) -> None:
    (sentence,) = read("ptbxl-form", tree).notes
    assert "88/11/11" in sentence and "7,197/901/880" in sentence


def test_a_patient_in_two_folds_is_refused(edited: Callable[[Edit], Path]) -> None:
    def move(row: dict[str, str]) -> None:
        if row["ecg_id"] == "950":
            row["strat_fold"] = "10"

    cohort = read("ptbxl-super", edited(move))
    with pytest.raises(DataError, match="1 of 100 patients are in more than one"):
        check_cohort(cohort, "ptbxl-super")


def test_labels_without_positives_in_fold_10_are_named(edited: Callable[[Edit], Path]) -> None:
    def drop(row: dict[str, str]) -> None:
        if row["strat_fold"] == "10":
            row["scp_codes"] = "{'NORM': 100.0}"

    with pytest.raises(DataError, match="MI, STTC, CD, HYP"):
        check_cohort(read("ptbxl-super", edited(drop)), "ptbxl-super")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strat_fold": "11"}, "120 cells of strat_fold are none of 1 to 10"),
        ({"scp_codes": "NORM"}, "120 cells of scp_codes are not dictionaries"),
        ({"scp_codes": "['NORM']"}, "120 cells of scp_codes are not dictionaries"),
    ],
)
def test_unreadable_cells_are_counted(edited: Callable[[Edit], Path], change: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("ptbxl-super", edited(lambda row: row.update(change)))


def test_another_code_book_is_refused(tree: Path, tmp_path: Path) -> None:
    shutil.copy(tree / "ptbxl_database.csv", tmp_path)
    book = (tree / "scp_statements.csv").read_text().replace("AFIB", "AF")
    (tmp_path / "scp_statements.csv").write_text(book)
    with pytest.raises(DataError, match="lacks AFIB and has AF besides"):
        read("ptbxl-rhythm", tmp_path)
    check_cohort(read("ptbxl-super", tmp_path), "ptbxl-super")


def test_missing_columns_are_named(edited: Callable[[Edit], Path]) -> None:
    def cut(row: dict[str, str]) -> None:
        del row["strat_fold"], row["filename_lr"]

    root = edited(cut)
    with pytest.raises(DataError, match="'strat_fold', 'filename_lr'"):
        read("ptbxl-super", root)


def test_choices_without_meaning_are_refused_all_at_once(tree: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read("ptbxl-super", tree, subset="valid", mapping="x.toml", views=("PA",))
    assert len(caught.value.faults) == 3


@pytest.mark.shared_data
def test_the_real_excerpt_is_read_on_its_folds(shared_data: Path) -> None:
    root = shared_data / "ecg" / "ptbxl"
    cohort = read("ptbxl-super", root)
    check_cohort(cohort, "ptbxl-super")
    splits = Counter(cohort.split.values())
    assert (splits[Split.TRAIN], splits[Split.VALIDATION], splits[Split.TEST]) == (224, 51, 40)
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    positives = Counter(label for study in test for label, value in study.labels.items() if value)
    assert positives == {"NORM": 24, "STTC": 13, "HYP": 7, "MI": 5, "CD": 4}
    assert all(study.source is not None and Path(f"{study.source}.hea").is_file() for study in cohort.studies)
    assert any("17,084/2,146/2,158" in sentence for sentence in cohort.notes)
    record = read_ecg(Path(str(test[0].source)))
    assert record.leads == STANDARD_LEADS and record.fs_hz == 100


@pytest.mark.shared_data
def test_labels_that_the_real_excerpt_lacks_are_named(shared_data: Path) -> None:
    with pytest.raises(DataError, match="STACH, SBRAD, SVARR, BIGU, PSVT, TRIGU"):
        check_cohort(read("ptbxl-rhythm", shared_data / "ecg" / "ptbxl"), "ptbxl-rhythm")
