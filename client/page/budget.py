"""What of the privacy budget is spent and left, from the site's ledger; it is only read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy.ledger.spending import composed
from privacy.ledger.state import Account, Charged, State
from privacy.ledger.verify import checked_state

_BEFORE_ROUND = ", round "


@dataclass(frozen=True, slots=True)
class RunSpending:
    """What one run was charged on one data set. ``epsilon``: of these charges alone, at the delta of the budget; the
    epsilons of several runs do not add up. None where there was no noise."""

    run: str
    charges: int
    steps: int
    epsilon: float | None


@dataclass(frozen=True, slots=True)
class DataSetBudget:
    """One data set: the epsilon ``spent`` by its most exposed patient and what of ``budget`` is ``left``, at ``delta``,
    for one ``unit``. ``spent`` is None after training without noise, ``budget`` and ``left`` where none was set."""

    name: str
    spent: float | None
    budget: float | None
    left: float | None
    delta: float
    unit: str
    runs: tuple[RunSpending, ...]


def budgets(ledger: Path, witness: Path) -> tuple[DataSetBudget, ...]:
    """Of every data set in the order of their registration; none where no run was private so far.

    Raises:
        LedgerDamaged: the ledger is not the one that was last written.
    """
    if not ledger.exists() and not witness.exists():
        return ()
    state = checked_state(ledger, witness)
    return tuple(_of(state, account) for account in state.accounts.values())


def _of(state: State, account: Account) -> DataSetBudget:
    spent, limit = state.spent(account.digest), account.budget.epsilon
    return DataSetBudget(
        name=account.name,
        spent=_finite(spent.epsilon),
        budget=_finite(limit),
        left=max(0.0, limit - spent.epsilon) if math.isfinite(limit) else None,
        delta=account.budget.delta,
        unit=spent.unit,
        runs=tuple(_run(name, charges, account) for name, charges in _by_run(account).items()),
    )


def _by_run(account: Account) -> dict[str, list[Charged]]:
    runs: dict[str, list[Charged]] = {}
    for charged in account.charges.values():
        runs.setdefault(charged.purpose.rpartition(_BEFORE_ROUND)[0] or charged.purpose, []).append(charged)
    return runs


def _run(name: str, charges: Sequence[Charged], account: Account) -> RunSpending:
    epsilon = composed([each.charge for each in charges], account.budget.delta).epsilon
    return RunSpending(name, len(charges), sum(each.charge.steps for each in charges), _finite(epsilon))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
