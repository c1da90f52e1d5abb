"""The two ways in which a secure sum ends without a sum. Both carry a short kebab-case code for journals and wires."""

from __future__ import annotations

from more_model.errors import ExchangeError, RoundError


class SumRefused(ExchangeError):
    """A site or the coordinator will not go on with a message; ``reason`` names the rule that it breaks.

    At a site the session is over with it: its secrets are dropped and every further request is refused.
    """

    def __init__(self, reason: str, cause: str, *, remedy: str = "", avoid: str = "") -> None:
        self.reason = reason
        super().__init__(cause, remedy=remedy, avoid=avoid)


class SumVoid(RoundError):
    """No sum came out of this round, and none will: too few sites were left, or their shares do not fit."""

    def __init__(self, reason: str, cause: str, *, remedy: str = "", avoid: str = "") -> None:
        self.reason = reason
        super().__init__(cause, remedy=remedy, avoid=avoid)
