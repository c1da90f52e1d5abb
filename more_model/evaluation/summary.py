"""AUROC tables: per label, macro, per site, with intervals, and paired differences between arms.

The macro AUROC is the unweighted mean over the labels that have a value. A label with fewer than two positives or
negatives has none, and says why. Macro values of two sites are over different labels when a label has a value at one of
them only: their ``labels`` counts and the support beside every figure say so. A label with fewer than ten rows of
either class is listed under ``low_support``: it has a figure, but carries no ranking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from more_model.errors import DataError
from more_model.evaluation.auroc import Auroc, auroc
from more_model.evaluation.bootstrap import (
    Resamples,
    mean_over_labels,
    percentile_interval,
    replicate_aurocs,
    resample_arms,
)
from more_model.evaluation.embedded import Float64, LabelTask, Mask, ScoredLabel

__all__ = [
    "LOW_SUPPORT",
    "ONE_PATIENT",
    "Arm",
    "ScoredLabel",
    "at_site",
    "compare",
    "compare_means",
    "compare_with_mean",
    "label_names",
    "measured_table",
    "require_tasks_once",
    "summarise",
    "summarise_mean",
]

#: One trained model, scored on every task.
Arm: TypeAlias = Sequence[ScoredLabel]

#: Below this many rows of a class a figure is shown but flagged.
LOW_SUPPORT = 10

#: Resampling one patient yields that patient or nothing: such an interval would be far too narrow.
ONE_PATIENT = "all rows of a class belong to one patient"


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """One task over one or several arms: mean AUROC, its replicates [replicates], and what it stands on.

    ``arms`` counts the arms with a value, and is None where only one arm was asked about.
    """

    task: LabelTask
    result: Auroc
    replicates: Float64
    arms: int | None
    unscored: int
    one_patient_class: bool


def summarise(scored: Arm, *, replicates: int, seed: int) -> dict[str, Any]:
    """The AUROC table of one arm, ready for JSON.

    ``macro_auroc``, ``ci95`` ([low, high] or None), ``labels`` (how many have a value), ``low_support``, ``refused``
    ([{label, reason}]), ``per_label`` ({label: {auroc, ci95, positives, negatives, modality, reason?, unscored?,
    interval_reason?, dropped_replicates}}), ``per_site`` (the same per site, resampling that site's patients only),
    ``replicates`` and ``seed``. ``unscored`` counts rows with a label for which the model gave no score. A label name
    that two modalities share is written ``name (modality)``.

    Raises DataError for a task that occurs twice.
    """
    return summarise_mean([scored], replicates=replicates, seed=seed)


def summarise_mean(arms: Sequence[Arm], *, replicates: int, seed: int) -> dict[str, Any]:
    """Like `summarise` for the mean AUROC of several arms (such as the local models of all sites).

    Per label the mean is over the arms that have a value (``arms`` says how many, where there are several). Raises
    DataError when the arms were not scored on the same rows.
    """
    table = _table(arms, replicates=replicates, seed=seed)
    sites = sorted({site for scored in _flat(arms) for site in scored.site})
    table["per_site"] = {
        site: _table([at_site(arm, site) for arm in arms], replicates=replicates, seed=seed) for site in sites
    }
    return {**table, "replicates": replicates, "seed": seed}


def compare(a: Arm, b: Arm, *, replicates: int, seed: int) -> dict[str, Any]:
    """Macro AUROC of ``a`` minus that of ``b``, paired: same rows, same resamples, labels valid in both.

    ``macro_auroc`` (the difference), ``ci95``, ``paired`` (True), ``labels``, ``low_support``, ``per_label``
    ({label: {auroc, ci95, positives, negatives, modality}}, differences too), ``reason`` where there is no figure.
    Raises DataError when both were not scored on the same rows.
    """
    return compare_with_mean(a, [b], replicates=replicates, seed=seed)


def compare_with_mean(a: Arm, others: Sequence[Arm], *, replicates: int, seed: int) -> dict[str, Any]:
    """Macro AUROC of ``a`` minus the mean over ``others``, paired as in `compare`.

    Per label, the mean is over those of ``others`` that have a value: a site without ECGs has no say on an ECG label.
    """
    return compare_means([a], others, replicates=replicates, seed=seed)


def compare_means(arms: Sequence[Arm], others: Sequence[Arm], *, replicates: int, seed: int) -> dict[str, Any]:
    """The mean macro AUROC over ``arms`` minus that over ``others`` (such as two models, each trained with several
    seeds), paired as in `compare`."""
    resamples = resample_arms([*arms, *others], replicates=replicates, seed=seed)
    mine, theirs = _by_task(arms), _by_task(others)
    differences = []
    for task in mine:
        _require_same_rows([*mine[task], *theirs.get(task, [])])
        ours, rest = _valid(mine[task]), _valid(theirs.get(task, []))
        if ours and rest:
            rows = _scored_by_all([*ours, *rest])
            differences.append(
                _difference(
                    _measure([scored.select(rows) for scored in ours], resamples),
                    _measure([scored.select(rows) for scored in rest], resamples),
                )
            )
    table = _rows_to_table(differences)
    keep = ("macro_auroc", "ci95", "low_support", "per_label", "reason")
    return {
        **{key: table[key] for key in keep if key in table},
        "paired": True,
        "labels": [name for name, row in table["per_label"].items() if row["auroc"] is not None],
    }


def measured_table(scored: Arm, resamples: Resamples) -> dict[str, Any]:
    """The table of `summarise` without ``per_site``, on resamples drawn elsewhere (for a part of their patients)."""
    return _table_of([scored], resamples)


def at_site(arm: Arm, site: str) -> list[ScoredLabel]:
    """The rows of one site, in every task of the arm."""
    return [scored.select(np.array([name == site for name in scored.site], dtype=np.bool_)) for scored in arm]


def _table(arms: Sequence[Arm], *, replicates: int, seed: int) -> dict[str, Any]:
    return _table_of(arms, resample_arms(arms, replicates=replicates, seed=seed))


def _table_of(arms: Sequence[Arm], resamples: Resamples) -> dict[str, Any]:
    return _rows_to_table([_measure(arms_of_task, resamples) for arms_of_task in _by_task(arms).values()])


def _rows_to_table(rows: Sequence[_Measured]) -> dict[str, Any]:
    names = label_names([row.task for row in rows])
    valued = [row for row in rows if row.result.value is not None]
    table: dict[str, Any] = {
        "macro_auroc": None,
        "ci95": None,
        "labels": len(valued),
        "low_support": [names[row.task] for row in valued if _is_low(row.result)],
        "refused": [
            {"label": names[row.task], "reason": row.result.reason} for row in rows if row.result.value is None
        ],
        "per_label": {names[row.task]: _row(row) for row in rows},
    }
    if not valued:
        table["reason"] = "no label has enough positives and negatives"
        return table
    table["macro_auroc"] = float(np.mean([row.result.value for row in valued]))
    if all(row.one_patient_class for row in valued):
        table["interval_reason"] = ONE_PATIENT
    else:
        table["ci95"] = _interval(mean_over_labels(np.stack([row.replicates for row in valued])))
    return table


def _row(row: _Measured) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "auroc": row.result.value,
        "ci95": None,
        "positives": row.result.positives,
        "negatives": row.result.negatives,
        "modality": row.task.modality,
    }
    if row.unscored:
        entry["unscored"] = row.unscored
    if row.arms is not None:
        entry["arms"] = row.arms
    if row.result.value is None:
        return {**entry, "reason": row.result.reason}
    entry["dropped_replicates"] = int(np.isnan(row.replicates).sum())
    if row.one_patient_class:
        return {**entry, "interval_reason": ONE_PATIENT}
    return {**entry, "ci95": _interval(row.replicates)}


def _measure(arms: Sequence[ScoredLabel], resamples: Resamples) -> _Measured:
    """The mean AUROC over the arms of one task that have a value, and its replicates."""
    _require_same_rows(arms)
    valid = _valid(arms)
    first = valid[0] if valid else arms[0]
    results = [auroc(scored.y, scored.score) for scored in valid]
    own = auroc(first.y, first.score)
    unscored = max(int((~np.isnan(scored.y) & np.isnan(scored.score)).sum()) for scored in arms)
    counted = len(valid) if len(arms) > 1 else None
    if not valid:
        stated = first.y[~np.isnan(first.y)]
        support = int((stated == 1.0).sum()), int((stated == 0.0).sum())
        reason = first.reason or _why_refused(own, unscored)
        none = np.full(resamples.replicates, np.nan)
        return _Measured(first.task, Auroc(None, *support, reason), none, counted, unscored, False)
    mean = float(np.mean([result.value for result in results]))
    replicates = mean_over_labels(np.stack([replicate_aurocs(scored, resamples) for scored in valid]))
    result = Auroc(mean, own.positives, own.negatives)
    return _Measured(first.task, result, replicates, counted, unscored, _has_one_patient_class(first))


def _why_refused(result: Auroc, unscored: int) -> str | None:
    if not unscored:
        return result.reason
    return f"{result.reason}; {unscored} rows with a label got no score"


def _difference(a: _Measured, b: _Measured) -> _Measured:
    if a.result.value is None or b.result.value is None:
        none = Auroc(None, a.result.positives, a.result.negatives, a.result.reason or b.result.reason)
        return _Measured(a.task, none, np.full(len(a.replicates), np.nan), b.arms, 0, False)
    value = Auroc(a.result.value - b.result.value, a.result.positives, a.result.negatives)
    return _Measured(a.task, value, a.replicates - b.replicates, b.arms, 0, a.one_patient_class)


def _valid(arms: Iterable[ScoredLabel]) -> list[ScoredLabel]:
    return [scored for scored in arms if scored.reason is None and auroc(scored.y, scored.score).value is not None]


def _scored_by_all(arms: Sequence[ScoredLabel]) -> Mask:
    scores = np.stack([scored.score for scored in arms])
    complete: Mask = np.logical_not(np.isnan(scores).any(axis=0), dtype=np.bool_)
    return complete


def _require_same_rows(arms: Sequence[ScoredLabel]) -> None:
    first = arms[0]
    for other in arms[1:]:
        same = (
            list(first.patient) == list(other.patient)
            and list(first.site) == list(other.site)
            and np.array_equal(first.y, other.y, equal_nan=True)
        )
        if not same:
            raise DataError(
                f"{first.task.label} ({first.task.modality}): the arms were not scored on the same rows",
                remedy="score every arm on one and the same test set, in the same order",
                avoid="compare figures of different test sets as if they were paired",
            )


def _has_one_patient_class(scored: ScoredLabel) -> bool:
    known = ~np.isnan(scored.y) & ~np.isnan(scored.score)
    for value in (0.0, 1.0):
        rows = np.flatnonzero(known & (scored.y == value))
        if len({(scored.site[i], scored.patient[i]) for i in rows.tolist()}) < 2:
            return True
    return False


def _is_low(result: Auroc) -> bool:
    return min(result.positives, result.negatives) < LOW_SUPPORT


def _interval(replicates: Float64) -> list[float] | None:
    interval = percentile_interval(replicates)
    return None if interval is None else list(interval)


def _by_task(arms: Sequence[Arm]) -> dict[LabelTask, list[ScoredLabel]]:
    by_task: dict[LabelTask, list[ScoredLabel]] = {}
    for arm in arms:
        require_tasks_once(arm)
        for scored in arm:
            by_task.setdefault(scored.task, []).append(scored)
    return by_task


def require_tasks_once(arm: Arm) -> None:
    """Raises DataError where a task occurs twice."""
    twice = [task.label for task, count in Counter(scored.task for scored in arm).items() if count > 1]
    if twice:
        raise DataError(f"tasks scored twice in one arm: {', '.join(twice)}")


def label_names(tasks: Sequence[LabelTask]) -> dict[LabelTask, str]:
    """How tables write each task: its label, with the modality behind it where two tasks share the label."""
    uses = Counter(task.label for task in tasks)
    return {task: task.label if uses[task.label] == 1 else f"{task.label} ({task.modality})" for task in tasks}


def _flat(arms: Sequence[Arm]) -> Iterable[ScoredLabel]:
    return (scored for arm in arms for scored in arm)
