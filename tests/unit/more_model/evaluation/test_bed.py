"""The studies of an evaluation: labels settled, patients in one split, examinations scored as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.cohort_file import Cohort
from more_model.data.study import Split, Triplet
from more_model.errors import ConfigError, DataError
from more_model.evaluation.bed import make_bed, per_case, tasks_of_cohort, with_settled_labels
from more_model.evaluation.embedded import LabelTask
from more_model.training.examples import Examples

EDEMA, MASS, AFIB = LabelTask("Edema", "xray"), LabelTask("Mass", "xray"), LabelTask("AFIB", "ecg")


def triplet(patient: str, split: Split = Split.TEST, **facts: Any) -> Triplet:
    given = {"xray": 0, "ecg": None, "xray_report": "words", "ecg_report": None, **facts}
    return Triplet(patient_id=patient, site="north", split=split, **given)


def examples(*triplets: Triplet) -> Examples:
    return Examples(triplets, (0,) * len(triplets), ())


def test_uncertain_labels_are_settled_and_foreign_ones_and_reports_left_out() -> None:
    given = examples(triplet("a", labels={"Edema": -1.0, "Mass": 1.0, "Gout": 1.0}), triplet("b", labels={"Edema": 0}))
    labels = {
        policy: [t.labels for t in with_settled_labels(given, [EDEMA, MASS], policy).triplets]
        for policy in ("ignore", "zero", "one", "published")
    }  # fmt: skip
    assert labels == {
        "ignore": [{"Mass": 1.0}, {"Edema": 0.0}],
        "zero": [{"Edema": 0.0, "Mass": 1.0}, {"Edema": 0.0}],
        "one": [{"Edema": 1.0, "Mass": 1.0}, {"Edema": 0.0}],
        "published": [{}, {"Edema": 0.0, "Mass": 0.0}],
    }
    assert all(t.xray_report is None for t in make_bed(given, [EDEMA], "ignore")[Split.TEST].triplets)
    assert given.triplets[0].labels["Edema"] == -1.0, "what was given stays as it is"


def test_the_published_policy_invents_no_negative_for_a_study_that_does_not_exist() -> None:
    film = triplet("a", labels={"Edema": 1.0})
    trace = triplet("b", xray=None, ecg=0, xray_report=None, labels={"AFIB": -1.0})
    both = triplet("c", ecg=1, labels={"Edema": 1.0, "AFIB": -1.0})
    settled = with_settled_labels(examples(film, trace, both), [EDEMA, AFIB], "published")
    # The hedged rhythm drops the ECG's labels, not the X-ray's.
    assert [t.labels for t in settled.triplets] == [{"Edema": 1.0}, {}, {"Edema": 1.0}]


def test_a_label_asked_of_films_and_of_traces_is_settled_on_both() -> None:
    film, trace = triplet("a", labels={"Edema": 1.0}), triplet("b", xray=None, ecg=0, labels={"Edema": 1.0})
    tasks = [EDEMA, LabelTask("Edema", "ecg")]
    settled = with_settled_labels(examples(film, trace), tasks, "published")
    assert [t.labels for t in settled.triplets] == [{"Edema": 1.0}, {"Edema": 1.0}]


def test_a_patient_in_two_splits_is_refused_with_counts_alone() -> None:
    torn = examples(triplet("jane-doe", Split.TRAIN), triplet("jane-doe"), triplet("other"))
    with pytest.raises(DataError, match="1 of 2 patients are in more than one of train, validation") as caught:
        make_bed(torn, [EDEMA], "ignore")
    assert "jane-doe" not in caught.value.explain()


def test_the_same_number_at_two_hospitals_is_two_patients() -> None:
    bed = make_bed(examples(triplet("1", Split.TRAIN), replace(triplet("1"), site="south")), [EDEMA], "ignore")
    assert (len(bed[Split.TRAIN]), len(bed[Split.TEST])) == (1, 1)


def test_counts_are_of_patients_studies_and_cases() -> None:
    films = [triplet("a", attributes={"case": "a1"}), triplet("a", attributes={"case": "a1"}), triplet("b")]
    counts = make_bed(examples(*films), [EDEMA, AFIB], "ignore").counts()
    assert counts["test"] == {"patients": 2, "studies": 3, "cases": 2}
    assert counts["train"] == {"patients": 0, "studies": 0, "cases": 0}


def test_the_films_of_a_case_are_scored_by_their_mean(make_scored: Callable[..., Any]) -> None:
    scored = make_scored(
        [1, 0, 1, 0, 1], [0.2, 0.1, 0.6, np.nan, np.nan], patient=["p", "q", "p", "q", "r"]
    )  # fmt: skip
    scored = replace(scored, attributes={"case": ["p1", "q1", "p1", "q1", ""], "view": ["AP", "PA", "PA", "AP", "AP"]})
    cases = per_case(scored)
    assert list(cases.patient) == ["p", "q", "r"]
    assert cases.y.tolist() == [1.0, 0.0, 1.0]
    np.testing.assert_allclose(cases.score, [0.4, 0.1, np.nan])
    assert list(cases.attributes["view"]) == ["AP", "PA", "AP"]


def test_without_cases_every_study_is_one(make_scored: Callable[..., Any]) -> None:
    scored = make_scored([1, 0], [0.2, 0.1])
    assert per_case(scored) is scored
    unnamed = replace(make_scored([1, 0], [0.2, 0.1], patient=["p", "p"]), attributes={"case": ["", ""]})
    assert per_case(unnamed).score.tolist() == [0.2, 0.1]


def test_cases_of_two_sites_with_one_name_are_two(make_scored: Callable[..., Any]) -> None:
    scored = replace(make_scored([1, 0], [0.2, 0.1], site=["north", "south"]), attributes={"case": ["1", "1"]})
    assert len(per_case(scored).y) == 2


def test_studies_of_one_case_that_disagree_are_refused(make_scored: Callable[..., Any]) -> None:
    scored = replace(make_scored([1, 0], [0.2, 0.1], patient=["p", "p"]), attributes={"case": ["p1", "p1"]})
    with pytest.raises(DataError, match="Edema: studies of one case state different labels"):
        per_case(scored)


@pytest.fixture
def cohort() -> Cohort:
    class Site:
        examples = Examples(
            (
                triplet("a", labels={"Edema": 1.0, "Mass": 0.0, "Gout": 1.0}),
                triplet("b", Split.TRAIN, labels={"Mass": 1.0, "AFIB": 0.0}),
            ),
            (0, 0),
            (),
        )

    return Cohort((Site(),), synthetic=True)  # type: ignore[arg-type]


def test_a_cohort_is_asked_what_it_states_and_the_prompts_word(cohort: Cohort) -> None:
    known = [EDEMA, LabelTask("Fracture", "xray"), MASS, AFIB]
    assert tasks_of_cohort(cohort, [], known) == [EDEMA, MASS, AFIB]
    assert tasks_of_cohort(cohort, ["Edema"], known) == [EDEMA]
    with pytest.raises(ConfigError, match="no patient of the cohort states 'Fracture'"):
        tasks_of_cohort(cohort, ["Fracture"], known)
    with pytest.raises(ConfigError, match="the prompts do not word 'Gout'"):
        tasks_of_cohort(cohort, ["Gout"], known)
    with pytest.raises(DataError, match="without a single positive among the test patients: Mass"):
        tasks_of_cohort(cohort, ["Edema", "Mass"], known)
    with pytest.raises(DataError, match="none of the labels that the prompts word"):
        tasks_of_cohort(cohort, [], [LabelTask("Fracture", "xray")])
