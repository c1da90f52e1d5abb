"""The durable record of a run: rounds, who took part and why not, and the checkpoint that each round ended with.

A round is closed in one SQLite transaction, after its checkpoint was written to a temporary file, synced and renamed.
Killed at any instant, the journal therefore either holds the round with a checkpoint of the recorded digest, or does
not hold it, and the round is run again from the checkpoint before.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from safetensors.numpy import load, save

from more_model.errors import EnvironmentFault, RoundError
from more_model.exchange import TensorDict, Tensors
from more_model.private_file import replace
from server.single_writer import hold_alone

NAME, CHECKPOINTS = "journal.sqlite", "checkpoints"

#: In order; applied ones are counted in ``user_version`` and never edited.
_MIGRATIONS = (
    """
    CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE rounds (
        round INTEGER PRIMARY KEY, closed_at TEXT NOT NULL, checkpoint TEXT NOT NULL, checkpoint_sha256 TEXT NOT NULL,
        loss REAL, macro_auroc REAL, bytes_up INTEGER NOT NULL, seconds REAL NOT NULL
    );
    CREATE TABLE participation (
        round INTEGER NOT NULL REFERENCES rounds(round), site TEXT NOT NULL, state TEXT NOT NULL, why TEXT,
        counts TEXT NOT NULL, PRIMARY KEY (round, site)
    );
    """,
)


@dataclass(frozen=True, slots=True)
class Participation:
    """One site in one round: ``accepted``, ``quarantined``, ``refused`` (by the site itself) or ``absent``, and why."""

    site: str
    state: str
    why: str | None = None
    counts: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One closed round. ``loss`` is the pair-weighted mean over accepted sites; ``macro_auroc`` is the validation value
    where one was computed."""

    round: int
    sites: tuple[Participation, ...]
    loss: float | None
    macro_auroc: float | None
    bytes_up: int
    seconds: float


_VERDICT_LENGTH = 300


def is_void(record: RoundRecord) -> bool:
    """Whether a round came to nothing: no site's update is in its aggregate."""
    return all(part.state != "accepted" for part in record.sites)


def verdicts(record: RoundRecord) -> dict[str, str]:
    """What sites are told of a round that their answer is not in, in words that fit into one line."""
    return {
        part.site: f"round {record.round}: {part.state} ({part.why})"[:_VERDICT_LENGTH]
        for part in record.sites
        if part.state != "accepted"
    }


class Journal:
    """The journal of one run, in ``folder/journal.sqlite`` with checkpoints in ``folder/checkpoints``; one process
    writes it, any number read it."""

    def __init__(self, folder: Path, *, run: Mapping[str, str]) -> None:
        """Open or create. ``run`` holds what must not change between start and resume (spec digest, fingerprint, ...).

        Raises:
            RoundError: the folder holds the journal of another run or of a newer version, or a damaged one.
            EnvironmentFault: another process has it open, or the disk cannot be written.
        """
        self._folder, self._checkpoints = folder, folder / CHECKPOINTS
        with _disk_faults(folder), ExitStack() as opened:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
            opened.enter_context(closing(hold_journal(folder)))
            self._database = opened.enter_context(closing(sqlite3.connect(folder / NAME, isolation_level=None)))
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._migrate()
            self._require_same_run(run)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Release the database and the lock."""
        self._opened.close()

    def close_round(self, record: RoundRecord, tensors: Tensors) -> None:
        """Write the checkpoint, then the round, durably.

        Raises:
            EnvironmentFault: the disk is full or cannot be written. The round is not recorded then, all before it is,
                and it can be closed again once there is space.
        """
        name = f"round-{record.round:04d}.safetensors"
        content = save(dict(tensors))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        digest = hashlib.sha256(content).hexdigest()
        with _disk_faults(self._folder), self._database:
            # As any file of this user: unlike a site's update, an aggregate is no secret.
            replace(self._checkpoints / name, content, mode=0o666)
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (record.round, now, name, digest, record.loss, record.macro_auroc, record.bytes_up, record.seconds),
            )
            self._database.executemany(
                "INSERT INTO participation VALUES (?, ?, ?, ?, ?)",
                [(record.round, p.site, p.state, p.why, json.dumps(dict(p.counts or {}))) for p in record.sites],
            )

    def measure(self, number: int, macro_auroc: float | None) -> None:
        """Write down what a closed round was measured at. Raises EnvironmentFault as `close_round` does."""
        with _disk_faults(self._folder), self._database:
            self._database.execute("UPDATE rounds SET macro_auroc = ? WHERE round = ?", (macro_auroc, number))

    def last_checkpoint(self) -> tuple[int, TensorDict] | None:
        """Number and tensors of the last closed round, or None before the first.

        Raises:
            RoundError: its checkpoint is missing or was changed.
        """
        row = self._database.execute("SELECT max(round) FROM rounds").fetchone()
        return None if row[0] is None else (int(row[0]), self.checkpoint(int(row[0])))

    def checkpoint(self, number: int) -> TensorDict:
        """The tensors after a closed round. Raises RoundError as `last_checkpoint` does."""
        return read_checkpoint(self._database, self._checkpoints, number)[0]

    def last_digest(self) -> str:
        """Hex SHA-256 of the last closed round's checkpoint; empty before the first."""
        row = self._database.execute("SELECT checkpoint_sha256 FROM rounds ORDER BY round DESC LIMIT 1").fetchone()
        return "" if row is None else str(row[0])

    def rounds(self) -> list[RoundRecord]:
        """All closed rounds, in order."""
        return read_rounds(self._database)

    def _migrate(self) -> None:
        done = int(self._database.execute("PRAGMA user_version").fetchone()[0])
        if done > len(_MIGRATIONS):
            raise RoundError(
                f"{self._folder}: the journal has layout {done}, this version knows {len(_MIGRATIONS)}",
                remedy="use the version of more-fed that wrote it, or a newer one",
                avoid="take another folder: the closed rounds would be run again",
            )
        for number, script in enumerate(_MIGRATIONS[done:], start=done + 1):
            self._database.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    def _require_same_run(self, run: Mapping[str, str]) -> None:
        stored = dict(self._database.execute("SELECT key, value FROM run").fetchall())
        if not stored:
            self._database.executemany("INSERT INTO run VALUES (?, ?)", sorted(run.items()))
        elif stored != dict(run):
            differing = sorted(key for key in stored.keys() | run.keys() if stored.get(key) != run.get(key))
            raise RoundError(
                f"this folder holds the journal of another run: {', '.join(differing)} differ",
                remedy="resume with the configuration that the run was started with, or give another folder",
            )


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A journal's database, also while a run writes it, and in a folder without write access. RoundError where it
    cannot be read."""
    # A journal without a write-ahead file is at rest; marked immutable it needs no files beside it.
    at_rest = not path.with_name(f"{path.name}-wal").exists()
    try:
        address = f"{path.resolve().as_uri()}?{'immutable=1' if at_rest else 'mode=ro'}"
        with closing(sqlite3.connect(address, uri=True)) as database:
            yield database
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from error


def read_checkpoint(database: sqlite3.Connection, checkpoints: Path, number: int) -> tuple[TensorDict, str]:
    """The tensors after a closed round, and the hex SHA-256 of their file. Raises RoundError where it is missing or was
    changed."""
    name, recorded = database.execute(
        "SELECT checkpoint, checkpoint_sha256 FROM rounds WHERE round = ?", (number,)
    ).fetchone()
    path = checkpoints / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != recorded:
        raise RoundError(
            f"the checkpoint of round {number} ({path.name}) is missing or was changed",
            remedy="restore it from a backup, or start a new run in another folder",
            avoid="delete the journal: the record of who took part would be gone",
        )
    return dict(load(content)), recorded


def read_rounds(database: sqlite3.Connection) -> list[RoundRecord]:
    """All closed rounds of an open journal database."""
    parts: dict[int, list[Participation]] = {}
    for number, site, state, why, counts in database.execute(
        "SELECT round, site, state, why, counts FROM participation ORDER BY round, site"
    ):
        parts.setdefault(number, []).append(Participation(site, state, why, json.loads(counts)))
    rows = database.execute("SELECT round, loss, macro_auroc, bytes_up, seconds FROM rounds ORDER BY round").fetchall()
    return [RoundRecord(row[0], tuple(parts.get(row[0], ())), row[1], row[2], row[3], row[4]) for row in rows]


def as_json(records: Sequence[RoundRecord]) -> list[dict[str, object]]:
    """The rounds in the form of summary.json."""
    return [
        {
            "round": record.round,
            "sites": {p.site: {**(p.counts or {}), "state": p.state, "why": p.why} for p in record.sites},
            **{key: value for key, value in asdict(record).items() if key not in ("round", "sites")},
        }
        for record in records
    ]


def hold_journal(folder: Path) -> IO[bytes]:
    """The lock that one writer of a journal holds until it closes this. EnvironmentFault where another has it."""
    return hold_alone(
        folder / ".journal.lock",
        cause=f"{folder}: another process writes this journal",
        remedy="let it end, or stop it; two would aggregate into one record",
    )


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    """What the disk and SQLite say about the journal's files, as errors with a remedy."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EnvironmentFault(
            f"{folder}: the journal cannot be written ({reason})",
            remedy="look at the space on this disk and who may write there, then start again: every closed round is "
            "kept, and the run goes on with the one that was open",
            avoid="delete the journal or its last checkpoint to make space",
        ) from error
    except sqlite3.DatabaseError as error:
        # A row that the schema forbids is a fault of ours, not of the file.
        if isinstance(error, sqlite3.IntegrityError):
            raise
        raise _unreadable(folder, error) from error


def _unreadable(path: Path, error: sqlite3.DatabaseError) -> RoundError:
    return RoundError(
        f"{path}: the journal cannot be read ({error})",
        remedy="restore it from a backup",
        avoid="delete it: the record of who took part would be gone",
    )
