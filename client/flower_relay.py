"""The app that answers for a hospital: it passes every message to the hospital's daemon over a Unix socket.

It holds no data and no model, and runs as a user who may reach nothing else of the site
(`client.flower_relay_service`). With each question goes the digest of the bundle that Flower brought with the run: the
daemon decides whether it answers such a run.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.flower_messages import facts_record, parts, tensors_record
from client.wire import (
    BUNDLE_FACT,
    EVALUATE,
    MALFORMED,
    SUM_STAGE,
    TRAIN,
    WHO,
    Frame,
    Limits,
    OtherVersion,
    WireError,
    encoded,
    receive,
)
from more_model.errors import ExchangeError
from more_model.exchange import FACTS_RECORD, SUM_ACTION

_LOG = logging.getLogger(__name__)
#: What the relay says for itself; nothing of the site is in it.
UNREACHABLE, NOT_UNDERSTOOD, VERSIONS_DIFFER = "daemon-unreachable", "daemon-did-not-understand", "wire-versions-differ"
STOPPED = "relay-stopped"
_WITH_TENSORS = ("update", "sum-stage")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the relay waits. ``gone_s``: for a daemon that nobody can reach, for instance while it is started again;
    the question is then asked anew, which gives the same answer. ``who_s``: for the site's name. ``pause_s``: between
    two attempts, doubled up to ``longest_pause_s``."""

    gone_s: float = 180.0
    who_s: float = 60.0
    pause_s: float = 0.2
    longest_pause_s: float = 5.0


class Line:
    """The way to the daemon while one question is out; another thread may cut it, and the wait is over."""

    def __init__(self) -> None:
        self._cut = threading.Event()
        self._connection: socket.socket | None = None

    @property
    def is_cut(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._cut.is_set()

    def cut(self) -> None:
        """Wait no more, now and later."""
        self._cut.set()
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def carries(self, connection: socket.socket) -> None:
        """The answer comes over this connection, which is connected; raises EOFError where the line is cut."""
        self._connection = connection
        # After the line above: whoever cuts meanwhile either finds the connection or is seen here.
        if self.is_cut:
            raise EOFError

    def pause(self, pause_s: float) -> None:
        """Wait so long, or until the line is cut."""
        self._cut.wait(pause_s)


def build_relay(
    socket_of: Callable[[Context], Path], bundle: str, patience: Patience | None = None, line: Line | None = None
) -> ClientApp:
    """A ClientApp that answers what the daemon behind ``socket_of`` of its node answers; where there is no answer, a
    refusal with one of the codes above.

    ``bundle``: hex SHA-256 of the bundle that the messages' run came with. ``line``: to end the wait with.
    """
    app, waits, way = ClientApp(), patience or Patience(), line or Line()

    def passed(kind: str, message: Message, context: Context) -> Message:
        bound_s = waits.who_s if kind == WHO else message.metadata.ttl
        call = _Call(socket_of(context), bound_s, waits, way)
        return Message(_passed(kind, message, bundle, call), reply_to=message)

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        return passed(TRAIN, message, context)

    @app.evaluate()  # type: ignore[untyped-decorator]
    def evaluate(message: Message, context: Context) -> Message:
        return passed(EVALUATE, message, context)

    @app.query()  # type: ignore[untyped-decorator]
    def query(message: Message, context: Context) -> Message:
        return passed(WHO, message, context)

    @app.query(SUM_ACTION)  # type: ignore[untyped-decorator]
    def secure_sum(message: Message, context: Context) -> Message:
        return passed(SUM_STAGE, message, context)

    return app


@dataclass(frozen=True, slots=True)
class _Call:
    path: Path
    bound_s: float
    patience: Patience
    line: Line


def _passed(kind: str, message: Message, bundle: str, call: _Call) -> RecordDict:
    try:
        answer = _asked(encoded(_question(kind, message, bundle)), call)
    except OtherVersion as error:
        _LOG.error("%s", error)
        return facts_record(refusal=VERSIONS_DIFFER)
    except ExchangeError as error:
        _LOG.error("%s", error)
        return facts_record(refusal=NOT_UNDERSTOOD)
    if answer is None:
        return facts_record(refusal=STOPPED if call.line.is_cut else UNREACHABLE)
    if answer.kind in _WITH_TENSORS:
        return tensors_record(answer.arrays, answer.facts)
    return facts_record(**answer.facts)


def _question(kind: str, message: Message, bundle: str) -> Frame:
    if kind == WHO:
        return Frame(kind)
    # Last, so that no message can say of itself which bundle it came with.
    if kind == SUM_STAGE:
        return Frame(kind, {**message.content.config_records.get(FACTS_RECORD, {}), BUNDLE_FACT: bundle})
    tensors, facts = parts(message)
    return Frame(kind, {**facts, BUNDLE_FACT: bundle}, tensors)


def _asked(question: bytes, call: _Call) -> Frame | None:
    """The daemon's answer, or None where it could not be had in time or nobody waits any more. A daemon that ends while
    it works is asked again when it is back."""
    waits, deadline = call.patience, time.monotonic() + call.bound_s
    pause_s, last_seen = waits.pause_s, time.monotonic()
    while not call.line.is_cut:
        connected = False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(max(0.1, deadline - time.monotonic()))
                connection.connect(str(call.path))
                connected = True
                call.line.carries(connection)
                # Who is answered before all is said, as with "too long", is to read that answer.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(question)
                answer = receive(connection, Limits())
        except (OSError, EOFError) as error:
            now = time.monotonic()
            last_seen = now if connected else last_seen
            if now + pause_s > min(deadline, last_seen + waits.gone_s):
                _LOG.error("the daemon at %s does not answer (%s)", call.path, type(error).__name__)
                return None
            call.line.pause(pause_s)
            pause_s = min(2 * pause_s, waits.longest_pause_s)
            continue
        if answer.kind == MALFORMED:
            raise WireError("the daemon did not understand this message")
        return answer
    return None
