"""Which share of the patients, and nobody in two parts."""

from __future__ import annotations

import numpy as np
import pytest

from more_model.errors import DataError
from more_model.evaluation.embedded import LabelTask
from more_model.evaluation.label_share import draw_share, refusals, require_disjoint

LINES, ROWS = LabelTask("lines", "xray"), LabelTask("rows", "xray")


def units(count: int, rows_each: int = 1) -> list[tuple[str, str]]:
    return [("north", f"p{row // rows_each}") for row in range(count * rows_each)]


def test_a_share_has_whole_patients_of_every_class() -> None:
    generator = np.random.default_rng(0)
    target = (generator.random((3000, 3)) < (0.02, 0.3, 0.5)).astype(float)
    target[generator.random(target.shape) < 0.2] = np.nan
    patients = units(1000, 3)
    taken = draw_share(target, patients, 0.1, seed=4)
    of_patient = taken.reshape(1000, 3)
    assert (of_patient.all(axis=1) == of_patient.any(axis=1)).all()
    assert 95 <= of_patient.any(axis=1).sum() <= 115
    for column in target.T:
        has = np.nanmax(np.where(np.isnan(column), -1.0, column).reshape(1000, 3), axis=1) == 1.0
        assert of_patient.any(axis=1)[has].sum() >= round(0.1 * has.sum())


def test_shares_are_nested_seeded_and_never_lose_a_class() -> None:
    target = np.zeros((200, 1))
    target[::50] = 1.0
    percent, tenth, whole = (draw_share(target, units(200), share, seed=1) for share in (0.01, 0.1, 1.0))
    assert whole.all()
    assert (percent & tenth == percent).all()
    # Rounded class by class: 1 % of 4 positives is one of them, 1 % of 196 negatives are two.
    assert (percent[target[:, 0] == 1].sum(), percent[target[:, 0] == 0].sum()) == (1, 2)
    assert (draw_share(target, units(200), 0.1, seed=1) == tenth).all()
    assert (draw_share(target, units(200), 0.1, seed=2) != tenth).any()
    with pytest.raises(DataError, match=r"fraction 1\.5 is not in \(0, 1\]"):
        draw_share(target, units(200), 1.5, seed=1)


def test_the_draw_does_not_depend_on_the_order_of_the_rows() -> None:
    target = np.random.default_rng(0).integers(0, 2, (60, 2)).astype(float)
    order = np.random.default_rng(1).permutation(60)
    patients = units(20, 3)
    taken = draw_share(target, patients, 0.3, seed=5)
    assert (draw_share(target[order], [patients[row] for row in order], 0.3, seed=5) == taken[order]).all()


def test_refusals_name_the_task_and_the_lacking_class() -> None:
    target = np.array([[1.0, 1.0], [0.0, np.nan], [1.0, 1.0], [0.0, 0.0]])
    assert refusals(target, [LINES, ROWS], "fusion") == {
        ROWS: "fusion: in training 1 negative, at least 2 of either are needed"
    }


def test_a_patient_in_two_parts_is_counted_and_not_named() -> None:
    parts = {"training": units(5), "validation": [("south", "p1")], "test": frozenset(units(2))}
    with pytest.raises(DataError, match="2 patients are both in training and in test") as caught:
        require_disjoint(parts)
    assert "p1" not in str(caught.value)
    require_disjoint({"training": units(5), "test": [("south", "p1")]})
