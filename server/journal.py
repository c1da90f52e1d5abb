"""The durable record of a run: rounds, who took part and why not, and the checkpoint that each round ended with.

A round is closed in one SQLite transaction, after its checkpoint was written to a temporary file, synced and renamed.
Killed at any instant, the journal therefore either holds the round with a checkpoint of the recorded digest, or does
not hold it, and the round is run again from the checkpoint before.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from safetensors.numpy import load, save

from more_model.errors import RoundError
from more_model.exchange import TensorDict, Tensors

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


def is_void(record: RoundRecord) -> bool:
    """Whether a round came to nothing: no site's update is in its aggregate."""
    return all(part.state != "accepted" for part in record.sites)


class Journal:
    """The journal of one run, in ``folder/journal.sqlite`` with checkpoints in ``folder/checkpoints``."""

    def __init__(self, folder: Path, *, run: Mapping[str, str]) -> None:
        """Open or create. ``run`` holds what must not change between start and resume (spec digest, fingerprint, ...).

        Raises:
            RoundError: the folder holds the journal of another run.
        """
        self._checkpoints = folder / "checkpoints"
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "journal.sqlite", isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._migrate()
            self._require_same_run(run)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    def close_round(self, record: RoundRecord, tensors: Tensors) -> None:
        """Write the checkpoint, then the round, durably."""
        name = f"round-{record.round:04d}.safetensors"
        content = save(dict(tensors))
        _write_durably(self._checkpoints / name, content)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        digest = hashlib.sha256(content).hexdigest()
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (record.round, now, name, digest, record.loss, record.macro_auroc, record.bytes_up, record.seconds),
            )
            self._database.executemany(
                "INSERT INTO participation VALUES (?, ?, ?, ?, ?)",
                [(record.round, p.site, p.state, p.why, json.dumps(dict(p.counts or {}))) for p in record.sites],
            )

    def last_checkpoint(self) -> tuple[int, TensorDict] | None:
        """Number and tensors of the last closed round, or None before the first.

        Raises:
            RoundError: its checkpoint is missing or was changed.
        """
        row = self._database.execute(
            "SELECT round, checkpoint, checkpoint_sha256 FROM rounds ORDER BY round DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        path = self._checkpoints / row[1]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != row[2]:
            raise RoundError(
                f"the checkpoint of round {row[0]} ({path.name}) is missing or was changed",
                remedy="restore it from a backup, or start a new run in another folder",
                avoid="delete the journal: the record of who took part would be gone",
            )
        return int(row[0]), dict(load(content))

    def rounds(self) -> list[RoundRecord]:
        """All closed rounds, in order."""
        return read_rounds(self._database)

    def _migrate(self) -> None:
        done = int(self._database.execute("PRAGMA user_version").fetchone()[0])
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


def _write_durably(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
