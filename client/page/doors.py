"""Who may look at the site's page: whoever can read one file, which only the site's own user can.

The token in it is 32 random bytes, so there is nothing to guess, and no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from more_model.errors import StoreError
from more_model.private_file import write_new

NAME = "page-token"
LASTS_S = 12 * 3600
_BYTES = 32
#: More sessions are not kept: the oldest ends.
_MOST = 32


class PageToken:
    """The token in its file, read anew at every look: a file that is removed or replaced ends the old token."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Write a token if there is none yet."""
        if not self.path.exists():
            write_new(self.path, f"{secrets.token_urlsafe(_BYTES)}\n".encode())

    def digest(self) -> str:
        """Hex SHA-256 of the token; empty where there is none.

        Raises:
            StoreError: others may read the file.
        """
        try:
            if self.path.stat().st_mode & 0o077:
                raise StoreError(
                    f"others than its owner may read {self.path.name}",
                    remedy="remove the file and start the page again: it makes a new token with mode 0600",
                    avoid="only change the mode: somebody may have read the token",
                )
            token = self.path.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return ""
        return _digest(token) if token else ""

    def fits(self, given: str) -> bool:
        """Whether ``given`` is the token; takes equally long whatever it is. Raises as `digest`."""
        return hmac.compare_digest(self.digest().encode(), _digest(given).encode())


class Sessions:
    """Random names of sessions, in memory only: each lasts as long as the token that it was opened with."""

    def __init__(self, token: PageToken, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._token, self._clock = token, clock
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, given: str) -> str | None:
        """The name of a new session; None for a wrong token."""
        if not self._token.fits(given):
            return None
        name = secrets.token_urlsafe(_BYTES)
        with self._lock:
            self._open[name] = (_digest(given), self._clock() + LASTS_S)
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
        return name

    def holds(self, name: str) -> bool:
        """Whether a session goes on."""
        with self._lock:
            digest, ends = self._open.get(name, ("", 0.0))
        return bool(digest) and self._clock() < ends and digest == self._token.digest()

    def end(self, name: str) -> None:
        """Log out."""
        with self._lock:
            self._open.pop(name, None)


def _digest(token: str) -> str:
    # Whatever bytes a request holds, there is a digest of them.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
