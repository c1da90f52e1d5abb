"""What the ledger is told a charge was for; its own people read it there."""

from __future__ import annotations

_APART = ", round "


def purpose_of(run: str, number: int, rounds: int) -> str:
    """Of one round of a run."""
    return f"{run or 'run'}{_APART}{number} of {rounds}"


def run_of(purpose: str) -> str:
    """The run of a purpose; the whole text where it is of another form."""
    return purpose.rpartition(_APART)[0] or purpose
