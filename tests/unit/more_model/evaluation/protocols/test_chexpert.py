"""The CheXpert protocols on a small tree with the files and columns of the release."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trees.chexpert import FIVE, LABELS, write_chexpert

from more_model.data.study import Split
from more_model.data.xray import read_xray
from more_model.errors import ConfigError, DataError
from more_model.evaluation.protocols.protocol import EvaluationCohort, ProtocolChoice, check_cohort
from more_model.evaluation.protocols.registry import protocol

SMALL = "CheXpert-v1.0-small"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: a test that changes a table takes its own tree."""
    return write_chexpert(tmp_path_factory.mktemp("chexpert"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_chexpert(tmp_path, image_px=32)


def read(root: Path, name: str = "chexpert-5", **choice: object) -> EvaluationCohort:
    return protocol(name).read(root, ProtocolChoice.model_validate(choice))


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def patients(cohort: EvaluationCohort, *splits: Split) -> set[str]:
    return {study.patient_id for study in cohort.studies if cohort.split[study.study_id] in splits}


def table(path: Path) -> list[dict[str, str]]:
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_valid_is_scored_by_examination_and_frontal_film(root: Path) -> None:
    cohort = read(root, subset="valid")
    rows = [row for row in table(root / SMALL / "valid.csv") if row["Frontal/Lateral"] == "Frontal"]
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    assert [f"{SMALL}/{study.study_id}" for study in test] == [row["Path"] for row in rows]
    assert all(study.source is not None and study.source.is_file() for study in test)
    assert len({cohort.case[study.study_id] for study in test}) == cohort.facts["test cases"] == 20
    assert len(test) > 20
    assert [study.labels["Edema"] for study in test] == [float(row["Edema"]) for row in rows]
    assert "The release has 200 valid studies; here there are 20." in cohort.notes
    check_cohort(cohort, "chexpert-5")


def test_sex_age_and_view_are_attributes_where_they_are_known(root: Path) -> None:
    cohort = read(root)
    rows = {
        row["Path"].partition("/")[2]: row for part in ("train", "valid") for row in table(root / SMALL / f"{part}.csv")
    }
    for study in cohort.studies:
        row = rows[study.study_id]
        assert study.attributes.get("age") == (row["Age"] if row["Age"] != "0" else None)
        assert study.attributes.get("sex") == (row["Sex"].lower() if row["Sex"] != "Unknown" else None)
        assert study.attributes["view"] == (row["AP/PA"] if row["AP/PA"] in ("AP", "PA") else "FRONTAL")
    assert any(row["Age"] == "0" and row["Frontal/Lateral"] == "Frontal" for row in rows.values())
    assert any(row["AP/PA"] == "LL" for row in rows.values())


@pytest.mark.parametrize("form", ["study", "path"])
def test_the_test_set_is_read_in_both_of_its_forms(tmp_path: Path, form: str) -> None:
    root = write_chexpert(tmp_path, test=form)  # type: ignore[arg-type]
    cohort = read(root, "chexpert-14", subset="test")
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    assert cohort.facts["test cases"] == len({study.patient_id for study in test}) == 24
    assert all(study.source is not None and study.source.is_file() for study in test)
    assert {study.attributes["view"] for study in test} == {"FRONTAL"}
    assert not any(study.study_id.startswith("valid") for study in cohort.studies)
    assert "The release has 500 test studies; here there are 24." in cohort.notes
    assert set(test[0].labels) == set(LABELS)
    check_cohort(cohort, "chexpert-14")


def test_the_two_forms_say_the_same(tmp_path: Path) -> None:
    by_study, by_path = (write_chexpert(tmp_path / form, test=form) for form in ("study", "path"))  # type: ignore[arg-type]
    ones, others = (read(root, subset="test") for root in (by_study, by_path))
    assert [(s.study_id, s.labels, s.attributes) for s in ones.studies] == [
        (s.study_id, s.labels, s.attributes) for s in others.studies
    ]


def test_the_root_may_be_the_release_folder_or_its_parent(root: Path) -> None:
    above, inside = read(root, subset="test"), read(root / SMALL, subset="test")
    assert above.split == inside.split
    assert [study.source for study in above.studies] == [study.source for study in inside.studies]


def test_training_keeps_uncertain_labels_and_validation_comes_out_of_train(root: Path) -> None:
    valid, test = read(root, subset="valid"), read(root, subset="test")
    for split in (Split.TRAIN, Split.VALIDATION):
        assert patients(valid, split) == patients(test, split) != set()
    assert {study.study_id.partition("/")[0] for study in valid.studies} == {"train", "valid"}
    assert len(patients(valid, Split.VALIDATION)) == 10
    assert patients(valid, Split.VALIDATION) != patients(read(root, seed=1), Split.VALIDATION)
    train = [study.labels for study in valid.studies if valid.split[study.study_id] is Split.TRAIN]
    assert {value for labels in train for value in labels.values()} == {1.0, 0.0, -1.0}
    assert any(len(labels) < 5 for labels in train)


def test_views(root: Path) -> None:
    every = read(root, views=())
    assert {study.attributes["view"] for study in every.studies} == {"PA", "AP", "FRONTAL", "LATERAL"}
    assert {study.attributes["view"] for study in read(root, views=("PA",)).studies} == {"PA"}


def test_a_valid_patient_in_train_is_refused(own: Path) -> None:
    leaked = (own / SMALL / "valid.csv").read_text().splitlines()[1].replace("/valid/", "/train/")
    rewrite(own / SMALL / "train.csv", lambda lines: [*lines, leaked])
    with pytest.raises(DataError, match=r"1 of .* patients are in more than one") as caught:
        check_cohort(read(own, subset="valid"), "chexpert-5")
    assert "patient64541" not in str(caught.value)


def test_films_of_one_examination_with_different_labels_are_refused(own: Path) -> None:
    def differ(lines: list[str]) -> list[str]:
        place = lines[0].split(",").index("Edema")
        at = next(number for number, line in enumerate(lines) if "view2_frontal" in line)
        cells = lines[at].split(",")
        cells[place] = "0.0" if cells[place] == "1.0" else "1.0"
        return [*lines[:at], ",".join(cells), *lines[at + 1 :]]

    rewrite(own / SMALL / "valid.csv", differ)
    with pytest.raises(DataError, match=r"films of 1 of .* examinations state different labels"):
        read(own, subset="valid")


def test_a_label_without_positives_is_refused_by_name(own: Path) -> None:
    place = table(own / SMALL / "valid.csv")[0].keys()
    column = list(place).index("Fracture")
    rewrite(
        own / SMALL / "valid.csv",
        lambda lines: [
            lines[0],
            *(",".join([*c[:column], "0.0", *c[column + 1 :]]) for c in (x.split(",") for x in lines[1:])),
        ],
    )
    check_cohort(read(own, "chexpert-5"), "chexpert-5")
    with pytest.raises(DataError, match=r"without a single positive .*: Fracture"):
        check_cohort(read(own, "chexpert-14"), "chexpert-14")


def test_without_train_csv_there_is_nothing_to_train_on_and_it_is_said(own: Path) -> None:
    (own / SMALL / "train.csv").unlink()
    cohort = read(own, subset="test")
    assert set(cohort.split.values()) == {Split.TEST}
    assert any("only zero-shot can run" in note for note in cohort.notes)
    check_cohort(cohort, "chexpert-5")
    with pytest.raises(DataError, match=r"lacks train\.csv"):
        read(own, "chexpert-5x200")


def test_missing_files_are_named_with_where_they_were_looked_for(own: Path, tmp_path: Path) -> None:
    (own / SMALL / "groundtruth.csv").unlink()
    with pytest.raises(DataError, match=rf"lacks test\.csv or test_labels\.csv or groundtruth\.csv.*{SMALL}"):
        read(own, subset="test")
    with pytest.raises(DataError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")


def test_missing_columns_are_named_at_once(own: Path) -> None:
    rewrite(
        own / SMALL / "valid.csv",
        lambda lines: [lines[0].replace("Edema", "Oedema").replace("Path", "File"), *lines[1:]],
    )
    with pytest.raises(DataError, match="no columns 'Path', 'Edema'"):
        read(own)


def test_test_labels_without_their_images_are_refused(own: Path) -> None:
    shutil.rmtree(own / SMALL / "test")
    with pytest.raises(DataError, match="not one image of the 24 examinations"):
        read(own, subset="test")


def test_paths_of_another_form_are_refused(own: Path) -> None:
    rewrite(own / SMALL / "valid.csv", lambda lines: [lines[0], *(f"x{n}{line}" for n, line in enumerate(lines[1:3]))])
    read(own)
    rewrite(own / SMALL / "valid.csv", lambda lines: [lines[0], lines[1], lines[2].replace("/valid/", "/dev/")])
    with pytest.raises(DataError, match=r"1 of 2 rows .* name no path such as"):
        read(own)


def test_two_releases_under_one_folder_have_to_be_told_apart(own: Path) -> None:
    shutil.copytree(own / SMALL, own / "CheXpert-v1.0")
    with pytest.raises(DataError, match=r"more than one train table, in CheXpert-v1\.0, CheXpert-v1\.0-small"):
        read(own)
    sources = {study.source for study in read(own / "CheXpert-v1.0").studies}
    assert all(str(source).startswith(f"{own}/CheXpert-v1.0/") for source in sources)


def test_5x200_is_single_findings_its_patients_are_not_trained_on(root: Path) -> None:
    cohort = read(root, "chexpert-5x200")
    rows = {row["Path"].partition("/")[2]: row for row in table(root / SMALL / "train.csv")}
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    assert [task.label for task in cohort.tasks] == list(FIVE)
    for study in test:
        (label,) = (label for label, value in study.labels.items() if value == 1.0)
        assert set(study.labels) == set(FIVE)
        findings = {name: rows[study.study_id][name] for name in LABELS if name != "No Finding"}
        assert {name for name, cell in findings.items() if cell not in ("", "0.0")} == {label}
        assert rows[study.study_id]["Frontal/Lateral"] == "Frontal"
    drawn = {label: sum(study.labels[label] == 1.0 for study in test) for label in FIVE}
    assert drawn == {label: cohort.facts[f"films drawn for {label}"] for label in FIVE}
    assert min(drawn.values()) >= 4
    assert not patients(cohort, Split.TEST) & patients(cohort, Split.TRAIN, Split.VALIDATION)
    assert cohort.facts["patients of the set removed from training"] == len(patients(cohort, Split.TEST))
    assert any("Not a 5x200" in note for note in cohort.notes)
    check_cohort(cohort, "chexpert-5x200")


def test_5x200_is_the_same_on_any_machine_and_in_the_full_release(root: Path, tmp_path: Path) -> None:
    small, again = read(root, "chexpert-5x200"), read(root, "chexpert-5x200")
    assert small == again
    full = read(write_chexpert(tmp_path, release="CheXpert-v1.0", image_px=32), "chexpert-5x200")
    assert full.split == small.split


def test_5x200_draws_two_hundred_of_each_class_and_trains_on_none_of_their_patients(tmp_path: Path) -> None:
    lines = [",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS))]
    for number in range(5 * 260):
        cells = ",".join("1.0" if label == FIVE[number % 5] else "" for label in LABELS)
        lines += [
            f"{SMALL}/train/patient{number:05d}/study{study}/view1_frontal.jpg,Male,40,Frontal,AP,{cells}"
            for study in (1, 2)
        ]
    (tmp_path / SMALL).mkdir()
    (tmp_path / SMALL / "train.csv").write_text("\n".join(lines) + "\n")
    cohort, other = read(tmp_path, "chexpert-5x200"), read(tmp_path, "chexpert-5x200", seed=1)
    assert [cohort.facts[f"films drawn for {label}"] for label in FIVE] == [200] * 5
    assert cohort.facts["test images"] == 1000
    assert not any("Not a 5x200" in note for note in cohort.notes)
    # Every patient has two films: the second one of a patient whose first was drawn must not be trained on.
    drawn, trained = patients(cohort, Split.TEST), patients(cohort, Split.TRAIN, Split.VALIDATION)
    assert not drawn & trained
    assert len(drawn | trained) == 5 * 260
    assert cohort.facts["train images"] + cohort.facts["validation images"] == 2 * len(trained)
    assert drawn != patients(other, Split.TEST)


def test_5x200_with_too_few_films_names_the_classes_and_counts(tmp_path: Path) -> None:
    root = write_chexpert(tmp_path, train_patients=12, singles_per_class=0, image_px=32)
    with pytest.raises(DataError, match=r"too few frontal films.*Atelectasis has [01]"):
        read(root, "chexpert-5x200")


def test_choices_without_meaning_are_refused(own: Path) -> None:
    with pytest.raises(ConfigError, match="no subset 'validate'; there are valid, test"):
        read(own, subset="validate")
    with pytest.raises(ConfigError, match="views must be PA and AP"):
        read(own, "chexpert-5x200", views=("LATERAL",))
    with pytest.raises(ConfigError, match="rate_hz is 500"):
        read(own, "chexpert-5x200", rate_hz=500)


def test_the_pictures_of_the_tree_can_be_read(root: Path) -> None:
    for path in sorted((root / SMALL).rglob("*.jpg"))[:5]:
        assert read_xray(path).pixels.shape == (64, 64)
