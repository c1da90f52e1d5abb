"""The relay, running: it takes one task after the other from the SuperNode, and the daemon answers through it.

It takes the place of Flower's SuperExec and of the process that SuperExec starts for every message. It never gives up:
where the SuperNode or the daemon is away, it tries again for as long as it takes.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.app import Message

from client.daemon.notify import ALIVE, READY, STOPPING, notify, watchdog_period_s
from client.flower_messages import facts_record
from client.flower_relay import NOT_UNDERSTOOD, Line, Patience, build_relay
from client.flower_runtime import Asked, Runtime, open_acquire, open_task
from more_model.errors import EnvironmentFault, MoreError
from more_model.supervision import Backoff

_LOG = logging.getLogger(__name__)
_POLL_S, _BEAT_S = 0.25, 1.0
#: Between attempts to reach a SuperNode that is away.
_AWAY = Backoff(first_s=0.5, longest_s=30.0, jitter=0.5)
#: Once the time for an orderly end is over, the coordinator is still told that there will be no answer.
_FAREWELL_S = 5.0


@dataclass(frozen=True, slots=True)
class RelayService:
    """socket: the daemon's. stop_s: how long SIGTERM lets the daemon go on with the question that is out."""

    runtime: Runtime
    socket: Path
    stop_s: float = 60.0
    patience: Patience | None = None


class Relay:
    """The thread that takes tasks; `serve` watches over it."""

    def __init__(self, service: RelayService) -> None:
        self._service = service
        self._stopping = threading.Event()
        self._line: Line | None = None
        self._thread = threading.Thread(target=self._work, name="takes tasks", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it takes tasks, or finishes its last one."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Take tasks from now on; once only."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further task; the one that it has is finished."""
        self._stopping.set()

    def hang_up(self) -> None:
        """Wait for the daemon no longer; the coordinator is told so."""
        line = self._line
        if line is not None:
            line.cut()

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended, within so many seconds."""
        self._thread.join(timeout_s)
        return not self.alive

    def _work(self) -> None:
        failures, said = 0, ""
        while not self._stopping.is_set():
            try:
                with open_acquire(self._service.runtime) as acquire:
                    while not self._stopping.is_set():
                        token = acquire()
                        if failures:
                            _LOG.info("the SuperNode at %s answers again", self._service.runtime.address)
                        failures, said = 0, ""
                        if token is None:
                            self._stopping.wait(_POLL_S)
                        else:
                            self._take(token)
            except Exception as error:  # noqa: BLE001 - there is nobody to give up to: whatever it is, it may pass
                failures, reason = failures + 1, _reason(error)
                if reason != said:
                    _LOG.warning("no tasks from the SuperNode at %s: %s", self._service.runtime.address, reason)
                said = reason
                self._stopping.wait(_AWAY.wait_s(failures, random.random()))

    def _take(self, token: str) -> None:
        self._line = line = Line()
        try:
            with open_task(self._service.runtime, token, line.cut) as task:
                asked = task.pull()
                began = time.monotonic()
                reply = self._reply(asked, line)
                task.push(reply, asked.context)
            kind = asked.message.metadata.message_type
            _LOG.info("a %s message was answered in %.1f s", kind, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - it costs this task: Flower answers for it when its heartbeats end
            _LOG.error("a task was lost: %s", _reason(error))
        finally:
            self._line = None

    def _reply(self, asked: Asked, line: Line) -> Message:
        relay = build_relay(lambda _context: self._service.socket, asked.bundle, self._service.patience, line)
        try:
            if asked.readable:
                return relay(asked.message, asked.context)
        except Exception as error:  # noqa: BLE001 - Flower's own refusals; the text of an exception never travels
            _LOG.error("a message that no relay answers (%s)", type(error).__name__)
        return Message(facts_record(refusal=NOT_UNDERSTOOD), reply_to=asked.message)


def serve(service: RelayService) -> bool:
    """Run the relay until SIGTERM or Ctrl-C; whether nothing was left unfinished. Where something was, end the process
    without waiting for its threads.

    Raises:
        EnvironmentFault: the relay ended by itself; start it again.
    """
    relay, wake = Relay(service), threading.Event()
    with _signals(wake):
        relay.start()
        notify(READY)
        _LOG.info("relays between %s and %s", service.runtime.address, service.socket)
        _watch(relay, wake.wait)
        if not wake.is_set():
            raise EnvironmentFault("the relay ended by itself", remedy="look at its log, and start it again")
        notify(STOPPING)
        relay.stop()
        ends = time.monotonic() + service.stop_s
        _watch(relay, lambda period_s: relay.join(min(period_s, service.stop_s)) or time.monotonic() >= ends)
        if not relay.alive:
            return True
        relay.hang_up()
        relay.join(_FAREWELL_S)
        return False


def _watch(relay: Relay, wait: Callable[[float], bool]) -> None:
    """Feed the service manager's watchdog while tasks are taken, until ``wait`` says that it is over."""
    period_s = min(_BEAT_S, (watchdog_period_s() or _BEAT_S) / 3)
    while relay.alive:
        notify(ALIVE)
        if wait(period_s):
            return


@contextmanager
def _signals(wake: threading.Event) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: wake.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reason(error: Exception) -> str:
    """For this machine's log; it names no patient, for the relay knows none."""
    if isinstance(error, httpx.HTTPStatusError):
        refused = error.response.status_code == httpx.codes.UNAUTHORIZED
        hint = "; is this its secret, and does it still know the task?" if refused else ""
        return f"it refused a call ({error.response.status_code}){hint}"
    if isinstance(error, httpx.HTTPError):
        return f"it is not there ({type(error).__name__})"
    if isinstance(error, MoreError):
        return error.cause
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else type(error).__name__
