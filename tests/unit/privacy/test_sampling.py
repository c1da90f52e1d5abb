"""Draws are independent and secret; groups and chosen studies depend on one patient only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privacy.sampling import assigned_groups, chosen_studies, epoch_of_groups, group_of, poisson_draw

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
PATIENTS = [f"patient-{number}" for number in range(400)]


def test_poisson_draws_have_the_rate_and_the_spread_of_independent_coins() -> None:
    units, rate, steps = 500, 0.1, 2000
    sizes = np.array([len(poisson_draw(units, rate)) for _ in range(steps)])
    # Five standard errors.
    assert abs(sizes.mean() - 50) < 5 * np.sqrt(45 / steps)
    assert abs(sizes.var() - 45) < 5 * 45 * np.sqrt(2 / steps)


def test_every_unit_is_drawn_equally_often_and_independently_of_its_neighbour() -> None:
    draws = np.zeros((4000, 20))
    for step in draws:
        step[poisson_draw(20, 0.3)] = 1
    assert np.abs(draws.mean(axis=0) - 0.3).max() < 5 * np.sqrt(0.21 / 4000)
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 5 / np.sqrt(4000)


def test_draws_are_rows_in_order_and_may_be_none_or_all() -> None:
    assert poisson_draw(7, 1.0).tolist() == list(range(7))
    assert poisson_draw(0, 0.5).size == 0
    assert poisson_draw(3, 1e-12).size == 0
    drawn = poisson_draw(1000, 0.5)
    assert (np.diff(drawn) > 0).all()


def test_seeds_have_no_say_in_who_is_drawn() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)
        draws.append(poisson_draw(1000, 0.5).tolist())
    assert draws[0] != draws[1]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="sampling rate"):
        poisson_draw(10, rate)


def test_an_epoch_deals_every_group_once_into_a_public_number_of_steps() -> None:
    epochs = [epoch_of_groups(103, 10) for _ in range(2)]
    for epoch in epochs:
        assert sorted(group for step in epoch for group in step) == list(range(103))
        assert {len(step) for step in epoch} == {10, 11}
    assert epochs[0] != epochs[1]


def test_leaving_one_patient_out_changes_one_group_only() -> None:
    groups = assigned_groups(KEY, PATIENTS, 100, slots=8)
    for left in PATIENTS[::37]:
        after = assigned_groups(KEY, [patient for patient in PATIENTS if patient != left], 100, slots=8)
        changed = [number for number in range(100) if groups[number] != after[number]]
        assert changed in ([], [group_of(KEY, left, 100)])  # none where the patient had no slot
        assert len(changed) == 1 or left not in {patient for group in groups for patient in group}


def test_order_and_repetition_of_the_data_change_nothing() -> None:
    shuffled = [*reversed(PATIENTS), *PATIENTS[:50]]
    assert assigned_groups(KEY, shuffled, 100, slots=8) == assigned_groups(KEY, PATIENTS, 100, slots=8)


def test_groups_are_even_and_depend_on_the_key() -> None:
    many = [f"p{number}" for number in range(8000)]
    sizes = np.bincount([group_of(KEY, patient, 40) for patient in many], minlength=40)
    assert np.abs(sizes - 200).max() < 5 * np.sqrt(200)
    same = sum(group_of(KEY, patient, 40) == group_of(OTHER_KEY, patient, 40) for patient in many)
    assert same / len(many) == pytest.approx(1 / 40, abs=0.01)


@pytest.mark.parametrize(("size", "left_out"), [(4, 0.012), (8, 0.003)])
def test_slots_of_twice_the_mean_leave_out_few(size: int, left_out: float) -> None:
    many = [f"p{number}" for number in range(8000)]
    groups = assigned_groups(KEY, many, len(many) // size, slots=2 * size)
    seated = sum(len(group) for group in groups)
    assert (1 - left_out) * len(many) < seated < len(many)
    assert max(len(group) for group in groups) == 2 * size


def test_chosen_studies_are_at_most_m_and_the_same_in_any_order() -> None:
    studies = [f"s{number}" for number in range(9)]
    chosen = chosen_studies(KEY, "p", studies, 3)
    assert len(chosen) == 3
    assert chosen == [study for study in studies if study in chosen]
    assert set(chosen_studies(KEY, "p", studies[::-1], 3)) == set(chosen)
    assert chosen_studies(KEY, "p", ["b", "a", "b"], 4) == ["b", "a"]
    assert {tuple(chosen_studies(KEY, patient, studies, 3)) for patient in PATIENTS[:20]} != {tuple(chosen)}
    assert any(set(chosen_studies(OTHER_KEY, p, studies, 3)) != set(chosen_studies(KEY, p, studies, 3)) for p in "abcd")


def test_words_cannot_run_into_each_other() -> None:
    # "a" + "bc7" and "ab" + "c7" are the same letters: hashed without lengths, both would keep the same numbers.
    one = chosen_studies(KEY, "a", [f"bc{number}" for number in range(40)], 20)
    other = chosen_studies(KEY, "ab", [f"c{number}" for number in range(40)], 20)
    assert [study.removeprefix("bc") for study in one] != [study.removeprefix("c") for study in other]


def test_a_short_key_and_no_group_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        group_of(b"short", "p", 3)
    with pytest.raises(ValueError, match="at least one group"):
        group_of(KEY, "p", 0)
