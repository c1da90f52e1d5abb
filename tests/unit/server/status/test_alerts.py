"""What somebody should look at, each thing once and only as long as it lasts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.journal import Participation, RoundRecord
from server.status.alerts import GONE_S, SLOW_S, Facts, alerts_of
from server.status.live import Connection, Live, SiteNow

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUIET = Facts(NOW, None, False, (), None, None, {})


def live(phase: str = "asking", *, since_s: float = 10, **changes: Any) -> Live:
    since = NOW - timedelta(seconds=since_s)
    parts = {"beat_at": NOW, "phase": phase, "phase_since": since, "round": 4, "rounds": 8, "round_since": since}
    return Live.model_validate({**parts, **changes})


def site(state: str, why: str | None = None) -> SiteNow:
    return SiteNow.model_validate({"state": state, "reached": "configured", "since": NOW, "why": why})


def closed(*sites: Participation) -> RoundRecord:
    return RoundRecord(3, sites, None, None, 0, 1.0)


def keys(facts: Facts) -> list[str]:
    return [alert.key for alert in alerts_of(facts)]


def test_a_quiet_federation_has_none() -> None:
    assert keys(QUIET) == []
    assert keys(replace(QUIET, live=live(sites={"north": site("training")}))) == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (live("asking", since_s=5000, deadline=NOW - timedelta(seconds=200)), "past its deadline; it waits for north"),
        (live("asking", since_s=SLOW_S + 1), "Round 4 has been open for long; it waits for north"),
        (live("measuring", since_s=SLOW_S + 1), "The run has been measuring since 2026-03-01 11:49 UTC"),
        (live("connecting", since_s=SLOW_S + 1), "The run has waited for sites to connect since 2026-03-01 11:49 UTC"),
    ],
)
def test_a_wait_that_lasts_is_a_stall(state: Live, words: str) -> None:
    (alert,) = alerts_of(replace(QUIET, live=state, awaited=("north",)))
    assert (alert.key, alert.site) == ("stall:", None)
    assert words in alert.words


def test_a_slow_round_among_slow_rounds_is_none() -> None:
    assert keys(replace(QUIET, live=live(since_s=SLOW_S + 1), longest_round_s=SLOW_S)) == []


def test_a_run_that_has_ended_stalls_no_more() -> None:
    gone = {"north": Connection(connected=False, since=NOW - timedelta(days=1))}
    ended = live("ended", since_s=9e5, connections=gone, sites={"north": site("absent")})
    assert keys(replace(QUIET, live=ended, lost=True)) == []


def test_a_site_that_is_gone_for_a_while_has_dropped() -> None:
    def gone(since_s: float) -> Facts:
        connection = Connection(connected=False, since=NOW - timedelta(seconds=since_s))
        return replace(QUIET, live=live(connections={"north": connection}))

    assert keys(gone(GONE_S - 1)) == []
    assert keys(gone(GONE_S + 1)) == ["drop:north"]


@pytest.mark.parametrize(
    ("part", "key"),
    [
        (Participation("north", "absent", "no answer within the round's time"), "drop:north"),
        (Participation("north", "refused", "outside-hours"), "drop:north"),
        (Participation("north", "refused", "BudgetExhausted"), "budget:north"),
        (Participation("north", "refused", "epsilon-above-policy"), "budget:north"),
        (Participation("north", "refused", "rounds-above-policy, delta-above-policy"), "budget:north"),
        (Participation("north", "quarantined", "patient 1234567 is not finite"), "quarantine:north"),
    ],
)
def test_what_a_site_missed_is_told_without_its_own_words(part: Participation, key: str) -> None:
    (alert,) = alerts_of(replace(QUIET, last=closed(part, Participation("south", "accepted"))))
    assert (alert.key, alert.site, alert.why) == (key, "north", part.why)
    assert part.why is not None
    assert part.why not in alert.words


def test_a_site_that_came_back_is_no_longer_missed() -> None:
    missed = replace(QUIET, last=closed(Participation("north", "absent")))
    assert keys(replace(missed, live=live(sites={"north": site("training")}))) == ["drop:north"]
    assert keys(replace(missed, live=live(sites={"north": site("submitted")}))) == []
    refused = live(sites={"north": site("refused", "paused")})
    (alert,) = alerts_of(replace(missed, live=refused))
    assert "refused round 4" in alert.words


def test_certificates_are_told_a_month_ahead() -> None:
    (soon, over) = alerts_of(replace(QUIET, certificates={"root.pem": 3000.0, "server.pem": 12.4, "old.pem": -1.0}))
    assert (soon.key, soon.words) == ("certificate:server.pem", "server.pem ends in 12 days. Renew it.")
    assert "has ended" in over.words
