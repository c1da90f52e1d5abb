"""Linear probe: how much a logistic regression reads from frozen features.

The regularisation strength is chosen on validation patients, never on the test set. Beside a probe of a trained encoder
always show one of a randomly initialised encoder: on ECGs that baseline is strong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from more_model.evaluation.auroc import auroc, refusal
from more_model.evaluation.embedded import (
    EmbeddedSet,
    Float64,
    LabelTask,
    ScoredLabel,
    UncertaintyPolicy,
    score_task,
)
from more_model.evaluation.regression import logistic_regression, one_blas_thread
from more_model.evaluation.uncertainty import settled

#: Inverse regularisation strengths, strongest regularisation first; a tie goes to the earlier one.
DEFAULT_GRID = (0.001, 0.01, 0.1, 1.0)

#: Used when the validation set lacks a class, so that nothing can be chosen.
FALLBACK_STRENGTH = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """``scores`` float64 [m] (logits; NaN for rows without features), or None with the ``reason``.

    ``strength`` is the C that was used, ``chosen`` whether the validation set chose it, ``train_rows`` the rows used.
    """

    scores: Float64 | None
    reason: str | None = None
    strength: float | None = None
    chosen: bool = False
    train_rows: int = 0


def probe_scores(
    train_features: NDArray[np.floating],
    train_labels: NDArray[np.floating],
    test_features: NDArray[np.floating],
    *,
    validation_features: NDArray[np.floating] | None = None,
    validation_labels: NDArray[np.floating] | None = None,
    seed: int = 0,
    fraction: float = 1.0,
    grid: Sequence[float] = DEFAULT_GRID,
) -> Probe:
    """Logistic regression (L2) on standardised features, scored on ``test_features`` [m, D].

    ``train_features`` [n, D] with ``train_labels`` [n] of 0, 1, NaN; rows with NaN in either are left out, in training
    and validation. ``fraction`` in (0, 1] keeps that share of the training rows, class by class, drawn by ``seed``; a
    smaller fraction is a subset of a larger one. Refuses (``scores`` None) with fewer than two rows of either class.
    Raises DataError for feature widths that differ and a fraction outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise DataError(f"label fraction {fraction} is not in (0, 1]")
    features, labels = _usable(train_features, train_labels)
    keep = _stratified_rows(labels, fraction, seed)
    features, labels = features[keep], labels[keep]
    reason = refusal(int((labels == 1.0).sum()), int((labels == 0.0).sum()))
    if reason is not None:
        return Probe(None, f"linear probe: in training {reason}", train_rows=len(labels))
    standardise = _standardiser(features)
    train = standardise(features)
    held_features, held_labels = _validation(validation_features, validation_labels, features.shape[1])
    chosen = refusal(int((held_labels == 1.0).sum()), int((held_labels == 0.0).sum())) is None
    strengths = tuple(grid) if chosen else (FALLBACK_STRENGTH,)
    fitted, strength = _best_fit(train, labels, strengths, standardise(held_features), held_labels)
    return Probe(fitted(standardise(test_features)), None, strength, chosen, len(labels))


def probe(
    train: EmbeddedSet,
    validation: EmbeddedSet,
    test: EmbeddedSet,
    tasks: Sequence[LabelTask],
    *,
    policy: UncertaintyPolicy = "ignore",
    seed: int = 0,
    fraction: float = 1.0,
) -> list[ScoredLabel]:
    """A probe per task on the pre-projection features of its modality, scored on the test rows that state the label."""
    train, validation, test = (settled(part, tasks, policy) for part in (train, validation, test))

    def scorer(task: LabelTask) -> Callable[[EmbeddedSet], Float64 | str]:
        def score(rows: EmbeddedSet) -> Float64 | str:
            for name, part in (("training", train), ("test", rows)):
                if not part.has_features(task.modality).any():
                    return f"linear probe: no {name} row has features of modality {task.modality}"
            known = bool(validation.has_features(task.modality).any())
            result = probe_scores(
                train.features(task.modality),
                train.target(task.label, "ignore"),
                rows.features(task.modality),
                validation_features=validation.features(task.modality) if known else None,
                validation_labels=validation.target(task.label, "ignore") if known else None,
                seed=seed,
                fraction=fraction,
            )
            return str(result.reason) if result.scores is None else result.scores

        return score

    with one_blas_thread():
        return [score_task(test, task, "ignore", scorer(task)) for task in tasks]


def _usable(features: NDArray[np.floating], labels: NDArray[np.floating]) -> tuple[Float64, Float64]:
    """The rows with features and a label. Raises DataError where both do not belong together."""
    matrix, target = np.asarray(features, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if matrix.ndim != 2 or target.shape != (len(matrix),):
        raise DataError(f"linear probe: features of shape {matrix.shape} and labels of shape {target.shape}")
    known = ~np.isnan(target) & ~np.isnan(matrix).any(axis=1)
    if not np.isin(target[known], (0.0, 1.0)).all():
        raise DataError(
            "linear probe: labels other than 0, 1 and NaN",
            remedy="apply an uncertainty policy (settle_uncertain) first",
        )
    return matrix[known], target[known]


def _validation(
    features: NDArray[np.floating] | None, labels: NDArray[np.floating] | None, width: int
) -> tuple[Float64, Float64]:
    if features is None or labels is None:
        return np.empty((0, width)), np.empty(0)
    return _usable(features, labels)


def _stratified_rows(labels: Float64, fraction: float, seed: int) -> NDArray[np.intp]:
    """Row numbers, rising: the first ``fraction`` of a seeded shuffle of each class, at least one row."""
    if fraction == 1.0:
        return np.arange(len(labels))
    generator = np.random.default_rng(seed)
    kept = []
    for value in (0.0, 1.0):
        rows = generator.permutation(np.flatnonzero(labels == value))
        kept.append(rows[: max(1, round(fraction * len(rows)))])
    return np.sort(np.concatenate(kept))


def _standardiser(train: Float64) -> Callable[[NDArray[np.floating]], Float64]:
    """Zero mean and unit variance over the training rows; a feature that never varies becomes zero."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    constant = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))

    def standardise(features: NDArray[np.floating]) -> Float64:
        if features.ndim != 2 or features.shape[1] != len(mean):
            raise DataError(f"linear probe: features of shape {features.shape}, trained on {len(mean)} columns")
        result: Float64 = (np.asarray(features, dtype=np.float64) - mean) * scale
        return result

    return standardise


def _best_fit(
    features: Float64, labels: Float64, strengths: Sequence[float], held_features: Float64, held_labels: Float64
) -> tuple[Callable[[Float64], Float64], float]:
    """The fit with the highest validation AUROC, and its strength; without a choice the only fit."""
    best, best_value = (_fit(features, labels, strengths[0]), strengths[0]), -1.0
    for position, strength in enumerate(strengths):
        fitted = best[0] if position == 0 else _fit(features, labels, strength)
        value = auroc(held_labels, fitted(held_features)).value if len(held_labels) else None
        if value is not None and value > best_value:
            best, best_value = (fitted, strength), value
    return best


def _fit(features: Float64, labels: Float64, strength: float) -> Callable[[Float64], Float64]:
    weight, bias = logistic_regression(features, labels, strength)
    return lambda rows: np.asarray(rows @ weight + bias, dtype=np.float64)
