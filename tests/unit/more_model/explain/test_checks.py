"""A model that learnt a planted signal passes the checks; models with random weights do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.checkpoint import random_twin
from more_model.cohort_file import load_cohort
from more_model.data.study import Split
from more_model.errors import DataError
from more_model.explain.cases import Cases, gather_all, gather_cases
from more_model.explain.check_page import check_sections
from more_model.explain.checks import check_explanations
from more_model.explain.measure import measure
from more_model.explain.pointing import Film, read_lesions


@pytest.fixture(scope="module")
def cases(planted: Any) -> list[Cases]:
    films = read_lesions(planted.lesions)
    return gather_all(
        load_cohort(planted.store), planted.prompts.tasks, films=films, split=Split.TEST, per_label=20, seed=0
    )


@pytest.fixture(scope="module")
def checks(planted: Any, cases: list[Cases]) -> dict[str, Any]:
    return check_explanations(planted.trained, cases, planted.prompts, replicates=200)


def test_the_trained_model_passes_and_random_ones_fail(checks: dict[str, Any]) -> None:
    assert [(one["modality"], one["check"]) for one in checks["verdicts"]] == [
        ("xray", "deletion"), ("xray", "pointing"), ("xray", "randomised"), ("xray", "randomised"),
        ("ecg", "deletion"), ("ecg", "randomised"), ("ecg", "randomised"),
    ]  # fmt: skip
    assert checks["passed"], "\n".join(one["sentence"] for one in checks["verdicts"])
    game = checks["modalities"]["xray"]["model"]["pointing"]
    assert game["ratio"]["value"] >= 2
    for random in checks["modalities"]["xray"]["randomised"]:
        assert random["pointing"]["ratio"]["value"] < 2
        assert random["specific_deletion"]["value"] < checks["settings"]["smallest_gain"]


def test_a_random_model_put_in_the_place_of_the_trained_one_does_not_pass(planted: Any, cases: list[Cases]) -> None:
    twin = random_twin(planted.trained, 9)
    found = check_explanations(twin, cases, planted.prompts, twin_seeds=(), replicates=200)
    assert not found["passed"]
    failed = {(one["modality"], one["check"]) for one in found["verdicts"] if not one["passed"]}
    assert failed == {("xray", "deletion"), ("xray", "pointing"), ("ecg", "deletion")}
    assert all("NOT" in one["sentence"] for one in found["verdicts"])


def test_the_page_says_every_verdict(checks: dict[str, Any]) -> None:
    verdicts, *figures = check_sections(checks)
    assert [row[2] for row in verdicts.blocks[0].rows] == [one["sentence"] for one in checks["verdicts"]]  # type: ignore[union-attr]
    assert [section.anchor for section in figures] == ["figures-xray", "figures-ecg"]
    assert [block.kind for block in figures[0].blocks] == ["table", "figure", "table", "words"]


def test_cases_are_drawn_by_label_and_know_their_lesions(cases: list[Cases]) -> None:
    xray, ecg = cases
    assert xray.present.sum() == (~xray.present).sum() == 20
    assert [film is not None for film in xray.film] == xray.present.tolist()
    assert set(ecg.film) == {None}
    inputs = ecg.inputs([0, 1])
    assert inputs.shape == ecg.baseline([0, 1], inputs).shape
    donors = {ecg.reference.triplets[row].labels["CD"] for row in ecg.donor.tolist()}
    assert donors == {0.0}
    trained_on = {triplet.patient_id for triplet in ecg.reference.triplets}
    assert not trained_on & set(ecg.patient)


def test_the_average_picture_is_fitted_to_the_picture(cases: list[Cases]) -> None:
    inputs = cases[0].inputs([0, 1, 2])
    baseline = cases[0].baseline([0, 1, 2], inputs)
    assert baseline.shape == inputs.shape
    np.testing.assert_allclose(baseline.mean(dim=(1, 2)), inputs.mean(dim=(1, 2)), rtol=0.02)
    darker = cases[0].average * 0.5 + 20
    np.testing.assert_allclose(cases[0].baseline([0], darker[None])[0], darker, rtol=1e-3)


def test_cohorts_without_cases_are_refused(planted: Any) -> None:
    cohort, tasks = load_cohort(planted.store), planted.prompts.tasks
    named: dict[str, Any] = {"split": Split.TEST, "per_label": 5, "seed": 0}
    with pytest.raises(DataError, match="no xray study of the test split has one of the findings"):
        gather_cases(cohort, tasks[1:], "xray", films={}, reference=Split.TRAIN, **named)
    with pytest.raises(DataError, match="the lesion table names no X-ray"):
        gather_all(cohort, tasks, films={"another": Film(1, 1, {"Lung Lesion": [(0.5, 0.5, 0.1)]})}, **named)
    only_test = replace(
        cohort, sites=tuple(replace(site, examples=site.examples.of_split(Split.TEST)) for site in cohort.sites)
    )
    with pytest.raises(DataError, match="no xray study in its train split"):
        gather_cases(only_test, tasks, "xray", films={}, reference=Split.TRAIN, **named)


def test_a_finding_without_wording_is_refused(planted: Any, cases: list[Cases]) -> None:
    with pytest.raises(DataError, match="no positive and negative wording for Lung Lesion"):
        measure(planted.trained, cases[0], {})
