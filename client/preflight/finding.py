"""What one check of a preflight found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from more_model.errors import MoreError


@dataclass(frozen=True, slots=True)
class Finding:
    """``warn`` can run and may not run well or for long; ``fail`` cannot run, and carries the exit code of the error
    that it would run into."""

    level: Literal["ok", "warn", "fail"]
    name: str
    cause: str
    remedy: str = ""
    avoid: str = ""
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ok(name: str, cause: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", name, cause)


def warn(name: str, cause: str, *, remedy: str, avoid: str = "") -> Finding:
    """Something to look at."""
    return Finding("warn", name, cause, remedy, avoid)


def fail(name: str, error: MoreError) -> Finding:
    """Something to mend before the site takes part."""
    return Finding("fail", name, error.cause or str(error), error.remedy, error.avoid, error.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """That of the first failure: checks run in the order in which they depend on each other. 0 without failures."""
    return next((finding.exit_code for finding in findings if finding.level == "fail"), 0)
