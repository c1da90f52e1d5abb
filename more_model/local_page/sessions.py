"""Who is logged in on a page: in memory only, so a restart of the server logs everybody out."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

LASTS_S = 12 * 3600

Holder = TypeVar("Holder")


class Tokens(Protocol[Holder]):
    """What is kept of tokens, never the tokens themselves."""

    def find(self, token: str) -> Holder | None:
        """Whose token this is; None for one that is none."""

    def still(self, holder: Holder) -> bool:
        """Whether the token of ``holder`` is good at this moment."""


@dataclass(frozen=True, slots=True)
class _Session(Generic[Holder]):
    holder: Holder
    ends: float


class Sessions(Generic[Holder]):
    """Random names of sessions, each for the token that it was opened with and for no longer than that is good.
    ``most``: more are not kept, the oldest ends; a script that logs in must not fill the memory."""

    def __init__(self, tokens: Tokens[Holder], *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens, self._most, self._clock = tokens, most, clock
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Session[Holder]] = OrderedDict()

    def open(self, token: str) -> str | None:
        """The name of a new session; None for a token that is none."""
        holder = self._tokens.find(token)
        if holder is None:
            return None
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._open[name] = _Session(holder, self._clock() + LASTS_S)
            while len(self._open) > self._most:
                self._open.popitem(last=False)
        return name

    def of(self, name: str) -> Holder | None:
        """For whom a session is; None once it has ended, or its token was withdrawn."""
        with self._lock:
            session = self._open.get(name)
        if session is None:
            return None
        if session.ends <= self._clock() or not self._tokens.still(session.holder):
            self.end(name)
            return None
        return session.holder

    def end(self, name: str) -> None:
        """Log out."""
        with self._lock:
            self._open.pop(name, None)
