"""Cases drawn from a cohort: balanced, of test patients, each patient once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from more_model.data.study import Split, Triplet
from more_model.errors import ConfigError, DataError
from more_model.evaluation.prompt_sets import PromptSet, load_prompts
from more_model.reader_study.from_cohort import cohort_cases, draw_balanced
from more_model.training.examples import Examples


class NoArrays:
    xrays = np.zeros((1, 8, 8), dtype=np.uint8)
    ecgs = np.zeros((1, 12, 50), dtype=np.float16)


def examples(rows: list[tuple[str, dict[str, float], bool, bool]]) -> Examples:
    """Patient, labels, whether there is an X-ray, whether there is an ECG."""
    triplets = [
        Triplet(patient, "north", Split.TEST, 0 if xray else None, 0 if ecg else None, None, None, labels)
        for patient, labels, xray, ecg in rows
    ]
    return Examples.of(triplets, NoArrays())


@pytest.fixture
def prompts() -> PromptSet:
    return load_prompts("chexpert_ecg").only(["Edema", "AFIB"])


def test_draws_are_balanced_and_use_no_patient_twice(prompts: PromptSet) -> None:
    rows = [(f"p{i // 2}", {"Edema": float(i % 4 > 1), "AFIB": float(i % 8 > 3)}, True, True) for i in range(64)]
    draws = draw_balanced(examples(rows), prompts, 16, seed=0)
    assert Counter((draw.question.task.label, draw.truth) for draw in draws) == {
        ("Edema", 0): 4, ("Edema", 1): 4, ("AFIB", 0): 4, ("AFIB", 1): 4,
    }  # fmt: skip
    assert len({rows[draw.row][0] for draw in draws}) == 16
    assert all(rows[draw.row][1][draw.question.task.label] == draw.truth for draw in draws)
    again = draw_balanced(examples(rows), prompts, 16, seed=0)
    assert [draw.row for draw in again] == [draw.row for draw in draws]
    assert [draw.row for draw in draw_balanced(examples(rows), prompts, 16, seed=1)] != [draw.row for draw in draws]


def test_uncertain_labels_and_missing_studies_are_not_drawn(prompts: PromptSet) -> None:
    rows = [
        ("a", {"Edema": -1.0, "AFIB": 1.0}, True, False),
        ("b", {"Edema": 1.0}, True, True),
        ("c", {"Edema": 0.0, "AFIB": 0.0}, False, True),
        ("d", {"Edema": 0.0}, True, True),
        ("e", {"AFIB": 1.0}, True, True),
    ]
    draws = draw_balanced(examples(rows), prompts, 4, seed=0)
    assert {(draw.question.task.label, draw.truth): rows[draw.row][0] for draw in draws} == {
        ("Edema", 1): "b", ("Edema", 0): "d", ("AFIB", 1): "e", ("AFIB", 0): "c",
    }  # fmt: skip


def test_too_few_patients_and_uneven_counts_are_refused(prompts: PromptSet) -> None:
    few = examples([("a", {"Edema": 1.0}, True, True), ("b", {"Edema": 0.0}, True, True)])
    with pytest.raises(DataError, match="only 0 test patients are left with AFIB, 1 are needed"):
        draw_balanced(few, prompts, 4, seed=0)
    with pytest.raises(ConfigError, match="6 cases cannot be dealt out evenly over 2 labels") as raised:
        draw_balanced(few, prompts, 6, seed=0)
    assert "multiple of 4" in str(raised.value)


def test_cases_of_a_run_show_the_study_and_keep_the_report_back(miniature_run: Any) -> None:
    from more_model.checkpoint import load_checkpoint
    from more_model.cohort_file import load_cohort

    trained = load_checkpoint(miniature_run.out / "checkpoints" / "federated.safetensors")
    cohort = load_cohort(miniature_run.out)
    explained = []

    def draw(explanation: Any) -> bytes:
        explained.append(explanation)
        return b"picture"

    wanted = load_prompts("chexpert_ecg").only(["Pleural Effusion", "NORM"])
    cases = cohort_cases(trained, cohort, wanted, count=4, seed=1, draw_explanation=draw, threads=1)
    assert Counter(label for case in cases for label in case.truth.items()) == {
        ("Pleural Effusion", 0): 1, ("Pleural Effusion", 1): 1, ("NORM", 0): 1, ("NORM", 1): 1,
    }  # fmt: skip
    for case in cases:
        assert (case.xray is None) == ("NORM" in case.truth) != (case.ecg is None)
        assert case.report == "" and case.explanation == b"picture"
        assert all(0 <= value <= 1 for value in case.probability.values())
    assert {explanation.modality for explanation in explained} == {"xray", "ecg"}
    assert {explanation.text for explanation in explained} == {entry.positive[0] for entry in wanted.labels}
    patients = {(t.site, t.patient_id) for t in cohort.examples.of_split(Split.TEST).triplets}
    assert {tuple(case.unit.split("/")) for case in cases} <= patients
