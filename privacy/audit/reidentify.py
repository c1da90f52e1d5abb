"""Re-identification across modalities: whose ECG is this chest X-ray's?

A model that aligns modalities is made to bring them together. If embeddings leave the hospital, someone who has one
patient's X-ray can look for that patient's ECG among all of them. No guarantee of training speaks of this: it is a
property of what embeddings are for, and the reason not to hand them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from privacy.audit.bounds import lower_limit, upper_limit
from privacy.audit.membership import Interval
from privacy.audit.subject import Embedded, Numbers

Array = NDArray[np.float64]
_MIN_PATIENTS = 10


@dataclass(frozen=True)
class Reidentification:
    """Ranks of each patient's own ECG (1 = found at once) among those of all ``patients``; one query a patient.

    The chance of top k is k / patients, the median rank by chance (patients + 1) / 2. Intervals treat the queries as
    independent, though they search the same ECGs.
    """

    patients: int
    confidence: float
    top_1: Interval
    top_5: Interval
    median_rank: Interval

    @property
    def chance_top_1(self) -> float:
        """Of a guess."""
        return 1 / self.patients

    @property
    def chance_top_5(self) -> float:
        """Of five guesses."""
        return min(1.0, 5 / self.patients)

    @property
    def chance_median_rank(self) -> float:
        """Of a search without knowledge."""
        return (self.patients + 1) / 2


def reidentification(embedded: Embedded, confidence: float = 0.95) -> Reidentification:
    """Search every patient's ECG by cosine similarity with that patient's X-ray.

    A patient with several studies is one query and one entry, with the mean of the unit vectors of either modality: an
    attacker who has several uses all of them.

    Raises:
        DataError: rows that do not fit together, embeddings that are not finite or zero, or fewer than 10 patients.
    """
    counts = {len(embedded.xray), len(embedded.ecg), len(embedded.patients)}
    if len(counts) != 1 or embedded.xray.shape != embedded.ecg.shape or embedded.xray.ndim != 2:
        raise DataError(f"embeddings of shapes {list(embedded.xray.shape)} and {list(embedded.ecg.shape)} do not pair")
    _, numbers = np.unique(embedded.patients, return_inverse=True)
    patients = int(numbers.max(initial=-1)) + 1
    if patients < _MIN_PATIENTS:
        raise DataError(f"{patients} patients with both modalities: at least {_MIN_PATIENTS} are needed")
    ranks = _ranks(_of_patients(embedded.xray, numbers, patients), _of_patients(embedded.ecg, numbers, patients))
    return Reidentification(
        patients,
        confidence,
        _share(int((ranks <= 1).sum()), patients, confidence),
        _share(int((ranks <= 5).sum()), patients, confidence),
        _median(ranks, confidence),
    )


def _of_patients(rows: Numbers, numbers: NDArray[Any], patients: int) -> Array:
    """[patients, d] unit vectors: the direction of the mean of each patient's unit vectors."""
    sums = np.zeros((patients, rows.shape[1]))
    np.add.at(sums, numbers, _unit(np.asarray(rows, dtype=np.float64)))
    return _unit(sums)


def _unit(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise DataError("an embedding is zero or not finite")
    return np.asarray(rows / norms)


def _ranks(queries: Array, entries: Array) -> Array:
    """[n]: rank of entry i for query i; ties share the middle of their places, so that equal embeddings are chance."""
    similar = queries @ entries.T
    own = np.diagonal(similar)[:, None]
    return np.asarray(1 + (similar > own).sum(axis=1) + ((similar == own).sum(axis=1) - 1) / 2)


def _share(hits: int, trials: int, confidence: float) -> Interval:
    error = (1 - confidence) / 2
    return Interval(hits / trials, float(lower_limit(hits, trials, error)), float(upper_limit(hits, trials, error)))


def _median(ranks: Array, confidence: float) -> Interval:
    """Median with an interval free of assumptions on the distribution, by order statistics (Conover 1999, 3.2)."""
    from scipy.special import bdtr

    ordered = np.sort(ranks)
    below = bdtr(np.arange(ranks.size), ranks.size, 0.5)
    skipped = max(0, int(np.searchsorted(below, (1 - confidence) / 2, side="right")) - 1)
    return Interval(float(np.median(ranks)), float(ordered[skipped]), float(ordered[-1 - skipped]))
