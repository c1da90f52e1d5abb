"""Orders of the site's people, whether the daemon runs or not: it takes them, or else they go into the log directly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.daemon.control import PAUSE, RESUME, WITHDRAW, ask
from client.daemon.orders import Orders
from client.records.audit_log import open_log
from client.records.lines import entries
from client.site_file import SiteFile
from more_model.errors import EnvironmentFault
from more_model.private_file import secret

_WITHOUT_DAEMON: dict[str, Callable[[Orders, dict[str, str]], Any]] = {
    PAUSE: lambda orders, _facts: orders.pause(),
    RESUME: lambda orders, _facts: orders.resume(),
    WITHDRAW: lambda orders, facts: orders.withdraw(facts["patient"]),
}


def order(file: SiteFile, kind: str, **facts: str) -> dict[str, Any]:
    """Give one order; what the daemon says to it, with ``daemon`` telling whether one runs.

    Raises:
        EnvironmentFault: the daemon does not answer, this user is not the daemon's, or the order could not be written.
        StoreError: no daemon answers, and yet one holds the audit log.
    """
    answer = ask(file.socket, kind, **facts)
    if answer is not None:
        return {**answer, "daemon": True}
    if kind not in _WITHOUT_DAEMON:
        raise EnvironmentFault(
            f"No daemon of site {file.site} is running.",
            remedy="start it (systemctl start more-fed-site, or more-client start); its own log says why it ended",
        )
    controls = file.controls
    _require_owner(controls.audit_log)
    with open_log(controls.audit_log, site=file.site, anchor_file=controls.audit_anchor) as log:
        orders = Orders(log, entries(controls.audit_log), secret(file.keys.site))
        new = _WITHOUT_DAEMON[kind](orders, facts)
    state = {"paused_since": orders.paused_since, "withdrawn": orders.withdrawn_count}
    return {**state, "new": bool(new), "in_store": None, "daemon": False}


def _require_owner(log: Path) -> None:
    if log.exists() and log.stat().st_uid != os.geteuid():
        raise EnvironmentFault(
            "No daemon runs, and the audit log belongs to another user.",
            remedy="run this as the daemon's user (sudo -u USER more-client ...), or while the daemon runs",
            avoid="change the owner of the log: the daemon could not write to it any more",
        )
