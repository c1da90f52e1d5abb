"""From evidence to probabilities: a curve for every finding and every selection of parts, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from more_model.assess.evidence import Evidence, Patients
from more_model.assess.parts import SELECTIONS, key
from more_model.evaluation.calibration import (
    Calibrator,
    brier,
    calibration_refusal,
    error_floor,
    expected_calibration_error,
    fit_calibrator,
)
from more_model.evaluation.embedded import Float64, LabelTask, ScoredLabel
from more_model.evaluation.summary import label_names, summarise

#: Two-sided 95 % of the normal distribution.
_Z95 = 1.96
WRONG_WAY = "on validation patients a higher score goes with fewer cases"


class Calibrated(BaseModel):
    """A logistic curve over the evidence, and how well it does on the validation patients it was fitted on.

    ``covariance`` of slope and intercept: (slope, slope), (slope, intercept), (intercept, intercept). ``skill`` is that
    of the Brier score against always saying the prevalence; ``calibration_error`` is an ECE and
    ``calibration_error_by_chance`` what perfect probabilities would show of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float
    intercept: float
    covariance: tuple[float, float, float]
    positives: int
    negatives: int
    auroc: float | None
    auroc_ci95: tuple[float, float] | None
    skill: float | None
    calibration_error: float
    calibration_error_by_chance: float

    @property
    def informative(self) -> bool:
        """Whether the interval of the AUROC lies above one half: otherwise the parts may say nothing of the finding."""
        return self.auroc_ci95 is not None and self.auroc_ci95[0] > 0.5

    def probability(self, logit: float) -> tuple[float, float, float]:
        """The probability of one evidence ``logit``, and its 95 % interval from the uncertainty of the curve (Wald, on
        the scale of the logit); what the regression's own weights are uncertain by is not in it."""
        curve = Calibrator(self.slope, self.intercept, self.positives + self.negatives)
        slope, both, intercept = self.covariance
        error = math.sqrt(max(0.0, slope * logit**2 + 2 * both * logit + intercept))
        middle, shift = float(curve.probability(logit)), self.slope * logit + self.intercept
        ends = [float(Calibrator(1.0, 0.0, 0).probability(shift + sign * _Z95 * error)) for sign in (-1, 1)]
        return middle, ends[0], ends[1]


class Calibrations(BaseModel):
    """Of one finding: a curve for every selection of parts (`more_model.assess.parts.key`) that has one, and the reason
    for every other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    curves: dict[str, Calibrated]
    refused: dict[str, str]


def calibrate(
    evidence: Evidence, validation: Patients, tasks: Sequence[LabelTask], *, replicates: int, seed: int
) -> tuple[dict[LabelTask, Calibrations], dict[str, dict[str, Any]]]:
    """Fits every curve on ``validation``.

    Also gives, for each selection, the macro AUROC with its interval over all findings (`summarise`).
    """
    curves: dict[LabelTask, dict[str, Calibrated]] = {task: {} for task in tasks}
    refused: dict[LabelTask, dict[str, str]] = {task: {} for task in tasks}
    tables = {}
    names = label_names(tasks)
    for chosen in SELECTIONS:
        scored = evidence.scores(validation, tasks, chosen)
        table = summarise(scored, replicates=replicates, seed=seed)
        tables[key(chosen)] = {name: table.get(name) for name in ("macro_auroc", "ci95", "labels")}
        for one in scored:
            found = _calibrated(one, table["per_label"][names[one.task]])
            if isinstance(found, str):
                refused[one.task][key(chosen)] = found
            else:
                curves[one.task][key(chosen)] = found
    return {task: Calibrations(curves=curves[task], refused=refused[task]) for task in tasks}, tables


def _calibrated(scored: ScoredLabel, figures: Mapping[str, Any]) -> Calibrated | str:
    """The curve of one finding from one selection, or why there is none."""
    reason = scored.reason or calibration_refusal(scored.y, scored.score)
    if reason is not None:
        return reason
    curve = fit_calibrator(scored.y, scored.score)
    if curve.slope <= 0:
        return WRONG_WAY
    probability = curve.probability(scored.score)
    return Calibrated(
        slope=curve.slope,
        intercept=curve.intercept,
        covariance=_covariance(scored.score, probability),
        positives=int((scored.y == 1.0).sum()),
        negatives=int((scored.y == 0.0).sum()),
        auroc=figures["auroc"],
        auroc_ci95=figures["ci95"],
        skill=brier(scored.y, probability).skill,
        calibration_error=expected_calibration_error(scored.y, probability, kind="mass"),
        calibration_error_by_chance=error_floor(probability, kind="mass"),
    )


def _covariance(score: Float64, probability: Float64) -> tuple[float, float, float]:
    """The inverse of the Fisher information of slope and intercept; rows are taken as independent."""
    weight = probability * (1.0 - probability)
    columns = np.stack([score, np.ones(len(score))])
    inverse = np.linalg.pinv(columns * weight @ columns.T)
    return float(inverse[0, 0]), float(inverse[0, 1]), float(inverse[1, 1])
