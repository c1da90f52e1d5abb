"""How far something lies from what was trained on, and from where on it is too far.

The distance is Mahalanobis' (1936), a mean over directions so that it does not grow with their number, of columns that
are standardised first; their covariance is shrunk as Ledoit and Wolf (2004) do.

The limit is a split-conformal one (Papadopoulos et al., 2002): of n validation items, none of which shaped the
distance, it is the k-th farthest, k = floor(rate * (n + 1)), at least 1. A new item that is exchangeable with them lies
beyond it with a probability of at most k / (n + 1), on average over validation sets. A small validation set can be
unlucky: where the same share of the training items, each measured from other training patients alone, lies farther out,
the limit is there. A larger limit keeps the promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from more_model.errors import DataError
from more_model.evaluation.embedded import Float64

#: Added to the variance of every direction, of which the columns have 1 on average: a direction in which training never
#: varied must not turn rounding into a distance.
RIDGE = 1e-3
_FOLDS = 5
_ROWS_A_COLUMN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """Of columns [width]: ``mean``, ``scale`` (1 / standard deviation, 0 for a column that never varied), and
    ``whitening`` [width, width] from standardised columns to directions of unit variance."""

    mean: Float64
    scale: Float64
    whitening: Float64

    def of(self, rows: NDArray[np.floating]) -> Float64:
        """The distances [n] of ``rows`` [n, width]; about 1 for training items, and NaN for a row with a NaN.

        Raises:
            DataError: another width than was fitted on.
        """
        if rows.shape[1] != len(self.mean):
            raise DataError(f"distance: {rows.shape[1]} columns, fitted on {len(self.mean)}")
        directions = (np.asarray(rows, dtype=np.float64) - self.mean) * self.scale @ self.whitening
        return np.asarray(np.sqrt((directions**2).mean(axis=1)), dtype=np.float64)

    def tensors(self, name: str) -> dict[str, Float64]:
        """Ready for a file; `from_tensors` reads it back."""
        return {f"{name}.mean": self.mean, f"{name}.scale": self.scale, f"{name}.whitening": self.whitening}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Float64], name: str) -> Distance:
        """What `tensors` gave. Raises KeyError where it is not there."""
        return cls(tensors[f"{name}.mean"], tensors[f"{name}.scale"], tensors[f"{name}.whitening"])


def fit_distance(rows: NDArray[np.floating]) -> Distance:
    """Fits to ``rows`` [n, width]; rows with a NaN are left out.

    Raises:
        DataError: fewer than two rows.
    """
    from sklearn.covariance import ledoit_wolf

    known = np.asarray(rows[~np.isnan(rows).any(axis=1)], dtype=np.float64)
    if len(known) < 2:
        raise DataError(f"distance: {len(known)} training items, at least 2 are needed")
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    constant = deviation <= 1e-6 * np.maximum(1.0, np.abs(mean))
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))
    covariance, _ = ledoit_wolf((known - mean) * scale, assume_centered=True)
    values, directions = np.linalg.eigh(covariance)
    return Distance(mean, scale, directions / np.sqrt(np.maximum(values, 0.0) + RIDGE))


def held_out_distances(rows: NDArray[np.floating], patients: Sequence[str]) -> Float64:
    """The distance [n] of each training row from the rows of other patients, in five folds with patients taken in turn.

    NaN throughout with fewer than five rows a column: a distance fitted to four fifths of those is another one.
    """
    number = {patient: place for place, patient in enumerate(dict.fromkeys(patients))}
    fold = np.array([number[patient] % _FOLDS for patient in patients], dtype=np.intp)
    distances = np.full(len(rows), np.nan)
    if len(rows) < _ROWS_A_COLUMN * rows.shape[1]:
        return distances
    for held in range(_FOLDS):
        distances[fold == held] = fit_distance(rows[fold != held]).of(rows[fold == held])
    return distances


@dataclass(frozen=True, slots=True)
class Limit:
    """Beyond ``value`` is too far. ``false_refusals``: at most this share of items of the training cohort's own kind
    lies there, on average over validation sets of ``items``."""

    value: float
    false_refusals: float
    items: int


def set_limit(validation: Float64, training: Float64, rate: float) -> Limit:
    """The limit from the distances of validation items [n], and of training items from `held_out_distances` [m]; NaN is
    left out. See the head of this module.

    Raises:
        DataError: there is no validation item.
    """
    known, learnt = np.sort(validation[~np.isnan(validation)]), training[~np.isnan(training)]
    if len(known) == 0:
        raise DataError("there is no validation item to set a limit by")
    beyond = max(1, int(np.floor(rate * (len(known) + 1))))
    share = beyond / (len(known) + 1)
    ends = [float(known[-beyond]), *([float(np.quantile(learnt, 1 - share))] if len(learnt) else [])]
    return Limit(max(ends), share, len(known))
