"""The MIMIC-CXR-JPG protocols on a small tree with the files and columns of the release."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from trees.mimic_cxr_jpg import LABELS, mimic_images, write_mimic_cxr_jpg

from more_model.data.study import Split
from more_model.data.xray import read_xray
from more_model.errors import ConfigError, DataError
from more_model.evaluation.protocols.protocol import EvaluationCohort, ProtocolChoice, check_cohort
from more_model.evaluation.protocols.registry import protocol

RADIOLOGIST = "mimic-cxr-2.1.0-test-set-labeled.csv"
FRONTAL = [image for image in mimic_images() if image.view in ("PA", "AP")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: a test that changes a table writes its own tree."""
    return write_mimic_cxr_jpg(tmp_path_factory.mktemp("mimic"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Tables only, to be changed."""
    return write_mimic_cxr_jpg(tmp_path, suffix=".csv", pictures=False)


def read(root: Path, name: str = "mimic-4", **choice: object) -> EvaluationCohort:
    return protocol(name).read(root, ProtocolChoice.model_validate(choice))


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def patients(cohort: EvaluationCohort, split: Split) -> set[str]:
    return {study.patient_id for study in cohort.studies if cohort.split[study.study_id] is split}


def test_the_official_split_is_followed_frontal_film_by_frontal_film(root: Path) -> None:
    cohort = read(root)
    words = {"train": Split.TRAIN, "validate": Split.VALIDATION, "test": Split.TEST}
    assert cohort.split == {image.dicom_id: words[image.split] for image in FRONTAL}
    assert {study.attributes["view"] for study in cohort.studies} == {"PA", "AP"}
    assert cohort.case == {}
    counted = Counter(image.split for image in FRONTAL)
    assert cohort.facts["test images"] == cohort.facts["test cases"] == counted["test"]
    assert cohort.facts["validation images"] == counted["validate"]
    assert cohort.facts["images of other views left out"] == len(mimic_images()) - len(FRONTAL)
    check_cohort(cohort, "mimic-4")


def test_labels_are_those_asked_for_with_uncertain_and_blank_kept_apart(root: Path) -> None:
    four = ["Atelectasis", "Cardiomegaly", "Edema", "Pleural Effusion"]
    cohort = read(root)
    assert [task.label for task in cohort.tasks] == four
    stated = {study.study_id: study.labels for study in cohort.studies}
    for image in FRONTAL:
        cells = dict(zip(LABELS, image.labels, strict=True))
        assert stated[image.dicom_id] == {label: float(cells[label]) for label in four if cells[label]}
    assert {value for labels in stated.values() for value in labels.values()} == {1.0, 0.0, -1.0}


def test_no_finding_is_absent_where_a_finding_is_present_and_not_stated_otherwise(root: Path) -> None:
    cohort = read(root, "mimic-14")
    assert [task.label for task in cohort.tasks] == list(LABELS)
    for study in cohort.studies:
        findings = {label for label, value in study.labels.items() if value == 1.0} - {"Support Devices", "No Finding"}
        written = study.labels.get("No Finding")
        assert written == (0.0 if findings else written)
        assert written in (0.0, 1.0, None)
    assert Counter(study.labels.get("No Finding") for study in cohort.studies).keys() >= {0.0, 1.0}


def test_validate_as_test_set_takes_validation_from_train_and_leaves_the_test_patients_out(root: Path) -> None:
    cohort = read(root, subset="validate")
    by_word = {word: {image.subject_id for image in FRONTAL if image.split == word} for word in ("train", "validate")}
    assert patients(cohort, Split.TEST) == by_word["validate"]
    assert patients(cohort, Split.TRAIN) | patients(cohort, Split.VALIDATION) == by_word["train"]
    # A tenth at least would be three; ten are wanted, but never more than a fifth of thirty.
    assert len(patients(cohort, Split.VALIDATION)) == 6
    assert cohort.split == read(root, subset="validate", seed=0).split
    assert patients(cohort, Split.VALIDATION) != patients(read(root, subset="validate", seed=1), Split.VALIDATION)
    check_cohort(cohort, "mimic-4")


def test_the_radiologists_studies_are_scored_per_examination_with_her_labels(root: Path) -> None:
    path = root / RADIOLOGIST
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    assert "Airspace Opacity" in header
    assert "subject_id" not in header
    cohort = read(root, "mimic-14", subset="radiologist")
    test = [study for study in cohort.studies if cohort.split[study.study_id] is Split.TEST]
    assert {study.group_id for study in test} == {row[0] for row in rows}
    # Validation examinations too: calibrators have to see means over films, as the test does.
    later = [study for study in cohort.studies if cohort.split[study.study_id] is not Split.TRAIN]
    assert cohort.case == {study.study_id: study.group_id for study in later}
    assert cohort.facts["studies the radiologist labelled"] == cohort.facts["test cases"] == len(rows)
    marked = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    for study in test:
        cell = marked[study.group_id]["Airspace Opacity"]
        assert study.labels.get("Lung Opacity") == (float(cell) if cell else None)
    assert any("687" in note for note in cohort.notes)
    check_cohort(cohort, "mimic-14")


def test_the_radiologists_labels_replace_those_of_the_labeller(own: Path) -> None:
    def turn(lines: list[str]) -> list[str]:
        place = lines[0].split(",").index("Edema")
        cells = lines[1].split(",")
        cells[place] = "0.0" if cells[place] == "1.0" else "1.0"
        return [lines[0], ",".join(cells), *lines[2:]]

    before, study = read(own, subset="radiologist"), (own / RADIOLOGIST).read_text().splitlines()[1].split(",")[0]
    rewrite(own / RADIOLOGIST, turn)
    after = read(own, subset="radiologist")
    changed = {b.group_id for b, a in zip(before.studies, after.studies, strict=True) if b.labels != a.labels}
    assert changed == {study}


@pytest.mark.parametrize("names", [("Lung Opacity", "No Finding"), ("Airspace Opacity", "No Finding")])
def test_other_names_of_the_radiologists_columns(own: Path, names: tuple[str, str]) -> None:
    expected = read(own, "mimic-14", subset="radiologist")
    text = (own / RADIOLOGIST).read_text()
    (own / RADIOLOGIST).write_text(text.replace("Airspace Opacity", names[0]).replace("No Findings", names[1]))
    assert read(own, "mimic-14", subset="radiologist") == expected


def test_a_test_patient_who_is_also_trained_on_is_refused(own: Path) -> None:
    subject = next(image.subject_id for image in FRONTAL if image.split == "test")
    other = next(image for image in FRONTAL if image.subject_id == subject)
    rewrite(
        own / "mimic-cxr-2.0.0-split.csv",
        lambda lines: [line.replace(",test", ",train") if line.startswith(other.dicom_id) else line for line in lines],
    )
    with pytest.raises(DataError, match="patients are in more than one of train, validation and test") as caught:
        check_cohort(read(own), "mimic-4")
    assert subject not in str(caught.value)


def test_a_labelled_study_of_a_patient_who_is_trained_on_is_refused(own: Path) -> None:
    train = [image for image in FRONTAL if image.split == "train"]
    first, other = next(
        (a, b) for a in train for b in train if a.subject_id == b.subject_id and a.study_id < b.study_id
    )
    rewrite(own / RADIOLOGIST, lambda lines: [*lines, ",".join([first.study_id, *first.labels])])
    cohort = read(own, subset="radiologist")
    assert (cohort.split[first.dicom_id], cohort.split[other.dicom_id]) == (Split.TEST, Split.TRAIN)
    with pytest.raises(DataError, match=r"1 of .* patients are in more than one"):
        check_cohort(cohort, "mimic-4")


def test_a_label_without_positives_is_refused_by_name(own: Path) -> None:
    def without_edema(lines: list[str]) -> list[str]:
        place = lines[0].split(",").index("Edema")
        rows = [line.split(",") for line in lines[1:]]
        return [lines[0], *(",".join([*row[:place], "0.0", *row[place + 1 :]]) for row in rows)]

    rewrite(own / "mimic-cxr-2.0.0-chexpert.csv", without_edema)
    with pytest.raises(DataError, match=r"without a single positive .*: Edema"):
        check_cohort(read(own), "mimic-4")


def test_every_missing_table_is_named_at_once(own: Path) -> None:
    (own / "mimic-cxr-2.0.0-split.csv").unlink()
    (own / RADIOLOGIST).unlink()
    read_parts = "mimic-cxr-2.0.0-split.csv.*; mimic-cxr-2.1.0-test-set-labeled.csv"
    with pytest.raises(DataError, match=read_parts):
        read(own, subset="radiologist")


def test_every_missing_column_of_the_radiologists_table_is_named_at_once(own: Path) -> None:
    text = (own / RADIOLOGIST).read_text()
    (own / RADIOLOGIST).write_text(text.replace("Airspace Opacity", "Opacity").replace("Edema", "Oedema"))
    with pytest.raises(DataError, match="no columns 'Edema', 'Lung Opacity'"):
        read(own, subset="radiologist")


def test_choices_without_meaning_are_refused_together(own: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(own, rate_hz=500, mapping=own / "mapping.toml")
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="no subset 'valid'; there are test, validate, radiologist"):
        read(own, subset="valid")


def test_views_can_be_chosen(root: Path) -> None:
    cohort = read(root, views=("LATERAL",))
    assert {study.attributes["view"] for study in cohort.studies} == {"LATERAL"}
    assert not any("frontal" in note for note in cohort.notes)


def test_the_tree_is_what_it_claims_to_be(root: Path, tmp_path: Path) -> None:
    images = mimic_images()
    for image in images[:5]:
        assert read_xray(root / image.path).pixels.shape == (64, 64)
    metadata = gzip.decompress((root / "mimic-cxr-2.0.0-metadata.csv.gz").read_bytes()).decode()
    assert ",3455.218," in metadata
    assert sum(image.view == "" for image in images) > 0
    for word in ("train", "validate", "test"):
        cells = {image.study_id: image.labels for image in images if image.split == word and image.view in ("PA", "AP")}
        for place, label in enumerate(LABELS):
            seen = {labels[place] for labels in cells.values()}
            assert seen >= ({"1.0", ""} if label == "No Finding" else {"1.0", "0.0", "-1.0"}), (word, label)
    again = write_mimic_cxr_jpg(tmp_path)
    for path in sorted(root.rglob("*")):
        if path.is_file():
            assert (again / path.relative_to(root)).read_bytes() == path.read_bytes()
