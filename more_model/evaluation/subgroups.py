"""The same AUROC table for parts of the patients: by sex, age band, view and site.

Which rows are in which part comes from ``ScoredLabel.attributes`` and ``site``; a fact that is not known has a part of
its own, which is shown but carries no comparison. A part is compared with all other rows: on the labels that both have
a value for, on the same draw of patients as everything else, so a patient with rows on both sides is drawn for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from more_model.errors import DataError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.bootstrap import (
    Resamples,
    mean_over_labels,
    percentile_interval,
    replicate_aurocs,
    resample_arms,
)
from more_model.evaluation.embedded import Float64, Mask, ScoredLabel
from more_model.evaluation.summary import label_names, measured_table, require_tasks_once

#: What patients are divided by, in the order of the tables.
DIVISIONS = ("sex", "age", "view", "site")
UNKNOWN = "unknown"

#: A part of fewer patients is refused: its figures would say more about these patients than about the model.
MINIMUM_PATIENTS = 10

_SEXES = {"f": "female", "female": "female", "w": "female", "m": "male", "male": "male"}
_BANDS = ((40.0, "<40"), (60.0, "40-59"), (80.0, "60-79"), (math.inf, "80+"))


def age_band(age: str) -> str:
    """``<40``, ``40-59``, ``60-79``, ``80+`` for an age in years; ``unknown`` for anything that is none."""
    try:
        years = float(age)
    except ValueError:
        return UNKNOWN
    if not 0.0 <= years < math.inf:
        return UNKNOWN
    return next(name for limit, name in _BANDS if years < limit)


def part_of(scored: ScoredLabel, division: str) -> list[str]:
    """The part that each row of ``scored`` belongs to. Raises DataError for a division that is not in `DIVISIONS`."""
    if division not in _PARTS:
        raise DataError(f"no division of patients is called {division!r}; there are {', '.join(DIVISIONS)}")
    values = scored.site if division == "site" else scored.attributes.get(division, [""] * len(scored.y))
    return [_PARTS[division](value.strip()) for value in values]


def subgroup_tables(
    scored: Sequence[ScoredLabel], by: Sequence[str] = DIVISIONS, *, replicates: int, seed: int
) -> dict[str, Any]:
    """AUROC per part of the patients, ready for JSON.

    ``divisions``: {division: {part: {rows, patients, macro_auroc, ci95, labels, low_support, refused, per_label,
    difference}}}, where the table is that of `summarise` and ``difference`` ({macro_auroc, ci95, labels, per_label:
    {label: {auroc, ci95}}} or {reason}) is this part minus all other rows. A part of fewer than ten patients has
    ``reason`` instead. ``rows`` and ``patients`` are those of any label. A view divides the labels of X-rays only.
    ``largest_gap``: {division, part, macro_auroc, ci95, compared, sentence}, or None where nothing was compared.

    Raises DataError for a division that is not in `DIVISIONS` and for a task that occurs twice.
    """
    require_tasks_once(scored)
    resamples = resample_arms([scored], replicates=replicates, seed=seed)
    divisions = {division: _division(scored, division, resamples) for division in by}
    return {
        "divisions": divisions,
        "largest_gap": _largest_gap(divisions),
        "replicates": replicates,
        "seed": seed,
    }


def _division(scored: Sequence[ScoredLabel], division: str, resamples: Resamples) -> dict[str, Any]:
    asked = [item for item in scored if division != "view" or item.task.modality == "xray"]
    parts = [np.array(part_of(item, division), dtype=np.str_) for item in asked]
    names = sorted({str(name) for part in parts for name in part}, key=lambda name: (_place(name), name))
    table: dict[str, Any] = {}
    for name in names:
        inside = [np.asarray(part == name, dtype=np.bool_) for part in parts]
        table[name] = _part(asked, inside, resamples, compared=name != UNKNOWN)
    return table


def _part(
    scored: Sequence[ScoredLabel], inside: Sequence[Mask], resamples: Resamples, *, compared: bool
) -> dict[str, Any]:
    own = [item.select(rows) for item, rows in zip(scored, inside, strict=True)]
    rest = [item.select(~rows) for item, rows in zip(scored, inside, strict=True)]
    patients, others = _patients(own), _patients(rest)
    entry: dict[str, Any] = {"rows": max(len(item.y) for item in own), "patients": patients}
    if patients < MINIMUM_PATIENTS:
        return entry | {"reason": f"{patients} patients, at least {MINIMUM_PATIENTS} are needed"}
    entry |= measured_table(own, resamples)
    if not compared:
        return entry | {"difference": {"reason": "the fact is not known: not a group of patients"}}
    if others < MINIMUM_PATIENTS:
        return entry | {"difference": {"reason": f"{others} other patients, at least {MINIMUM_PATIENTS} are needed"}}
    return entry | {"difference": _difference(own, rest, resamples)}


def _difference(own: Sequence[ScoredLabel], rest: Sequence[ScoredLabel], resamples: Resamples) -> dict[str, Any]:
    """AUROC of ``own`` minus that of ``rest``, on the labels with a value in both."""
    names = label_names([item.task for item in own])
    values: dict[str, tuple[float, Float64]] = {}
    for mine, theirs in zip(own, rest, strict=True):
        first, second = auroc(mine.y, mine.score).value, auroc(theirs.y, theirs.score).value
        if mine.reason is None and first is not None and second is not None:
            replicates = replicate_aurocs(mine, resamples) - replicate_aurocs(theirs, resamples)
            values[names[mine.task]] = first - second, replicates
    if not values:
        return {"reason": "no label has enough positives and negatives on both sides"}
    drawn = mean_over_labels(np.stack([replicates for _, replicates in values.values()]))
    return {
        "macro_auroc": float(np.mean([value for value, _ in values.values()])),
        "ci95": _interval(drawn),
        "labels": len(values),
        "per_label": {
            name: {"auroc": value, "ci95": _interval(replicates)} for name, (value, replicates) in values.items()
        },
    }


def _largest_gap(divisions: Mapping[str, Any]) -> dict[str, Any] | None:
    gaps = [
        (division, name, part["difference"])
        for division, parts in divisions.items()
        for name, part in parts.items()
        if "macro_auroc" in part.get("difference", {})
    ]
    if not gaps:
        return None
    division, name, gap = max(gaps, key=lambda found: abs(found[2]["macro_auroc"]))
    value, interval = gap["macro_auroc"], gap["ci95"]
    spread = "no interval" if interval is None else f"95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}"
    return {
        "division": division,
        "part": name,
        "macro_auroc": value,
        "ci95": interval,
        "compared": len(gaps),
        "sentence": (
            f"The largest gap is that of {division} {name}: macro AUROC {value:+.3f} against all other rows ({spread})."
            f" It is the largest of {len(gaps)} comparisons, so chance alone makes it look large."
        ),
    }


def _patients(scored: Sequence[ScoredLabel]) -> int:
    return len({unit for item in scored for unit in zip(item.site, item.patient, strict=True)})


def _interval(replicates: Float64) -> list[float] | None:
    found = percentile_interval(replicates)
    return None if found is None else list(found)


def _place(name: str) -> int:
    """Age bands from young to old, what is not known last."""
    order = [band for _, band in _BANDS]
    return len(order) + 1 if name == UNKNOWN else order.index(name) if name in order else 0


_PARTS: Mapping[str, Callable[[str], str]] = {
    "sex": lambda value: _SEXES.get(value.lower(), UNKNOWN),
    "age": age_band,
    "view": lambda value: value.upper() or UNKNOWN,
    "site": lambda value: value or UNKNOWN,
}
