"""Every figure of one model side by side: ranking, precision, operating points, calibration; per label, macro, micro.

All intervals come from one draw of patients. Macro figures are the unweighted mean over the labels that have one. Micro
figures pool all (row, label) cells: frequent labels and labels with many stated rows count for more, and raw scores of
different labels are compared with each other although they need not share a scale; ``micro_calibrated`` ranks the
calibrated probabilities instead. Calibrators see validation patients alone.

The interval of a calibration error is the mirrored one: the error is biased upwards, so its interval may lie wholly
below it. Read it beside ``ece_floor``, what perfectly calibrated probabilities would show on as many rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from more_model.errors import DataError
from more_model.evaluation.auroc import delong_variance, refusal
from more_model.evaluation.bootstrap import (
    Resamples,
    mean_over_labels,
    percentile_interval,
    resample_arms,
    reverse_percentile_interval,
)
from more_model.evaluation.calibration import Calibrator, calibration_refusal, fit_calibrator
from more_model.evaluation.cells import Cells, Estimate, Figures, figures_of, has_one_patient_class
from more_model.evaluation.embedded import LabelTask, ScoredLabel
from more_model.evaluation.operating_point import OperatingPoint
from more_model.evaluation.summary import LOW_SUPPORT, ONE_PATIENT, label_names, require_tasks_once

#: Figures that every row of the table has, in its order; operating points have a table of their own.
_PLAIN = ("auroc", "auprc", "brier", "brier_skill", "ece", "ece_mass")


def measure(
    scored: Sequence[ScoredLabel], *, validation: Sequence[ScoredLabel] | None = None, replicates: int, seed: int
) -> dict[str, Any]:
    """The metrics table of one model, ready for JSON.

    ``per_label`` is {label: {auroc, ci95, delong_ci95, auprc, auprc_ci95, prevalence, operating_points ({name: {value,
    ci95, threshold, sensitivity, specificity}}), brier, brier_skill, ece (equal width) and ece_mass (equal mass), each
    with ``_ci95``, ece_floor, calibrator, calibration_reason?, positives, negatives, patients, modality, reason?,
    interval_reason?}}. ``macro``, ``micro`` and ``micro_calibrated`` hold the same figures and ``labels``, how many are
    in it. Further ``low_support``, ``refused``, ``replicates``, ``seed``. A figure that cannot be had is None.

    ``validation`` are the scores of the same tasks on validation patients. Raises DataError for a task that occurs
    twice, and for a patient in both: a probability would be judged on the patients it was fitted to.
    """
    require_tasks_once(scored)
    _refuse_shared_patients(scored, validation or ())
    resamples = resample_arms([scored], replicates=replicates, seed=seed)
    names = label_names([item.task for item in scored])
    calibrators = {item.task: _calibrator(item.task, validation) for item in scored}
    cells = {item.task: _cells(item, calibrators[item.task], resamples) for item in scored}
    figures = {task: figures_of(part, resamples) for task, part in cells.items()}
    valued = [task for task, own in figures.items() if own]
    entries = {names[i.task]: _label_entry(i, cells[i.task], figures[i.task], calibrators[i.task]) for i in scored}
    return {
        "per_label": entries,
        "macro": _macro([figures[task] for task in valued], [cells[task] for task in valued]),
        "micro": _micro([cells[item.task] for item in scored if item.reason is None], resamples),
        "micro_calibrated": _micro([p for p in map(_on_probability, cells.values()) if p is not None], resamples),
        "low_support": [
            name
            for name, row in entries.items()
            if row["auroc"] is not None and min(row["positives"], row["negatives"]) < LOW_SUPPORT
        ],
        "refused": [{"label": name, "reason": row["reason"]} for name, row in entries.items() if row["auroc"] is None],
        "replicates": replicates,
        "seed": seed,
    }


def _calibrator(task: LabelTask, validation: Sequence[ScoredLabel] | None) -> Calibrator | str:
    """The calibrator of one task, or the reason why there is none."""
    own = [item for item in validation or () if item.task == task]
    if not own:
        return "no validation patients to calibrate on"
    reason = calibration_refusal(own[0].y, own[0].score)
    return fit_calibrator(own[0].y, own[0].score) if reason is None else reason


def _cells(scored: ScoredLabel, calibrator: Calibrator | str, resamples: Resamples) -> Cells:
    known = ~np.isnan(scored.y) & ~np.isnan(scored.score)
    score = scored.score[known]
    probability = None if isinstance(calibrator, str) else calibrator.probability(score)
    return Cells(scored.y[known], score, probability, resamples.rows(scored.patient, scored.site)[known])


def _on_probability(cells: Cells) -> Cells | None:
    if cells.probability is None:
        return None
    return Cells(cells.y, cells.probability, cells.probability, cells.unit)


def _label_entry(scored: ScoredLabel, cells: Cells, figures: Figures, calibrator: Calibrator | str) -> dict[str, Any]:
    positives = int((cells.y == 1.0).sum())
    support = {
        "positives": positives,
        "negatives": len(cells.y) - positives,
        "patients": len(np.unique(cells.unit)),
        "prevalence": positives / len(cells.y) if len(cells.y) else None,
        "modality": scored.task.modality,
    }
    fitted = calibrator.to_dict() if isinstance(calibrator, Calibrator) else None
    entry = _entry(figures, has_one_patient_class(cells)) | support | {"calibrator": fitted}
    if isinstance(calibrator, str):
        entry["calibration_reason"] = calibrator
    if not figures:
        entry["reason"] = scored.reason or refusal(positives, len(cells.y) - positives)
    variance = delong_variance(cells.y, cells.score)
    if variance is not None and entry["auroc"] is not None:
        reach = 1.959964 * math.sqrt(variance)
        entry["delong_ci95"] = [max(0.0, entry["auroc"] - reach), min(1.0, entry["auroc"] + reach)]
    return entry


def _macro(figures: Sequence[Figures], cells: Sequence[Cells]) -> dict[str, Any]:
    mean: dict[str, Estimate] = {}
    for name in dict.fromkeys(name for own in figures for name in own):
        own = [part[name] for part in figures if name in part]
        replicates = mean_over_labels(np.stack([estimate.replicates for estimate in own]))
        mean[name] = Estimate(float(np.mean([estimate.value for estimate in own])), replicates, own[0].interval)
    one_patient = bool(cells) and all(has_one_patient_class(part) for part in cells)
    calibrated = sum("brier" in own for own in figures)
    return _entry(mean, one_patient) | {"labels": len(figures), "calibrated_labels": calibrated}


def _micro(cells: Sequence[Cells], resamples: Resamples) -> dict[str, Any]:
    """The figures over all cells pooled. Probabilities are judged only where every label has a calibrator."""
    if not cells:
        return _entry({}, one_patient=False) | {"labels": 0, "cells": 0}
    probabilities = [part.probability for part in cells if part.probability is not None]
    pooled = Cells(
        np.concatenate([part.y for part in cells]),
        np.concatenate([part.score for part in cells]),
        np.concatenate(probabilities) if len(probabilities) == len(cells) else None,
        np.concatenate([part.unit for part in cells]),
    )
    entry = _entry(figures_of(pooled, resamples), has_one_patient_class(pooled))
    return entry | {"labels": len(cells), "cells": len(pooled.y)}


def _entry(figures: Figures, one_patient: bool) -> dict[str, Any]:
    """Figures with their intervals; those that are not there are None."""
    interval = partial(_interval, one_patient=one_patient)
    entry: dict[str, Any] = {}
    for name in _PLAIN:
        estimate = figures.get(name)
        entry[name] = None if estimate is None else estimate.value
        entry["ci95" if name == "auroc" else f"{name}_ci95"] = interval(estimate)
    floor = figures.get("ece_floor")
    entry["ece_floor"] = None if floor is None else floor.value
    entry["operating_points"] = {
        name: {"value": estimate.value, "ci95": interval(estimate)} | _point_entry(estimate.point)
        for name, estimate in figures.items()
        if name not in (*_PLAIN, "ece_floor")
    }
    if figures and one_patient:
        entry["interval_reason"] = ONE_PATIENT
    return entry


def _point_entry(point: OperatingPoint | None) -> dict[str, float | None]:
    if point is None:
        return {}
    return {"threshold": point.threshold, "sensitivity": point.sensitivity, "specificity": point.specificity}


def _interval(estimate: Estimate | None, *, one_patient: bool) -> list[float] | None:
    if estimate is None or one_patient:
        return None
    if estimate.interval == "reverse":
        found = reverse_percentile_interval(estimate.value, estimate.replicates)
    else:
        found = percentile_interval(estimate.replicates)
    return None if found is None else list(found)


def _refuse_shared_patients(scored: Sequence[ScoredLabel], validation: Sequence[ScoredLabel]) -> None:
    judged, seen = (
        {unit for item in part for unit in zip(item.site, item.patient, strict=True)} for part in (scored, validation)
    )
    if judged & seen:
        raise DataError(
            f"{len(judged & seen)} patients are both calibrated on and judged",
            remedy="calibrate on the validation split, judge on the test split",
            avoid="report the calibration anyway: it would look better than it is",
        )
