"""The epsilon printed for a run: published values, a second implementation, monotony, and what is refused."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from scipy.integrate import quad
from scipy.stats import norm

from more_model.errors import ConfigError
from privacy.accounting import (
    Adjacency,
    Epsilon,
    Event,
    argument_faults,
    composed_epsilon,
    epsilon,
    patient_epsilon_of_sampled_studies,
)

Z, RATE, STEPS, DELTA = 1.0, 0.0256, 1000, 1e-5


def gaussian_delta(shift: float, eps: float) -> float:
    """Delta of one Gaussian release whose mean moves by `shift` deviations (Balle and Wang 2018, theorem 8)."""
    return float(norm.cdf(shift / 2 - eps / shift) - math.exp(eps) * norm.cdf(-shift / 2 - eps / shift))


def sampled_delta(rate: float, low: float, high: float, eps: float) -> float:
    """Hockey-stick divergence between (1-q) N(0,1) + q N(high,1) and (1-q) N(0,1) + q N(low,1), by quadrature."""

    def excess(x: float) -> float:
        upper = (1 - rate) * norm.pdf(x) + rate * norm.pdf(x - high)
        lower = (1 - rate) * norm.pdf(x) + rate * norm.pdf(x - low)
        return float(max(upper - math.exp(eps) * lower, 0.0))

    return quad(excess, -20, 20, limit=500, points=[low, 0, high])[0]


@pytest.mark.parametrize(
    ("adjacency", "published", "tolerance"), [("add-remove", 5.129, 0.001), ("replace", 8.32, 0.005)]
)
def test_poisson_sampled_golden_values(adjacency: Any, published: float, tolerance: float) -> None:
    result = epsilon(Z, RATE, STEPS, DELTA, adjacency)
    assert result.epsilon == pytest.approx(published, abs=tolerance)
    assert "PLD" in result.accountant


@pytest.mark.parametrize(
    ("z", "adjacency", "published", "tolerance"),
    [
        (1, "add-remove", 54.38, 0.005),
        (0.5, "add-remove", 159, 0.5),
        (4, "add-remove", 8.6, 0.05),
        (4, "replace", 20.68, 0.005),
        (1, "replace", 159, 0.5),
    ],
)
def test_fifty_unsampled_rounds_golden_values(z: float, adjacency: Any, published: float, tolerance: float) -> None:
    result = epsilon(z, 1, 50, DELTA, adjacency)
    assert result.epsilon == pytest.approx(published, abs=tolerance)
    assert "exact" in result.accountant


@pytest.mark.parametrize(("adjacency", "shift"), [("add-remove", 1.0), ("replace", 2.0)])
def test_unsampled_epsilon_gives_back_its_delta(adjacency: Any, shift: float) -> None:
    z, steps = 3.0, 20
    result = epsilon(z, 1, steps, DELTA, adjacency)
    assert gaussian_delta(shift * math.sqrt(steps) / z, result.epsilon) == pytest.approx(DELTA, rel=1e-6)


@pytest.mark.parametrize(("adjacency", "low"), [("add-remove", 0.0), ("replace", -1.0)])
def test_one_sampled_step_agrees_with_quadrature(adjacency: Any, low: float) -> None:
    rate, delta = 0.2, 1e-3
    result = epsilon(1.0, rate, 1, delta, adjacency)
    assert sampled_delta(rate, low, 1.0, result.epsilon) == pytest.approx(delta, rel=2e-3)
    # An upper bound, up to the error of the quadrature at the kink.
    assert sampled_delta(rate, low, 1.0, result.epsilon) <= delta * (1 + 1e-5)


def test_replace_is_the_same_as_half_the_noise_without_sampling() -> None:
    assert epsilon(2, 1, 30, DELTA, "replace").epsilon == pytest.approx(epsilon(1, 1, 30, DELTA).epsilon, rel=1e-9)


def test_sampling_never_costs_and_tends_to_the_unsampled_value() -> None:
    everyone = epsilon(2, 1, 10, DELTA).epsilon
    assert epsilon(2, 0.9999, 10, DELTA).epsilon == pytest.approx(everyone, rel=1e-3)
    assert epsilon(2, 0.5, 10, DELTA).epsilon < everyone


@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
def test_more_noise_fewer_steps_and_rarer_sampling_all_lower_epsilon(adjacency: Any) -> None:
    base = epsilon(2.0, 0.05, 100, DELTA, adjacency).epsilon
    assert epsilon(2.5, 0.05, 100, DELTA, adjacency).epsilon < base
    assert epsilon(2.0, 0.05, 50, DELTA, adjacency).epsilon < base
    assert epsilon(2.0, 0.02, 100, DELTA, adjacency).epsilon < base
    assert epsilon(2.0, 0.05, 100, 1e-4, adjacency).epsilon < base


@pytest.mark.parametrize(("z", "rate", "steps"), [(0.01, 0.5, 1000), (0.05, 0.01, 100), (1, 0.5, 100_000)])
def test_hopeless_settings_end_in_a_huge_finite_number(z: float, rate: float, steps: int) -> None:
    result = epsilon(z, rate, steps, DELTA, "replace")
    assert math.isfinite(result.epsilon)
    assert 100 < result.epsilon <= epsilon(z, 1, steps, DELTA, "replace").epsilon


def test_assumptions_name_the_adjacency_the_sampling_and_the_steps() -> None:
    result = epsilon(Z, RATE, STEPS, DELTA, "replace")
    words = " ".join(result.assumptions)
    assert isinstance(result, Epsilon)
    assert result.delta == DELTA
    assert "exchanged for another" in words
    assert "2 C" in words
    assert "Poisson" in words and "0.0256" in words
    assert "1000 noisy releases" in words
    assert "Poisson" not in " ".join(epsilon(Z, 1, 2, DELTA).assumptions)


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match="5 faults") as caught:
        epsilon(0, 1.5, 0, 0, "swap")  # type: ignore[arg-type]
    text = str(caught.value)
    for word in ("noise multiplier 0", "sampling rate 1.5", "steps 0", "delta 0", "'swap'"):
        assert word in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0, 0.009])
def test_noise_that_cannot_protect_is_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="noise multiplier"):
        epsilon(bad, RATE, STEPS, DELTA)


@pytest.mark.parametrize("bad", [math.nan, 0.0, -0.1, 1.0000001])
def test_sampling_rate_outside_its_range_is_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="sampling rate"):
        epsilon(Z, bad, STEPS, DELTA)


@pytest.mark.parametrize("bad", [math.nan, 0.0, 1e-11, 1.0])
def test_delta_outside_its_range_is_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="delta"):
        epsilon(Z, RATE, STEPS, bad)


@pytest.mark.parametrize("bad", [0, -3, 2.5, True])
def test_steps_must_be_a_whole_positive_number(bad: Any) -> None:
    assert any("steps" in fault for fault in argument_faults(Z, RATE, bad, DELTA, "replace"))


def test_usable_arguments_have_no_faults() -> None:
    assert argument_faults(Z, 1, 1, DELTA, "add-remove") == ()


def test_equal_steps_in_pieces_are_the_whole() -> None:
    pieces = [Event(1.0, 1.0, "add-remove", RATE, 400), Event(3.0, 3.0, "add-remove", RATE, 600)]
    assert composed_epsilon(pieces, DELTA).epsilon == epsilon(Z, RATE, STEPS, DELTA).epsilon


def test_order_of_events_does_not_matter_to_the_last_bit() -> None:
    events = [Event(z, 1.0, "add-remove", rate, 50) for z, rate in ((2.0, 0.1), (3.0, 1.0), (2.5, 0.05))]
    forwards, backwards = (composed_epsilon(given, DELTA, grid=1e-3) for given in (events, events[::-1]))
    assert forwards.epsilon == backwards.epsilon


def test_unsampled_events_add_up_in_squares() -> None:
    events = [Event(3.0, 1.0, "add-remove", 1, 9), Event(8.0, 1.0, "replace", 1, 16)]
    result = composed_epsilon(events, DELTA)
    total = math.sqrt(9 / 3.0**2 + 16 * (2 / 8.0) ** 2)
    assert gaussian_delta(total, result.epsilon) == pytest.approx(DELTA, rel=1e-6)
    assert "exact" in result.accountant
    assert "Some of the steps clipped groups" in " ".join(result.assumptions)


def test_sampled_and_unsampled_events_agree_with_the_exact_curve_where_it_is_known() -> None:
    # A sampling rate of nearly 1 sends the events through the privacy loss distributions.
    events = [Event(4.0, 1.0, "add-remove", 0.999999, 20), Event(6.0, 1.0, "add-remove", 1, 10)]
    exact = [Event(4.0, 1.0, "add-remove", 1, 20), events[1]]
    result = composed_epsilon(events, DELTA)
    assert "PLD" in result.accountant
    assert result.epsilon == pytest.approx(composed_epsilon(exact, DELTA).epsilon, rel=1e-3)


def test_both_adjacencies_together_lie_between_the_two_alone() -> None:
    mixed = [Event(1.5, 1.0, "add-remove", 0.05, 50), Event(1.5, 1.0, "replace", 0.05, 50)]
    between = composed_epsilon(mixed, DELTA, grid=1e-3)
    removed, exchanged = (
        composed_epsilon([Event(1.5, 1.0, relation, 0.05, 100)], DELTA, grid=1e-3).epsilon
        for relation in get_args(Adjacency)
    )
    assert removed < between.epsilon < exchanged
    assert "one unit more" in " ".join(between.assumptions)


def test_composition_is_less_than_the_sum_of_epsilons() -> None:
    one, other = Event(2.0, 1.0, "add-remove", 0.05, 100), Event(3.0, 1.0, "add-remove", 0.1, 100)
    alone = [composed_epsilon([event], DELTA / 2, grid=1e-3).epsilon for event in (one, other)]
    assert max(alone) < composed_epsilon([one, other], DELTA, grid=1e-3).epsilon < sum(alone)


def test_a_wider_grid_never_reports_less() -> None:
    event = Event(Z, 1.0, "replace", RATE, STEPS)
    fine, wide = composed_epsilon([event], DELTA).epsilon, composed_epsilon([event], DELTA, grid=5e-3).epsilon
    assert fine <= wide < 1.01 * fine


def test_no_event_and_faulty_events_are_refused_together() -> None:
    with pytest.raises(ConfigError, match="no event"):
        composed_epsilon([], DELTA)
    with pytest.raises(ConfigError, match="2 faults") as caught:
        composed_epsilon([Event(1.0, 0.0, "replace", 0.1, 5), Event(1.0, 1.0, "replace", 0.1, 0)], DELTA)
    assert "clipping norm 0" in str(caught.value) and "steps 0" in str(caught.value)


@pytest.mark.parametrize(("studies", "published"), [(1, 5.13), (2, 11.7), (3, 19.4)])
def test_a_patient_with_several_sampled_studies_golden_values(studies: int, published: float) -> None:
    assert patient_epsilon_of_sampled_studies(Z, RATE, STEPS, DELTA, studies) == pytest.approx(published, abs=0.05)


def test_faults_of_the_warning_figure_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match="2 faults"):
        patient_epsilon_of_sampled_studies(0.0, RATE, STEPS, DELTA, 0)
