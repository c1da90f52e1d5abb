"""What each run was charged on one data set of the site's ledger."""

from __future__ import annotations

from dataclasses import dataclass

from client.purpose import run_of
from privacy.ledger.shown import finite
from privacy.ledger.spending import composed
from privacy.ledger.state import Account, Charged


@dataclass(frozen=True, slots=True)
class RunSpending:
    """One run. ``epsilon``: of its charges alone, at the delta of the budget, None where there was no noise and so no
    bound; the epsilons of several runs do not add up, together they cost less. ``last_at``: UTC, ISO 8601."""

    run: str
    charges: int
    steps: int
    last_at: str
    epsilon: float | None


def spending_by_run(account: Account) -> tuple[RunSpending, ...]:
    """Every run of a data set, in the order of their first charges."""
    by_run: dict[str, list[Charged]] = {}
    for charged in account.charges.values():
        by_run.setdefault(run_of(charged.purpose), []).append(charged)
    return tuple(_one(run, charges, account.budget.delta) for run, charges in by_run.items())


def _one(run: str, charges: list[Charged], delta: float) -> RunSpending:
    epsilon = composed([each.charge for each in charges], delta).epsilon
    steps = sum(each.charge.steps for each in charges)
    return RunSpending(run, len(charges), steps, charges[-1].at, finite(epsilon))
