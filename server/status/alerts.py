"""What somebody should look at. An alert lasts as long as its cause; `server.notify` tells each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from server.authority import WARN_DAYS
from server.journal import RoundRecord
from server.status.budget import BUDGET_CODES
from server.status.live import Live

AlertKind = Literal["stall", "drop", "budget", "certificate", "quarantine"]
#: A wait within its bound is still called a stall once it has lasted both so long and so many times longer than any
#: closed round: a bound may be hours.
SLOW_S, SLOW_TIMES = 600.0, 3.0
#: A node that comes back within this (a restart, a short loss of the line) is no drop.
GONE_S = 120.0
#: A round past its deadline is only closed once every wait of it has ended.
_LATE_S = 120.0


@dataclass(frozen=True, slots=True)
class Alert:
    """``about`` is the site, or the certificate's file, or empty. ``words`` say what happened without any reason that
    came from a site; ``why`` is that reason, for those who may see it."""

    kind: AlertKind
    about: str
    site: str | None
    words: str
    why: str | None = None

    @property
    def key(self) -> str:
        """The same as long as the cause is."""
        return f"{self.kind}:{self.about}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What alerts are found from; ``last`` is the last closed round, ``lost``: the run was not heard of."""

    now: datetime
    live: Live | None
    lost: bool
    awaited: tuple[str, ...]
    last: RoundRecord | None
    longest_round_s: float | None
    certificates: Mapping[str, float]


def alerts_of(facts: Facts) -> tuple[Alert, ...]:
    """All alerts, each key once: the first stands where two would say the same of one site."""
    found: dict[str, Alert] = {}
    for alert in (*_stalls(facts), *_now(facts), *_last_round(facts), *_certificates(facts)):
        found.setdefault(alert.key, alert)
    return tuple(found.values())


def _stalls(facts: Facts) -> Iterator[Alert]:
    live = facts.live
    if live is None or live.phase == "ended":
        return
    if facts.lost:
        yield Alert("stall", "", None, f"The run has not been heard of since {_clock(live.beat_at)}.")
    elif live.phase == "connecting" and _seconds(facts.now, live.phase_since) > SLOW_S:
        yield Alert("stall", "", None, f"The run has waited for sites to connect since {_clock(live.phase_since)}.")
    elif live.phase in ("aggregating", "measuring", "between rounds"):
        if _is_slow(facts, live.phase_since):
            yield Alert("stall", "", None, f"The run has been {live.phase} since {_clock(live.phase_since)}.")
    elif live.phase == "asking" and live.round_since is not None:
        names = ", ".join(facts.awaited) or "no site"
        if live.deadline is not None and _seconds(facts.now, live.deadline) > _LATE_S:
            yield Alert("stall", "", None, f"Round {live.round} is past its deadline; it waits for {names}.")
        elif _is_slow(facts, live.round_since):
            yield Alert("stall", "", None, f"Round {live.round} has been open for long; it waits for {names}.")


def _is_slow(facts: Facts, since: datetime) -> bool:
    waited = _seconds(facts.now, since)
    return waited > SLOW_S and waited > SLOW_TIMES * (facts.longest_round_s or 0.0)


def _now(facts: Facts) -> Iterator[Alert]:
    live = facts.live
    if live is None or live.phase == "ended":
        return
    for site, now in live.sites.items():
        yield from _of_state(site, now.state, now.why, live.round)
    for site, connection in live.connections.items():
        if not connection.connected and _seconds(facts.now, connection.since) > GONE_S:
            yield Alert("drop", site, site, f"{site} has not been connected since {_clock(connection.since)}.")


def _last_round(facts: Facts) -> Iterator[Alert]:
    if facts.last is None:
        return
    climbing = facts.live.sites if facts.live is not None and facts.live.round == facts.last.round + 1 else {}
    for part in facts.last.sites:
        # What a site did since then is newer than what it missed.
        if part.site not in climbing or climbing[part.site].state in ("configured", "training"):
            yield from _of_state(part.site, part.state, part.why, facts.last.round)


def _of_state(site: str, state: str, why: str | None, number: int | None) -> Iterator[Alert]:
    if state == "quarantined":
        yield Alert("quarantine", site, site, f"The update of {site} for round {number} was quarantined.", why)
    elif state == "refused" and not BUDGET_CODES.isdisjoint((why or "").split(", ")):
        yield Alert("budget", site, site, f"{site} refused round {number}: its privacy budget does not allow it.", why)
    elif state == "refused":
        yield Alert("drop", site, site, f"{site} refused round {number}.", why)
    elif state == "absent":
        yield Alert("drop", site, site, f"{site} gave no answer in round {number}.", why)


def _certificates(facts: Facts) -> Iterator[Alert]:
    for name, days in facts.certificates.items():
        if days <= 0:
            yield Alert("certificate", name, None, f"{name} has ended: no site can connect. Renew it now.")
        elif days <= WARN_DAYS:
            yield Alert("certificate", name, None, f"{name} ends in {days:.0f} days. Renew it.")


def _seconds(now: datetime, since: datetime) -> float:
    return (now - since).total_seconds()


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
