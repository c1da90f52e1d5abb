"""Exact search: cosine similarity with every vector of a shelf, in blocks over the memory-mapped file.

A run over single-precision blocks finds what can be among the best k; their scores are then computed again in double
precision, row by row, and rounded to six decimals. So a score depends neither on the block nor on the processor's
order of sums, and studies of the same score stand in the order of the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from more_model.data.study import Modality, Split
from more_model.errors import ConfigError
from more_model.evaluation.embedded import Float32, Float64, Mask
from more_model.search.index_file import SPLITS, Index, ShelfArrays
from more_model.search.shelf import Item, Shelf

_BLOCK_ROWS = 65_536
#: Few enough that the copies stay in the processor's cache: it matters where a collapsed model makes all scores equal.
_EXACT_ROWS = 1_024
_DECIMALS = 6
#: More than single precision can err by in a product of unit vectors, and more than rounding hides.
_MARGIN = 2e-5


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What to look for: a unit vector [width] per shelf. ``seen`` is the item that asks, if it is in the index: it is
    not among its own answers, and neither are reports of the same words."""

    vectors: Mapping[Shelf, Float32]
    seen: tuple[Shelf, int] | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which items may answer; None: all."""

    sites: Sequence[str] | None = None
    splits: Sequence[Split] | None = None
    modalities: Sequence[Modality] | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer. ``number`` is its place on the shelf, ``score`` the cosine similarity, ``same_words`` how many of
    the items that may answer are a report of exactly these words (1 for X-rays and ECGs). ``same_patient`` is None
    where the query is no item of the index."""

    rank: int
    number: int
    score: float
    same_words: int
    item: Item
    same_patient: bool | None = None

    @property
    def name(self) -> str:
        """How to ask for this item: ``xray:17``."""
        return f"{self.item.shelf.value}:{self.number}"


def search(index: Index, query: Query, *, k: int = 5, filters: Filters = Filters()) -> dict[Shelf, list[Hit]]:
    """The best ``k`` of every shelf that the query has a vector for, best first; equal words are one answer.

    Raises ConfigError for ``k`` below 1 and for a site that the index does not know.
    """
    if k < 1:
        raise ConfigError("search", [f"{k} results asked for; at least one is needed"])
    return {
        shelf: _on_shelf(index, shelf, vector, k, filters, query.seen)
        for shelf, vector in query.vectors.items()
        if filters.modalities is None or shelf.modality in filters.modalities
    }


def item_query(index: Index, shelf: Shelf, number: int) -> Query:
    """The query that an item of the index makes, over all shelves. Raises ConfigError where there is no such item."""
    index.item(shelf, number)
    vector = index.vector(shelf, number)
    return Query(dict.fromkeys(Shelf, vector), seen=(shelf, number))


def best(vectors: Float32, query: Float32, k: int, allowed: Mask | None = None) -> tuple[NDArray[np.intp], Float64]:
    """The places and scores [<= k] of the vectors [n, d] most similar to ``query`` [d], all of them unit vectors.

    Ordered by score, then place. ``allowed`` [n] says which vectors may answer.
    """
    rough = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        rough[start : start + _BLOCK_ROWS] = vectors[start : start + _BLOCK_ROWS] @ query
    if allowed is not None:
        rough[~allowed] = -np.inf
    candidates = int(np.isfinite(rough).sum())
    k = min(k, candidates)
    if k == 0:
        return np.empty(0, dtype=np.intp), np.empty(0)
    lowest = np.partition(rough, len(rough) - k)[len(rough) - k]
    near = np.flatnonzero(rough >= lowest - _MARGIN)
    scores = _exact(vectors, near, query)
    order = np.lexsort((near, -scores))[:k]
    return near[order], scores[order]


def _exact(vectors: Float32, places: NDArray[np.intp], query: Float32) -> Float64:
    scores = np.empty(len(places))
    double = query.astype(np.float64)
    for start in range(0, len(places), _EXACT_ROWS):
        rows = vectors[places[start : start + _EXACT_ROWS]].astype(np.float64)
        rows *= double
        # A matrix product may sum in another order from row to row; this sum cannot.
        scores[start : start + len(rows)] = rows.sum(axis=1)
    # Adding zero turns a negative zero into zero.
    return np.round(scores, _DECIMALS) + 0.0


def _on_shelf(
    index: Index, shelf: Shelf, vector: Float32, k: int, filters: Filters, seen: tuple[Shelf, int] | None
) -> list[Hit]:
    arrays = index.shelves[shelf]
    vector_of = np.ascontiguousarray(arrays.items["vector"])
    may_answer = _passing(index, arrays, filters)
    if seen is not None and seen[0] is shelf:
        may_answer &= vector_of != vector_of[seen[1]]
    allowed = np.zeros(len(arrays.vectors), dtype=np.bool_)
    allowed[vector_of[may_answer]] = True
    places, scores = best(arrays.vectors, vector, k, allowed)
    asking = None if seen is None else index.item(*seen)
    hits = []
    for rank, (place, score) in enumerate(zip(places.tolist(), scores.tolist(), strict=True), start=1):
        first, last = np.searchsorted(vector_of, [place, place + 1])
        numbers = first + np.flatnonzero(may_answer[first:last])
        item = index.item(shelf, int(numbers[0]))
        same = None if asking is None else (item.site, item.patient) == (asking.site, asking.patient)
        hits.append(Hit(rank, int(numbers[0]), score, len(numbers), item, same))
    return hits


def _passing(index: Index, arrays: ShelfArrays, filters: Filters) -> Mask:
    mask = np.ones(len(arrays.items), dtype=np.bool_)
    if filters.sites is not None:
        mask &= np.isin(arrays.items["site"], _site_numbers(index, filters.sites))
    if filters.splits is not None:
        mask &= np.isin(arrays.items["split"], [SPLITS.index(split) for split in filters.splits])
    return mask


def _site_numbers(index: Index, sites: Sequence[str]) -> list[int]:
    names = [entry.name for entry in index.header.sites]
    unknown = sorted(set(sites) - set(names))
    if unknown:
        raise ConfigError(
            "search", [f"the index has no site {site!r}" for site in unknown], remedy=f"choose from {', '.join(names)}"
        )
    return [names.index(site) for site in sites]
