"""The journal: one suite over every way it can come to be, and what it refuses."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from more_model.errors import RoundError
from more_model.exchange import TensorDict
from server.journal import Journal, Participation, RoundRecord, as_json

RUN = {"spec": "s", "seed": "7"}
Opened = Callable[[], Journal]

#: A child that closes round 1 and dies while it closes round 2, at a moment that the test names.
CHILD = """
import os, signal, sys
from pathlib import Path
import numpy as np
from server import journal as module
from server.journal import Journal, Participation, RoundRecord

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def tensors(number):
    return {"w": np.full((2, 3), number, dtype=np.float32)}

journal = Journal(Path(sys.argv[1]), run={"spec": "s", "seed": "7"})
record = lambda number: RoundRecord(number, (Participation("north", "accepted"),), 1.0, None, 24, 0.5)
journal.close_round(record(1), tensors(1))
moment = sys.argv[2]
if moment == "before the checkpoint is renamed":
    Path.replace = die
elif moment == "between checkpoint and commit":
    write = module._write_durably
    module._write_durably = lambda path, content: (write(path, content), die())
elif moment == "within the transaction":
    module.json.dumps = die
journal.close_round(record(2), tensors(2))
"""


def tensors(number: int) -> TensorDict:
    return {"w": np.full((2, 3), number, dtype=np.float32)}


def record(number: int) -> RoundRecord:
    sites = (
        Participation("north", "accepted", None, {"loss": 1.25, "steps": 3.0}),
        Participation("south", "quarantined", "it belongs to round 9, not 1", {"loss": 2.0}),
        Participation("west", "absent", "no answer within the round's time", {}),
    )
    return RoundRecord(number, sites, 1.25, 0.75, 4096, 0.125)


def killed_journal(folder: Path, moment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), moment], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture(
    params=[
        "fresh",
        "reopened",
        "before the checkpoint is renamed",
        "between checkpoint and commit",
        "within the transaction",
    ]
)
def journal_and_done(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Opened, int]:
    """How to open the journal, and how many rounds it holds already."""
    if request.param == "fresh":
        return (lambda: Journal(tmp_path, run=RUN)), 0
    if request.param == "reopened":
        before = Journal(tmp_path, run=RUN)
        before.close_round(record(1), tensors(1))
        before.close()
    else:
        killed_journal(tmp_path, request.param)
    return (lambda: Journal(tmp_path, run=RUN)), 1


def test_holds_exactly_the_rounds_that_were_closed_and_goes_on(journal_and_done: tuple[Opened, int]) -> None:
    opened, done = journal_and_done
    journal = opened()
    assert [entry.round for entry in journal.rounds()] == list(range(1, done + 1))
    held = journal.last_checkpoint()
    if done == 0:
        assert held is None
    else:
        assert held is not None
        assert held[0] == done
        assert held[1]["w"].tobytes() == tensors(done)["w"].tobytes()
    journal.close_round(record(done + 1), tensors(40))
    journal.close()

    again = opened()
    assert again.rounds()[-1] == record(done + 1)
    held = again.last_checkpoint()
    assert held is not None and held[0] == done + 1
    assert held[1]["w"].tobytes() == tensors(40)["w"].tobytes()
    again.close()


def test_a_round_cannot_be_closed_twice(journal_and_done: tuple[Opened, int]) -> None:
    opened, done = journal_and_done
    journal = opened()
    journal.close_round(record(done + 1), tensors(5))
    with pytest.raises(sqlite3.IntegrityError):
        journal.close_round(record(done + 1), tensors(5))
    assert [entry.round for entry in journal.rounds()] == list(range(1, done + 2))
    journal.close()


def test_a_changed_checkpoint_is_detected(journal_and_done: tuple[Opened, int], tmp_path: Path) -> None:
    opened, done = journal_and_done
    journal = opened()
    journal.close_round(record(done + 1), tensors(5))
    path = tmp_path / "checkpoints" / f"round-{done + 1:04d}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RoundError, match=rf"round {done + 1} \(round-000\d\.safetensors\) is missing or was changed"):
        journal.last_checkpoint()
    path.unlink()
    with pytest.raises(RoundError, match=r"missing or was changed[\s\S]*Do not: delete the journal"):
        journal.last_checkpoint()
    journal.close()


def test_the_journal_of_another_run_is_refused_by_name(journal_and_done: tuple[Opened, int], tmp_path: Path) -> None:
    opened, done = journal_and_done
    opened().close()
    with pytest.raises(RoundError, match=r"journal of another run: rounds, seed differ"):
        Journal(tmp_path, run={"spec": "s", "seed": "8", "rounds": "3"})
    journal = opened()
    assert len(journal.rounds()) == done
    journal.close()


def test_a_refused_journal_is_released(tmp_path: Path) -> None:
    Journal(tmp_path, run=RUN).close()
    with pytest.raises(RoundError):
        Journal(tmp_path, run={})
    # The write-ahead file goes away when the last connection closes.
    assert not (tmp_path / "journal.sqlite-wal").exists()


@pytest.mark.parametrize("moment", ["before the checkpoint is renamed", "between checkpoint and commit"])
def test_what_a_killed_round_left_on_disk_is_replaced(tmp_path: Path, moment: str) -> None:
    killed_journal(tmp_path, moment)
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left > {"round-0001.safetensors"}
    journal = Journal(tmp_path, run=RUN)
    journal.close_round(record(2), tensors(6))
    held = journal.last_checkpoint()
    assert held is not None and held[1]["w"].tobytes() == tensors(6)["w"].tobytes()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        "round-0001.safetensors",
        "round-0002.safetensors",
    }
    journal.close()


def test_as_json_has_the_keys_of_the_summary() -> None:
    (entry,) = as_json([record(3)])
    assert entry["round"] == 3 and entry["bytes_up"] == 4096
    assert entry["sites"]["south"] == {"state": "quarantined", "why": "it belongs to round 9, not 1", "loss": 2.0}  # type: ignore[index]
    assert set(entry) == {"round", "sites", "loss", "macro_auroc", "bytes_up", "seconds"}


def test_the_child_dies_of_the_signal_and_of_nothing_else(tmp_path: Path) -> None:
    """Without a moment to die at, the child ends well: the other tests do not pass by accident."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), "never"], env=os.environ, timeout=120, check=False
    )
    assert done.returncode == 0
    journal = Journal(tmp_path, run=RUN)
    assert len(journal.rounds()) == 2
    journal.close()
