"""The pulmonary edema protocol on small tables with the columns of the published ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trees.edema import IMAGES, SPLIT_FILE, grade_of, write_edema
from trees.mimic_cxr_jpg import mimic_images

from more_model.data.study import Split
from more_model.errors import ConfigError, DataError
from more_model.evaluation.protocols.protocol import EvaluationCohort, ProtocolChoice, check_cohort
from more_model.evaluation.protocols.registry import protocol

CONSENSUS = "consensus_image_edema_severity.csv"
EXPERT = "expert_report_edema_severity.csv"
REGEX = "regex_report_edema_severity.csv"
GRADES = {image.dicom_id: int(grade_of(image)) for image in mimic_images(72)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: a test that changes a table takes its own tree."""
    return write_edema(tmp_path_factory.mktemp("edema"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_edema(tmp_path / "edema", image_px=32)


def read(root: Path, subset: str | None = None, **choice: object) -> EvaluationCohort:
    return protocol("edema-severity").read(root, ProtocolChoice.model_validate({"subset": subset, **choice}))


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def rows(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()[1:]]


def patients(cohort: EvaluationCohort, *splits: Split) -> set[str]:
    return {study.patient_id for study in cohort.studies if cohort.split[study.study_id] in splits}


def ids_of_test(cohort: EvaluationCohort) -> set[str]:
    return {study.study_id for study in cohort.studies if cohort.split[study.study_id] is Split.TEST}


@pytest.mark.parametrize("subset", ["consensus", "expert", "test"])
def test_grades_become_three_ordinal_questions(root: Path, subset: str) -> None:
    cohort = read(root, subset)
    assert [task.label for task in cohort.tasks] == ["severity>=1", "severity>=2", "severity>=3"]
    assert {task.modality for task in cohort.tasks} == {"xray"}
    for study in cohort.studies:
        grade = GRADES[study.study_id]
        assert study.labels == {f"severity>={least}": float(grade >= least) for least in (1, 2, 3)}
        assert study.source is not None
        assert study.source.is_file()
    check_cohort(cohort, "edema-severity")


def test_consensus_is_on_films_and_expert_on_examinations(root: Path) -> None:
    consensus, expert = read(root), read(root, "expert")
    assert ids_of_test(consensus) == {row[2] for row in rows(root / CONSENSUS)}
    assert consensus.case == {}
    films = {study.study_id: study.group_id for study in expert.studies if study.study_id in ids_of_test(expert)}
    assert set(films.values()) == {row[1] for row in rows(root / EXPERT)}
    # Validation examinations too: calibrators have to see means over films, as the test does.
    later = [study for study in expert.studies if expert.split[study.study_id] is not Split.TRAIN]
    assert expert.case == {study.study_id: study.group_id for study in later}
    assert len(films) > len(set(films.values())) == expert.facts["test cases"]
    assert {study.attributes["view"] for study in expert.studies} == {"PA", "AP"}


def test_no_patient_of_any_evaluation_table_is_trained_on(root: Path) -> None:
    held_out = {row[0] for name in (CONSENSUS, EXPERT) for row in rows(root / name)}
    in_regex = {row[0] for row in rows(root / REGEX)}
    assert held_out & in_regex
    for subset in ("consensus", "expert", "test"):
        cohort = read(root, subset)
        trained = patients(cohort, Split.TRAIN, Split.VALIDATION)
        assert trained
        assert trained <= in_regex - held_out
        assert patients(cohort, Split.VALIDATION)
    assert read(root).facts["training images of evaluation patients, left out"] == 1


def test_the_split_file_with_its_misspelt_column_and_ungraded_rows(root: Path) -> None:
    assert "edeme_severity" in (root / SPLIT_FILE).read_text().splitlines()[0]
    folds = rows(root / SPLIT_FILE)
    cohort = read(root, "test")
    assert ids_of_test(cohort) == {row[2] for row in folds if row[4] == "TEST"}
    graded = {row[2] for row in folds if row[4] != "TEST" and row[3] != "-1"}
    assert {study.study_id for study in cohort.studies} - ids_of_test(cohort) == graded
    assert cohort.facts["rows nobody graded, left out"] == sum(row[3] == "-1" for row in folds) > 0
    assert any("531 graded images" in note for note in cohort.notes)


def test_either_spelling_is_taken_in_any_table(own: Path) -> None:
    before = [read(own, subset).split for subset in ("consensus", "test")]
    (own / CONSENSUS).write_text((own / CONSENSUS).read_text().replace("edema_severity", "edeme_severity"))
    (own / SPLIT_FILE).write_text((own / SPLIT_FILE).read_text().replace("edeme_severity", "edema_severity"))
    assert [read(own, subset).split for subset in ("consensus", "test")] == before


def test_counts_are_compared_with_the_published_ones(root: Path) -> None:
    cohort = read(root)
    counts = [cohort.facts[f"consensus rows of grade {grade}"] for grade in range(4)]
    assert sum(counts) == len(rows(root / CONSENSUS))
    here = " / ".join(map(str, counts))
    assert any(f"61 / 44 / 20 / 16 rows of grade 0 / 1 / 2 / 3; here it has {here}." in note for note in cohort.notes)


@pytest.mark.parametrize("place", ["inside", "beside", "same"])
def test_the_images_may_lie_in_beside_or_at_the_root(own: Path, place: str) -> None:
    expected = read(own).split
    if place == "beside":
        (own / IMAGES).rename(own.parent / "mimic-cxr-jpg-2.1.0")
    elif place == "same":
        for entry in (own / IMAGES).iterdir():
            entry.rename(own / entry.name)
    cohort = read(own)
    assert cohort.split == expected
    assert all(study.source is not None and study.source.is_file() for study in cohort.studies)


def test_without_images_the_folder_looked_for_is_named(own: Path) -> None:
    shutil.rmtree(own / IMAGES)
    with pytest.raises(DataError, match=r"no MIMIC-CXR-JPG .*mimic-cxr-2\.0\.0-metadata"):
        read(own)


def test_graded_images_that_the_release_lacks_are_said(own: Path) -> None:
    absent = "10000000,50000000,00000000-00000000-00000000-00000000-00000000,2"
    rewrite(own / CONSENSUS, lambda lines: [*lines, absent])
    cohort = read(own)
    assert any(note.startswith("1 of ") and "have no image" in note for note in cohort.notes)


def test_every_missing_table_is_named_at_once(own: Path) -> None:
    for name in (EXPERT, REGEX, SPLIT_FILE):
        (own / name).unlink()
    with pytest.raises(DataError, match=r"expert_report_edema_severity\.csv.*; regex_report_edema_severity\.csv"):
        read(own, "expert")
    with pytest.raises(DataError, match="no split file of MICCAI 2020"):
        read(own, "test")


def test_missing_columns_are_named_at_once(own: Path) -> None:
    header = "patient,study_id,dicom_id,grade"
    rewrite(own / CONSENSUS, lambda lines: [header, *lines[1:]])
    with pytest.raises(DataError, match="no columns 'subject_id', 'edema_severity'"):
        read(own)


def test_grades_that_are_none_and_grades_that_contradict_are_refused(own: Path) -> None:
    whole = (own / CONSENSUS).read_text()
    rewrite(own / CONSENSUS, lambda lines: [lines[0], f"{lines[1][:-1]}4", *lines[2:]])
    with pytest.raises(DataError, match="1 cells of 'edema_severity' are no grade from 0 to 3"):
        read(own)
    (own / CONSENSUS).write_text(whole)
    other = "0" if whole.splitlines()[1][-1] != "0" else "1"
    rewrite(own / CONSENSUS, lambda lines: [*lines, f"{lines[1][:-1]}{other}"])
    with pytest.raises(DataError, match="1 entries have two different grades"):
        read(own)


def test_a_split_file_without_a_test_fold_is_refused(own: Path) -> None:
    (own / SPLIT_FILE).write_text((own / SPLIT_FILE).read_text().replace("TEST", "7"))
    with pytest.raises(DataError, match=r"no row of .* is of the fold TEST"):
        read(own, "test")


def test_a_question_without_positives_is_refused(own: Path) -> None:
    rewrite(own / CONSENSUS, lambda lines: [line for line in lines if not line.endswith(",3")])
    with pytest.raises(DataError, match=r"without a single positive .*: severity>=3"):
        check_cohort(read(own), "edema-severity")


def test_choices_without_meaning_are_refused(own: Path) -> None:
    with pytest.raises(ConfigError, match="no subset 'valid'; there are consensus, expert, test"):
        read(own, "valid")
    with pytest.raises(ConfigError, match="rate_hz is 500"):
        read(own, rate_hz=500)
