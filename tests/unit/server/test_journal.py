"""The journal: one suite over every way it can come to be, and what it refuses."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from more_model.errors import EnvironmentFault, RoundError
from more_model.exchange import TensorDict
from server import journal as module
from server.journal import Journal, Participation, RoundRecord, as_json

RUN = {"spec": "s", "seed": "7"}
CHECKOUT = Path(__file__).resolve().parents[3]
#: A file system in memory.
MEMORY = Path("/dev/shm")

#: A child that closes round 1 and dies while it closes round 2, at a moment that the test names.
CHILD = """
import os, signal, sys
from pathlib import Path
import numpy as np
from more_model import private_file
from server.journal import Journal, Participation, RoundRecord

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def close(number):
    sites = (Participation("north", "accepted"),)
    tensors = {"w": np.full((2, 3), number, dtype=np.float32)}
    journal.close_round(RoundRecord(number, sites, 1.0, None, 24, 0.5), tensors)

folder, moment = sys.argv[1:]
journal = Journal(Path(folder), run={"spec": "s", "seed": "7"})
close(1)
if moment == "checkpoint written, not synced":
    private_file.os.fsync = die
elif moment == "checkpoint synced, not renamed":
    Path.replace = die
elif moment == "checkpoint renamed, name not synced":
    private_file.sync_folder = die
elif moment.startswith("within the transaction: "):
    statement = moment.partition(": ")[2]
    journal._database.set_trace_callback(lambda sql: die() if sql.startswith(statement) else None)
elif moment == "lock held":
    print("held", flush=True)
    sys.stdin.read()
close(2)
if moment == "after the commit":
    die()
"""
#: Moment -> how many rounds are closed then.
MOMENTS = {
    "checkpoint written, not synced": 1,
    "checkpoint synced, not renamed": 1,
    "checkpoint renamed, name not synced": 1,
    "within the transaction: BEGIN": 1,
    "within the transaction: INSERT INTO participation": 1,
    "within the transaction: COMMIT": 1,
    "after the commit": 2,
}


@dataclass(frozen=True)
class Held:
    """A folder, and how many rounds its journal holds already."""

    folder: Path
    done: int

    def open(self) -> Journal:
        return Journal(self.folder, run=RUN)


def tensors(number: int) -> TensorDict:
    return {"w": np.full((2, 3), number, dtype=np.float32)}


def record(number: int) -> RoundRecord:
    sites = (
        Participation("north", "accepted", None, {"loss": 1.25, "steps": 3.0}),
        Participation("south", "quarantined", "it belongs to round 9, not 1", {"loss": 2.0}),
        Participation("west", "absent", "no answer within the round's time", {}),
    )
    return RoundRecord(number, sites, 1.25, 0.75, 4096, 0.125)


def child(folder: Path, moment: str) -> list[str]:
    return [sys.executable, "-c", CHILD, str(folder), moment]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """``killed(moment, folder)``: a copy of what a process left that was killed at that moment."""

    @cache
    def left(moment: str) -> Path:
        folder = tmp_path_factory.mktemp("killed")
        done = subprocess.run(child(folder, moment), cwd=CHECKOUT, capture_output=True, timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        return folder

    return lambda moment, folder: Path(shutil.copytree(left(moment), folder, dirs_exist_ok=True))


@pytest.fixture(params=["memory", "file", "file reopened", *MOMENTS])
def held(request: pytest.FixtureRequest, tmp_path: Path, killed: Callable[[str, Path], Path]) -> Iterator[Held]:
    if request.param in MOMENTS:
        yield Held(killed(request.param, tmp_path), MOMENTS[request.param])
    elif request.param == "memory":
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            yield Held(Path(folder), 0)
    else:
        reopened = Held(tmp_path, 0)
        if request.param == "file reopened":
            with closing(reopened.open()) as journal:
                journal.close_round(record(1), tensors(1))
        yield Held(tmp_path, int(request.param == "file reopened"))


def test_holds_exactly_the_rounds_that_were_closed_and_goes_on(held: Held) -> None:
    with closing(held.open()) as journal:
        assert [entry.round for entry in journal.rounds()] == list(range(1, held.done + 1))
        last = journal.last_checkpoint()
        if held.done == 0:
            assert last is None
        else:
            assert last is not None and last[0] == held.done
            assert last[1]["w"].tobytes() == tensors(held.done)["w"].tobytes()
        journal.close_round(record(held.done + 1), tensors(40))

    with closing(held.open()) as again:
        assert again.rounds()[-1] == record(held.done + 1)
        last = again.last_checkpoint()
        assert last is not None and last[0] == held.done + 1
        assert last[1]["w"].tobytes() == tensors(40)["w"].tobytes()
    # Whatever a killed process had begun was replaced, and nothing of it stays.
    names = {path.name for path in (held.folder / "checkpoints").iterdir()}
    assert names == {f"round-{number:04d}.safetensors" for number in range(1, held.done + 2)}


def test_a_round_cannot_be_closed_twice(held: Held) -> None:
    with closing(held.open()) as journal:
        journal.close_round(record(held.done + 1), tensors(5))
        with pytest.raises(sqlite3.IntegrityError):
            journal.close_round(record(held.done + 1), tensors(5))
        assert [entry.round for entry in journal.rounds()] == list(range(1, held.done + 2))


def test_a_changed_checkpoint_is_detected(held: Held) -> None:
    with closing(held.open()) as journal:
        journal.close_round(record(held.done + 1), tensors(5))
        path = held.folder / "checkpoints" / f"round-{held.done + 1:04d}.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(RoundError, match=rf"round {held.done + 1} \(round-000\d\.safetensors\) is missing or was"):
            journal.last_checkpoint()
        path.unlink()
        with pytest.raises(RoundError, match=r"missing or was changed[\s\S]*Do not: delete the journal"):
            journal.last_checkpoint()


def test_the_journal_of_another_run_is_refused_by_name(held: Held) -> None:
    held.open().close()
    with pytest.raises(RoundError, match=r"journal of another run: rounds, seed differ"):
        Journal(held.folder, run={"spec": "s", "seed": "8", "rounds": "3"})
    with closing(held.open()) as journal:
        assert len(journal.rounds()) == held.done


@pytest.mark.parametrize("full", ["for the checkpoint", "for the database"])
def test_on_a_full_disk_nothing_is_lost_and_the_round_is_closed_once_there_is_space(held: Held, full: str) -> None:
    with closing(held.open()) as journal:
        before = {path.name: path.read_bytes() for path in (held.folder / "checkpoints").glob("round-*")}
        large = {"w": np.zeros(100_000, dtype=np.float32)}
        log = held.folder / "journal.sqlite-wal"
        room = 50_000 if full == "for the checkpoint" else log.stat().st_size + 100
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(EnvironmentFault, match=r"cannot be written[\s\S]*What to do: look at the space"):
                journal.close_round(record(held.done + 1), large if full == "for the checkpoint" else tensors(8))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert len(journal.rounds()) == held.done
        left = {path.name: path.read_bytes() for path in (held.folder / "checkpoints").iterdir()}
        if full == "for the checkpoint":
            assert left == before
        assert not [name for name in left if name.endswith(".part")]
        journal.close_round(record(held.done + 1), large)

    with closing(held.open()) as again:
        assert again.rounds()[-1] == record(held.done + 1)
        last = again.last_checkpoint()
        assert last is not None and last[1]["w"].tobytes() == large["w"].tobytes()


FULL_DISK = """
import sys
from pathlib import Path
import numpy as np
from more_model.errors import EnvironmentFault
from server.journal import Journal, Participation, RoundRecord

disk = Path(sys.argv[1])
journal = Journal(disk / "run", run={"seed": "7"})
close = lambda number: journal.close_round(
    RoundRecord(number, (Participation("north", "accepted"),), 1.0, None, 24, 0.5),
    {"w": np.full(20_000, number, dtype=np.float32)},
)
close(1)
filler = (disk / "filler").open("wb", buffering=0)
try:
    while filler.write(bytes(4096)):
        pass
except OSError:
    pass
try:
    close(2)
except EnvironmentFault as error:
    print(error.cause)
print([path.name for path in (disk / "run" / "checkpoints").iterdir()], len(journal.rounds()))
filler.close()
(disk / "filler").unlink()
close(2)
print(journal.last_checkpoint()[0])
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    inside = f'mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c "$PROGRAM" {tmp_path}'
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    if allowed is None or allowed.returncode != 0:
        pytest.skip("no file system can be mounted here; the limit on the size of files is tested in its place")
    done = subprocess.run(
        [*unshare, "sh", "-c", inside],
        cwd=CHECKOUT,
        env={**os.environ, "PROGRAM": FULL_DISK},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, left, number = done.stdout.splitlines()
    assert said == f"{tmp_path}/run: the journal cannot be written (No space left on device)"
    assert (left, number) == ("['round-0001.safetensors'] 1", "2")


def test_two_processes_never_write_one_journal(tmp_path: Path) -> None:
    first = subprocess.Popen(
        child(tmp_path, "lock held"), cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        with pytest.raises(EnvironmentFault, match=r"another process writes this journal[\s\S]*two would aggregate"):
            Journal(tmp_path, run=RUN)
    finally:
        first.kill()
        first.communicate()
    # The kernel lets go with the process: nothing has to be removed.
    with closing(Journal(tmp_path, run=RUN)) as journal:
        assert len(journal.rounds()) == 1
        with pytest.raises(EnvironmentFault, match="another process"):
            Journal(tmp_path, run=RUN)


def test_a_refused_journal_is_released(tmp_path: Path) -> None:
    Journal(tmp_path, run=RUN).close()
    with pytest.raises(RoundError):
        Journal(tmp_path, run={})
    # The write-ahead file goes away when the last connection closes.
    assert not (tmp_path / "journal.sqlite-wal").exists()
    Journal(tmp_path, run=RUN).close()


def write_layout(folder: Path, layout: int) -> list[tuple[str, str]]:
    """A database of an earlier layout, with two rounds where it had tables for them; returns its run."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as database:
        for script in module._MIGRATIONS[:layout]:
            database.executescript(script)
        database.execute(f"PRAGMA user_version = {layout}")
        if layout == 0:
            return []
        database.executemany("INSERT INTO run VALUES (?, ?)", RUN.items())
        database.executemany(
            "INSERT INTO rounds (round, closed_at, checkpoint, checkpoint_sha256, loss, macro_auroc, bytes_up, seconds)"
            " VALUES (?, '2026-01-01T00:00:00+00:00', ?, ?, 1.25, 0.75, 4096, 0.125)",
            [(number, f"round-{number:04d}.safetensors", "0" * 64) for number in (1, 2)],
        )
        database.executemany(
            "INSERT INTO participation (round, site, state, why, counts) VALUES (?, 'north', ?, ?, '{\"loss\": 1.25}')",
            [(1, "accepted", None), (2, "absent", "no answer within the round's time")],
        )
        database.commit()
        return database.execute("SELECT key, value FROM run").fetchall()


@pytest.mark.parametrize("layout", range(len(module._MIGRATIONS) + 1))
def test_a_journal_of_every_earlier_layout_keeps_its_rows(tmp_path: Path, layout: int) -> None:
    known = write_layout(tmp_path, layout)
    with closing(Journal(tmp_path, run=RUN)) as journal:
        found = journal.rounds()
        assert [(entry.round, entry.loss, entry.macro_auroc, entry.bytes_up, entry.seconds) for entry in found] == [
            (number, 1.25, 0.75, 4096, 0.125) for number in (1, 2) if known
        ]
        assert [part for entry in found for part in entry.sites] == [
            Participation("north", "accepted", None, {"loss": 1.25}),
            Participation("north", "absent", "no answer within the round's time", {"loss": 1.25}),
        ][: 2 * bool(known)]
        journal.close_round(record(len(found) + 1), tensors(1))
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(module._MIGRATIONS),)


def test_a_migration_that_fails_leaves_the_layout_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Journal(tmp_path, run=RUN)) as journal:
        journal.close_round(record(1), tensors(1))
    before = module._MIGRATIONS
    good, bad = "CREATE TABLE further (key TEXT);", "CREATE TABLE last (key TEXT); INSERT INTO nowhere VALUES (1);"
    monkeypatch.setattr(module, "_MIGRATIONS", (*before, good, bad))
    with pytest.raises(EnvironmentFault, match="no such table: nowhere"):
        Journal(tmp_path, run=RUN)
    monkeypatch.setattr(module, "_MIGRATIONS", (*before, good))
    with closing(Journal(tmp_path, run=RUN)) as journal:
        assert journal.rounds() == [record(1)]
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "further" in tables and "last" not in tables


def test_a_journal_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path, run=RUN).close()
    newer = len(module._MIGRATIONS) + 1
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as database:
        database.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(RoundError, match=rf"layout {newer}, this version knows {newer - 1}[\s\S]*use the version"):
        Journal(tmp_path, run=RUN)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (newer,)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(RoundError, match=r"cannot be read[\s\S]*restore it from a backup"):
        Journal(tmp_path, run=RUN)


def test_as_json_has_the_keys_of_the_summary() -> None:
    (entry,) = as_json([record(3)])
    assert entry["round"] == 3 and entry["bytes_up"] == 4096
    assert entry["sites"]["south"] == {"state": "quarantined", "why": "it belongs to round 9, not 1", "loss": 2.0}  # type: ignore[index]
    assert set(entry) == {"round", "sites", "loss", "macro_auroc", "bytes_up", "seconds"}


def test_the_child_dies_of_the_signal_and_of_nothing_else(tmp_path: Path) -> None:
    """Without a moment to die at, the child ends well: the other tests do not pass by accident."""
    done = subprocess.run(child(tmp_path, "never"), cwd=CHECKOUT, env=os.environ, timeout=120, check=False)
    assert done.returncode == 0
    with closing(Journal(tmp_path, run=RUN)) as journal:
        assert len(journal.rounds()) == 2
