"""Federated evaluation in a run: before round 1 and after each, one metric that chooses the best round and may stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from more_model.evaluation.federated_terms import EvaluationTerms
from more_model.exchange import ExchangeSpec, Fingerprint, Tensors
from more_model.score_exchange import Question
from server.best_round import Metric, best_round, metric_before_training, should_stop
from server.evaluation import EvaluationTransport, evaluate_round
from server.federation_file import EvaluationPart
from server.status.evaluations import Measured, measured, read_evaluations, record_evaluation

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asking:
    """What every question of a run has in common."""

    run: str
    spec: ExchangeSpec
    fingerprint: Fingerprint
    sites: Sequence[str]
    terms: EvaluationTerms


class RunScores:
    """The figures of a run, kept in ``folder`` so that they outlive the process."""

    def __init__(
        self,
        choice: EvaluationPart,
        asking: Asking,
        transport: EvaluationTransport,
        folder: Path,
        *,
        note: Callable[[Measured], None] = lambda _measured: None,
    ) -> None:
        self._choice, self._asking, self._transport, self._folder, self._note = choice, asking, transport, folder, note
        self._metric: Metric | None = None

    def before_training(self, tensors: Tensors) -> None:
        """Measure the start, unless an earlier start of this run did.

        Raises:
            ConfigError: the metric has no value there, so no round could be chosen by it.
        """
        known = {result.round: result for result in self._results()}
        baseline = known.get(0) or self._measure(0, tensors)
        self._metric = metric_before_training(baseline, self._choice.metric, self._asking.terms.names)

    def after_round(self, number: int, tensors: Tensors) -> float | None:
        """The metric of the tensors after a round; None where it cannot be compared with that of other rounds."""
        assert self._metric is not None, "before_training comes first"
        return self._metric.of(self._measure(number, tensors))

    def stop(self) -> bool:
        """Whether the rounds so far gained too little for too long."""
        rule = self._choice.early_stop
        return rule is not None and self._metric is not None and should_stop(self._metric, self._results(), rule)

    def best(self) -> int | None:
        """The round with the highest metric (0: the start), None where there is none."""
        return None if self._metric is None else best_round(self._metric, self._results())

    def _measure(self, number: int, tensors: Tensors) -> Measured:
        asking, choice = self._asking, self._choice
        question = Question(
            run=asking.run,
            round=number,
            split=choice.split,
            tensors=tensors,
            terms_digest=asking.terms.digest(),
            spec_digest=asking.spec.digest(),
            fingerprint=asking.fingerprint,
        )
        result = evaluate_round(self._transport, question, asking.sites, asking.terms, timeout_s=choice.timeout_s)
        record_evaluation(self._folder, result)
        figures = measured(result)
        for part in result.participation:
            if part.state != "accepted":
                _LOG.warning("measured after round %d without %s: %s (%s)", number, part.site, part.state, part.why)
        self._note(figures)
        return figures

    def _results(self) -> list[Measured]:
        return [result for result in read_evaluations(self._folder) if result.split == self._choice.split]
