"""From a budget to noise: published multipliers, the budget kept, and the price of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from more_model.errors import ConfigError
from privacy.planning import Cohort, customary_delta, make_plan, noise_for, spending
from privacy.planning_figure import draw_plan
from privacy.settings import PrivacySettings, schedule


@pytest.mark.parametrize(
    ("mode", "patients", "batch", "budget", "published"),
    [
        ("patient-decoupled", 2_000, 256, 3, 4.77),
        ("patient-decoupled", 10_000, 256, 8, 0.79),
        ("patient-groups", 2_000, 256, 8, 4.20),
        ("patient-groups", 10_000, 256, 3, 2.10),
    ],
)
def test_published_noise_for_a_thousand_steps(
    mode: Any, patients: int, batch: int, budget: float, published: float
) -> None:
    found = noise_for(mode, batch / patients, 1000, budget, customary_delta(mode, patients))
    assert found == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    ("mode", "steps", "budget", "published"), [("hospital", 50, 8, 4.24), ("hospital", 50, 1, 26.4)]
)
def test_published_noise_for_hospitals(mode: Any, steps: int, budget: float, published: float) -> None:
    assert noise_for(mode, 1.0, steps, budget, 1e-5) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize("budget", [0.1, 1.0, 7.3, 60.0, 5000.0])
def test_the_budget_is_kept_and_nearly_used_up(budget: float) -> None:
    cohort = Cohort("hospital", 10, 0)
    noise = noise_for("hospital", 1.0, 30, budget, 1e-5)
    (kept,) = spending(cohort, noise, [30], 1e-5)
    (with_less,) = spending(cohort, noise * 0.995 - 0.001, [30], 1e-5)
    assert kept <= budget < with_less


def test_a_budget_beyond_all_use_gets_the_least_noise_and_one_of_nothing_is_refused() -> None:
    assert noise_for("hospital", 1.0, 1, 1e9, 1e-5) == 0.01
    with pytest.raises(ConfigError, match="no noise up to 100000 C keeps it"):
        noise_for("hospital", 1.0, 10**6, 1e-6, 1e-5)
    with pytest.raises(ConfigError, match="target epsilon nan"):
        noise_for("hospital", 1.0, 1, float("nan"), 1e-5)


def test_a_plan_shows_the_customary_budgets_and_what_they_cost() -> None:
    plan = make_plan(Cohort("patient-shuffled", 4000, 400), 10, 5.0, parameters=10_000)
    assert [cost.target_epsilon for cost in plan.costs] == [1.0, 3.0, 5.0, 8.0]
    assert plan.chosen.target_epsilon == 5.0
    assert [cost.noise_multiplier for cost in plan.costs] == sorted(
        (c.noise_multiplier for c in plan.costs), reverse=True
    )
    for cost in plan.costs:
        assert 0.98 * cost.target_epsilon < cost.epsilon <= cost.target_epsilon
        assert cost.noise_on_mean == pytest.approx(cost.noise_multiplier / 100)
        assert cost.norm_on_mean == pytest.approx(100 * cost.noise_on_mean)
    assert plan.claim.result.epsilon == pytest.approx(plan.chosen.epsilon)
    assert plan.delta == pytest.approx(4000**-1.1)
    assert make_plan(Cohort("hospital", 10, 0), 10, 8.0).chosen.norm_on_mean is None


def test_one_large_hospital_makes_everybody_pay() -> None:
    equal, large = (make_plan(Cohort("hospital", 10, 0, largest_weight=share), 50, 8.0) for share in (None, 0.6))
    assert equal.chosen.noise_on_mean == pytest.approx(equal.chosen.noise_multiplier / 10)
    assert large.chosen.noise_on_mean == pytest.approx(6 * equal.chosen.noise_on_mean)


@pytest.mark.parametrize("mode", ["patient-decoupled", "patient-groups", "patient-shuffled"])
def test_a_plan_counts_as_training_will(mode: Any) -> None:
    settings = PrivacySettings.model_validate(
        {"mode": mode, "noise_multiplier": 1, "delta": 1e-5, "expected_patients": 30, "group_size": 8}
    )
    site, cohort = schedule(settings, 1001), Cohort(mode, 1001, 30, group_size=8)
    assert (cohort.sampling_rate, cohort.mean_divisor) == (site.sampling_rate, site.expected_units)


def test_all_faults_of_a_plan_at_once() -> None:
    with pytest.raises(ConfigError, match="5 faults") as caught:
        make_plan(Cohort("patient-groups", 10, 20, group_size=2), 0, -1.0, parameters=0)
    for words in ("20 patients a step", "groups of 2", "steps 0", "target epsilon -1", "0 parameters"):
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match=r"delta 0\.1: must be below 1 / 100"):
        make_plan(Cohort("patient-decoupled", 100, 10), 5, 8.0, delta=0.1)
    with pytest.raises(ConfigError, match=r"largest weight 0\.05"):
        make_plan(Cohort("hospital", 10, 0, largest_weight=0.05), 5, 8.0)


def test_customary_delta_is_below_one_over_the_patients() -> None:
    for patients in (2, 100, 10_000, 10**8):
        assert customary_delta("patient-groups", patients) < 1 / patients
    assert customary_delta("hospital", 10) == 1e-5


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_figure_is_drawn(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"plan{suffix}"
    draw_plan(make_plan(Cohort("hospital", 10, 0), 50, 8.0), path)
    if suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("<?xml") and "</svg>" in text
