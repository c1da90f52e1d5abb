"""Figures of single readers and their means, with and without aid, all over the same resampled cases.

Two intervals stand beside every mean over readers. With *fixed* readers only cases are resampled: it says what these
readers would do on other cases. With *random* readers the readers are resampled too: it says what other readers would
do, and is wider. With few readers it is still too narrow, because a resample can only hold the readers there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.evaluation.auroc import auroc, weighted_aurocs_by_unit
from more_model.evaluation.bootstrap import Resamples, mean_over_labels, resample_patients
from more_model.evaluation.embedded import Float64
from more_model.reader_study.intervals import interval_or_reason

#: Fewer readers than this stand for no one but themselves.
LEAST_RANDOM_READERS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A figure, or None with the ``reason``, and what it is in every replicate [b] (NaN where it has no value).

    ``one_patient`` is set where all cases of a class are those of one patient: resampling yields that patient or
    nothing, and such an interval would be far too narrow.
    """

    value: float | None
    replicates: Float64
    reason: str | None = None
    one_patient: bool = False

    def as_json(self) -> dict[str, Any]:
        """``value`` and ``ci95``, or the reason why there is none."""
        if self.value is None:
            return {"value": None, "reason": self.reason}
        interval, reason = interval_or_reason(self.replicates, one_patient=self.one_patient)
        return {"value": self.value, "ci95": interval} | ({} if reason is None else {"interval_reason": reason})


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """How often each case counts, and how often each reader, in every replicate: ``case_weights`` [cases, b]."""

    resamples: Resamples
    rows: NDArray[np.intp]
    readers: NDArray[np.int16]

    @property
    def case_weights(self) -> NDArray[np.int16]:
        """[cases, b]."""
        weights: NDArray[np.int16] = self.resamples.counts[self.rows]
        return weights


def draw(units: Sequence[int], readers: int, *, replicates: int, seed: int) -> Draws:
    """Resamples of cases, those of one patient (``units`` [cases]) always together, and of readers."""
    patient, site = [str(unit) for unit in units], [""] * len(units)
    resamples = resample_patients(patient, site, replicates=replicates, seed=seed)
    generator = np.random.default_rng([seed, 1])
    drawn = generator.integers(readers, size=(readers, replicates))
    of_readers = np.stack([(drawn == reader).sum(axis=0) for reader in range(readers)]).astype(np.int16)
    return Draws(resamples, resamples.rows(patient, site), of_readers)


def measure_auroc(truth: Float64, score: Float64, draws: Draws) -> Measured:
    """The AUROC of one reader's answers [cases] (NaN: not read); see `more_model.evaluation.auroc`."""
    result = auroc(truth, score)
    replicates = weighted_aurocs_by_unit(truth, score, draws.rows, draws.resamples.counts)
    known = ~np.isnan(truth) & ~np.isnan(score)
    one_patient = any(_is_one_patient(known & (truth == value), draws) for value in (0, 1))
    return Measured(result.value, replicates, result.reason, one_patient)


def measure_share(hits: Float64, of: NDArray[np.bool_], draws: Draws, *, empty: str) -> Measured:
    """The mean of ``hits`` [cases] over the cases ``of`` [cases]; NaN in ``hits`` is left out."""
    known = of & ~np.isnan(hits)
    if not known.any():
        return Measured(None, np.full(draws.resamples.replicates, np.nan), empty)
    weights = draws.case_weights[known].astype(np.float64)
    total = weights.sum(axis=0)
    replicates = np.divide(hits[known] @ weights, total, out=np.full(len(total), np.nan), where=total > 0)
    return Measured(float(hits[known].mean()), replicates, one_patient=_is_one_patient(known, draws))


def difference(a: Measured, b: Measured) -> Measured:
    """``a`` minus ``b``, replicate by replicate: paired, since both count the same cases."""
    if a.value is None or b.value is None:
        return Measured(None, np.full(len(a.replicates), np.nan), a.reason or b.reason)
    return Measured(a.value - b.value, a.replicates - b.replicates, one_patient=a.one_patient or b.one_patient)


def average(parts: Sequence[Measured]) -> Measured:
    """The mean over those of ``parts`` that have a value."""
    present = [part for part in parts if part.value is not None]
    if not present:
        return Measured(None, np.full(len(parts[0].replicates), np.nan), parts[0].reason)
    value = float(np.mean([part.value for part in present if part.value is not None]))
    replicates = mean_over_labels(np.stack([part.replicates for part in present]))
    return Measured(value, replicates, one_patient=any(part.one_patient for part in present))


def reader_mean(of_readers: Sequence[Measured], draws: Draws) -> dict[str, Any]:
    """The mean over readers with both intervals, ready for JSON: ``value``, ``readers`` (how many have a value),
    ``ci95_fixed_readers``, ``ci95_random_readers`` and, where one is None, ``interval_reason`` or
    ``random_readers_reason``."""
    fixed = average(of_readers)
    count = sum(part.value is not None for part in of_readers)
    if fixed.value is None:
        return {"value": None, "readers": 0, "reason": fixed.reason}
    interval, reason = interval_or_reason(fixed.replicates, one_patient=fixed.one_patient)
    facts: dict[str, Any] = {"value": fixed.value, "readers": count, "ci95_fixed_readers": interval}
    if reason is not None:
        facts["interval_reason"] = reason
    if count < LEAST_RANDOM_READERS:
        few = f"{count} {'reader' if count == 1 else 'readers'}, at least {LEAST_RANDOM_READERS} are needed"
        return {**facts, "ci95_random_readers": None, "random_readers_reason": few}
    interval, reason = interval_or_reason(_random_readers(of_readers, draws), one_patient=fixed.one_patient)
    return {**facts, "ci95_random_readers": interval} | ({} if reason is None else {"random_readers_reason": reason})


def _random_readers(of_readers: Sequence[Measured], draws: Draws) -> Float64:
    values = np.stack([part.replicates for part in of_readers])
    has_value = np.array([part.value is not None for part in of_readers])[:, None] & ~np.isnan(values)
    weights = np.where(has_value, draws.readers, 0).astype(np.float64)
    total = weights.sum(axis=0)
    weighted = (weights * np.where(has_value, values, 0.0)).sum(axis=0)
    mean: Float64 = np.divide(weighted, total, out=np.full(len(total), np.nan), where=total > 0)
    return mean


def _is_one_patient(cases: NDArray[np.bool_], draws: Draws) -> bool:
    return len(np.unique(draws.rows[cases])) < 2
