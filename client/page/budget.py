"""What of the privacy budget is spent and left, from the site's ledger; it is only read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from client.run_spending import RunSpending, spending_by_run
from privacy.ledger.shown import finite
from privacy.ledger.state import Account, State
from privacy.ledger.verify import checked_state


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
        spent=finite(spent.epsilon),
        budget=finite(limit),
        left=max(0.0, limit - spent.epsilon) if math.isfinite(limit) else None,
        delta=account.budget.delta,
        unit=spent.unit,
        runs=spending_by_run(account),
    )
