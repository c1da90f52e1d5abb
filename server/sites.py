"""The coordinator's register of sites: who may connect, with which keys, since when and by whose hand.

A key that was ever in the register never comes back: a site that returns after a revocation brings new ones. Entries
are added and closed, never changed, and no entry depends on another.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from more_model.enrolment import Enrolment
from more_model.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from server.federation_file import SitePart

NAME = "sites.sqlite"

#: Ordered; the number of those that were applied stands in the file (user_version).
_MIGRATIONS = (
    """
    CREATE TABLE sites (
        entry INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        node_key TEXT NOT NULL UNIQUE,
        identity TEXT NOT NULL UNIQUE,
        patients INTEGER NOT NULL,
        modalities TEXT NOT NULL,
        enrolled_at TEXT NOT NULL,
        enrolled_by TEXT NOT NULL,
        revoked_at TEXT,
        revoked_by TEXT,
        reason TEXT
    );
    CREATE UNIQUE INDEX one_open_entry ON sites (name) WHERE revoked_at IS NULL;
    """,
)
_COLUMNS = "name, node_key, identity, patients, modalities, enrolled_at, enrolled_by, revoked_at, revoked_by, reason"


@dataclass(frozen=True, slots=True)
class SiteEntry:
    """One entry of the register; times are UTC, ISO 8601. ``revoked_at`` and what follows are None while it is open."""

    name: str
    node_key: str
    identity: bytes
    patients: int
    modalities: tuple[str, ...]
    enrolled_at: str
    enrolled_by: str
    revoked_at: str | None = None
    revoked_by: str | None = None
    reason: str | None = None

    @property
    def state(self) -> Literal["enrolled", "revoked"]:
        """Whether it may connect."""
        return "enrolled" if self.revoked_at is None else "revoked"

    @property
    def enrolment(self) -> Enrolment:
        """What the site handed in."""
        return Enrolment(self.name, self.node_key, self.identity, self.patients, self.modalities)

    def as_dict(self) -> dict[str, object]:
        """For JSON; keys as their fingerprint, which is what people compare."""
        return {
            "site": self.name,
            "state": self.state,
            "fingerprint": self.enrolment.fingerprint,
            "patients": self.patients,
            "modalities": list(self.modalities),
            "enrolled_at": self.enrolled_at,
            "enrolled_by": self.enrolled_by,
            "revoked_at": self.revoked_at,
            "revoked_by": self.revoked_by,
            "reason": self.reason,
        }


class SiteRegister:
    """The register in one SQLite file. Every call opens it anew, so that commands may change it while `start` runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def enroll(self, enrolment: Enrolment, *, by: str, now: datetime | None = None) -> SiteEntry:
        """Add a site.

        Raises:
            ConfigError: the site is enrolled already, or one of its keys was ever in the register.
        """
        with self._open() as database:
            self._refuse_known(database, enrolment)
            values = (
                enrolment.site,
                enrolment.node_key,
                enrolment.identity.hex(),
                enrolment.patients,
                json.dumps(list(enrolment.modalities)),
                _time(now),
                by,
            )
            database.execute(
                "INSERT INTO sites (name, node_key, identity, patients, modalities, enrolled_at, enrolled_by) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            return self._one(database, enrolment.site)

    def revoke(self, site: str, *, reason: str, by: str, now: datetime | None = None) -> SiteEntry:
        """Close a site's entry for good.

        Raises:
            ConfigError: no such site is enrolled, or no reason is given.
        """
        if not reason.strip():
            raise ConfigError(
                "revoke", ["no reason is given"], remedy="say why: it is shown as long as the register is"
            )
        with self._open() as database:
            done = database.execute(
                "UPDATE sites SET revoked_at = ?, revoked_by = ?, reason = ? WHERE name = ? AND revoked_at IS NULL",
                (_time(now), by, reason.strip(), site),
            )
            if done.rowcount != 1:
                names = ", ".join(entry.name for entry in _entries(database) if entry.state == "enrolled")
                raise ConfigError(
                    "revoke", [f"no site {site!r} is enrolled"], remedy=f"enrolled are: {names or 'none so far'}"
                )
            return self._one(database, site)

    def entries(self) -> tuple[SiteEntry, ...]:
        """Every entry ever made, in that order; empty where there is no register yet."""
        if not self._path.exists():
            return ()
        with self._open(to_write=False) as database:
            return _entries(database)

    def enrolled(self) -> dict[str, SiteEntry]:
        """Those that may connect, by name."""
        return {entry.name: entry for entry in self.entries() if entry.state == "enrolled"}

    def _refuse_known(self, database: sqlite3.Connection, enrolment: Enrolment) -> None:
        faults = []
        for entry in _entries(database):
            if entry.name == enrolment.site and entry.state == "enrolled":
                same = entry.node_key == enrolment.node_key and entry.identity == enrolment.identity
                faults.append(
                    f"{entry.name} is enrolled already, {'with these keys' if same else 'with other keys'}, "
                    f"since {entry.enrolled_at}"
                )
            elif enrolment.node_key == entry.node_key or enrolment.identity == entry.identity:
                faults.append(f"a key in this file is that of {entry.name}, {entry.state} since {entry.enrolled_at}")
        if faults:
            raise ConfigError(
                f"enrolment of {enrolment.site}",
                faults,
                remedy="where the site has new keys, revoke its entry first; where a key is known, it must make new",
                avoid="edit the register by hand",
            )

    def _one(self, database: sqlite3.Connection, site: str) -> SiteEntry:
        return [entry for entry in _entries(database) if entry.name == site][-1]

    @contextmanager
    def _open(self, *, to_write: bool = True) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._path.exists():
                self._path.touch(mode=0o600)
            database = sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE" if to_write else "BEGIN")
            _migrate(database)
            yield database
            database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        finally:
            # Without COMMIT, closing rolls back.
            database.close()

    def _unusable(self, error: sqlite3.Error) -> EnvironmentFault:
        return EnvironmentFault(
            f"{self._path}: the register of sites cannot be used ({error})",
            remedy="check that this user may write there and that the disk has space; else restore it from a backup",
            avoid="delete it: revoked keys would be unknown again",
        )


def declared_faults(named: Mapping[str, SitePart], entries: Mapping[str, SiteEntry]) -> list[str]:
    """Where the federation file says otherwise of a site than the site signed. Noise, weights and sums come from these
    numbers, and people read them in the file."""
    faults = []
    for name, entry in sorted(entries.items()):
        said = named[name]
        if said.patients != entry.patients:
            faults.append(f"sites.{name}.patients: {said.patients}, but the site signed {entry.patients}")
        if {modality.value for modality in said.modalities} != set(entry.modalities):
            faults.append(f"sites.{name}.modalities: the site signed {', '.join(entry.modalities)}")
    return faults


def _migrate(database: sqlite3.Connection) -> None:
    (applied,) = database.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(_MIGRATIONS[applied:], start=applied + 1):
        # executescript would commit first, and a crash in between would leave half a migration.
        for statement in script.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {number}")


def _entries(database: sqlite3.Connection) -> tuple[SiteEntry, ...]:
    rows = database.execute(f"SELECT {_COLUMNS} FROM sites ORDER BY entry").fetchall()
    return tuple(
        SiteEntry(name, node_key, bytes.fromhex(identity), patients, tuple(json.loads(modalities)), *rest)
        for name, node_key, identity, patients, modalities, *rest in rows
    )


def _time(now: datetime | None) -> str:
    return (datetime.now(UTC) if now is None else now).isoformat(timespec="seconds")
