"""Every error that this system raises on purpose, and the exit code each one ends a command with.

    MoreError                     1   (never raised itself)
     +-- ConfigError              2   a configuration or a command line that cannot be used; lists every fault at once
     +-- InputRefused             3   one file (image, record, report) that cannot be used, with a short reason code
     +-- DataError                4   a cohort that cannot be used: missing table, wrong column, patient on two sites
     +-- StoreError               5   a site store that is damaged or was written by another preprocessing
     +-- ExchangeError            6   a tensor outside the exchange specification, or a base fingerprint that differs
     +-- RoundError               7   a federation that could not do what was asked, or did it with fewer sites
     +-- EnvironmentFault         8   a package, a device or disk space that is missing
     +-- ClaimBroken              9   an audit that refuted a claim about privacy

Exit code 0 is success; 1 is an unexpected error (a bug). Numbers are never reused.

Each error names the cause, the remedy, and, where people are tempted, what not to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class MoreError(Exception):
    """Base of all deliberate errors: one sentence of cause, one of remedy, optionally one of what not to do."""

    exit_code = 1

    def __init__(self, cause: str, *, remedy: str = "", avoid: str = "") -> None:
        self.cause = cause
        self.remedy = remedy
        self.avoid = avoid
        super().__init__(self.explain())

    def explain(self) -> str:
        """The whole message, one line per part."""
        lines = [self.cause]
        if self.remedy:
            lines.append(f"  What to do: {self.remedy}")
        if self.avoid:
            lines.append(f"  Do not: {self.avoid}")
        return "\n".join(lines)


class ConfigError(MoreError):
    """A configuration that cannot be used. ``faults`` holds all of them, so one pass of corrections is enough."""

    exit_code = 2

    def __init__(self, where: str, faults: Sequence[str], *, remedy: str = "", avoid: str = "") -> None:
        self.where = where
        self.faults = tuple(faults)
        count = f"{len(faults)} fault" + ("s" if len(faults) != 1 else "")
        listing = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"{where}: {count}\n{listing}", remedy=remedy, avoid=avoid)


class InputRefused(MoreError):
    """One file that cannot be used. ``reason`` is a stable, short, kebab-case code such as ``truncated-pixels``.

    The message never holds patient identifiers: it goes into quarantine lists and to the screen.
    """

    exit_code = 3

    def __init__(self, reason: str, cause: str, *, remedy: str = "", avoid: str = "") -> None:
        self.reason = reason
        super().__init__(cause, remedy=remedy, avoid=avoid)


class DataError(MoreError):
    """A cohort that cannot be used as a whole."""

    exit_code = 4


class StoreError(MoreError):
    """A site store that is damaged, locked, or belongs to another preprocessing."""

    exit_code = 5


class ExchangeError(MoreError):
    """Something that may not travel between site and coordinator, or does not fit what travels."""

    exit_code = 6


class RoundError(MoreError):
    """A federation round that could not be closed as asked."""

    exit_code = 7


class EnvironmentFault(MoreError):
    """Something the machine lacks: a package, a device, disk space."""

    exit_code = 8


class ClaimBroken(MoreError):
    """An attack did better than a claim allows: what was promised about privacy is false."""

    exit_code = 9
