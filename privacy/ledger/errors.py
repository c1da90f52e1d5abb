"""The two ways in which a ledger says no."""

from __future__ import annotations

import math

from more_model.errors import RoundError, StoreError


class LedgerDamaged(StoreError):
    """The ledger is not the one that was last written: edited, truncated, rolled back, forked, or gone."""


class BudgetExhausted(RoundError):
    """A charge that would cross a budget; the ledger is unchanged and nothing of it may run.

    The message holds numbers and no name of a data set or a patient, so it may be sent to the coordinator.
    ``spent`` and ``asked``: epsilon before the charge and with it, at ``delta``; ``fits``: how many of the asked steps
    could still be charged.
    """

    def __init__(
        self,
        cause: str,
        *,
        remedy: str = "",
        avoid: str = "",
        spent: float = math.nan,
        asked: float = math.nan,
        budget: float = math.nan,
        delta: float = math.nan,
        fits: int = 0,
    ) -> None:
        self.spent = spent
        self.asked = asked
        self.budget = budget
        self.delta = delta
        self.fits = fits
        super().__init__(cause, remedy=remedy, avoid=avoid)
