"""`more-server rounds` on journals that the real journal wrote."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from server.cli import app
from server.journal import Journal, Participation, RoundRecord

TENSORS = {"head.weight": np.zeros((2, 3), dtype=np.float32)}
FIRST = RoundRecord(
    1,
    (Participation("north", "accepted", counts={"pairs": 8.0}), Participation("south", "accepted")),
    1.25,
    0.71,
    2_500_000,
    3.0,
)
SECOND = RoundRecord(
    2,
    (Participation("north", "accepted"), Participation("south", "absent", "no answer within the round's time")),
    None, None, 1_250_000, 9.96,
)  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder whose name needs escaping in an address, holding two closed rounds."""
    folder = tmp_path / "run #1?"
    folder.mkdir()
    journal = Journal(folder, run={"seed": "0"})
    for record in (FIRST, SECOND):
        journal.close_round(record, TENSORS)
    journal.close()
    return folder


def test_text_has_a_line_per_round_and_names_who_was_missing(run_dir: Path) -> None:
    result = CliRunner().invoke(app, ["rounds", str(run_dir)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["1", "2/2", "1.2500", "0.710", "2.50", "3.0"]
    assert lines[2].split() == ["2", "1/2", "-", "-", "1.25", "10.0"]
    assert lines[3].strip() == "south: absent (no answer within the round's time)"
    assert len(lines) == 4


def test_json_is_what_summary_json_holds(run_dir: Path) -> None:
    result = CliRunner().invoke(app, ["rounds", str(run_dir), "--json"])
    first, second = json.loads(result.stdout)["rounds"]
    assert first["sites"]["north"] == {"state": "accepted", "why": None, "pairs": 8.0}
    assert first["loss"] == 1.25
    assert second["sites"]["south"]["state"] == "absent"
    assert second["macro_auroc"] is None


def test_a_running_journal_can_be_watched(tmp_path: Path) -> None:
    journal = Journal(tmp_path, run={})
    assert CliRunner().invoke(app, ["rounds", str(tmp_path)]).stdout == "No round has been closed yet.\n"
    journal.close_round(FIRST, TENSORS)
    assert "2/2" in CliRunner().invoke(app, ["rounds", str(tmp_path)]).stdout
    journal.close_round(SECOND, TENSORS)
    assert "1/2" in CliRunner().invoke(app, ["rounds", str(tmp_path)]).stdout
    journal.close()


def test_looking_changes_nothing(run_dir: Path) -> None:
    before = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in run_dir.iterdir() if path.is_file()}
    run_dir.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert CliRunner().invoke(app, ["rounds", str(run_dir)]).exit_code == 0
    finally:
        run_dir.chmod(stat.S_IRWXU)
    after = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in run_dir.iterdir() if path.is_file()}
    assert after == before


def test_a_simulation_is_shown_through_its_federated_arm(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "simulated" / "arms").mkdir(parents=True)
    run_dir.rename(tmp_path / "simulated" / "arms" / "federated")
    result = CliRunner().invoke(app, ["rounds", str(tmp_path / "simulated")])
    assert result.exit_code == 0
    assert "1/2" in result.stdout


def test_folder_without_a_journal_ends_with_code_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["rounds", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "there is no journal.sqlite" in result.stderr
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("content", [b"this is no database at all, but long enough to be looked at", b""])
def test_damaged_journal_ends_with_code_7_and_says_what_not_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    result = CliRunner().invoke(app, ["rounds", str(tmp_path)])
    assert result.exit_code == 7
    assert "cannot be read" in result.stderr and "Do not: delete it" in result.stderr
    assert (tmp_path / "journal.sqlite").read_bytes() == content
