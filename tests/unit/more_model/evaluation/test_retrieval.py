from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from more_model.evaluation import retrieval as module
from more_model.evaluation.retrieval import (
    chance_ranks,
    chance_recall,
    codes,
    rank_figures,
    retrieval,
    retrieval_by_site,
    retrieval_ranks,
)


def slow_rank(embedded, query: str, target: str) -> list[int]:
    rows = [i for i in range(len(embedded)) if embedded.has(query)[i] and embedded.has(target)[i]]
    ranks = []
    for i in rows:
        similarity = {j: float(embedded.embedding(query)[i] @ embedded.embedding(target)[j]) for j in rows}

        def hit(j: int, i: int = i) -> bool:
            if i == j or (embedded.site[i], embedded.patient[i]) == (embedded.site[j], embedded.patient[j]):
                return True
            words = embedded.report[i]
            return "text" in (query, target) and words is not None and words == embedded.report[j]

        best = max(similarity[j] for j in rows if hit(j))
        ranks.append(1 + sum(similarity[j] >= best - 1e-9 for j in rows if not hit(j)))
    return ranks


def crowded_set(make_set):
    generator = np.random.default_rng(4)
    n = 40

    def lattice() -> np.ndarray:
        # Few distinct directions: many exact ties.
        return np.eye(4, dtype=np.float32)[generator.integers(0, 4, size=n)]

    xray, ecg = lattice(), lattice()
    xray[::7] = np.nan
    ecg[::5] = np.nan
    return make_set(
        n,
        xray=xray,
        ecg=ecg,
        patient=[f"p{i}" for i in generator.integers(0, 25, size=n)],
        site=["north" if i < 20 else "south" for i in range(n)],
        report=[None if i % 11 == 0 else f"report {i % 13}" for i in range(n)],
    )


def test_agrees_with_an_obvious_loop(make_set) -> None:
    embedded = crowded_set(make_set)
    result = retrieval(embedded)
    assert len(result) == 6
    for direction, figures in result.items():
        ranks = np.array(slow_rank(embedded, *direction.split("->")))
        assert figures["candidates"] == len(ranks)
        for cutoff in (1, 5, 10):
            assert figures[f"recall@{cutoff}"] == pytest.approx(np.mean(ranks <= cutoff))
        assert figures["median_rank"] == np.median(ranks)
        assert figures["mrr"] == pytest.approx(np.mean(1 / ranks))


def test_blocks_do_not_matter(make_set, monkeypatch) -> None:
    embedded = crowded_set(make_set)
    whole = retrieval(embedded)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 70)
    assert retrieval(embedded) == whole


def test_hand_computed_ranks() -> None:
    query = np.eye(3, dtype=np.float32)
    target = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], dtype=np.float32)
    ranks, hits = retrieval_ranks(query, target, [])
    # Rows 1 and 2 are swapped: the own target has cosine 0, one stranger has 1 and the other ties at 0.
    assert ranks.tolist() == [1, 3, 3]
    assert hits.tolist() == [1, 1, 1]
    ranks, hits = retrieval_ranks(query, target, [codes(["a", "b", "b"])])
    assert ranks.tolist() == [1, 1, 1]
    assert hits.tolist() == [1, 2, 2]


def test_a_collapsed_encoder_scores_nothing(make_set) -> None:
    same = np.tile(np.array([[0.6, 0.8, 0, 0]], dtype=np.float32), (20, 1))
    figures = retrieval(make_set(20, xray=same, text=same))["xray->text"]
    assert figures["recall@10"] == 0.0
    assert figures["median_rank"] == 20


def test_same_words_count_for_text_but_not_between_xray_and_ecg(make_set) -> None:
    directions = np.eye(4, dtype=np.float32)
    crossed = directions[[1, 0, 2, 3]]
    embedded = make_set(4, xray=directions, ecg=crossed, text=crossed, report=["normal", "normal", "a", "b"])
    result = retrieval(embedded)
    assert result["xray->text"]["recall@1"] == 1.0
    assert result["text->xray"]["recall@1"] == 1.0
    assert result["xray->ecg"]["recall@1"] == 0.5
    other_words = make_set(4, xray=directions, text=crossed, report=["normal", None, "a", "b"])
    assert retrieval(other_words)["xray->text"]["recall@1"] == 0.5


def test_same_patient_counts_only_within_a_hospital(make_set) -> None:
    directions = np.eye(4, dtype=np.float32)
    parts = {"xray": directions, "ecg": directions[[1, 0, 2, 3]], "patient": ["7", "7", "8", "9"]}
    one = retrieval(make_set(4, site=["n"] * 4, **parts))
    two = retrieval(make_set(4, site=["n", "s", "n", "n"], **parts))
    assert one["xray->ecg"]["recall@1"] == 1.0
    assert two["xray->ecg"]["recall@1"] == 0.5


def test_random_embeddings_find_at_the_rate_of_chance(make_set) -> None:
    patient = [f"p{i // 2}" for i in range(300)]
    site = ["north"] * 300
    figures = [retrieval(make_set(300, seed=s, patient=patient, site=site))["xray->ecg"] for s in range(6)]
    assert figures[0]["chance@1"] == pytest.approx(2 / 300)
    assert np.mean([one["recall@10"] for one in figures]) == pytest.approx(figures[0]["chance@10"], abs=0.02)


def test_chance_recall() -> None:
    assert chance_recall(np.array([1, 3]), 10, 1) == pytest.approx((0.1 + 0.3) / 2)
    # 1 - C(7,5)/C(10,5) = 1 - 21/252
    assert chance_recall(np.array([3]), 10, 5) == pytest.approx(1 - 21 / 252)
    assert chance_recall(np.array([1]), 4, 10) == 1.0
    assert chance_recall(np.array([8]), 10, 5) == 1.0


def test_order_of_rows_does_not_matter(make_set) -> None:
    embedded = crowded_set(make_set)
    shuffled = embedded.select(np.random.default_rng(0).permutation(len(embedded)))
    first, second = retrieval(embedded), retrieval(shuffled)
    for direction, figures in first.items():
        assert second[direction] == pytest.approx(figures)


def test_intervals_and_json(make_set) -> None:
    embedded = crowded_set(make_set)
    figures = retrieval(embedded, replicates=200, seed=1)
    json.dumps(figures, allow_nan=False)
    for one in figures.values():
        for name, (low, high) in one["ci95"].items():
            assert low <= one[name] <= high
    assert retrieval(embedded, replicates=200, seed=1) == figures


def test_a_missing_modality_is_a_reason_not_a_crash(make_set) -> None:
    nothing = np.empty((5, 0), dtype=np.float32)
    result = retrieval(make_set(5, ecg=nothing), replicates=10)
    assert result["xray->ecg"]["recall@1"] is None
    assert result["xray->ecg"]["reason"] == "0 rows have both xray and ecg"
    assert result["xray->text"]["recall@1"] is not None


def test_each_site_is_searched_alone(make_set) -> None:
    # North finds its own by itself; south's two are swapped; over both sites each row ties with one of the other site.
    axes = np.eye(4, dtype=np.float32)
    embedded = make_set(
        4,
        xray=axes[[0, 1, 0, 1]],
        text=axes[[0, 1, 1, 0]],
        site=["north", "north", "south", "south"],
    )
    result = retrieval_by_site(embedded)
    assert list(result) == ["north", "south"]
    north, south = result["north"]["xray->text"], result["south"]["xray->text"]
    assert (north["recall@1"], north["median_rank"], north["candidates"]) == (1.0, 1.0, 2)
    assert (south["recall@1"], south["median_rank"], south["mrr"]) == (0.0, 2.0, 0.5)
    assert retrieval(embedded)["xray->text"]["recall@1"] == 0.0
    alone = retrieval_by_site(embedded.select(np.array([0, 1, 2])))["south"]["xray->text"]
    assert alone["recall@1"] is None
    assert alone["reason"] == "1 rows have both xray and text"


def test_chance_ranks_agree_with_all_orders() -> None:
    # Four candidates, one query with one hit and one with two: every order is equally likely.
    best = [[min(order[:hits]) for order in permutations(range(1, 5))] for hits in (1, 2)]
    mrr, median = chance_ranks(np.array([1, 2]), 4)
    assert mrr == pytest.approx(np.mean([1 / np.array(ranks) for ranks in best]))
    # P(rank <= 1) = (1/4 + 1/2) / 2 = 0.375, P(rank <= 2) = (1/2 + 5/6) / 2 = 0.667
    assert median == 2.0
    assert chance_ranks(np.array([3]), 3) == (1.0, 1.0)


def test_the_interval_of_the_median_is_that_of_repeated_queries() -> None:
    ranks = np.array([1, 9, 2, 7, 4])
    patient, site = ["a", "a", "b", "c", "d"], ["n"] * 5
    figures = rank_figures(ranks, np.ones(5, dtype=np.intp), 10, patient=patient, site=site, replicates=50, seed=3)
    resamples = module.resample_patients(patient, site, replicates=50, seed=3)
    counts = resamples.counts[resamples.rows(patient, site)]
    medians = [np.median(np.repeat(ranks, counts[:, replicate])) for replicate in range(50)]
    assert figures["ci95"]["median_rank"] == pytest.approx(np.quantile(medians, [0.025, 0.975]).tolist())
    assert figures["median_rank"] == 4.0
