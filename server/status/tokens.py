"""Who may look: one token for the coordinator, or for one site each; only digests are kept.

A token is 32 random bytes, so a plain SHA-256 of it tells as little as a slow hash would: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from more_model.enrolment import site_name_fault
from more_model.errors import ConfigError
from more_model.private_file import replace

NAME = "status_tokens.json"
_BYTES = 32


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One token: its SHA-256 in hexadecimal, for whom (None: the coordinator) and since when (UTC, ISO 8601)."""

    sha256: str
    site: str | None
    made_at: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    site: str | None
    made_at: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: list[_Entry]


class TokenFile:
    """The tokens in one file, read anew at every look: a token that is withdrawn ends at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> tuple[TokenEntry, ...]:
        """All of them; none where there is no file. ConfigError where the file is something else."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        try:
            return tuple(TokenEntry(**each.model_dump()) for each in _File.model_validate_json(content).tokens)
        except ValidationError as error:
            raise ConfigError(
                str(self._path),
                ["this is no list of tokens"],
                remedy="remove it and make new tokens with more-server status-token",
            ) from error

    def make(self, site: str | None, *, now: datetime | None = None) -> str:
        """A new token, which is shown this once; an earlier one of the same site stays valid until it is withdrawn.

        Raises:
            ConfigError: the name cannot be that of a site.
        """
        if site is not None and (fault := site_name_fault(site)) is not None:
            raise ConfigError("status token", [f"{site!r}: {fault}"])
        token = secrets.token_urlsafe(_BYTES)
        made_at = (datetime.now(UTC) if now is None else now).isoformat(timespec="seconds")
        self._write((*self.entries(), TokenEntry(_digest(token), site, made_at)))
        return token

    def withdraw(self, site: str | None) -> int:
        """End every token of a site (None: of the coordinator); how many there were."""
        before = self.entries()
        kept = tuple(entry for entry in before if entry.site != site)
        if len(kept) < len(before):
            self._write(kept)
        return len(before) - len(kept)

    def find(self, token: str) -> TokenEntry | None:
        """The entry of a token. Takes equally long whichever entry it is, and whether it is one."""
        digest, found = _digest(token), None
        for entry in self.entries():
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return found

    def still(self, holder: TokenEntry) -> bool:
        """Whether its token was not withdrawn."""
        return holder in self.entries()

    def _write(self, entries: tuple[TokenEntry, ...]) -> None:
        content = {"tokens": [asdict(entry) for entry in entries]}
        replace(self._path, (json.dumps(content, indent=2) + "\n").encode())


def _digest(token: str) -> str:
    # Whatever bytes a request holds, there is a digest of them.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
