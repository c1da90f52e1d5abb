"""Charging: before the step, within the budget, composed as the accountant composes, and never forgotten."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import pytest

import privacy.ledger.ledger as ledger_module
from more_model.errors import ConfigError
from privacy.accounting import Event, composed_epsilon, epsilon
from privacy.ledger.dataset import data_set
from privacy.ledger.errors import BudgetExhausted
from privacy.ledger.spending import Budget, Charge, composed

DELTA = 1e-5


def test_a_charge_counts_in_full_before_any_step_runs(site: Any) -> None:
    site.ledger.charge(site.data.digest, site.charge(10), "round 1")
    assert site.reopen().spent(site.data.digest).epsilon == epsilon(20.0, 1, 10, DELTA, "replace").epsilon


def test_epsilon_is_the_accountants_of_all_events_and_not_a_sum() -> None:
    charges = [Charge("patient-decoupled", 1.0, 0.0256, steps, DELTA) for steps in (700, 300)]
    spent = composed(charges, DELTA)
    assert spent.epsilon == pytest.approx(5.129, abs=1e-3)
    assert (spent.unit, spent.delta) == ("patient", DELTA)
    rounds = [Charge("hospital", 20.0, 1.0, 25, DELTA)] * 2
    assert composed(rounds, DELTA).epsilon < 2 * composed(rounds[:1], DELTA).epsilon


def test_modes_are_composed_each_under_its_own_relation() -> None:
    charges = [
        Charge("patient-decoupled", 1.5, 0.05, 100, DELTA),
        Charge("patient-groups", 3.0, 0.1, 50, 1e-6),
        Charge("patient-shuffled", 12.0, 1.0, 2, DELTA),
    ]
    events = [
        Event(1.5, 1.0, "add-remove", 0.05, 100),
        Event(3.0, 1.0, "replace", 0.1, 50),
        Event(12.0, 1.0, "replace", 1.0, 2),
    ]
    expected = composed_epsilon(events, DELTA).epsilon
    assert composed(charges, DELTA).epsilon == expected == composed(reversed(charges), DELTA).epsilon


def test_hospital_rounds_are_the_hospitals_alone_and_an_exchange_beside_patient_steps() -> None:
    rounds = Charge("hospital", 20.0, 1.0, 50, DELTA)
    alone = composed([rounds], DELTA)
    assert (alone.unit, alone.epsilon) == ("hospital", epsilon(20.0, 1, 50, DELTA, "add-remove").epsilon)
    mixed = composed([rounds, Charge("patient-shuffled", 20.0, 1.0, 1, DELTA)], DELTA)
    assert (mixed.unit, mixed.epsilon) == ("patient", epsilon(20.0, 1, 51, DELTA, "replace").epsilon)


@pytest.mark.parametrize("seed", range(6))
def test_the_ledgers_epsilon_is_that_of_what_ran_whatever_the_order(
    make_site: Callable[[float], Any], seed: int
) -> None:
    """Random reservations, some settled early, some abandoned."""
    import random

    draw, site = random.Random(seed), make_site(50.0)
    counted: dict[float, int] = {}
    for _ in range(6):
        noise, steps = draw.choice([10.0, 15.0, 30.0]), draw.randint(1, 5)
        reservation = site.ledger.charge(
            site.data.digest, Charge("patient-shuffled", noise, 1.0, steps, DELTA), "property"
        )
        ran = draw.randint(0, steps)
        for _ in range(ran):
            reservation.take_step()
        if draw.random() < 0.5:
            site.ledger.settle(reservation)
            counted[noise] = counted.get(noise, 0) + ran
        else:
            counted[noise] = counted.get(noise, 0) + steps
    events = [Event(noise, 1.0, "replace", 1.0, steps) for noise, steps in counted.items() if steps]
    expected = composed_epsilon(events, DELTA).epsilon if events else 0.0
    assert site.reopen().spent(site.data.digest).epsilon == expected


def test_the_charge_that_would_cross_the_budget_is_refused_and_changes_nothing(
    make_site: Callable[[float], Any],
) -> None:
    site = make_site(epsilon(20.0, 1, 25, DELTA, "replace").epsilon + 1e-9)
    site.ledger.charge(site.data.digest, site.charge(20), "round 1")
    before = site.ledger.state().anchor
    with pytest.raises(BudgetExhausted, match="5 of these steps still fit") as caught:
        site.ledger.charge(site.data.digest, site.charge(6), "round 2")
    error = caught.value
    assert (error.fits, error.delta, error.exit_code) == (5, DELTA, 7)
    assert error.spent == epsilon(20.0, 1, 20, DELTA, "replace").epsilon < error.budget < error.asked
    assert "chest" not in str(error) and site.data.digest[:8] not in str(error)
    assert site.ledger.state().anchor == before and site.path.read_bytes().count(b"round 2") == 0

    resumed = site.reopen()
    resumed.charge(site.data.digest, site.charge(5), "round 2, shorter")
    with pytest.raises(BudgetExhausted, match="0 of these steps still fit"):
        resumed.charge(site.data.digest, site.charge(1), "round 3")


def test_only_what_was_not_handed_out_is_given_back_and_only_once(site: Any) -> None:
    reservation = site.ledger.charge(site.data.digest, site.charge(10), "round 1")
    for _ in range(4):
        reservation.take_step()
    site.ledger.settle(reservation)
    (charged,) = site.ledger.state().account(site.data.digest).charges.values()
    assert (charged.charge.steps, charged.reserved, charged.settled) == (4, 10, True)
    with pytest.raises(BudgetExhausted, match="used or given back"):
        reservation.take_step()
    anchor = site.ledger.state().anchor
    assert site.ledger.settle(reservation) == anchor


def test_a_reservation_hands_out_no_more_than_it_paid_for(site: Any) -> None:
    with site.ledger.reserved(site.data.digest, site.charge(2), "round 1") as reservation:
        reservation.take_step()
        reservation.take_step()
        with pytest.raises(BudgetExhausted, match="All 2 steps"):
            reservation.take_step()
    (charged,) = site.ledger.state().account(site.data.digest).charges.values()
    assert charged.charge.steps == 2


def test_an_error_inside_keeps_the_steps_that_were_taken(site: Any) -> None:
    with pytest.raises(ZeroDivisionError), site.ledger.reserved(site.data.digest, site.charge(9), "x") as reservation:
        reservation.take_step()
        _ = 1 / 0
    (charged,) = site.ledger.state().account(site.data.digest).charges.values()
    assert charged.charge.steps == 1


def test_a_forged_reservation_cannot_settle(site: Any) -> None:
    real = site.ledger.charge(site.data.digest, site.charge(10), "round 1")
    forged = ledger_module.Reservation(real.data_set, real.number, real.steps, real.anchor, b"\0" * 16)
    with pytest.raises(ConfigError, match="not made from this ledger"):
        site.ledger.settle(forged)
    assert site.ledger.spent(site.data.digest).epsilon == epsilon(20.0, 1, 10, DELTA, "replace").epsilon


def test_a_thousand_steps_are_one_entry_and_as_many_syncs_as_one_step(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    counts = []
    for steps in (1, 1000):
        synced.clear()
        charge = Charge("patient-shuffled", 1000.0, 1.0, steps, DELTA)
        before = site.ledger.state().anchor.count
        reservation = site.ledger.charge(site.data.digest, charge, "round")
        for _ in range(steps):
            reservation.take_step()
        site.ledger.settle(reservation)
        counts.append((len(synced), site.ledger.state().anchor.count - before))
    assert counts == [(2, 1), (2, 1)]  # the witness and its folder; SQLite syncs the commit itself


def test_one_patient_more_or_another_name_does_not_start_anew(site: Any) -> None:
    site.ledger.charge(site.data.digest, site.charge(10), "round 1")
    grown = data_set("chest 2", [f"patient {n}" for n in range(29, 60)], site.key)
    other = data_set("others", [f"someone {n}" for n in range(5)], site.key)
    for data in (grown, other):
        site.ledger.register(data, Budget(9.0, DELTA))
    spent = site.ledger.spent(site.data.digest).epsilon
    assert site.ledger.spent(grown.digest).epsilon == spent > 0
    assert site.ledger.spent(other.digest).epsilon == 0
    site.ledger.charge(grown.digest, site.charge(10), "round 2")
    assert site.ledger.spent(site.data.digest).epsilon == epsilon(20.0, 1, 20, DELTA, "replace").epsilon


def test_a_shared_patient_is_protected_by_the_smaller_budget(make_site: Callable[[float], Any]) -> None:
    site = make_site(epsilon(20.0, 1, 3, DELTA, "replace").epsilon + 1e-9)
    grown = data_set("chest 2", ["patient 0", "new"], site.key)
    site.ledger.register(grown, Budget(100.0, DELTA))
    with pytest.raises(BudgetExhausted, match="another data set's, with some of the same patients"):
        site.ledger.charge(grown.digest, site.charge(4), "round 1")
    assert site.ledger.steps_that_fit(grown.digest, site.charge(4)) == 3


def test_another_key_would_hide_overlaps_and_is_refused(site: Any) -> None:
    with pytest.raises(ConfigError, match="another key"):
        site.ledger.register(data_set("chest", ["patient 0"], b"another key of sixteen"), Budget(8.0, DELTA))


def test_registering_again_changes_nothing_and_a_new_budget_needs_a_reason(site: Any) -> None:
    anchor = site.ledger.state().anchor
    assert site.ledger.register(site.data, Budget(8.0, DELTA)) == anchor
    with pytest.raises(ConfigError, match="another budget"):
        site.ledger.register(site.data, Budget(80.0, DELTA))
    with pytest.raises(ConfigError, match="reason"):
        site.ledger.set_budget(site.data.digest, Budget(9.0, DELTA), " ")
    site.ledger.set_budget(site.data.digest, Budget(9.0, DELTA), "ethics board, minutes 12")
    assert site.ledger.state().account(site.data.digest).budget == Budget(9.0, DELTA)


def test_training_without_noise_is_infinite_and_needs_a_budget_that_only_records(site: Any) -> None:
    plain = Charge("none", 0.0, 1.0, 10, DELTA)
    with pytest.raises(BudgetExhausted, match="to inf"):
        site.ledger.charge(site.data.digest, plain, "round 1")
    site.ledger.set_budget(site.data.digest, Budget(math.inf, DELTA), "no guarantee is promised")
    site.ledger.charge(site.data.digest, plain, "round 1")
    assert math.isinf(site.ledger.spent(site.data.digest).epsilon)


def test_the_clock_decides_nothing(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(["2031-01-01T00:00:00+00:00", "1999-12-31T23:59:59+00:00"])
    monkeypatch.setattr(ledger_module, "_now", lambda: next(times))
    numbers = [site.ledger.charge(site.data.digest, site.charge(), "round").number for _ in range(2)]
    charges = site.reopen().state().account(site.data.digest).charges
    assert numbers == sorted(numbers) == list(charges)
    assert [charged.at[:4] for charged in charges.values()] == ["2031", "1999"]
    assert site.ledger.spent(site.data.digest).epsilon == epsilon(20.0, 1, 2, DELTA, "replace").epsilon


@pytest.mark.parametrize(
    ("charge", "fault"),
    [
        (Charge("patient-decoupled", 0.0, 0.1, 1, DELTA), "noise multiplier 0"),
        (Charge("patient-decoupled", 1.0, 1.1, 0, DELTA), "2 faults"),
        (Charge("hospital", 1.0, 0.5, 1, DELTA), "counts on no sampling"),
        (Charge("none", 0.0, 1.0, 0, DELTA), "steps 0"),
        (Charge("per-study", 1.0, 0.5, 1, DELTA), "mode 'per-study'"),  # type: ignore[arg-type]
    ],
)
def test_charges_that_cannot_be_accounted(site: Any, charge: Charge, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        site.ledger.charge(site.data.digest, charge, "round")


@pytest.mark.parametrize("budget", [Budget(0.0, DELTA), Budget(math.nan, DELTA), Budget(8.0, 0.0)])
def test_budgets_that_cannot_be(site: Any, budget: Budget) -> None:
    with pytest.raises(ConfigError, match="ledger budget"):
        site.ledger.register(site.data, budget)


def test_data_sets_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="3 faults"):
        data_set(" ", [], b"short")


def test_an_unknown_data_set_is_refused(site: Any) -> None:
    with pytest.raises(ConfigError, match="not registered"):
        site.ledger.charge("0" * 64, site.charge(), "round")
