"""What a ledger says of a data set, for JSON and for people."""

from __future__ import annotations

import math
from typing import Any

from privacy.claims import rounded_up
from privacy.ledger.state import Account, State


def account_facts(state: State, account: Account) -> dict[str, Any]:
    """Budget, epsilon spent and every charge of one data set; infinities are None."""
    spent = state.spent(account.digest)
    return {
        "name": account.name,
        "data_set": account.digest,
        "patients": account.patients,
        "epsilon": finite(spent.epsilon),
        "without_noise": math.isinf(spent.epsilon),
        "budget": finite(account.budget.epsilon),
        "delta": account.budget.delta,
        "unit": spent.unit,
        "accountant": spent.accountant,
        "assumptions": list(spent.assumptions),
        "shares_patients_with": sorted(account.overlaps),
        "charges": [
            {"number": c.number, "at": c.at, "mode": c.charge.mode, "adjacency": c.charge.adjacency,
             "noise_multiplier": c.charge.noise_multiplier, "sampling_rate": c.charge.sampling_rate,
             "steps": c.charge.steps, "reserved": c.reserved, "settled": c.settled, "purpose": c.purpose}
            for c in account.charges.values()
        ],
    }  # fmt: skip


def account_lines(fact: dict[str, Any]) -> list[str]:
    """The same in words."""
    budget = "none" if fact["budget"] is None else f"{fact['budget']:g}"
    lines = [
        f"{fact['name']}  ({fact['patients']} patients, {fact['data_set'][:12]})",
        f"  epsilon per {fact['unit']}  {epsilon_words(fact)} of {budget} at delta {fact['delta']:g}",
        f"  charges  {len(fact['charges'])}, by {fact['accountant']}",
        *(f"  - {sentence}" for sentence in fact["assumptions"]),
    ]
    if fact["shares_patients_with"]:
        lines.append(f"  counts what {len(fact['shares_patients_with'])} data set(s) with some same patients spent")
    return lines


def epsilon_words(fact: dict[str, Any]) -> str:
    """``epsilon`` of a fact, rounded up."""
    return "without bound (training without noise)" if fact["without_noise"] else rounded_up(fact["epsilon"], 3)


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
