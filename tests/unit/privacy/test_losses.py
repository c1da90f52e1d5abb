"""The losses of one unit against plain loops, with masks, and what they must not see."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from privacy.losses import PatientPair, decoupled_loss, group_info_nce, patient_loss

TAU = 0.2


def unit_vectors(*shape: int, seed: int) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def pair(studies: int = 3, present: list[bool] | None = None) -> PatientPair:
    return PatientPair(
        unit_vectors(studies, 5, seed=1),
        unit_vectors(studies, 5, seed=2),
        torch.tensor(present or [True] * studies),
        unit_vectors(7, 5, seed=3),
        unit_vectors(7, 5, seed=4),
    )


def by_hand(own: float, others: list[float]) -> float:
    return -math.log(math.exp(own / TAU) / (math.exp(own / TAU) + sum(math.exp(other / TAU) for other in others)))


def test_decoupled_loss_is_its_formula() -> None:
    given = pair()
    terms = []
    for u, v in zip(given.first, given.second, strict=True):
        forth = by_hand(float(u @ v), [float(u @ b) for b in given.bank_second])
        back = by_hand(float(u @ v), [float(v @ b) for b in given.bank_first])
        terms.append((forth + back) / 2)
    assert float(decoupled_loss(given, TAU)) == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_absent_studies_are_left_out_of_the_mean_and_none_at_all_is_exactly_zero() -> None:
    some, first_two = pair(3, [True, True, False]), pair(3)
    alone = PatientPair(
        first_two.first[:2], first_two.second[:2], first_two.present[:2], some.bank_first, some.bank_second
    )
    assert float(decoupled_loss(some, TAU)) == pytest.approx(float(decoupled_loss(alone, TAU)), rel=1e-6)
    assert float(decoupled_loss(pair(3, [False] * 3), TAU)) == 0.0


def test_bank_records_that_do_not_count_change_nothing() -> None:
    whole = pair()
    some = torch.arange(len(whole.bank_first)) % 2 == 0
    left = replace(whole, bank_first=whole.bank_first[some], bank_second=whole.bank_second[some])
    masked = float(decoupled_loss(replace(whole, bank_present=some), 0.1))
    assert masked == pytest.approx(float(decoupled_loss(left, 0.1)), rel=1e-6)
    assert masked < float(decoupled_loss(whole, 0.1))
    assert float(decoupled_loss(replace(whole, bank_present=torch.zeros_like(some)), 0.1)) == 0


def test_the_bank_and_the_temperature_have_a_gradient_for_whoever_asks() -> None:
    given = pair()
    bank, temperature = given.bank_second.requires_grad_(True), torch.tensor(TAU, requires_grad=True)
    given.first.requires_grad_(True)
    decoupled_loss(given, temperature).backward()  # type: ignore[no-untyped-call]
    assert bank.grad is not None and bool(bank.grad.any())
    assert temperature.grad is not None and float(temperature.grad) != 0


def test_pairs_of_a_patient_are_summed_and_divided_by_a_public_constant() -> None:
    both, one = [pair(), pair(2)], [pair(), pair(2, [False, False])]
    single = float(decoupled_loss(pair(), TAU))
    assert float(patient_loss(one, TAU, 2.0)) == pytest.approx(single / 2, rel=1e-6)
    assert float(patient_loss(both, TAU, 2.0)) == pytest.approx((single + float(decoupled_loss(pair(2), TAU))) / 2)


def group(present: list[bool], patients: list[int]) -> tuple[Any, ...]:
    rows = len(present)
    return (
        unit_vectors(rows, 5, seed=5).requires_grad_(True),
        unit_vectors(rows, 5, seed=6).requires_grad_(True),
        torch.tensor(present),
        torch.tensor(patients),
    )


def test_group_loss_without_masks_is_symmetric_cross_entropy() -> None:
    anchor, other, present, patients = group([True] * 4, [0, 1, 2, 3])
    logits, rows = anchor @ other.T / TAU, torch.arange(4)
    expected = (functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, rows)) / 2
    assert group_info_nce(anchor, other, present, patients, TAU).item() == pytest.approx(expected.item(), rel=1e-5)


def test_studies_of_one_patient_are_no_negatives_of_each_other() -> None:
    anchor, other, present, patients = group([True] * 3, [0, 0, 1])
    scores = (anchor @ other.T).tolist()
    negatives = {0: [2], 1: [2], 2: [0, 1]}
    expected = sum(
        by_hand(scores[row][row], [scores[row][b] for b in negatives[row]])
        + by_hand(scores[row][row], [scores[b][row] for b in negatives[row]])
        for row in range(3)
    )
    assert group_info_nce(anchor, other, present, patients, TAU).item() == pytest.approx(expected / 6, rel=1e-5)


def test_absent_rows_change_nothing_and_get_no_gradient() -> None:
    anchor, other, present, patients = group([True, True, False, False], [0, 1, 2, 2])
    loss = group_info_nce(anchor, other, present, patients, TAU)
    alone = group_info_nce(anchor[:2], other[:2], present[:2], patients[:2], TAU)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)
    loss.backward()
    assert float(anchor.grad[2:].abs().max()) == 0.0
    assert float(anchor.grad[:2].abs().max()) > 0.0


@pytest.mark.parametrize(
    ("present", "patients"),
    [([True, False, False], [0, 1, 2]), ([True, True, False], [5, 5, 1]), ([False] * 3, [0, 1, 2])],
)
def test_a_group_with_one_patient_or_none_has_zero_loss_and_gradient(present: list[bool], patients: list[int]) -> None:
    anchor, other, mask, ids = group(present, patients)
    loss = group_info_nce(anchor, other, mask, ids, TAU)
    loss.backward()
    assert loss.item() == 0.0
    assert float(anchor.grad.abs().max()) == float(other.grad.abs().max()) == 0.0


def test_second_derivatives_beside_a_mask_are_finite() -> None:
    anchor, other, present, patients = group([True, True, False], [0, 1, 2])
    loss = group_info_nce(anchor, other, present, patients, TAU)
    (first,) = torch.autograd.grad(loss, anchor, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), anchor)
    assert torch.isfinite(second).all()
