"""Kappas against figures computed by hand, published examples and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from more_model.errors import DataError
from more_model.reader_study.agreement import answer_counts, cohen_kappa, fleiss_kappa

# Fleiss (1971) as it is usually taught: 10 subjects, 14 raters, 5 categories.
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def readings(confusion: list[list[int]]) -> tuple[list[int], list[int]]:
    """Two readers' answers with this table of both: rows are the first reader's."""
    cells = [(i, j) for i, row in enumerate(confusion) for j, count in enumerate(row) for _ in range(count)]
    return [i for i, _ in cells], [j for _, j in cells]


def test_cohen_by_hand() -> None:
    """20 and 15 agreements of 50: observed 0.7. The first says yes to 25, the second to 30: chance is
    0.5 * 0.6 + 0.5 * 0.4 = 0.5. kappa = (0.7 - 0.5) / (1 - 0.5) = 0.4."""
    kappa = cohen_kappa(*readings([[20, 5], [10, 15]]), 2)
    assert kappa.observed == pytest.approx(0.7)
    assert kappa.expected == pytest.approx(0.5)
    assert kappa.value == pytest.approx(0.4)
    assert kappa.cases == 50


def test_weighted_cohen_by_hand() -> None:
    """Three steps, five cases: four agree, one is two steps apart. First reader (2, 1, 2)/5, second (3, 1, 1)/5.

    Linear: observed disagreement 2/5 = 0.4; chance: steps apart times shares, (2*1 + 1*3 + 1*1 + 2*1)/25 for one step
    and (2*1 + 2*3)*2/25 for two, together (8 + 16)/25 = 0.96; kappa = 1 - 0.4/0.96 = 0.5833.
    Quadratic: observed 4/5 = 0.8, chance (8 + 4*8)/25 = 1.6, kappa = 0.5.
    """
    first, second = readings([[2, 0, 0], [0, 1, 0], [1, 0, 1]])
    assert cohen_kappa(first, second, 3, weighting="linear").value == pytest.approx(1 - 0.4 / 0.96)
    assert cohen_kappa(first, second, 3, weighting="quadratic").value == pytest.approx(0.5)


def test_fleiss_published_example_by_hand() -> None:
    """Shares of the categories 0.143, 0.200, 0.279, 0.150, 0.229; chance 0.213; agreement 0.378; kappa 0.210."""
    kappa = fleiss_kappa(FLEISS)
    assert np.round(FLEISS.sum(axis=0) / 140, 3).tolist() == [0.143, 0.2, 0.279, 0.15, 0.229]
    agreement = [float((row * (row - 1)).sum()) / (14 * 13) for row in FLEISS]
    assert np.round(agreement, 3).tolist() == [1.0, 0.253, 0.308, 0.44, 0.33, 0.462, 0.242, 0.176, 0.286, 0.286]
    assert kappa.observed == pytest.approx(sum(agreement) / 10)
    assert round(kappa.observed, 3) == 0.378
    assert round(kappa.expected, 3) == 0.213
    assert kappa.value is not None and round(kappa.value, 3) == 0.210


@pytest.mark.parametrize("weighting", ["none", "linear", "quadratic"])
def test_cohen_equals_scikit_learn(weighting: str) -> None:
    generator = np.random.default_rng(8)
    for categories in (2, 3, 5, 21):
        first = generator.integers(categories, size=60)
        second = np.where(generator.random(60) < 0.5, first, generator.integers(categories, size=60))
        expected = cohen_kappa_score(
            first, second, labels=range(categories), weights=None if weighting == "none" else weighting
        )
        assert cohen_kappa(first, second, categories, weighting=weighting).value == pytest.approx(expected)  # type: ignore[arg-type]


def test_fleiss_with_two_readers_is_scotts_pi() -> None:
    """Observed 0.7; yes is 55 of 100 answers: chance 0.55² + 0.45² = 0.505; pi = 0.195 / 0.495."""
    both = np.array(readings([[20, 5], [10, 15]]), dtype=np.float64)
    assert fleiss_kappa(answer_counts(both, 2)).value == pytest.approx((0.7 - 0.505) / (1 - 0.505))


def test_cases_not_read_are_left_out() -> None:
    nan = np.nan
    first, second = np.array([0, 1, 1, 0, nan, 1]), np.array([0, 1, 0, 0, 1, nan])
    kappa = cohen_kappa(first, second, 2)
    assert kappa.cases == 4
    assert kappa.value == pytest.approx(cohen_kappa_score([0, 1, 1, 0], [0, 1, 0, 0]))
    three = np.stack([first, second, [nan, nan, 1, 0, nan, nan]])
    counts = answer_counts(three, 2)
    assert counts.tolist() == [[2, 0], [0, 2], [1, 2], [3, 0], [0, 1], [0, 1]]
    # By hand: agreement of the four cases with two answers or more 1, 1, 1/3, 1; 6 of their 10 answers say no.
    assert fleiss_kappa(counts).value == pytest.approx((10 / 12 - 0.52) / 0.48)


def test_there_is_no_kappa_where_all_answers_are_alike() -> None:
    for kappa in (cohen_kappa([1, 1, 1], [1, 1, 1], 2), fleiss_kappa([[3, 0], [3, 0]])):
        assert kappa.value is None
        assert kappa.as_json()["reason"].startswith("all answers are the same")
    assert cohen_kappa([np.nan], [1], 2).as_json() == {"kappa": None, "cases": 0, "reason": "no case was read by both"}
    assert fleiss_kappa([[1, 0]]).as_json()["reason"] == "no case was read by two readers"


def test_replicates_are_the_kappas_of_repeated_cases() -> None:
    generator = np.random.default_rng(5)
    answers = generator.integers(3, size=(4, 30)).astype(np.float64)
    weights = np.stack([np.bincount(generator.integers(30, size=30), minlength=30) for _ in range(6)], axis=1)
    cohen = cohen_kappa(answers[0], answers[1], 3, weighting="linear", case_weights=weights)
    fleiss = fleiss_kappa(answer_counts(answers, 3), case_weights=weights)
    for replicate in range(6):
        repeated = np.repeat(answers, weights[:, replicate], axis=1)
        assert cohen.replicates[replicate] == pytest.approx(
            cohen_kappa_score(repeated[0], repeated[1], weights="linear", labels=[0, 1, 2])
        )
        assert fleiss.replicates[replicate] == pytest.approx(fleiss_kappa(answer_counts(repeated, 3)).value)


def test_numbers_that_are_no_category_are_refused() -> None:
    with pytest.raises(DataError, match="category numbers have to be 0 to 1"):
        cohen_kappa([0, 2], [0, 1], 2)
    with pytest.raises(DataError, match="expected \\[cases, categories\\]"):
        fleiss_kappa([1, 2])
