"""The messages of federated evaluation: through flat scalars and back, and what their counts may not be."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from more_model.errors import ExchangeError
from more_model.exchange import Fingerprint
from more_model.score_exchange import Evaluation, Question, Runs, ScoreCounts, fault_of_counts

EVALUATION = Evaluation(
    site="north",
    round=3,
    split="validation",
    counts={"Edema": ScoreCounts(((2, 5, 7), (6, 7, 5)), None), "AFIB": ScoreCounts((), ((0, 9, 30),))},
    minimum_count=5,
    terms_digest="t",
    spec_digest="s",
    fingerprint_digest="f",
    show_site=True,
)
QUESTION = Question("run", 3, "validation", {"w": np.ones(2, np.float32)}, "t", "s", Fingerprint({"base": "b"}))


def test_messages_through_flat_facts() -> None:
    for facts in (EVALUATION.facts(), QUESTION.facts()):
        assert all(type(value) in (int, float, str) for value in facts.values())
    assert Evaluation.from_parts(json.loads(json.dumps(EVALUATION.facts()))) == EVALUATION
    assert Question.from_parts(json.loads(json.dumps(QUESTION.facts())), QUESTION.tensors) == QUESTION


@pytest.mark.parametrize(
    "change",
    [
        {"site": None},
        {"round": math.inf},
        {"counts": "[]"},
        {"counts": '{"Edema": [[[1, 2, 3]]]}'},
        {"counts": '{"Edema": [[[1, 2]], null]}'},
        {"counts": '{"Edema": [[[1, 2, 3.5]], null]}'},
        {"counts": '{"Edema": [[[1, 2, true]], null]}'},
        {"counts": '{"Edema": [[[1, 2, "patient 7"]], null]}'},
        {"counts": '{"Edema": 3}'},
        {"minimum_count": "few"},
    ],
    ids=str,
)
def test_malformed_evaluations(change: dict[str, Any]) -> None:
    facts = {key: value for key, value in {**EVALUATION.facts(), **change}.items() if value is not None}
    with pytest.raises(ExchangeError, match="malformed evaluation"):
        Evaluation.from_parts(facts)


@pytest.mark.parametrize("change", [{"run": None}, {"round": "third"}, {"fingerprint": "[1]"}], ids=str)
def test_malformed_questions(change: dict[str, Any]) -> None:
    facts = {key: value for key, value in {**QUESTION.facts(), **change}.items() if value is not None}
    with pytest.raises(ExchangeError, match="malformed question"):
        Question.from_parts(facts, {})


@pytest.mark.parametrize(
    ("positives", "minimum", "fault"),
    [
        (((2, 5, 7), (6, 7, 5)), 5, None),
        (((2, 5, 7), (4, 7, 5)), 5, "its counts overlap"),
        (((6, 7, 5), (2, 5, 7)), 5, "its counts overlap"),
        (((2, 11, 7),), 5, "its counts lie outside the bins"),
        (((-1, 3, 7),), 5, "its counts lie outside the bins"),
        (((3, 3, 7),), 5, "its counts lie outside the bins"),
        (((2, 5, 4),), 5, "it tells of fewer patients than its own minimum"),
        (((2, 5, 10**9),), 5, "it tells of more patients than there can be"),
        (((2, 5, 0),), 0, "its minimum count is not a plausible number"),
        (None, 1, "it withholds counts that its minimum count lets out"),
    ],
)
def test_counts_that_no_site_may_tell(positives: Runs | None, minimum: int, fault: str | None) -> None:
    counts = {"Edema": ScoreCounts(positives, ()), "AFIB": ScoreCounts((), ())}
    found = fault_of_counts(
        replace(EVALUATION, counts=counts, minimum_count=minimum), labels=("Edema", "AFIB"), bins=10
    )
    assert found is None if fault is None else fault in str(found)


def test_other_labels_than_agreed_are_a_fault() -> None:
    assert fault_of_counts(EVALUATION, labels=("Edema", "AFIB"), bins=10) is None
    for labels in (("Edema",), ("Edema", "AFIB", "Fracture")):
        assert "labels" in str(fault_of_counts(EVALUATION, labels=labels, bins=10))
