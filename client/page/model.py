"""All that the page says, at one moment. A part that cannot be read says so and leaves the others alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from client.daemon.control import STATUS, ask
from client.page.budget import DataSetBudget, budgets
from client.page.cohort import Cohort, cohort
from client.page.left import Left, left_building
from client.preflight.certificates import check_receiver, check_root
from client.preflight.finding import Finding
from client.site_file import SiteFile
from more_model.errors import MoreError

_LOG = logging.getLogger(__name__)
_Part = TypeVar("_Part")
SCHEMA = 1
NOT_RUNNING = "not running"
#: Of what the daemon tells, that which the page may show: the number of training patients would give away a count that
#: the cohort hides, and the policy's fault may hold a path.
_TOLD = ("state", "paused_since", "started", "activity", "rounds_answered", "last_refusal", "last_verdict")


@dataclass(frozen=True, slots=True)
class SitePicture:
    """See the package. ``faults``: part -> why it cannot be shown, in words without paths; such a part is None (the
    tuples: empty). ``daemon["state"]`` is "not running" where none listens. ``minimum_count``: smaller counts of people
    are hidden."""

    site: str
    federation: str
    at: datetime
    minimum_count: int
    daemon: Mapping[str, Any] | None
    cohort: Cohort | None
    left: Left | None
    budgets: tuple[DataSetBudget, ...]
    certificates: tuple[Finding, ...]
    faults: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """For JSON: the same as the page, small counts hidden likewise."""
        return {"schema": SCHEMA, **asdict(self), "at": self.at.isoformat(timespec="seconds")}


def site_picture(file: SiteFile, now: datetime | None = None) -> SitePicture:
    """What the site's files and its daemon tell now. Raises nothing of `MoreError`: faults are part of it."""
    faults: dict[str, str] = {}

    def part(name: str, read: Callable[[], _Part]) -> _Part | None:
        try:
            return read()
        except (MoreError, OSError) as error:
            _LOG.warning("the page cannot show %s: %s", name, error)
            faults[name] = f"This cannot be shown now ({type(error).__name__}). The page's own log says why."
            return None

    controls, least = file.controls, file.evaluation_threshold
    return SitePicture(
        site=file.site,
        federation=file.federation.name,
        at=datetime.now(UTC) if now is None else now,
        minimum_count=least,
        daemon=part("daemon", lambda: _daemon(file)),
        cohort=part("cohort", lambda: cohort(file)),
        left=part("left", lambda: left_building(controls.audit_log, controls.audit_anchor, least)),
        budgets=part("budget", lambda: budgets(controls.ledger, controls.witness)) or (),
        certificates=part("certificates", lambda: (check_root(file), *check_receiver(file))) or (),
        faults=faults,
    )


def _daemon(file: SiteFile) -> dict[str, Any]:
    answer = ask(file.socket, STATUS)
    if answer is None:
        return {"state": NOT_RUNNING}
    policy = answer["policy"]
    return {
        **{name: answer[name] for name in _TOLD},
        "policy": "cannot be read" if policy["fault"] else "in force" if policy["in_force"] else "none",
        "companions": [
            {"name": each["name"], "running": bool(each["pid"]), "hindered": bool(each["hindrance"])}
            for each in answer["companions"]
        ],
    }
