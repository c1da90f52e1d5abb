"""The ledger's file: SQLite with a rollback journal, one writer at a time, everything synced.

A rollback journal and not a write-ahead log: the file is then whole by itself, so a copy of it is a copy of the ledger.
``synchronous = EXTRA`` also syncs the folder after a commit; with FULL, a power cut right after a commit can bring the
deleted journal back, and with it undo the charge.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from more_model.errors import ConfigError, StoreError
from privacy.ledger.errors import LedgerDamaged

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_WAIT_S = 60.0
_POLL_S = 0.02

#: In order; applied ones are counted in ``user_version`` and never edited.
_MIGRATIONS = (
    """
    CREATE TABLE entries (number INTEGER PRIMARY KEY, text TEXT NOT NULL, head TEXT NOT NULL);
    CREATE TABLE members (data_set TEXT PRIMARY KEY, name TEXT NOT NULL, hashes BLOB NOT NULL);
    """,
)


def check_places(ledger: Path, witness: Path) -> None:
    """Refuses places where ledger and witness would be lost together, or with the installed program.

    Raises:
        ConfigError: all faults at once.
    """
    faults = []
    package = Path(__file__).resolve().parents[1]
    for name, path in (("ledger", ledger.resolve()), ("witness", witness.resolve())):
        if package in path.parents or {"site-packages", "dist-packages"} & set(path.parts):
            faults.append(f"{name}: lies in the installed program, which the next installation replaces")
    if ledger.resolve().parent in witness.resolve().parents:
        faults.append("witness: lies in the ledger's folder, so an old copy of that folder would bring both back")
    if faults:
        raise ConfigError(
            "ledger", faults, remedy="choose a folder of the site for the ledger, another one for the witness, best "
            "on another disk and not in the same backup",
        )  # fmt: skip


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Held over a whole charge, commit and witness together. The lock is the kernel's and ends with the process.

    Raises:
        StoreError: another process kept it for a minute.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, _FILE_MODE)
    try:
        _acquire(descriptor)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int) -> None:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StoreError(
                    "Another process is writing to the ledger.",
                    remedy="wait until it has ended, or find out why it hangs",
                    avoid="delete the .lock file: the lock is the kernel's, and two writers would damage the ledger",
                ) from error
        time.sleep(_POLL_S)


def create(path: Path) -> sqlite3.Connection:
    """A new, empty ledger file, for its owner alone."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE))
    connection = _opened(path)
    for version, script in enumerate(_MIGRATIONS, start=1):
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {version}; COMMIT;")
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """An existing ledger file; autocommit, with every commit synced.

    Raises:
        LedgerDamaged: it is gone, or not a ledger of this release.
    """
    if not path.is_file():
        raise LedgerDamaged(
            "There is no ledger file, though one is expected.",
            remedy="put its newest copy back; only a site that has never trained starts without one",
            avoid="start a new one: what was spent would be forgotten",
        )
    connection = _opened(path)
    try:
        with sqlite_faults():
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != len(_MIGRATIONS):
            raise LedgerDamaged(
                f"The ledger file has layout {version}; this release reads {len(_MIGRATIONS)}.",
                remedy="use the release that wrote it" if version else "put the newest copy of the ledger file back",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_WAIT_S)
    try:
        with sqlite_faults():
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; no other connection reads or writes meanwhile."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def sqlite_faults() -> Iterator[None]:
    """What SQLite says about a file as errors of the ledger; its text can quote the file and is not passed on."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"The ledger file cannot be used now ({error.sqlite_errorname}).",
            remedy="check the disk, its space, and who may write to the ledger's folder; then try again",
        ) from error
    except sqlite3.DatabaseError as error:
        raise LedgerDamaged(
            "The ledger file is damaged: SQLite cannot read it.",
            remedy="put the newest undamaged copy of the ledger file back",
            avoid="delete it: what was spent would be forgotten",
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes a small file whole or not at all, synced together with its name."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
