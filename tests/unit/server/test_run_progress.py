"""What a run says of itself: the live state climbs with the round, and every step is one event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from more_model.run_folder import RunFolder
from server.journal import Participation, RoundRecord
from server.run_progress import RunProgress
from server.status.live import LiveState, read_live

LIVE = "live.json"


@pytest.fixture
def progress(tmp_path: Path) -> RunProgress:
    live = LiveState(tmp_path / LIVE)
    return RunProgress(
        live, RunFolder(tmp_path), sites=("north", "south"), rounds=4, timeout_s=60.0, stop=lambda: False
    )


def states(folder: Path) -> dict[str, str]:
    live = read_live(folder / LIVE)
    assert live is not None
    return {name: site.state for name, site in live.sites.items()}


def events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]


def test_sites_climb_while_a_round_asks(progress: RunProgress, tmp_path: Path) -> None:
    watch = progress.watch()
    progress.opened(1)
    assert states(tmp_path) == {"north": "configured", "south": "configured"}
    watch.asked("north")
    assert states(tmp_path)["north"] == "training"
    watch.answered("north")
    assert states(tmp_path)["north"] == "submitted"
    participation = (Participation("north", "accepted"), Participation("south", "absent", "no answer in time"))
    progress.admitted(participation)
    assert states(tmp_path) == {"north": "accepted", "south": "absent"}
    # The same sites are asked to measure next; that is no step of the round.
    progress.measuring()
    watch.asked("north")
    assert states(tmp_path)["north"] == "accepted"
    progress.closed(RoundRecord(1, participation, 0.5, 0.7, 100, 2.0))
    assert events(tmp_path) == ["round opened", "round closed"]
    live = read_live(tmp_path / LIVE)
    assert live is not None and (live.phase, live.round, live.rounds) == ("between rounds", 1, 4)


def test_connections_and_late_answers_are_noted(progress: RunProgress, tmp_path: Path) -> None:
    watch = progress.watch()
    watch.connections({"north": True, "south": False})
    live = read_live(tmp_path / LIVE)
    assert live is not None and {name: each.connected for name, each in live.connections.items()} == {
        "north": True,
        "south": False,
    }
    watch.late("south", "3")
    assert json.loads((tmp_path / "events.jsonl").read_text())["round"] == "3"
