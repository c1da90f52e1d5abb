"""Cross-modal retrieval: given an X-ray, find its report; given a report, find its ECG; and so on.

A query ranks all candidates by cosine similarity; its rank is that of the best *hit*. Hits are: the query's own row;
every row of the same patient; and, where text is the query or the target, every row with the same report words, since
nothing in the words tells those studies apart. Hits never count against each other.

Equal similarities are ranked pessimistically: a candidate that is no hit and as similar as the best hit stands before
it, so a collapsed encoder scores zero and not one. Similarities that differ by less than 1e-6 are equal, because the
same vector may differ in its last bits from one batch to the next.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from more_model.evaluation.bootstrap import percentile_interval, resample_patients
from more_model.evaluation.embedded import EmbeddedSet, Embedding, Float32, Float64, Mask

#: Every ordered pair of X-ray, ECG and text.
DIRECTIONS: tuple[tuple[Embedding, Embedding], ...] = tuple(permutations(("xray", "ecg", "text"), 2))

CUTOFFS = (1, 5, 10)

_TIE_DECIMALS = 6
_BLOCK_CELLS = 4_000_000


def retrieval(embedded: EmbeddedSet, *, replicates: int = 0, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Retrieval figures for all six directions, over the rows that have both parts; ready for JSON.

    ``{"xray->text": {"recall@1", "recall@5", "recall@10", "median_rank", "mrr" (mean of 1/rank), "candidates",
    "chance@1", "chance@5", "chance@10"}, ...}``. ``chance@k`` is the expected recall of a random order, given how many
    hits each query has. Figures are None, with a ``reason``, where fewer than two rows have both parts. With
    ``replicates`` > 0 there is also ``ci95`` ({"recall@1": [low, high], ..., "mrr"}): queries resampled by patient,
    candidates kept.
    """
    return {
        f"{query}->{target}": _direction(embedded, query, target, replicates=replicates, seed=seed)
        for query, target in DIRECTIONS
    }


def retrieval_ranks(
    query: Float32, target: Float32, same: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rank of the best hit (from 1) and the number of hits of each query, both [n].

    ``query`` and ``target`` are [n, d] of unit rows that belong together row by row. ``same`` holds integer codes [n];
    rows that agree in any of them are hits of each other, a code below zero agrees with nothing.
    """
    count = len(query)
    ranks, hits = np.empty(count, dtype=np.intp), np.empty(count, dtype=np.intp)
    left, right = query.astype(np.float64), target.astype(np.float64)
    block = max(1, _BLOCK_CELLS // max(1, count))
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        similarity = np.round(left[rows] @ right.T, _TIE_DECIMALS)
        is_hit = _hits(rows, count, same)
        best = np.where(is_hit, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = 1 + (~is_hit & (similarity >= best)).sum(axis=1)
        hits[rows] = is_hit.sum(axis=1)
    return ranks, hits


def chance_recall(hits: NDArray[np.intp], candidates: int, cutoff: int) -> float:
    """Expected recall@cutoff of a random order: mean over queries of 1 - C(n - h, k) / C(n, k)."""
    miss = np.ones(len(hits))
    for drawn in range(min(cutoff, candidates)):
        miss *= np.maximum(candidates - hits - drawn, 0) / (candidates - drawn)
    return float(np.mean(1.0 - miss))


def codes(values: Sequence[Hashable | None]) -> NDArray[np.intp]:
    """Integer codes [n], equal where the values are equal; None becomes -1."""
    known: dict[Hashable, int] = {}
    return np.array([-1 if value is None else known.setdefault(value, len(known)) for value in values], dtype=np.intp)


def _hits(rows: NDArray[np.intp], count: int, same: Sequence[NDArray[np.intp]]) -> Mask:
    is_hit = np.zeros((len(rows), count), dtype=np.bool_)
    for code in same:
        is_hit |= (code[rows, None] == code[None, :]) & (code[rows, None] >= 0)
    is_hit[np.arange(len(rows)), rows] = True
    return is_hit


def _direction(
    embedded: EmbeddedSet, query: Embedding, target: Embedding, *, replicates: int, seed: int
) -> dict[str, Any]:
    rows = embedded.select(embedded.has(query) & embedded.has(target))
    if len(rows) < 2:
        empty = dict.fromkeys([*_names(), "median_rank"])
        return {**empty, "candidates": len(rows), "reason": f"{len(rows)} rows have both {query} and {target}"}
    same = [codes(list(zip(rows.site, rows.patient, strict=True)))]
    if "text" in (query, target):
        same.append(codes(rows.report))
    ranks, hits = retrieval_ranks(rows.embedding(query), rows.embedding(target), same)
    per_query = _per_query(ranks)
    result: dict[str, Any] = {name: float(values.mean()) for name, values in per_query.items()}
    result |= {"median_rank": float(np.median(ranks)), "candidates": len(rows)}
    result |= {f"chance@{cutoff}": chance_recall(hits, len(rows), cutoff) for cutoff in CUTOFFS}
    if replicates > 0:
        result["ci95"] = _intervals(rows, per_query, replicates=replicates, seed=seed)
    return result


def _names() -> list[str]:
    return [*(f"recall@{cutoff}" for cutoff in CUTOFFS), "mrr"]


def _per_query(ranks: NDArray[np.intp]) -> dict[str, Float64]:
    values = [*((ranks <= cutoff).astype(np.float64) for cutoff in CUTOFFS), 1.0 / ranks]
    return dict(zip(_names(), values, strict=True))


def _intervals(
    rows: EmbeddedSet, per_query: dict[str, Float64], *, replicates: int, seed: int
) -> dict[str, list[float] | None]:
    resamples = resample_patients(rows.patient, rows.site, replicates=replicates, seed=seed)
    unit = resamples.rows(rows.patient, rows.site)
    counts = resamples.counts.astype(np.float64)
    size = np.bincount(unit, minlength=len(counts)).astype(np.float64)
    intervals: dict[str, list[float] | None] = {}
    for name, values in per_query.items():
        total = np.bincount(unit, weights=values, minlength=len(counts))
        interval = percentile_interval((total @ counts) / (size @ counts))
        intervals[name] = None if interval is None else list(interval)
    return intervals
