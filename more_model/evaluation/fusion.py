"""Late fusion of X-ray and ECG: one logistic regression over both embeddings, taught to do without either.

Modality dropout, exactly: instead of hiding one half of a row by chance in every epoch, each row that has both enters
the fit three times, whole with weight 1 - p and with either half hidden with weight p / 2. That is the expectation of
the drawn form; it needs no epochs and no seed, and the fit is convex. A hidden or missing half is zero after
standardisation (the mean of training) and sets an indicator of its own, which shifts the base rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from more_model.errors import DataError
from more_model.evaluation.auroc import refusal
from more_model.evaluation.bootstrap import Unit
from more_model.evaluation.embedded import (
    EmbeddedSet,
    Float64,
    LabelTask,
    Mask,
    ScoredLabel,
    UncertaintyPolicy,
)
from more_model.evaluation.fitted_fusion import FittedFusion, Scaling, fusion_columns
from more_model.evaluation.label_share import draw_share, refusals, require_disjoint
from more_model.evaluation.linear_probe import DEFAULT_GRID, FALLBACK_STRENGTH
from more_model.evaluation.regression import logistic_regression, one_blas_thread
from more_model.evaluation.uncertainty import settled


class FusionSettings(BaseModel):
    """``modality_dropout``: how much of the weight of a row with both halves its copies with one half hidden get.
    ``strengths``: inverse regularisation strengths, of which the validation patients choose by log loss; without both
    classes among them the linear probe's fallback is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality_dropout: float = Field(default=0.3, ge=0, lt=1)
    strengths: tuple[float, ...] = Field(default=DEFAULT_GRID, min_length=1)


@dataclass(frozen=True, slots=True, eq=False)
class FusionResult:
    """Scores of the test set. ``both``, ``xray_only`` and ``ecg_only`` are over the rows that have both, so that they
    compare; ``as_available`` is over all rows, each judged from what it has, and ``validation`` likewise over the
    validation set: to calibrate by, never to report as a result."""

    fitted: FittedFusion
    both: list[ScoredLabel]
    xray_only: list[ScoredLabel]
    ecg_only: list[ScoredLabel]
    as_available: list[ScoredLabel]
    validation: list[ScoredLabel]


def fuse(
    train: EmbeddedSet,
    validation: EmbeddedSet,
    test: EmbeddedSet,
    tasks: Sequence[LabelTask],
    settings: FusionSettings,
    *,
    policy: UncertaintyPolicy = "ignore",
    seed: int = 0,
    fraction: float = 1.0,
) -> FusionResult:
    """Fit on ``train``, choose the regularisation on ``validation``, score ``test``.

    A label is learnt from both halves, whichever modality its task names. ``fraction`` in (0, 1] keeps that share of
    the training patients, drawn by ``seed`` (`draw_share`); nothing else is drawn.

    Raises:
        DataError: no task, a patient in two of the sets, or a fraction outside (0, 1].
    """
    require_disjoint({"training": _units(train), "validation": _units(validation), "test": _units(test)})
    fitted = fit_fusion(train, validation, tasks, settings, policy=policy, seed=seed, fraction=fraction)
    validation, test = (settled(part, tasks, policy) for part in (validation, test))
    complete = test.select(test.has("xray") & test.has("ecg"))
    return FusionResult(
        fitted,
        both=fitted.scores(complete, tasks),
        xray_only=fitted.scores(complete, tasks, without_ecg=True),
        ecg_only=fitted.scores(complete, tasks, without_xray=True),
        as_available=fitted.scores(test, tasks),
        validation=fitted.scores(validation, tasks),
    )


def fit_fusion(
    train: EmbeddedSet,
    validation: EmbeddedSet,
    tasks: Sequence[LabelTask],
    settings: FusionSettings,
    *,
    policy: UncertaintyPolicy = "ignore",
    seed: int = 0,
    fraction: float = 1.0,
) -> FittedFusion:
    """What `fuse` fits, where there is no test set; the same arguments, and the same errors for two sets."""
    if not tasks:
        raise DataError("fusion: there is no task to train for", remedy="name labels that the data states")
    require_disjoint({"training": _units(train), "validation": _units(validation)})
    rows, target = _labelled(settled(train, tasks, policy), tasks)
    keep = draw_share(target, _units(rows), fraction, seed)
    rows, target = rows.select(keep), target[keep]
    held, held_target = _labelled(settled(validation, tasks, policy), tasks)
    scaling = _scaling_of(rows.xray), _scaling_of(rows.ecg)
    copies, held_copies = (_copies(scaling, part, settings.modality_dropout) for part in (rows, held))
    refused = refusals(target, tasks, "fusion")
    learnt = {task: place for place, task in enumerate(tasks) if task not in refused}
    with one_blas_thread():
        fits = [
            _best_fit(
                copies.labelled(target[:, place]), held_copies.labelled(held_target[:, place]), settings.strengths
            )
            for place in learnt.values()
        ]
    return FittedFusion(
        tasks=tuple(learnt),
        scaling=scaling,
        weight=np.array([fit.weight for fit in fits]).reshape(len(fits), copies.columns.shape[1]),
        bias=np.array([fit.bias for fit in fits], dtype=np.float64),
        strengths=np.array([fit.strength for fit in fits], dtype=np.float64),
        modality_dropout=settings.modality_dropout,
        refused=refused,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Weighted:
    """Rows of a regression: ``columns`` [m, width], ``y`` [m] of 0 and 1, ``share`` [m], the weight of each."""

    columns: Float64
    y: Float64
    share: Float64


@dataclass(frozen=True, slots=True, eq=False)
class _Copies:
    """The rows of a set as they enter a fit: ``columns`` [m, width], ``share`` [m], and ``source`` [m], the row of the
    set that each is made of."""

    columns: Float64
    share: Float64
    source: NDArray[np.intp]

    def labelled(self, target: Float64) -> _Weighted:
        """Those whose row states a label; ``target`` [rows of the set] of 0, 1 and NaN."""
        y = target[self.source]
        stated = ~np.isnan(y)
        return _Weighted(self.columns[stated], y[stated], self.share[stated])


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    weight: Float64
    bias: float
    strength: float

    def loss(self, rows: _Weighted) -> float:
        """Weighted mean log loss."""
        margin = (2 * rows.y - 1) * (rows.columns @ self.weight + self.bias)
        return float(np.average(np.logaddexp(0.0, -margin), weights=rows.share))


def _labelled(part: EmbeddedSet, tasks: Sequence[LabelTask]) -> tuple[EmbeddedSet, Float64]:
    """The rows with at least one half and at least one label of ``tasks``, and their labels [n, tasks]."""
    target = np.stack([part.target(task.label, "ignore") for task in tasks], axis=1)
    keep: Mask = (part.has("xray") | part.has("ecg")) & ~np.isnan(target).all(axis=1)
    return part.select(keep), target[keep]


def _copies(scaling: tuple[Scaling, Scaling], part: EmbeddedSet, dropout: float) -> _Copies:
    whole, _ = fusion_columns(scaling, part.xray, part.ecg)
    both = np.flatnonzero(part.has("xray") & part.has("ecg"))
    share = np.ones(len(part))
    share[both] = 1.0 - dropout
    if dropout == 0.0:
        return _Copies(whole, share, np.arange(len(part)))
    xray, ecg = part.xray[both], part.ecg[both]
    from_xray, _ = fusion_columns(scaling, xray, np.full_like(ecg, np.nan))
    from_ecg, _ = fusion_columns(scaling, np.full_like(xray, np.nan), ecg)
    halves = np.full(2 * len(both), dropout / 2)
    return _Copies(
        np.concatenate([whole, from_xray, from_ecg]),
        np.concatenate([share, halves]),
        np.concatenate([np.arange(len(part)), both, both]),
    )


def _scaling_of(part: NDArray[np.floating]) -> Scaling:
    present = np.asarray(part[~np.isnan(part).any(axis=1)], dtype=np.float64)
    if len(present) == 0:
        return Scaling(np.zeros(part.shape[1]), np.zeros(part.shape[1]))
    mean, deviation = present.mean(axis=0), present.std(axis=0)
    constant = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
    return Scaling(mean, np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation)))


def _best_fit(train: _Weighted, held: _Weighted, strengths: Sequence[float]) -> _Fit:
    """The fit with the lowest log loss on ``held``; a tie goes to the earlier strength."""
    if refusal(int((held.y == 1.0).sum()), int((held.y == 0.0).sum())) is not None:
        return _fit(train, FALLBACK_STRENGTH)
    fits = [_fit(train, strength) for strength in strengths]
    return min(fits, key=lambda fit: fit.loss(held))


def _fit(rows: _Weighted, strength: float) -> _Fit:
    return _Fit(*logistic_regression(rows.columns, rows.y, strength, share=rows.share), strength)


def _units(part: EmbeddedSet) -> list[Unit]:
    return list(zip(part.site, part.patient, strict=True))
