"""The clipped gradient of a unit: its own, whole, bounded, and the same however the units are cut into chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from privacy.losses import PatientPair, patient_loss
from privacy.unit_gradients import (
    clip_factors,
    clipped_sum,
    count_units,
    gradients_one_by_one,
    in_chunks,
    unit_gradients,
)

Record = dict[str, torch.Tensor]


@pytest.fixture
def patients(random_cohort: Any) -> Record:
    """Six patients with three studies each."""
    studies = {name: rows.unflatten(0, (6, 3)) for name, rows in random_cohort(18, 7).items()}
    return {**studies, "present": torch.ones(6, 3, dtype=torch.bool)}


def norm(tensors: Record) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors.values()]).double().norm())


def test_gradient_of_a_unit_is_what_autograd_says(toy: Any, patients: Record) -> None:
    found = unit_gradients(toy.patient_loss, toy.parameters, patients)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: (6, *tensor.shape) for name, tensor in toy.parameters.items()
    }
    leaves = {name: tensor.clone().requires_grad_(True) for name, tensor in toy.parameters.items()}
    toy.patient_loss(leaves, {name: rows[2] for name, rows in patients.items()}).backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(found[name][2], leaf.grad, rtol=1e-4, atol=1e-6)


def test_other_units_do_not_change_a_bit_of_a_units_gradient(toy: Any, patients: Record) -> None:
    others = {name: rows.clone() for name, rows in patients.items()}
    for name in ("image", "text"):
        others[name][1:] = 100 * torch.randn(5, *others[name].shape[1:])
    before = unit_gradients(toy.patient_loss, toy.parameters, patients)
    after = unit_gradients(toy.patient_loss, toy.parameters, others)
    assert all(torch.equal(before[name][0], after[name][0]) for name in before)
    assert not any(torch.equal(before[name][1], after[name][1]) for name in before)


@pytest.mark.parametrize("method", [unit_gradients, gradients_one_by_one])
@pytest.mark.parametrize("units_at_once", [1, 4, 6])
def test_chunks_and_loops_give_the_same_sum(toy: Any, patients: Record, method: Any, units_at_once: int) -> None:
    whole = clipped_sum(toy.patient_loss, toy.parameters, [patients], 0.1)
    chunks = in_chunks(patients, units_at_once)
    cut = clipped_sum(toy.patient_loss, toy.parameters, chunks, 0.1, gradients=method)
    assert (cut.units, cut.refused, cut.clipped) == (whole.units, whole.refused, whole.clipped) == (6, 0, 6)
    for name, total in whole.sums.items():
        torch.testing.assert_close(cut.sums[name], total, rtol=1e-4, atol=1e-6)


def test_a_patient_with_five_studies_contributes_at_most_c_once(toy: Any, random_cohort: Any) -> None:
    for seed in range(3):
        studies = {name: 3 * rows[None] for name, rows in random_cohort(5, seed).items()}
        patient = {**studies, "present": torch.ones(1, 5, dtype=torch.bool)}
        found = clipped_sum(toy.patient_loss, toy.parameters, [patient], 0.05)
        assert found.units == 1
        assert norm(found.sums) == pytest.approx(0.05, rel=1e-5)
        # Clipped study by study, the same patient would move the sum further.
        as_studies = {name: rows.transpose(0, 1) for name, rows in patient.items()}
        assert norm(clipped_sum(toy.patient_loss, toy.parameters, [as_studies], 0.05).sums) > 1.2 * 0.05


def test_absent_studies_do_not_count(toy: Any, patients: Record) -> None:
    present = patients["present"].clone()
    present[0, 1:] = False
    wild = {**patients, "image": patients["image"].clone(), "present": present}
    wild["image"][0, 1:] = 1e3
    alone = {name: rows[:1, :1] for name, rows in patients.items()}
    found = unit_gradients(toy.patient_loss, toy.parameters, wild)
    expected = unit_gradients(toy.patient_loss, toy.parameters, alone)
    for name in found:
        torch.testing.assert_close(found[name][0], expected[name][0], rtol=1e-4, atol=1e-6)


def test_a_patient_without_one_modality_still_has_one_gradient(toy: Any, patients: Record) -> None:
    bank = torch.nn.functional.normalize(torch.randn(8, 6), dim=-1)

    def loss(parameters: Any, patient: Record) -> torch.Tensor:
        image, text = toy.embed(parameters, patient)
        pairs = [PatientPair(image, text, patient[have], bank, bank) for have in ("present", "second_pair")]
        return patient_loss(pairs, 0.1, public_constant=2.0)

    both = {**patients, "second_pair": patients["present"]}
    without = {**patients, "second_pair": torch.zeros(6, 3, dtype=torch.bool)}
    full, half = (unit_gradients(loss, toy.parameters, units)["image.0.weight"] for units in (both, without))
    torch.testing.assert_close(half, full / 2, rtol=1e-4, atol=1e-6)


def linear_loss(parameters: Any, unit: torch.Tensor) -> torch.Tensor:
    """Its gradient is the unit itself."""
    return (parameters["w"] * unit).sum()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_unit_that_is_not_finite_is_refused_and_spoils_nothing(bad: float) -> None:
    units = torch.ones(3, 4)
    units[1, 2] = bad
    found = clipped_sum(linear_loss, {"w": torch.zeros(4)}, [units], 10.0)
    assert torch.equal(found.sums["w"], torch.full((4,), 2.0))
    assert (found.units, found.refused, found.clipped) == (3, 1, 0)


def test_a_unit_without_gradient_is_fine() -> None:
    found = clipped_sum(linear_loss, {"w": torch.zeros(4)}, [torch.zeros(2, 4)], 1.0)
    assert torch.equal(found.sums["w"], torch.zeros(4))
    assert (found.units, found.refused) == (2, 0)


def test_a_huge_unit_is_clipped_although_its_square_overflows() -> None:
    found = clipped_sum(linear_loss, {"w": torch.zeros(4)}, [torch.full((1, 4), 1e30)], 1.0)
    torch.testing.assert_close(found.sums["w"], torch.full((4,), 0.5))
    assert (found.refused, found.clipped) == (0, 1)


def test_small_units_are_left_as_they_are_and_the_norm_is_over_all_tensors() -> None:
    gradients = {"a": torch.tensor([[3.0], [0.3]]), "b": torch.tensor([[4.0], [0.4]])}
    factors, finite = clip_factors(gradients, 1.0)
    torch.testing.assert_close(factors, torch.tensor([0.2, 1.0]))
    assert finite.all()


def test_sums_are_float32_whatever_the_parameters_are() -> None:
    parameters = {"w": torch.zeros(4, dtype=torch.bfloat16)}
    found = clipped_sum(linear_loss, parameters, [torch.full((1000, 4), 0.01, dtype=torch.bfloat16)], 1.0)
    assert found.sums["w"].dtype == torch.float32
    # In bfloat16 a sum of such steps stalls at a few units.
    torch.testing.assert_close(found.sums["w"], torch.full((4,), 10.0), rtol=2e-3, atol=0)


def test_nobody_drawn_gives_zeros() -> None:
    for chunks in ([], [torch.zeros(0, 4)]):
        found = clipped_sum(linear_loss, {"w": torch.zeros(4)}, chunks, 1.0)
        assert torch.equal(found.sums["w"], torch.zeros(4))
        assert found.units == 0


def test_random_numbers_inside_the_loss_are_refused() -> None:
    def noisy(parameters: Any, unit: torch.Tensor) -> torch.Tensor:
        return (parameters["w"] * nn.functional.dropout(unit, 0.5)).sum()

    with pytest.raises(RuntimeError, match="random"):
        unit_gradients(noisy, {"w": torch.zeros(4)}, torch.ones(2, 4))


def test_units_of_different_lengths_are_refused() -> None:
    assert count_units({"a": torch.zeros(3, 1), "b": [torch.zeros(3)]}) == 3
    with pytest.raises(ValueError, match=r"one leading dimension, but have \[2, 3\]"):
        count_units({"a": torch.zeros(3, 1), "b": torch.zeros(2)})
