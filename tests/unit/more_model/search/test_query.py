"""Search is exact, deterministic, and answers what was asked of it."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.data.study import Modality, Split
from more_model.errors import ConfigError
from more_model.search import query as module
from more_model.search.index_file import Index
from more_model.search.query import Filters, Query, best, item_query, search
from more_model.search.shelf import Shelf


def unit(count: int, seed: int = 0, width: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def brute(vectors: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray) -> list[tuple[float, int]]:
    scored = [
        (-round(sum(float(a) * float(b) for a, b in zip(row, query, strict=True)), 6), place)
        for place, row in enumerate(vectors)
        if allowed[place]
    ]
    return [(-score, place) for score, place in sorted(scored)[:k]]


@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_agrees_with_an_obvious_loop(monkeypatch: pytest.MonkeyPatch, block: int, k: int) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", block)
    monkeypatch.setattr(module, "_EXACT_ROWS", block)
    # Repeated rows: most scores are shared by several candidates.
    vectors = unit(40)[np.random.default_rng(1).integers(0, 40, size=200)]
    allowed = np.random.default_rng(2).random(200) < 0.7
    for query in unit(5, seed=3):
        places, scores = best(vectors, query, k, allowed)
        expected = brute(vectors, query, k, allowed)
        assert places.tolist() == [place for _, place in expected]
        np.testing.assert_allclose(scores, [score for score, _ in expected], atol=1.1e-6)


def test_equal_scores_stand_in_the_order_of_the_index() -> None:
    vectors = np.tile(unit(1), (3000, 1))
    places, scores = best(vectors, vectors[0], 4)
    assert places.tolist() == [0, 1, 2, 3]
    assert set(scores.tolist()) == {1.0}


def test_close_scores_beyond_single_precision_are_told_apart() -> None:
    vectors = np.array([[1, 0], [1, 2e-3], [1, 1e-3]], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places, scores = best(vectors, vectors[1], 2)
    assert places.tolist() == [1, 2]
    assert scores[0] == 1.0 > scores[1] == pytest.approx(1 - 5e-7, abs=6e-7)


@pytest.mark.parametrize("allowed", [np.zeros(4, dtype=bool), None])
def test_nothing_may_answer(allowed: np.ndarray | None) -> None:
    vectors = unit(4) if allowed is not None else np.empty((0, 8), dtype=np.float32)
    places, scores = best(vectors, unit(1)[0], 3, allowed)
    assert len(places) == len(scores) == 0


@pytest.mark.parametrize("shelf", list(Shelf))
def test_every_shelf_asks_every_shelf(index: Index, shelf: Shelf) -> None:
    found = search(index, item_query(index, shelf, 2), k=3)
    assert list(found) == list(Shelf)
    asking = index.item(shelf, 2)
    for answering, hits in found.items():
        assert [hit.rank for hit in hits] == [1, 2, 3]
        vectors = index.shelves[answering].vectors
        allowed = np.ones(len(vectors), dtype=bool)
        if answering is shelf:
            allowed[index.shelves[shelf].items["vector"][2]] = False
        expected = brute(vectors, index.vector(shelf, 2), 3, allowed)
        numbers = [int(index.shelves[answering].items["vector"][hit.number]) for hit in hits]
        assert numbers == [place for _, place in expected]
        for hit in hits:
            assert hit.item == index.item(answering, hit.number)
            assert hit.name == f"{answering.value}:{hit.number}"
            same = (hit.item.site, hit.item.patient) == (asking.site, asking.patient)
            assert hit.same_patient is same


def test_an_item_is_not_its_own_answer_and_neither_are_its_words(index: Index) -> None:
    words = index.item(Shelf.ECG_REPORT, 0).words
    hits = search(index, item_query(index, Shelf.ECG_REPORT, 0), k=1000)[Shelf.ECG_REPORT]
    assert words not in {hit.item.words for hit in hits}
    assert len(hits) == len(index.shelves[Shelf.ECG_REPORT].vectors) - 1


def test_equal_words_are_one_answer_that_says_how_many(index: Index) -> None:
    query = item_query(index, Shelf.XRAY, 0)
    for filters in (Filters(), Filters(splits=[Split.TEST]), Filters(sites=[index.header.sites[0].name])):
        hits = search(index, query, k=1000, filters=filters)[Shelf.ECG_REPORT]
        words = [hit.item.words for hit in hits]
        assert len(words) == len(set(words))
        items = [index.item(Shelf.ECG_REPORT, n) for n in range(len(index.shelves[Shelf.ECG_REPORT].items))]
        passing = [
            item
            for item in items
            if (filters.splits is None or item.split in filters.splits)
            and (filters.sites is None or item.site in filters.sites)
        ]
        assert {hit.item.words: hit.same_words for hit in hits} == {
            text: sum(item.words == text for item in passing) for text in {item.words for item in passing}
        }
        assert all(hit.item in passing for hit in hits)
    assert max(hit.same_words for hit in search(index, query, k=1000)[Shelf.ECG_REPORT]) > 1


def test_filters_leave_the_order_of_the_rest_alone(index: Index) -> None:
    query = item_query(index, Shelf.ECG, 1)
    site = index.header.sites[1].name
    everything = search(index, query, k=1000)
    filters = Filters(sites=[site], splits=[Split.TRAIN], modalities=[Modality.XRAY, Modality.REPORT])
    found = search(index, query, k=1000, filters=filters)
    assert set(found) == {Shelf.XRAY, Shelf.XRAY_REPORT, Shelf.ECG_REPORT}
    expected = [h.number for h in everything[Shelf.XRAY] if (h.item.site, h.item.split) == (site, Split.TRAIN)]
    assert [hit.number for hit in found[Shelf.XRAY]] == expected
    assert expected


def test_only_shelves_that_were_asked_answer(index: Index) -> None:
    query = Query({Shelf.ECG: index.vector(Shelf.XRAY, 0)})
    found = search(index, query, k=1)
    assert list(found) == [Shelf.ECG]
    assert found[Shelf.ECG][0].same_patient is None


def test_wrong_questions_are_refused(index: Index) -> None:
    query = item_query(index, Shelf.ECG, 1)
    with pytest.raises(ConfigError, match="at least one"):
        search(index, query, k=0)
    with pytest.raises(ConfigError, match="no site 'nowhere'"):
        search(index, query, filters=Filters(sites=["nowhere"]))
    for number in (-1, 10**6):
        with pytest.raises(ConfigError, match="counted from 0"):
            item_query(index, Shelf.ECG, number)
