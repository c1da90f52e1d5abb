"""Who is logged in on the page: in memory only, so a restart of the server logs everybody out."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from server.status.tokens import TokenEntry, TokenFile

LASTS_S = 12 * 3600
#: More are not kept: the oldest ends. A page that is logged into from a script must not fill the memory.
_MOST = 256


@dataclass(frozen=True, slots=True)
class _Session:
    entry: TokenEntry
    ends: float


class Sessions:
    """Random names of sessions, each for the token that it was opened with."""

    def __init__(self, tokens: TokenFile, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens, self._clock = tokens, clock
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Session] = OrderedDict()

    def open(self, token: str) -> str | None:
        """The name of a new session; None for a token that is none."""
        entry = self._tokens.find(token)
        if entry is None:
            return None
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._open[name] = _Session(entry, self._clock() + LASTS_S)
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
        return name

    def of(self, name: str) -> TokenEntry | None:
        """For whom a session is; None once it has ended, or its token was withdrawn."""
        with self._lock:
            session = self._open.get(name)
        if session is None:
            return None
        if session.ends <= self._clock() or session.entry not in self._tokens.entries():
            self.end(name)
            return None
        return session.entry

    def end(self, name: str) -> None:
        """Log out."""
        with self._lock:
            self._open.pop(name, None)
