"""Which round was the best, and when to stop: by one metric that exists before round 1, over comparable rounds only.

Rounds are compared by the pooled value, not by its lower bound. The bound also moves with the spread of the scores: it
rises when a model draws them further apart in the same order, and a round would win without ranking a patient better.

With few patients per site the value is uncertain too. Where four sites had about ten positives each and a minimum count
of 5, the macro value was off by up to 0.02, differently in each round, which was more than the rounds gained:
``minimum_gain`` should then be no smaller. The bounds of `PooledEvaluation` say what is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import ConfigError
from more_model.evaluation.embedded import LabelTask
from server.status.evaluations import Measured

MACRO = "macro_auroc"


class EarlyStop(BaseModel):
    """Stop once ``patience`` measured rounds in a row gained no more than ``minimum_gain`` over the best before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patience: int = Field(default=5, ge=1)
    minimum_gain: float = Field(default=0.0, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Metric:
    """The mean AUROC over ``labels``, at ``sites``: those that had a value, and answered, before round 1."""

    name: str
    labels: tuple[str, ...]
    sites: frozenset[str]

    def of(self, result: Measured) -> float | None:
        """The figure of one round. None where other sites answered or a label has no value: it would be of other
        patients or labels, and higher or lower for that alone. (Single patients may come and go at a site.)"""
        values = {label.name: label.auroc.value for label in result.labels}
        known = [value for label in self.labels if (value := values[label]) is not None]
        if set(result.sites) != self.sites or len(known) < len(self.labels):
            return None
        return float(np.mean(known))


def metric_before_training(baseline: Measured, name: str, tasks: Mapping[str, LabelTask]) -> Metric:
    """The metric called ``name``: ``macro_auroc``, ``auroc_xray``, ``auroc_ecg``, or ``auroc:`` and a label; ``tasks``
    are those of the terms.

    Raises:
        ConfigError: it has no value in ``baseline``, the evaluation before round 1, so no round could be chosen by it.
    """
    there = _metrics(baseline, tasks)
    if name not in there:
        raise ConfigError(
            "metric for the best round",
            [f"{name!r} has no value before round 1", *baseline.missing],
            remedy=f"name one of {', '.join(there)}" if there else "let sites with enough held-out patients take part",
            avoid="train without it: the last round would be called the best",
        )
    return Metric(name, tuple(there[name]), frozenset(baseline.sites))


def _metrics(baseline: Measured, tasks: Mapping[str, LabelTask]) -> dict[str, list[str]]:
    """The labels of every metric that has a value."""
    metrics: dict[str, list[str]] = {}
    for label in baseline.labels:
        if label.auroc.value is not None:
            for name in (MACRO, f"auroc_{tasks[label.name].modality}", f"auroc:{label.name}"):
                metrics.setdefault(name, []).append(label.name)
    return metrics


def best_round(metric: Metric, results: Sequence[Measured]) -> int | None:
    """The number of the round with the highest figure, the earliest of equal ones; None where no round has one."""
    figures = [(result.round, metric.of(result)) for result in results]
    known = [(value, -number) for number, value in figures if value is not None]
    return -max(known)[1] if known else None


def should_stop(metric: Metric, results: Sequence[Measured], rule: EarlyStop) -> bool:
    """Whether to stop after the last of ``results`` (in the order of their rounds); rounds without a figure are neither
    progress nor the lack of it."""
    best, since = -np.inf, 0
    for result in results:
        value = metric.of(result)
        if value is None:
            continue
        since = 0 if value > best + rule.minimum_gain else since + 1
        best = max(best, value)
    return since >= rule.patience
