"""How an audit comes to the run that it attacks: through an entry point, as this room knows no model."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from more_model.errors import EnvironmentFault
from privacy.audit.subject import AuditSubject, OnProgress, OpenSubject

GROUP, NAME = "more_fed.audit_subject", "run"


def open_run(run: Path, site: str | None, on_progress: OnProgress | None = None) -> AuditSubject:
    """The run directory ``run`` at ``site`` as an installed package opens it.

    Raises:
        EnvironmentFault: no package offers to open a run. MoreError: see `privacy.audit.subject.OpenSubject`.
    """
    return _installed()(run, site, on_progress)


def _installed() -> OpenSubject:
    found = tuple(entry_points(group=GROUP, name=NAME))
    if not found:
        raise EnvironmentFault(
            f"nothing installed here can open a run for an audit (no entry point {NAME!r} in the group {GROUP!r})",
            remedy="install more-fed with its package `client`, or audit the mechanisms alone: more-privacy audit",
        )
    loaded: OpenSubject = found[0].load()
    return loaded
