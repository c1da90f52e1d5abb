"""Federated evaluation in a run: kept figures, the best round, early stop, and going on after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from more_model.errors import ConfigError
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.evaluation.score_histograms import centred_bins
from more_model.exchange import ExchangeSpec, Fingerprint, Refusal
from more_model.score_exchange import Evaluation, Question, ScoreCounts
from server.best_round import EarlyStop
from server.federation_file import EvaluationPart
from server.run_scores import Asking, RunScores

TERMS = evaluation_terms("chexpert_ecg", labels=("Cardiomegaly",), bins=centred_bins(20))
ASKING = Asking("trial", ExchangeSpec(()), Fingerprint({"base": "any"}), ("north", "south"), TERMS)


@dataclass
class Sites:
    """Of twenty positives at each site, so many stand above the negatives, round by round from 0."""

    above: Mapping[int, int]
    asked: list[int] = field(default_factory=list)
    absent: frozenset[str] = frozenset()

    def evaluate(self, questions: Mapping[str, Question], *, timeout_s: float) -> Mapping[str, Evaluation | Refusal]:
        question = next(iter(questions.values()))
        self.asked.append(question.round)
        above = self.above[question.round]
        below = ((2, 3, 20 - above),) if above < 20 else ()
        counts = {"Cardiomegaly": ScoreCounts((*below, (15, 16, above)), ((10, 11, 20),))}
        return {
            site: Evaluation(
                site=site,
                round=question.round,
                split=question.split,
                counts=counts,
                minimum_count=1,
                terms_digest=TERMS.digest(),
                spec_digest=question.spec_digest,
                fingerprint_digest=question.fingerprint.digest(),
            )
            for site in questions
            if site not in self.absent
        }


def scores(folder: Path, sites: Sites, **choice: object) -> RunScores:
    return RunScores(EvaluationPart.model_validate(choice), ASKING, sites, folder)


def test_the_best_round_is_known_and_so_is_the_start(tmp_path: Path) -> None:
    sites = Sites({0: 10, 1: 14, 2: 12})
    run = scores(tmp_path, sites)
    run.before_training({})
    assert run.best() == 0
    assert [run.after_round(number, {}) for number in (1, 2)] == pytest.approx([0.7, 0.6])
    assert run.best() == 1 and not run.stop()


def test_after_a_restart_the_start_is_not_measured_again_and_the_figures_are_still_there(tmp_path: Path) -> None:
    first = Sites({0: 10, 1: 14})
    run = scores(tmp_path, first)
    run.before_training({})
    run.after_round(1, {})
    sites = Sites({2: 12})
    again = scores(tmp_path, sites)
    again.before_training({})
    again.after_round(2, {})
    assert (first.asked, sites.asked) == ([0, 1], [2])
    assert again.best() == 1


def test_it_stops_once_nothing_is_gained(tmp_path: Path) -> None:
    run = scores(tmp_path, Sites({0: 10, 1: 14, 2: 12, 3: 13}), early_stop=EarlyStop(patience=2))
    run.before_training({})
    stops = []
    for number in (1, 2, 3):
        run.after_round(number, {})
        stops.append(run.stop())
    assert stops == [False, False, True]


def test_a_metric_that_has_no_value_before_round_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no value before round 1"):
        scores(tmp_path, Sites({0: 10}), metric="auroc_ecg").before_training({})


def test_a_round_that_some_site_did_not_measure_is_not_compared(tmp_path: Path) -> None:
    sites = Sites({0: 10, 1: 20})
    run = scores(tmp_path, sites)
    run.before_training({})
    sites.absent = frozenset({"south"})
    assert run.after_round(1, {}) is None and run.best() == 0


def test_who_is_missing_stands_in_the_log_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = scores(tmp_path, Sites({0: 10}, absent=frozenset({"south"})))
    run.before_training({})
    assert "measured after round 0 without south: absent (no answer in time)" in caplog.text
