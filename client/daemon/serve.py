"""The daemon, running: sockets for the relay and the site's people, a heartbeat apart from training, an orderly end."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from client.daemon.control import DRAIN, LIMITS, PAUSE, RESUME, STATUS, WITHDRAW, answering, control_path
from client.daemon.desk import Desk
from client.daemon.notify import ALIVE, READY, STOPPING, notify, watchdog_period_s
from client.daemon.opening import OpenSite, open_site
from client.daemon.orders import Orders
from client.daemon.protections import Protections
from client.daemon.rules import PolicyWatch
from client.daemon.sockets import Door, Listener, door_for
from client.egress import EgressGate
from client.records.audit_log import AuditLog, open_log
from client.records.lines import entries
from client.site_file import SiteFile
from client.wire import Frame, limits_for
from more_model.evaluation.federated_terms import evaluation_terms
from more_model.private_file import secret

_LOG = logging.getLogger(__name__)
_BEAT_S = 1.0
#: The wordings that are installed; a policy that names the digest of their terms lets models be measured on them.
_PROMPTS = "chexpert_ecg"


class Companion(Protocol):
    """A program that runs beside the daemon and ends with it, such as the connection to the coordinator."""

    def stop(self, timeout_s: float = ...) -> None: ...

    def status(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Service:
    """relay_users: who may bring questions beside this user, by name. stop_s: how long SIGTERM lets a round go on.
    companions: started once the daemon listens."""

    relay_users: Sequence[str] = ()
    stop_s: float = 60.0
    companions: Sequence[Callable[[], Companion]] = ()


class Daemon:
    """One running site."""

    def __init__(self, site: OpenSite, log: AuditLog, key: bytes, relay: Door) -> None:
        known = list(entries(log.path))
        self._site, self._log = site, log
        self._terms = evaluation_terms(_PROMPTS)
        self._orders = Orders(log, known, key)
        self._watch = PolicyWatch(site.file.controls.policy, log, self._gate)
        self._desk = Desk(site, self._watch, self._orders, Protections(site, log, known, key), self._terms, log)
        self._started, self._beat = datetime.now(UTC), time.monotonic()
        self._stop_at: float | None = None
        self._companions: list[Companion] = []
        self._watch.rules()
        control = Door(control_path(relay.path), 0o600, frozenset({os.geteuid(), 0}))
        self._listeners = (
            Listener(relay, limits_for(site.assembled.spec), self._desk.answer, self._not_understood),
            Listener(control, LIMITS, self._control()),
        )

    def start(self, companions: Sequence[Callable[[], Companion]]) -> None:
        """Start what runs beside it, now that the sockets are there."""
        self._companions += [start() for start in companions]

    def drain(self, within_s: float) -> None:
        """Begin nothing new, finish what has begun, and end; at the latest after so many seconds."""
        self._desk.drain()
        ends = time.monotonic() + within_s
        self._stop_at = ends if self._stop_at is None else min(ends, self._stop_at)

    def reload(self) -> None:
        """Read the policy again, whether its file looks changed or not."""
        self._watch.forget()

    def run(self, wake: threading.Event) -> bool:
        """Until drained; whether everything that had begun was finished. ``wake`` is set where a signal came."""
        period_s = min(_BEAT_S, (watchdog_period_s() or _BEAT_S) / 3)
        while not self._over():
            # What feeds the watchdog is this loop, which training does not stop, and only while somebody listens.
            if all(listener.alive for listener in self._listeners):
                self._beat = time.monotonic()
                notify(ALIVE)
            wake.wait(period_s)
        finished = not self._busy
        self._log.append("stopped", {"finished": finished})
        return finished

    def close(self) -> None:
        """Stop listening, and stop what runs beside it."""
        for listener in self._listeners:
            listener.close()
        for companion in self._companions:
            companion.stop(timeout_s=10.0)

    def status(self) -> dict[str, Any]:
        """What the site's people see; no patient, and no number that is not theirs."""
        rules, desk, orders = self._watch.rules(), self._desk, self._orders
        usable = orders.remaining(self._site.training).trainable()
        state = "draining" if self._stop_at is not None else "paused" if orders.paused_since else "running"
        return {
            "site": self._site.file.site,
            "state": state,
            "paused_since": orders.paused_since,
            "started": self._started.isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "heartbeat_age_s": round(time.monotonic() - self._beat, 3),
            "activity": asdict(desk.activity) if desk.activity is not None else None,
            "rounds_answered": rules.gate.rounds_answered(),
            "last_refusal": desk.last_refusal,
            "obstacle": asdict(desk.obstacle) if desk.obstacle is not None else None,
            "last_verdict": desk.last_verdict,
            "patients": len({triplet.patient_id for triplet in usable.triplets}),
            "withdrawn": orders.withdrawn_count,
            "policy": {"sha256": rules.digest, "in_force": rules.policy is not None, "fault": rules.fault},
            "code": self._site.code,
            "audit_anchor": str(self._log.anchor),
            "companions": [dict(companion.status()) for companion in self._companions],
        }

    def _over(self) -> bool:
        return self._stop_at is not None and (not self._busy or time.monotonic() >= self._stop_at)

    @property
    def _busy(self) -> bool:
        return self._desk.busy or self._listeners[0].answering

    def _gate(self, policy: Any) -> EgressGate:
        return EgressGate(self._log, policy, self._site.assembled.spec, terms=self._terms)

    def _not_understood(self, why: str) -> None:
        self._log.append("not-understood", {"why": why})

    def _control(self) -> Callable[[Frame, Callable[[], bool]], Frame]:
        handle = answering(
            {
                STATUS: lambda _facts: self.status(),
                PAUSE: lambda _facts: self._ordered(self._orders.pause),
                RESUME: lambda _facts: self._ordered(self._orders.resume),
                DRAIN: self._drained,
                WITHDRAW: self._withdrawn,
            }
        )
        return lambda asked, _still_wanted: handle(asked)

    def _ordered(self, order: Callable[[], None]) -> dict[str, Any]:
        order()
        return self.status()

    def _drained(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        self._log.append("draining", {})
        self.drain(float(str(facts.get("within_s", 3600.0))))
        return self.status()

    def _withdrawn(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        patient = str(facts.get("patient", ""))
        new = self._orders.withdraw(patient)
        known = any(triplet.patient_id == patient.strip() for triplet in self._site.examples.triplets)
        return {"new": new, "in_store": known, "withdrawn": self._orders.withdrawn_count}


def serve(file: SiteFile, service: Service | None = None) -> bool:
    """Run the daemon of a site until SIGTERM, Ctrl-C or `more-client drain`; whether it ended with nothing unfinished.

    Where it did not, a thread may still be training: end the process without waiting for it.

    Raises:
        StoreError: another daemon of this site runs; and see `client.daemon.opening.open_site`.
        AuditDamaged: the audit log is not the one that was written.
        EnvironmentFault: a socket or the log cannot be made.
    """
    chosen = service or Service()
    with ExitStack() as stack:
        # The lock on the log comes first: of two daemons, the second ends here.
        log = stack.enter_context(
            open_log(file.controls.audit_log, site=file.site, anchor_file=file.controls.audit_anchor)
        )
        site = open_site(file)
        key = secret(file.keys.site)
        wake = threading.Event()
        daemon = Daemon(site, log, key, door_for(file.socket, chosen.relay_users))
        stack.callback(daemon.close)
        stack.enter_context(_signals(daemon, wake, chosen.stop_s))
        log.append("started", {"code": site.code, "patients": len(site.training.trainable())})
        daemon.start(chosen.companions)
        notify(READY)
        _LOG.info("site %s listens at %s", file.site, file.socket)
        finished = daemon.run(wake)
        notify(STOPPING)
        return finished


@contextmanager
def _signals(daemon: Daemon, wake: threading.Event, stop_s: float) -> Iterator[None]:
    def stop(_number: int, _frame: object) -> None:
        daemon.drain(stop_s)
        wake.set()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: lambda *_: daemon.reload()}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
