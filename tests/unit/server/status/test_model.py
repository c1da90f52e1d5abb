"""The status of a federation from what its files say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trees.watched_federation import OPEN_S, write_federation

from more_model.errors import ConfigError, RoundError
from server.status.evaluations import Figure
from server.status.model import SILENT_S, SiteStatus, Sources, Status, build_status
from server.status.sources import read_closed, read_sources, watched
from server.status.viewer import seen_by

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Read = Callable[..., Sources]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def sources(**changes: Any) -> Sources:
        return read_sources(watched(write_federation(tmp_path / "fed", now=NOW, **changes)))

    return sources


def row(status: Status, site: str) -> SiteStatus:
    return next(each for each in status.sites if each.site == site)


def test_the_open_round_says_how_far_each_site_is_and_who_is_awaited(read: Read) -> None:
    status = build_status(read(), NOW)
    assert (status.state, status.phase, status.round, status.rounds) == ("running", "asking", 4, 8)
    assert status.awaited == ("north", "south", "west")
    assert status.waited_s == OPEN_S
    assert status.deadline == NOW + timedelta(seconds=3600 - OPEN_S)
    assert [row(status, site).round_state for site in ("east", "north", "west")] == [
        "submitted",
        "training",
        "configured",
    ]
    assert (row(status, "west").connected, row(status, "east").connected) == (False, True)
    assert row(status, "east").since == NOW - timedelta(seconds=5)
    assert row(status, "west").enrolled == "enrolled"


def test_participation_and_curves_come_from_the_journal(read: Read) -> None:
    status = build_status(read(), NOW)
    assert [(row(status, site).accepted, row(status, site).asked) for site in ("east", "west")] == [(3, 3), (2, 3)]
    assert status.closed[2].missing == (("west", "quarantined", "its norm 93 exceeds the federation's limit 10"),)
    assert [each.loss for each in status.closed] == [4.9, 4.8, 4.7]
    # Round 1 was not measured by the sites: the run's own value, which has no interval.
    assert status.closed[0].auroc == Figure(0.71, None, None, None)
    assert status.closed[2].auroc == Figure(0.76, 0.755, 0.765, (0.68, 0.8))
    assert (status.bytes_up, status.short_rounds) == (12_000_000, 1)


def test_without_an_open_round_the_last_one_stands(read: Read) -> None:
    status = build_status(replace(read(), live=None), NOW)
    assert (status.state, status.round, status.awaited, status.waited_s) == ("not running", 3, (), None)
    assert (row(status, "west").round_state, row(status, "west").reached) == ("quarantined", "submitted")


def test_a_run_that_is_silent_is_lost_and_waits_for_nobody(read: Read) -> None:
    status = build_status(read(), NOW + timedelta(seconds=SILENT_S))
    assert (status.state, status.awaited, status.open) == ("lost", (), False)
    assert row(status, "east").connected is None, "what was known of the connections is old"
    assert [alert.words for alert in status.alerts if alert.kind == "stall"] == [
        "The run has not been heard of since 2026-03-01 11:59 UTC."
    ]


def test_an_end_with_a_reason_is_a_failure(read: Read) -> None:
    sources = read()
    assert sources.live is not None
    ended = sources.live.model_copy(update={"phase": "ended", "why": None})
    assert build_status(replace(sources, live=ended), NOW + timedelta(days=9)).state == "ended"
    failed = ended.model_copy(update={"why": "round 4 has 1 usable update"})
    assert build_status(replace(sources, live=failed), NOW).state == "failed"


def test_a_site_that_left_or_never_came_is_told_apart(read: Read) -> None:
    sources = read()
    assert sources.entries is not None
    east, _, south, west = sources.entries
    left = replace(west, revoked_at="2026-03-01T11:00:00+00:00", revoked_by="a", reason="left")
    status = build_status(replace(sources, entries=(east, south, left)), NOW)
    found = {site.site: site.enrolled for site in status.sites}
    assert found == {"east": "enrolled", "north": "not enrolled", "south": "enrolled", "west": "revoked"}


def test_privacy_is_counted_by_plan_and_stays_within_the_budget(read: Read) -> None:
    sources = read()
    east = row(build_status(sources, NOW), "east").privacy
    assert east is not None
    # Three closed rounds and the open one.
    assert (east.rounds, east.unit, east.delta) == (4, "patient", 1e-5)
    assert 0 < east.epsilon < east.budget <= 4.0
    before = row(build_status(replace(sources, closed=(), live=None), NOW), "east").privacy
    assert before is not None
    assert (before.epsilon, before.rounds) == (0.0, 0)
    whole = replace(sources, live=None, closed=sources.closed * 2 + sources.closed[:2])
    after = row(build_status(whole, NOW), "east").privacy
    assert after is not None
    assert after.epsilon == after.budget


def test_a_federation_without_privacy_claims_none(read: Read) -> None:
    status = build_status(read(privacy={"mode": "none"}), NOW)
    assert [site.privacy for site in status.sites] == [None] * 4


def test_a_site_sees_states_of_the_others_but_neither_reasons_nor_numbers(read: Read) -> None:
    whole = build_status(read(), NOW)
    status = seen_by(whole, "north")
    west, north = row(status, "west"), row(status, "north")
    assert (west.round_state, west.connected, west.awaited) == ("configured", False, True)
    numbers = (west.accepted, west.asked, west.patients, west.counts, west.privacy, west.since, west.why)
    assert numbers == (None,) * 7
    assert north == row(whole, "north")
    assert status.closed[2].missing == (("west", "quarantined", None),)
    assert "norm 93" not in json.dumps(status.as_json())
    assert {alert.site for alert in status.alerts} == {None}


def test_figures_of_fewer_than_three_sites_are_kept_from_sites(read: Read) -> None:
    whole = build_status(read(), NOW)
    cut = seen_by(whole, "north").labels
    assert whole.labels is not None and cut is not None
    values = {label.name: label.auroc.value for label in cut.labels}
    assert values == {"Edema": 0.8, "Atrial fibrillation": None, "Fracture": None}
    # The mean would tell the label that is withheld.
    assert (whole.labels.macro is None, cut.macro) == (False, None)
    assert seen_by(whole, "north").closed[2].auroc is None
    assert seen_by(whole, "north").closed[0].auroc is not None


def test_with_two_sites_no_pooled_number_is_told(read: Read) -> None:
    status = seen_by(build_status(read(sites=("north", "south")), NOW), "north")
    assert [(each.loss, each.auroc, each.bytes_up) for each in status.closed] == [(None, None, None)] * 3
    assert status.bytes_up is None


def test_a_simulation_has_neither_register_nor_certificates(tmp_path: Path) -> None:
    fed = write_federation(tmp_path / "fed", now=NOW)
    (fed / "state" / "run" / "live.json").unlink()
    status = build_status(read_sources(watched(fed / "state" / "run")), NOW)
    assert (status.federation, status.rounds, row(status, "west").enrolled) == ("run", None, None)
    assert (status.certificates, row(status, "west").patients) == ({}, None)


def test_a_folder_without_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no federation\.toml"):
        watched(tmp_path)


def test_a_journal_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"SQLite format 3\0" + bytes(200))
    with pytest.raises(RoundError, match="the journal cannot be read"):
        read_closed(tmp_path / "journal.sqlite")


def test_everything_is_json(read: Read) -> None:
    content = json.loads(json.dumps(build_status(read(), NOW).as_json(), allow_nan=False))
    assert (content["schema"], content["at"]) == (1, "2026-03-01T12:00:00+00:00")
    assert content["closed"][2]["missing"][0][:2] == ["west", "quarantined"]
