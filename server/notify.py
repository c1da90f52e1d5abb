"""Tells people of alerts by webhook and e-mail: each alert once, until it has been gone for a while.

A message names the federation, sites and certificates, and says what happened in our words. Nothing that a site wrote
and no figure is in it. Every receiver has a queue and a thread of its own: one that does not answer holds up neither
the rounds nor the others.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from more_model.private_file import replace
from more_model.supervision import Backoff
from server.receivers import TIMEOUT_S, Channel, Message, NotDelivered
from server.status.alerts import Alert

_LOG = logging.getLogger(__name__)
#: An alert that was gone for less has not been gone: a line that comes and goes is told of once.
SETTLED_S = 600.0
_QUEUED = 100
_ATTEMPTS = 8


class Notifier:
    """Takes all alerts of each look and tells the new ones. Use it in a ``with`` block.

    ``told`` is the file of those that were told, so that a restart does not tell them again. What was not delivered (or
    given up) when the process ended is not in it, and told by the next.
    """

    def __init__(
        self,
        federation: str,
        receivers: Sequence[Channel],
        *,
        told: Path | None = None,
        settled_s: float = SETTLED_S,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._federation, self._told, self._settled_s, self._clock = federation, told, settled_s, clock
        self._lock = threading.Lock()
        self._kept = _read_told(told)
        #: When each alert was last there, and with how many receivers it still lies.
        self._seen: dict[str, float] = dict.fromkeys(self._kept, clock())
        self._under_way: dict[str, int] = {}
        waits = backoff if backoff is not None else Backoff(first_s=2.0, longest_s=300.0)
        self._posts = [_Post(channel, waits, self._finished) for channel in receivers]

    def __enter__(self) -> Self:
        for post in self._posts:
            post.start()
        return self

    def __exit__(self, *_: object) -> None:
        for post in self._posts:
            post.stop()

    def update(self, alerts: Iterable[Alert], *, round_number: int | None = None) -> None:
        """All alerts that there are now; returns at once."""
        now = self._clock()
        current = {alert.key: alert for alert in alerts}
        with self._lock:
            last = {key: now if key in current else seen for key, seen in self._seen.items()}
            new = [alert for key, alert in current.items() if key not in last]
            self._seen = {key: seen for key, seen in last.items() if now - seen <= self._settled_s}
            for alert in new:
                self._seen[alert.key] = now
                at = datetime.fromtimestamp(now, UTC)
                message = Message(alert.key, self._federation, alert.kind, alert.about, alert.words, round_number, at)
                taken = sum(post.put(message) for post in self._posts)
                if taken:
                    self._under_way[alert.key] = self._under_way.get(alert.key, 0) + taken
            self._keep()

    def _finished(self, key: str) -> None:
        with self._lock:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
            self._keep()

    def _keep(self) -> None:
        told = self._seen.keys() - self._under_way.keys()
        if self._told is None or told == self._kept:
            return
        try:
            replace(self._told, json.dumps(sorted(told)).encode())
            self._kept = told
        except OSError as error:
            _LOG.warning("%s: not written (%s); a restart tells alerts again", self._told, error.strerror)


class _Post:
    """The queue and the thread of one receiver. ``finished`` takes the key of what was delivered or given up."""

    def __init__(self, channel: Channel, backoff: Backoff, finished: Callable[[str], None]) -> None:
        self._channel, self._backoff, self._finished = channel, backoff, finished
        self._queue: queue.Queue[Message] = queue.Queue(maxsize=_QUEUED)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=channel.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What is being sent at the moment may end."""
        self._stopping.set()
        self._thread.join(TIMEOUT_S)

    def put(self, message: Message) -> bool:
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            _LOG.warning("%s: %s is not told, too many wait already", self._channel.name, message.kind)
            return False
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                message = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if self._sent(message):
                self._finished(message.key)

    def _sent(self, message: Message) -> bool:
        """Whether it is done with: delivered, or given up. Not so where the process ends before."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._channel.deliver(message)
                return True
            except NotDelivered as error:
                given_up = error.final or attempt == _ATTEMPTS
                what, then = message.about or "the run", "given up" if given_up else "tried again"
                _LOG.warning("%s: %s of %s: %s; %s", self._channel.name, message.kind, what, error, then)
            if given_up:
                return True
            if self._stopping.wait(self._backoff.wait_s(attempt, random.random())):
                break
        return False


def _read_told(path: Path | None) -> set[str]:
    if path is None or not path.exists():
        return set()
    try:
        return {str(key) for key in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError):
        _LOG.warning("%s: cannot be read; alerts that are still there are told again", path)
        return set()
