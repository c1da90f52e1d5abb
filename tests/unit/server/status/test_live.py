"""The file that says what happens in the open round."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from more_model.errors import MoreError
from server.status.live import Live, LiveState, read_live


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(tmp_path: Path, clock: Clock) -> LiveState:
    return LiveState(tmp_path / "live.json", clock=clock)


def written(tmp_path: Path) -> Live:
    found = read_live(tmp_path / "live.json")
    assert found is not None
    return found


def test_a_site_climbs_and_keeps_the_rung_it_reached(live: LiveState, clock: Clock, tmp_path: Path) -> None:
    live.open_round(3, 8, ["south", "north"], timeout_s=600)
    opened = written(tmp_path)
    assert (opened.round, opened.rounds, opened.phase, list(opened.sites)) == (3, 8, "asking", ["north", "south"])
    assert opened.deadline == clock.now + timedelta(minutes=10)
    clock.now += timedelta(minutes=1)
    live.site("north", "training")
    clock.now += timedelta(minutes=1)
    live.site("north", "training")
    now = written(tmp_path).sites["north"]
    assert (now.state, now.since) == ("training", clock.now - timedelta(minutes=1)), "since its first training"
    live.site("north", "absent", "no answer within the round's time")
    gone = written(tmp_path).sites["north"]
    assert (gone.state, gone.reached, gone.why) == ("absent", "training", "no answer within the round's time")


def test_the_next_round_begins_with_everybody_anew(live: LiveState, tmp_path: Path) -> None:
    live.open_round(1, 8, ["north"], timeout_s=600)
    live.site("north", "quarantined", "it is not finite")
    live.phase("between rounds")
    assert written(tmp_path).deadline is None
    live.open_round(2, 8, ["north"], timeout_s=600)
    assert (written(tmp_path).sites["north"].state, written(tmp_path).sites["north"].why) == ("configured", None)


def test_a_connection_keeps_its_time_until_it_changes(live: LiveState, clock: Clock, tmp_path: Path) -> None:
    live.connections({"north": True})
    first = clock.now
    clock.now += timedelta(minutes=1)
    live.connections({"north": True, "south": False})
    assert written(tmp_path).connections["north"].since == first
    clock.now += timedelta(minutes=1)
    live.connections({"north": False, "south": False})
    assert written(tmp_path).connections["north"].since == clock.now


def test_a_beat_is_heard_while_nothing_else_happens(tmp_path: Path) -> None:
    live = LiveState(tmp_path / "live.json")
    first = written(tmp_path).beat_at
    heard = threading.Event()
    with live.beating(every_s=0.01):
        for _ in range(500):
            if written(tmp_path).beat_at > first:
                heard.set()
                break
            heard.wait(0.01)
    assert heard.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "live state"]


def test_a_new_start_forgets_what_was_open(live: LiveState, tmp_path: Path, clock: Clock) -> None:
    live.open_round(3, 8, ["north"], timeout_s=600)
    LiveState(tmp_path / "live.json", clock=clock)
    assert (written(tmp_path).phase, written(tmp_path).round, written(tmp_path).sites) == ("connecting", None, {})


def test_a_file_that_cannot_be_written_never_ends_a_round(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveState(tmp_path / "not" / "there" / "live.json", clock=clock)
    live.open_round(1, 2, ["north"], timeout_s=1)
    assert "the status page will be behind" in caplog.text


def test_a_file_of_another_version_is_refused_and_none_is_none(live: LiveState, tmp_path: Path) -> None:
    assert read_live(tmp_path / "other.json") is None
    content = json.loads((tmp_path / "live.json").read_text())
    assert content["schema"] == 1
    (tmp_path / "live.json").write_text(json.dumps({**content, "schema": 2}))
    with pytest.raises(MoreError, match="not the state of a run that this version knows"):
        read_live(tmp_path / "live.json")
