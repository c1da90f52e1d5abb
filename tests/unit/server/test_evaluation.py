"""Federated evaluation at the coordinator: admission, pooling, whose figures may be seen, the best round, stopping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from more_model.errors import ConfigError
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.evaluation.score_histograms import centred_bins
from more_model.exchange import Fingerprint, Refusal
from more_model.score_exchange import Evaluation, Question, ScoreCounts
from server.best_round import EarlyStop, Metric, best_round, metric_before_training, should_stop
from server.evaluation import evaluate_round, fault_of_evaluation, pool, site_figures
from server.status.evaluations import Measured, measured

TERMS = evaluation_terms("chexpert_ecg", labels=("Cardiomegaly", "Edema", "AFIB"), bins=centred_bins(20))
FINGERPRINT = Fingerprint({"base": "any"})
QUESTION = Question("trial", 0, "validation", {}, TERMS.digest(), "spec", FINGERPRINT)
EMPTY = ScoreCounts((), ())


def counts(above: int, below: int = 0) -> ScoreCounts:
    """Twenty negatives in the middle, ``above`` positives over them, ``below`` under them."""
    runs = ((2, 3, below),) if below else ()
    return ScoreCounts((*runs, (15, 16, above)), ((10, 11, 20),))


def evaluation(name: str, told: Mapping[str, ScoreCounts] | None = None, **changes: Any) -> Evaluation:
    parts: dict[str, Any] = {
        "site": name,
        "round": 0,
        "split": "validation",
        "counts": {"Cardiomegaly": counts(10), "Edema": EMPTY, "AFIB": EMPTY, **(told or {})},
        "minimum_count": 5,
        "terms_digest": TERMS.digest(),
        "spec_digest": "spec",
        "fingerprint_digest": FINGERPRINT.digest(),
    }
    return Evaluation(**{**parts, **changes})


class Answers:
    """A transport that brings back what it was given, and notes what it was asked."""

    def __init__(self, answers: Mapping[str, Evaluation | Refusal]) -> None:
        self.answers, self.asked = answers, dict[str, Question]()

    def evaluate(self, questions: Mapping[str, Question], *, timeout_s: float) -> Mapping[str, Evaluation | Refusal]:
        assert timeout_s > 0
        self.asked = dict(questions)
        return self.answers


def test_sites_are_pooled_as_one_set_of_patients() -> None:
    answers = {
        "north": evaluation("north", {"Cardiomegaly": counts(10), "AFIB": counts(5, 5)}),
        "south": evaluation("south", {"Cardiomegaly": counts(5, 15)}),
    }
    transport = Answers(answers)
    result = evaluate_round(transport, QUESTION, ("south", "north"), TERMS, timeout_s=5)
    assert set(transport.asked) == {"north", "south"}
    heart, rhythm = result.labels["Cardiomegaly"], result.labels["AFIB"]
    # 15 of 30 positives stand above the negatives, 15 below; nothing is in doubt.
    assert (heart.auroc.value, heart.auroc.low, heart.auroc.high) == (0.5, 0.5, 0.5)
    assert (heart.auroc.positives, heart.auroc.negatives, heart.sites) == ((30, 30), (40, 40), ("north", "south"))
    assert (rhythm.modality, rhythm.auroc.value, rhythm.sites) == ("ecg", 0.5, ("north",))
    assert result.labels["Edema"].auroc.reason == "0 positives and 0 negatives, at least 2 of either are needed"
    assert (result.macro.value, result.macro.labels) == (0.5, 2)
    shown = result.as_json()
    assert shown["per_label"]["AFIB"]["sites"] == 1 and shown["sites"]["north"] == {"state": "accepted", "why": None}
    assert "runs" not in str(shown) and "counts" not in str(shown)


def test_what_is_missing_or_wrong_is_left_out_with_its_reason() -> None:
    answers = {
        "north": evaluation("north"),
        "south": Refusal("south", 0, "ExchangeError"),
        "east": evaluation("east", round=4),
        "stranger": evaluation("stranger"),
    }
    result = pool(QUESTION, ("north", "south", "east", "west"), answers, TERMS)
    assert [(part.site, part.state) for part in result.participation] == [
        ("east", "quarantined"), ("north", "accepted"), ("south", "refused"), ("west", "absent"),
    ]  # fmt: skip
    assert list(result.accepted) == ["north"]
    assert result.labels["Cardiomegaly"].auroc.positives == (10, 10)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"site": "south"}, "it calls itself 'south', but the question went to 'north'"),
        ({"round": 1}, "it answers for another round or other patients than were asked about"),
        ({"split": "test"}, "it answers for another round or other patients than were asked about"),
        ({"spec_digest": "other"}, "it was made with another exchange specification"),
        ({"fingerprint_digest": "other"}, "it was measured on another base"),
        ({"terms_digest": "other"}, "it answers other questions than were asked"),
        ({"counts": {"Cardiomegaly": EMPTY}}, "its labels are not those that were agreed on"),
        ({"minimum_count": 11}, "it tells of fewer patients than its own minimum"),
    ],
    ids=str,
)
def test_evaluations_that_are_not_pooled(changes: dict[str, Any], reason: str | None) -> None:
    answer = evaluation("north", **changes)
    assert fault_of_evaluation(answer, site="north", question=QUESTION, terms=TERMS) == reason


def test_the_figures_of_a_site_are_its_own_unless_it_shows_them() -> None:
    answers = {"north": evaluation("north"), "south": evaluation("south", show_site=True), "east": evaluation("east")}
    result = pool(QUESTION, tuple(answers), answers, TERMS)
    assert set(site_figures(result, TERMS)) == {"south"}
    own = site_figures(result, TERMS, viewer="north")
    assert set(own) == {"north", "south"} and own["north"]["Cardiomegaly"].value == 1.0


def rounds(figures: Sequence[int | None], *, sites: Sequence[str] = ("north", "south")) -> list[Measured]:
    """Round after round from 0: of twenty positives per site, so many stand above the negatives (None: south is
    absent)."""

    def one(number: int, above: int | None) -> Measured:
        told = {"Cardiomegaly": counts(above or 10, 20 - (above or 10))}
        answers = {site: evaluation(site, told, round=number, minimum_count=1) for site in sites}
        if above is None:
            del answers["south"]
        return measured(pool(replace(QUESTION, round=number), sites, answers, TERMS))

    return [one(number, above) for number, above in enumerate(figures)]


def macro(results: Sequence[Measured]) -> Metric:
    return metric_before_training(results[0], "macro_auroc", TERMS.names)


def test_the_best_round_is_the_earliest_of_the_highest() -> None:
    results = rounds([10, 14, 16, 12, 16])
    assert best_round(macro(results), results) == 2
    assert best_round(macro(results), results[:1]) == 0


def test_a_round_of_other_patients_cannot_be_the_best() -> None:
    results = rounds([10, 14, None, 12])
    metric = macro(results)
    assert [metric.of(result) for result in results] == [0.5, 0.7, None, 0.6]
    assert best_round(metric, results) == 1
    assert best_round(metric, results[2:3]) is None


def test_a_round_without_one_of_the_labels_cannot_be_the_best() -> None:
    before = measured(pool(QUESTION, ("north",), {"north": evaluation("north", {"AFIB": counts(5, 5)})}, TERMS))
    metric = macro([before])
    assert metric.labels == ("Cardiomegaly", "AFIB") and metric.of(before) == 0.75
    lost = measured(pool(QUESTION, ("north",), {"north": evaluation("north")}, TERMS))
    # Cardiomegaly alone would give 1.0.
    assert metric.of(lost) is None


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("macro_auroc", ("Cardiomegaly", "AFIB")),
        ("auroc_xray", ("Cardiomegaly",)),
        ("auroc_ecg", ("AFIB",)),
        ("auroc:AFIB", ("AFIB",)),
    ],
)
def test_a_metric_is_over_what_has_a_value_before_training(name: str, labels: tuple[str, ...]) -> None:
    before = measured(pool(QUESTION, ("north",), {"north": evaluation("north", {"AFIB": counts(5, 5)})}, TERMS))
    assert metric_before_training(before, name, TERMS.names).labels == labels


@pytest.mark.parametrize("name", ["auroc:Edema", "auroc_ecg", "accuracy", ""])
def test_a_metric_without_a_value_before_training_is_refused(name: str) -> None:
    before = measured(pool(QUESTION, ("north", "south"), {"north": evaluation("north")}, TERMS))
    with pytest.raises(ConfigError, match="has no value before round 1") as refused:
        metric_before_training(before, name, TERMS.names)
    assert refused.value.faults[1:] == ("south: absent",)
    assert refused.value.remedy == "name one of macro_auroc, auroc_xray, auroc:Cardiomegaly"


def test_no_metric_at_all_where_nobody_answered() -> None:
    with pytest.raises(ConfigError, match="let sites with enough held-out patients take part"):
        metric_before_training(measured(pool(QUESTION, ("north",), {}, TERMS)), "macro_auroc", TERMS.names)


@pytest.mark.parametrize(
    ("figures", "rule", "stop"),
    [
        ([10, 12, 11, 12], EarlyStop(patience=2), True),
        ([10, 12, 11, 13], EarlyStop(patience=2), False),
        ([10, 12, 11], EarlyStop(patience=2), False),
        ([10, 12, None, 11], EarlyStop(patience=2), False),
        ([10, 12, None, 11, None, 12], EarlyStop(patience=2), True),
        ([10, 11, 12, 13], EarlyStop(patience=3, minimum_gain=0.06), True),
        ([10], EarlyStop(patience=1), False),
    ],
    ids=str,
)
def test_stopping_after_rounds_without_a_gain(figures: list[int | None], rule: EarlyStop, stop: bool) -> None:
    results = rounds(figures)
    assert should_stop(macro(results), results, rule) is stop
