"""The app that Flower starts at a hospital: it passes every message to the hospital's daemon over a Unix socket.

It holds no data and no model, and runs as a user who may reach nothing else of the site. Whatever bundle takes its
place sees what was going to leave anyway: the daemon decides what that is.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.flower_messages import facts_record, parts, tensors_record
from client.wire import (
    EVALUATE,
    MALFORMED,
    SOCKET_VARIABLE,
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


def build_relay(socket_of: Callable[[Context], Path], patience: Patience | None = None) -> ClientApp:
    """A ClientApp that answers what the daemon behind ``socket_of`` of its node answers; where there is no answer, a
    refusal with one of the codes above."""
    app, waits = ClientApp(), patience or Patience()

    def passed(kind: str, message: Message, context: Context) -> Message:
        bound_s = waits.who_s if kind == WHO else message.metadata.ttl
        return Message(_passed(kind, message, socket_of(context), bound_s, waits), reply_to=message)

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


def _passed(kind: str, message: Message, path: Path, bound_s: float, waits: Patience) -> RecordDict:
    try:
        answer = _asked(path, encoded(_question(kind, message)), time.monotonic() + bound_s, waits)
    except OtherVersion as error:
        _LOG.error("%s", error)
        return facts_record(refusal=VERSIONS_DIFFER)
    except ExchangeError as error:
        _LOG.error("%s", error)
        return facts_record(refusal=NOT_UNDERSTOOD)
    if answer is None:
        return facts_record(refusal=UNREACHABLE)
    if answer.kind in _WITH_TENSORS:
        return tensors_record(answer.arrays, answer.facts)
    return facts_record(**answer.facts)


def _question(kind: str, message: Message) -> Frame:
    if kind in (TRAIN, EVALUATE):
        tensors, facts = parts(message)
        return Frame(kind, facts, tensors)
    return Frame(kind, dict(message.content.config_records.get(FACTS_RECORD, {})))


def _asked(path: Path, question: bytes, deadline: float, waits: Patience) -> Frame | None:
    """The daemon's answer, or None where it could not be had in time. A daemon that ends while it works is asked again
    when it is back."""
    pause_s, last_seen = waits.pause_s, time.monotonic()
    while True:
        connected = False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(max(0.1, deadline - time.monotonic()))
                connection.connect(str(path))
                connected = True
                # Who is answered before all is said, as with "too long", is to read that answer.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(question)
                answer = receive(connection, Limits())
        except (OSError, EOFError) as error:
            now = time.monotonic()
            last_seen = now if connected else last_seen
            if now + pause_s > min(deadline, last_seen + waits.gone_s):
                _LOG.error("the daemon at %s does not answer (%s)", path, type(error).__name__)
                return None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, waits.longest_pause_s)
            continue
        if answer.kind == MALFORMED:
            raise WireError("the daemon did not understand this message")
        return answer


def _socket_of_service(_context: Context) -> Path:
    return Path(os.environ.get(SOCKET_VARIABLE, "/run/more-fed/daemon.sock"))


app = build_relay(_socket_of_service)
