"""The result of a reader study: each reader and their mean with and without aid, agreement, time; ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from more_model.evaluation.embedded import Float64
from more_model.reader_study.agreement import Weighting, answer_counts, cohen_kappa, fleiss_kappa
from more_model.reader_study.answers import Answers
from more_model.reader_study.manifest import SCALES, Key, Manifest
from more_model.reader_study.measured import (
    Draws,
    Measured,
    average,
    difference,
    draw,
    measure_auroc,
    measure_share,
    reader_mean,
)

Condition = Literal["unaided", "aided"]
CONDITIONS: tuple[Condition, Condition] = ("unaided", "aided")
FIGURES = ("auroc", "sensitivity", "specificity")

#: Below this many cases of a class a figure is shown but carries no conclusion.
LOW_SUPPORT = 10

_DAY_S = 86400.0
Figures = dict[str, Measured]


@dataclass(frozen=True, slots=True, eq=False)
class ReadTable:
    """All answers as arrays. ``ratings`` maps each label to float64 [2, readers, cases] (unaided, aided; NaN where not
    read or not asked), ``seconds`` is [2, readers, cases], ``truth`` maps each label to [cases] of 1, 0, NaN (not
    asked), ``model`` likewise to the model's probability."""

    readers: list[str]
    cases: list[str]
    ratings: Mapping[str, Float64]
    seconds: Float64
    truth: Mapping[str, Float64]
    model: Mapping[str, Float64]


def analyse(
    manifest: Manifest, key: Key, answers: Sequence[Answers], *, replicates: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Everything that the study says, ready for JSON.

    ``labels`` ({label: {positives, negatives, model, per_reader, mean, agreement}}), ``macro`` (the mean over labels),
    ``time`` (seconds per case), ``comments``, ``cautions``. ``per_reader`` and ``mean`` hold ``unaided``, ``aided`` and
    ``difference`` (aided minus unaided) of ``auroc``, ``sensitivity`` and ``specificity`` (an answer of ``threshold``
    or more says "present"). In a crossover study differences are over the cases that a reader read both ways.
    """
    table = read_table(manifest, key, answers)
    units = [key.cases[case].unit for case in table.cases]
    draws = draw(units, len(table.readers), replicates=replicates, seed=seed)
    figures = {label: _figures(table, label, manifest, draws) for label in manifest.labels}
    return {
        "schema": 1,
        "study": manifest.study,
        "title": manifest.title,
        "design": manifest.design,
        "scale": manifest.scale,
        "threshold": manifest.threshold,
        "synthetic": manifest.synthetic,
        "readers": table.readers,
        "planned_readers": len(manifest.orders),
        "cases": len(table.cases),
        "patients": len(set(units)),
        "readings": sum(len(one.readings) for one in answers),
        "labels": {label: _label(table, label, manifest, figures[label], draws) for label in manifest.labels},
        "macro": _with_means(table.readers, [_macro(of_label) for of_label in _by_reader(figures)], draws),
        "time": _time(table, manifest, draws),
        "quality_limited": sum(reading.quality_limited for one in answers for reading in one.readings),
        "comments": _comments(answers),
        "cautions": _cautions(manifest, table, answers),
        "replicates": replicates,
        "seed": seed,
    }


def read_table(manifest: Manifest, key: Key, answers: Sequence[Answers]) -> ReadTable:
    """The answers as arrays, cases in the order of their codes."""
    cases = sorted(manifest.cases)
    column = {case: number for number, case in enumerate(cases)}
    shape = (2, len(answers), len(cases))
    ratings = {label: np.full(shape, np.nan) for label in manifest.labels}
    seconds = np.full(shape, np.nan)
    for row, one in enumerate(answers):
        for reading in one.readings:
            place = int(reading.aided), row, column[reading.case]
            seconds[place] = reading.visible_ms / 1000
            for label, value in reading.ratings.items():
                ratings[label][place] = value
    return ReadTable(
        readers=[one.reader for one in answers],
        cases=cases,
        ratings=ratings,
        seconds=seconds,
        truth={label: np.array([key.cases[c].truth.get(label, np.nan) for c in cases]) for label in manifest.labels},
        model={
            label: np.array([key.cases[c].probability.get(label, np.nan) for c in cases]) for label in manifest.labels
        },
    )


def _figures(table: ReadTable, label: str, manifest: Manifest, draws: Draws) -> list[dict[str, Figures]]:
    """Per reader: unaided, aided and their difference."""
    truth = table.truth[label]
    result = []
    for row in range(len(table.readers)):
        unaided, aided = table.ratings[label][:, row]
        conditions = {
            "unaided": _of_answers(truth, unaided, manifest.threshold, draws),
            "aided": _of_answers(truth, aided, manifest.threshold, draws),
        }
        before, after = conditions["unaided"], conditions["aided"]
        both = ~np.isnan(unaided) & ~np.isnan(aided)
        if manifest.design == "crossover" and not np.array_equal(np.isnan(unaided), np.isnan(aided)):
            before = _of_answers(truth, np.where(both, unaided, np.nan), manifest.threshold, draws)
            after = _of_answers(truth, np.where(both, aided, np.nan), manifest.threshold, draws)
        result.append({**conditions, "difference": {name: difference(after[name], before[name]) for name in FIGURES}})
    return result


def _of_answers(truth: Float64, ratings: Float64, threshold: int, draws: Draws) -> Figures:
    calls = np.where(np.isnan(ratings), np.nan, ratings >= threshold)
    return {
        "auroc": measure_auroc(truth, ratings, draws),
        "sensitivity": measure_share(calls, truth == 1, draws, empty="no case with the finding was read"),
        "specificity": measure_share(1 - calls, truth == 0, draws, empty="no case without the finding was read"),
    }


def _label(
    table: ReadTable, label: str, manifest: Manifest, figures: Sequence[dict[str, Figures]], draws: Draws
) -> dict[str, Any]:
    truth, probability = table.truth[label], table.model[label]
    has_model = bool((~np.isnan(probability)).any())
    return {
        "positives": int((truth == 1).sum()),
        "negatives": int((truth == 0).sum()),
        "model": {"auroc": measure_auroc(truth, probability, draws).as_json()} if has_model else None,
        **_with_means(table.readers, figures, draws),
        "agreement": {
            condition: _agreement(table.ratings[label][row], table.readers, manifest, draws)
            for row, condition in enumerate(CONDITIONS)
        },
    }


def _with_means(readers: Sequence[str], of_readers: Sequence[dict[str, Figures]], draws: Draws) -> dict[str, Any]:
    """``per_reader`` and ``mean``, ready for JSON."""
    parts = list(of_readers[0])
    return {
        "per_reader": {
            reader: {part: {name: one.as_json() for name, one in figures[part].items()} for part in parts}
            for reader, figures in zip(readers, of_readers, strict=True)
        },
        "mean": {
            part: {
                name: reader_mean([figures[part][name] for figures in of_readers], draws)
                for name in of_readers[0][part]
            }
            for part in parts
        },
    }


def _by_reader(figures: Mapping[str, list[dict[str, Figures]]]) -> list[list[dict[str, Figures]]]:
    return [list(of_labels) for of_labels in zip(*figures.values(), strict=True)]


def _macro(of_labels: Sequence[dict[str, Figures]]) -> dict[str, Figures]:
    return {
        part: {name: average([figures[part][name] for figures in of_labels]) for name in FIGURES}
        for part in of_labels[0]
    }


def _agreement(ratings: Float64, readers: Sequence[str], manifest: Manifest, draws: Draws) -> dict[str, Any]:
    """Kappas of ``ratings`` [readers, cases]: of the calls (present or not), and of the answers on their scale."""
    scale = SCALES[manifest.scale]
    calls = np.where(np.isnan(ratings), np.nan, ratings >= manifest.threshold)
    steps = np.where(np.isnan(ratings), np.nan, np.searchsorted(scale, ratings))
    weights = draws.case_weights

    def cohen(answers: Float64, a: int, b: int, categories: int, weighting: Weighting = "none") -> dict[str, Any]:
        kappa = cohen_kappa(answers[a], answers[b], categories, weighting=weighting, case_weights=weights)
        return kappa.as_json()

    return {
        "fleiss_calls": fleiss_kappa(answer_counts(calls, 2), case_weights=weights).as_json(),
        "fleiss_answers": fleiss_kappa(answer_counts(steps, len(scale)), case_weights=weights).as_json(),
        "pairs": [
            {
                "readers": [readers[a], readers[b]],
                "calls": cohen(calls, a, b, 2),
                "answers_linear": cohen(steps, a, b, len(scale), "linear"),
                "answers_quadratic": cohen(steps, a, b, len(scale), "quadratic"),
            }
            for a, b in combinations(range(len(readers)), 2)
        ],
    }


def _time(table: ReadTable, manifest: Manifest, draws: Draws) -> dict[str, Any]:
    """Mean seconds per case, with ``medians`` of each reader beside."""
    everything = np.ones(len(table.cases), dtype=np.bool_)
    of_readers: list[dict[str, Figures]] = []
    for row in range(len(table.readers)):
        unaided, aided = table.seconds[:, row]
        parts = [measure_share(one, everything, draws, empty="no case was read") for one in (unaided, aided)]
        both = ~np.isnan(unaided) & ~np.isnan(aided)
        paired = parts
        if manifest.design == "crossover":
            paired = [measure_share(one, both, draws, empty="no case was read both ways") for one in (unaided, aided)]
        of_readers.append(
            {
                "unaided": {"seconds": parts[0]},
                "aided": {"seconds": parts[1]},
                "difference": {"seconds": difference(paired[1], paired[0])},
            }
        )
    medians = {
        reader: {condition: _median(table.seconds[c, row]) for c, condition in enumerate(CONDITIONS)}
        for row, reader in enumerate(table.readers)
    }
    return {**_with_means(table.readers, of_readers, draws), "medians": medians}


def _median(values: Float64) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _comments(answers: Sequence[Answers]) -> list[dict[str, Any]]:
    return [
        {"reader": one.reader, "case": reading.case, "aided": reading.aided, "comment": reading.comment}
        for one in answers
        for reading in one.readings
        if reading.comment
    ]


def _cautions(manifest: Manifest, table: ReadTable, answers: Sequence[Answers]) -> list[str]:
    cautions = []
    for label, truth in table.truth.items():
        least = min(int((truth == 1).sum()), int((truth == 0).sum()))
        if least < LOW_SUPPORT:
            cautions.append(f"{label}: only {least} cases of one class; its figures carry no conclusion.")
    missing = [reader for reader in manifest.orders if reader not in table.readers]
    if missing:
        cautions.append(
            f"No answers of {', '.join(missing)}: the readings are no longer balanced as they were planned."
        )
    for one in answers:
        planned = sum(len(session) for session in manifest.orders[one.reader])
        if len(one.readings) < planned:
            cautions.append(f"{one.reader} answered {len(one.readings)} of {planned} readings.")
        gap = _gap_days(one)
        # A minute of grace: the page rounds when it says from when on a session is open.
        if gap is not None and gap < manifest.washout_days - 60 / _DAY_S:
            cautions.append(
                f"{one.reader} began the second session {gap:.1f} days after the first; "
                f"{manifest.washout_days} were planned."
            )
    return cautions


def _gap_days(answers: Answers) -> float | None:
    first = [reading.saved for reading in answers.readings if reading.session == 1]
    second = [reading.opened for reading in answers.readings if reading.session == 2]
    return (min(second) - max(first)).total_seconds() / _DAY_S if first and second else None
