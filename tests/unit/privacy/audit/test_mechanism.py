"""Level 1 passes what is sound, and nothing else: no noise, too little of it, a coupled loss, a wrong claim."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from privacy.audit.bounds import resolution
from privacy.audit.mechanism import (
    Mechanism,
    audit_mechanism,
    distributed_mechanism,
    hospital_mechanism,
    mechanisms,
    step_mechanism,
)
from privacy.audit.neighbours import (
    CLIP_NORM,
    PATIENTS,
    Neighbours,
    coupled_neighbours,
    decoupled_neighbours,
    group_neighbours,
)
from privacy.private_step import private_step

SEEDS = range(10)
MADE: dict[str, Callable[[], Mechanism]] = {
    "decoupled": lambda: step_mechanism(decoupled_neighbours()),
    "groups": lambda: step_mechanism(group_neighbours()),
    "hospital": hospital_mechanism,
    "secure sum": distributed_mechanism,
}


@pytest.fixture(scope="module", params=list(MADE))
def mechanism(request: pytest.FixtureRequest) -> Mechanism:
    return MADE[request.param]()


def test_without_noise_the_audit_reports_all_that_it_can_see(mechanism: Mechanism, scaled_noise: Any) -> None:
    scaled_noise(0.0, 0)
    result = audit_mechanism(mechanism)
    assert result.bound.epsilon == pytest.approx(resolution(10_000, 1e-5), abs=0.01)
    assert result.bound.epsilon > result.claimed + 5
    assert result.refuted


def test_the_claimed_noise_stays_below_the_claim_in_ten_of_ten(mechanism: Mechanism, scaled_noise: Any) -> None:
    for seed in SEEDS:
        scaled_noise(1.0, seed)
        result = audit_mechanism(mechanism)
        assert 0.1 < result.bound.epsilon < result.claimed, seed
        assert not result.refuted


def test_a_third_of_the_noise_exceeds_the_claim_in_ten_of_ten(mechanism: Mechanism, scaled_noise: Any) -> None:
    for seed in SEEDS:
        scaled_noise(1 / 3, seed)
        result = audit_mechanism(mechanism)
        assert result.bound.epsilon > result.claimed, seed
        assert result.refuted and result.told_apart


def test_the_pairs_come_close_to_the_declared_sensitivity_and_never_above(mechanism: Mechanism) -> None:
    moved = float(np.linalg.norm(mechanism.difference))
    assert 0.9 * mechanism.declared <= moved <= mechanism.declared * (1 + 1e-5)


def test_the_coupled_loss_is_found_far_above_its_claim(scaled_noise: Any) -> None:
    scaled_noise(1.0, 0)
    result = audit_mechanism(step_mechanism(coupled_neighbours(), noise_multiplier=4.0, control=True))
    assert result.claimed == pytest.approx(0.93, abs=0.005)
    assert result.bound.epsilon > 5
    assert result.moved > 10 * result.declared


def test_a_claim_that_is_wrong_by_a_factor_of_two_is_found_without_noise(scaled_noise: Any) -> None:
    scaled_noise(1.0, 0)
    # Groups accounted as add-remove: C is declared where the sum moves by nearly 2 C.
    wrong = step_mechanism(dataclasses.replace(group_neighbours(), mode="patient-decoupled"), noise_multiplier=4.0)
    result = audit_mechanism(wrong, draws=1000)
    assert result.moved > 1.9 * result.declared
    assert result.refuted


def test_everything_holds_with_the_noise_of_the_operating_system_and_the_control_does_not() -> None:
    results = [audit_mechanism(mechanism) for mechanism in mechanisms()]
    assert [(result.control, result.refuted) for result in results] == [(False, False)] * 4 + [(True, True)]
    assert {result.mode for result in results} == {"patient-decoupled", "patient-groups", "hospital"}


@pytest.mark.parametrize("made", [decoupled_neighbours, group_neighbours])
def test_copies_in_one_wide_vector_are_separate_steps(made: Callable[[], Neighbours], scaled_noise: Any) -> None:
    neighbours, noise = made(), 2.0
    scaled_noise(1e-9, 0)
    side = neighbours.after
    one = private_step(
        side.loss, neighbours.parameters, [side.units], clip_norm=CLIP_NORM, noise_multiplier=noise,
        expected_units=float(PATIENTS),
    ).gradient  # fmt: skip
    expected = torch.cat([part.flatten() for part in one.values()]).numpy()
    wide = step_mechanism(neighbours, noise_multiplier=noise).second(7)
    assert wide.shape == (7, expected.size)
    assert np.abs(wide - expected).max() < 1e-6 * np.abs(expected).max() + 1e-9
    scaled_noise(1.0, 0)
    noised = step_mechanism(neighbours, noise_multiplier=noise).second(2000)
    assert (noised - expected).std() == pytest.approx(noise * CLIP_NORM / PATIENTS, rel=0.02)
    assert np.abs(np.corrcoef((noised - expected)[:8])[np.triu_indices(8, 1)]).max() < 5 / math.sqrt(expected.size)
