"""Cross-modal retrieval: given an X-ray, find its report; given a report, find its ECG; and so on.

A query ranks all candidates by cosine similarity; its rank is that of the best *hit*. Hits are: the query's own row;
every row of the same patient; and, where text is the query or the target, every row with the same report words, since
nothing in the words tells those studies apart. Hits never count against each other.

Equal similarities are ranked pessimistically: a candidate that is no hit and as similar as the best hit stands before
it, so a collapsed encoder scores zero and not one. Similarities that differ by less than 1e-6 are equal, because the
same vector may differ in its last bits from one batch to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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
    "chance@1", "chance@5", "chance@10", "chance_mrr", "chance_median_rank"}, ...}``. The chance figures are those of a
    random order, given how many hits each query has. Figures are None, with a ``reason``, where fewer than two rows
    have both parts. With ``replicates`` > 0 there is also ``ci95`` ({"recall@1": [low, high], ..., "mrr",
    "median_rank"}): queries resampled by patient, candidates kept.
    """
    return {
        f"{query}->{target}": _direction(embedded, query, target, replicates=replicates, seed=seed)
        for query, target in DIRECTIONS
    }


def retrieval_by_site(
    embedded: EmbeddedSet, *, replicates: int = 0, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """`retrieval` within each site alone: its queries among its own candidates. Sites in alphabetical order.

    Sites differ in their number of candidates, so compare a site with its own chance figures, not with another site.
    """
    sites = np.array(embedded.site)
    return {
        site: retrieval(embedded.select(sites == site), replicates=replicates, seed=seed)
        for site in sorted(set(embedded.site))
    }


def retrieval_ranks(
    query: Float32, target: Float32, same: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rank of the best hit (from 1) and the number of hits of each query, both [n].

    ``query`` and ``target`` are [n, d] of unit rows that belong together row by row. ``same`` holds integer codes [n];
    rows that agree in any of them are hits of each other, a code below zero agrees with nothing.
    """
    count = len(query)
    return best_hit_ranks(query, target, lambda rows: _hits(rows, count, same))


def best_hit_ranks(
    query: Float32, target: Float32, hits_of: Callable[[NDArray[np.intp]], Mask]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rank of the best hit (from 1) and the number of hits of each query, both [n].

    ``query`` is [n, d], ``target`` [m, d], both of unit rows. ``hits_of`` answers row numbers [b] of queries with bool
    [b, m]: which candidates are hits; every query needs one.
    """
    count = len(query)
    ranks, hits = np.empty(count, dtype=np.intp), np.empty(count, dtype=np.intp)
    left, right = query.astype(np.float64), target.astype(np.float64)
    block = max(1, _BLOCK_CELLS // max(1, len(target)))
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        similarity = np.round(left[rows] @ right.T, _TIE_DECIMALS)
        is_hit = hits_of(rows)
        best = np.where(is_hit, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = 1 + (~is_hit & (similarity >= best)).sum(axis=1)
        hits[rows] = is_hit.sum(axis=1)
    return ranks, hits


def rank_figures(
    ranks: NDArray[np.intp],
    hits: NDArray[np.intp],
    candidates: int,
    *,
    patient: Sequence[str],
    site: Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """The figures that `retrieval` lists for one direction, from ranks, numbers of hits, patients and sites, all of n
    queries."""
    per_query = _per_query(ranks)
    figures: dict[str, Any] = {name: float(values.mean()) for name, values in per_query.items()}
    figures |= {"median_rank": float(np.median(ranks)), "candidates": candidates}
    figures |= {f"chance@{cutoff}": chance_recall(hits, candidates, cutoff) for cutoff in CUTOFFS}
    figures["chance_mrr"], figures["chance_median_rank"] = chance_ranks(hits, candidates)
    if replicates > 0:
        resamples = resample_patients(patient, site, replicates=replicates, seed=seed)
        rows = resamples.rows(patient, site)
        figures["ci95"] = _intervals(ranks, per_query, rows, resamples.counts)
    return figures


def no_figures(candidates: int, reason: str) -> dict[str, Any]:
    """The figures of a direction that has none, and why."""
    return {**dict.fromkeys([*_names(), "median_rank"]), "candidates": candidates, "reason": reason}


def chance_recall(hits: NDArray[np.intp], candidates: int, cutoff: int) -> float:
    """Expected recall@cutoff of a random order: mean over queries of 1 - C(n - h, k) / C(n, k)."""
    miss = np.ones(len(hits))
    for drawn in range(min(cutoff, candidates)):
        miss *= np.maximum(candidates - hits - drawn, 0) / (candidates - drawn)
    return float(np.mean(1.0 - miss))


def chance_ranks(hits: NDArray[np.intp], candidates: int) -> tuple[float, float]:
    """What a random order would give: expected MRR, and the median rank over the queries.

    The best of h hits among n candidates stands behind rank r with probability C(n - h, r) / C(n, r).
    """
    behind = np.zeros(candidates + 1)
    drawn = np.arange(candidates)
    for of_query, queries in zip(*np.unique(hits, return_counts=True), strict=True):
        still_behind = np.cumprod(np.maximum(candidates - of_query - drawn, 0) / (candidates - drawn))
        behind += queries / len(hits) * np.concatenate(([1.0], still_behind))
    at_rank = behind[:-1] - behind[1:]
    return float((at_rank / (drawn + 1)).sum()), float(np.argmax(behind <= 0.5))


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
        return no_figures(len(rows), f"{len(rows)} rows have both {query} and {target}")
    same = [codes(list(zip(rows.site, rows.patient, strict=True)))]
    if "text" in (query, target):
        same.append(codes(rows.report))
    ranks, hits = retrieval_ranks(rows.embedding(query), rows.embedding(target), same)
    return rank_figures(ranks, hits, len(rows), patient=rows.patient, site=rows.site, replicates=replicates, seed=seed)


def _names() -> list[str]:
    return [*(f"recall@{cutoff}" for cutoff in CUTOFFS), "mrr"]


def _per_query(ranks: NDArray[np.intp]) -> dict[str, Float64]:
    values = [*((ranks <= cutoff).astype(np.float64) for cutoff in CUTOFFS), 1.0 / ranks]
    return dict(zip(_names(), values, strict=True))


def _intervals(
    ranks: NDArray[np.intp], per_query: dict[str, Float64], unit: NDArray[np.intp], drawn: NDArray[np.int16]
) -> dict[str, list[float] | None]:
    """``unit`` [n] is each query's row of ``drawn`` [patients, replicates]."""
    counts = drawn.astype(np.float64)
    size = np.bincount(unit, minlength=len(counts)).astype(np.float64)
    values = {
        name: (np.bincount(unit, weights=of_query, minlength=len(counts)) @ counts) / (size @ counts)
        for name, of_query in per_query.items()
    }
    values["median_rank"] = _replicate_medians(ranks, unit, drawn)
    intervals = {name: percentile_interval(replicates) for name, replicates in values.items()}
    return {name: None if interval is None else list(interval) for name, interval in intervals.items()}


def _replicate_medians(ranks: NDArray[np.intp], unit: NDArray[np.intp], drawn: NDArray[np.int16]) -> Float64:
    """The median rank in each replicate, every query counted as often as its patient was drawn."""
    order = np.argsort(ranks, kind="stable")
    ascending, unit = ranks[order], unit[order]
    medians = np.empty(drawn.shape[1])
    for replicate in range(drawn.shape[1]):
        reached = np.cumsum(drawn[unit, replicate], dtype=np.int64)
        # The two middle places, counted from 0; one and the same where the number of queries is odd.
        middle = np.searchsorted(reached, [(reached[-1] - 1) // 2, reached[-1] // 2], side="right")
        medians[replicate] = ascending[middle].mean()
    return medians
