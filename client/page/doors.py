"""Who may look at the site's page: whoever can read one file, which only the site's own user can.

The token in it is 32 random bytes, so there is nothing to guess, and no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from more_model.errors import StoreError
from more_model.private_file import write_new

NAME = "page-token"
_BYTES = 32


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

    def find(self, token: str) -> str | None:
        """The digest of ``token`` where it is the one; takes equally long whatever it is. Raises as `digest`."""
        given = _digest(token)
        return given if hmac.compare_digest(self.digest().encode(), given.encode()) else None

    def still(self, holder: str) -> bool:
        """Whether the token of this digest is the one at this moment. Raises as `digest`."""
        return holder == self.digest()


def _digest(token: str) -> str:
    # Whatever bytes a request holds, there is a digest of them.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
