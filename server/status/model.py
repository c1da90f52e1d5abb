"""A federation at a glance, from what its files say; nothing here reads a file or a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from server.federation_file import FederationFile
from server.journal import Participation, RoundRecord
from server.sites import SiteEntry
from server.status.alerts import Alert, Facts, alerts_of
from server.status.budget import SitePrivacy, site_privacy
from server.status.evaluations import Figure, LabelMeasured, Measured
from server.status.live import BEAT_S, Connection, Live, SiteNow

RunState = Literal["not started", "running", "not running", "lost", "ended", "failed"]
Enrolled = Literal["enrolled", "revoked", "not enrolled"]
_OPEN_PHASES = ("asking", "aggregating", "measuring")
#: A run that was not heard of for so long is called lost.
SILENT_S = 3 * BEAT_S


@dataclass(frozen=True, slots=True)
class Closed:
    """One closed round, and when that was."""

    record: RoundRecord
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class Sources:
    """What was read. ``federation`` and ``entries`` are None for the journal of a simulation, which has neither.
    ``certificates``: days left, by name of the file."""

    name: str
    closed: tuple[Closed, ...] = ()
    federation: FederationFile | None = None
    entries: tuple[SiteEntry, ...] | None = None
    live: Live | None = None
    measured: tuple[Measured, ...] = ()
    certificates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """One site. ``round_state``, ``reached``, ``since`` and ``why`` are of the round that is open, else of the last;
    ``awaited``: the open round waits for it. ``counts`` are those of its last accepted update.

    ``accepted`` of ``asked`` closed rounds. What a viewer may not know is None.
    """

    site: str
    enrolled: Enrolled | None
    connected: bool | None
    connected_since: datetime | None
    round_state: str | None
    reached: str | None
    since: datetime | None
    why: str | None
    awaited: bool
    accepted: int | None
    asked: int | None
    patients: int | None
    modalities: tuple[str, ...] | None
    counts: Mapping[str, float] | None
    privacy: SitePrivacy | None


@dataclass(frozen=True, slots=True)
class RoundStatus:
    """One closed round. ``auroc``: the pooled figure where sites measured one, else the value alone that the run
    computed; ``auroc_sites``: from how many sites, at the label that has fewest. ``missing``: who is not in the
    aggregate, as (site, state, why)."""

    round: int
    closed_at: datetime
    accepted: int
    asked: int
    loss: float | None
    auroc: Figure | None
    auroc_sites: int
    bytes_up: int | None
    seconds: float
    missing: tuple[tuple[str, str, str | None], ...]


@dataclass(frozen=True, slots=True)
class LabelsStatus:
    """AUROC per label of the last round that was measured, and its macro AUROC: from ``sites`` sites, at the label that
    has fewest. None: withheld from this viewer."""

    round: int
    split: str
    sites: int
    macro: Figure | None
    labels: tuple[LabelMeasured, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """Everything the page, the JSON and the metrics show. Times are UTC. ``round`` is the one that is ``open``, else
    the last one closed; ``waited_s``: how long the open one has been waiting for ``awaited``; ``short_rounds``: closed
    ones that lack some site's update; ``viewer``: the site that this was cut down for, None for the coordinator.
    """

    federation: str
    at: datetime
    state: RunState
    phase: str | None
    why: str | None
    round: int | None
    open: bool
    rounds: int | None
    deadline: datetime | None
    awaited: tuple[str, ...]
    waited_s: float | None
    sites: tuple[SiteStatus, ...]
    closed: tuple[RoundStatus, ...]
    labels: LabelsStatus | None
    bytes_up: int | None
    short_rounds: int
    certificates: Mapping[str, float]
    alerts: tuple[Alert, ...]
    viewer: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For status.json; times in ISO 8601."""
        plain: dict[str, Any] = _plain(asdict(self))
        return {"schema": 1, **plain}


def build_status(sources: Sources, now: datetime) -> Status:
    """The whole status, as the coordinator may see it.

    Raises:
        ConfigError: the federation file's privacy cannot be planned.
    """
    live = sources.live
    opened = live if live is not None and _is_open(live, sources.closed) else None
    state = _state(live, sources, now)
    sites = _sites(sources, opened, live.connections if live is not None and state == "running" else {})
    awaited = tuple(site.site for site in sites if site.awaited) if state == "running" else ()
    planned = sources.federation.rounds.rounds if sources.federation is not None else None
    return Status(
        federation=sources.name,
        at=now,
        state=state,
        phase=live.phase if live is not None and state == "running" else None,
        why=live.why if live is not None else None,
        round=opened.round if opened else sources.closed[-1].record.round if sources.closed else None,
        open=opened is not None and state == "running",
        rounds=live.rounds if live is not None and live.rounds is not None else planned,
        deadline=opened.deadline if opened else None,
        awaited=awaited,
        waited_s=(now - opened.round_since).total_seconds() if awaited and opened and opened.round_since else None,
        sites=sites,
        closed=tuple(_round(closed, sources.measured) for closed in sources.closed),
        labels=_labels(sources.measured),
        bytes_up=sum(closed.record.bytes_up for closed in sources.closed),
        short_rounds=sum(_accepted(closed.record) < len(closed.record.sites) for closed in sources.closed),
        certificates=dict(sources.certificates),
        alerts=alerts_of(_facts(sources, now, awaited, lost=state == "lost")),
    )


def _facts(sources: Sources, now: datetime, awaited: tuple[str, ...], *, lost: bool) -> Facts:
    return Facts(
        now=now,
        live=sources.live,
        lost=lost,
        awaited=awaited,
        last=sources.closed[-1].record if sources.closed else None,
        longest_round_s=max((closed.record.seconds for closed in sources.closed), default=None),
        certificates=sources.certificates,
    )


def _is_open(live: Live, closed: Sequence[Closed]) -> bool:
    done = closed[-1].record.round if closed else 0
    return live.phase in _OPEN_PHASES and live.round is not None and live.round > done


def _state(live: Live | None, sources: Sources, now: datetime) -> RunState:
    if live is None:
        return "not running" if sources.closed else "not started"
    if live.phase == "ended":
        return "failed" if live.why is not None else "ended"
    return "lost" if (now - live.beat_at).total_seconds() > SILENT_S else "running"


def _sites(sources: Sources, opened: Live | None, connections: Mapping[str, Connection]) -> tuple[SiteStatus, ...]:
    named = set(sources.federation.sites) if sources.federation else set()
    named |= {part.site for closed in sources.closed for part in closed.record.sites}
    named |= {entry.name for entry in sources.entries or ()} | (set(opened.sites) if opened else set())
    asked = {site: sum(part is not None for part in _parts(sources.closed, site)) for site in named}
    open_too = {site: asked[site] + (opened is not None and site in opened.sites) for site in named}
    privacy = site_privacy(sources.federation, open_too) if sources.federation else {}
    return tuple(
        _site(name, sources, opened, connections.get(name), asked[name], privacy.get(name)) for name in sorted(named)
    )


def _site(
    name: str,
    sources: Sources,
    opened: Live | None,
    connection: Connection | None,
    asked: int,
    privacy: SitePrivacy | None,
) -> SiteStatus:
    declared = sources.federation.sites.get(name) if sources.federation else None
    parts = [part for part in _parts(sources.closed, name) if part is not None]
    accepted = [part for part in parts if part.state == "accepted"]
    now = _now(name, sources.closed, opened)
    return SiteStatus(
        site=name,
        enrolled=_enrolled(name, sources.entries),
        connected=connection.connected if connection else None,
        connected_since=connection.since if connection else None,
        round_state=now.state if now else None,
        reached=now.reached if now else None,
        since=now.since if now else None,
        why=now.why if now else None,
        awaited=_is_awaited(now, opened),
        accepted=len(accepted),
        asked=asked,
        patients=declared.patients if declared else None,
        modalities=tuple(modality.value for modality in declared.modalities) if declared else None,
        counts=dict(accepted[-1].counts or {}) if accepted else None,
        privacy=privacy,
    )


def _now(name: str, closed: Sequence[Closed], opened: Live | None) -> SiteNow | None:
    if opened is not None:
        return opened.sites.get(name)
    if not closed or (part := _part(closed[-1].record, name)) is None:
        return None
    reached = "submitted" if part.state in ("accepted", "quarantined") else "configured"
    return SiteNow.model_construct(state=part.state, reached=reached, since=closed[-1].closed_at, why=part.why)


def _is_awaited(now: SiteNow | None, opened: Live | None) -> bool:
    if now is None or opened is None or opened.phase != "asking":
        return False
    return now.state in ("configured", "training")


def _enrolled(name: str, entries: Sequence[SiteEntry] | None) -> Enrolled | None:
    if entries is None:
        return None
    own = [entry.state for entry in entries if entry.name == name]
    return own[-1] if own else "not enrolled"


def _parts(closed: Sequence[Closed], site: str) -> list[Participation | None]:
    return [_part(each.record, site) for each in closed]


def _part(record: RoundRecord, site: str) -> Participation | None:
    return next((part for part in record.sites if part.site == site), None)


def _accepted(record: RoundRecord) -> int:
    return sum(part.state == "accepted" for part in record.sites)


def _round(closed: Closed, measured: Sequence[Measured]) -> RoundStatus:
    record = closed.record
    pooled = next((each for each in measured if each.round == record.round and each.macro.value is not None), None)
    alone = None if record.macro_auroc is None else Figure(record.macro_auroc, None, None, None)
    return RoundStatus(
        round=record.round,
        closed_at=closed.closed_at,
        accepted=_accepted(record),
        asked=len(record.sites),
        loss=record.loss,
        auroc=alone if pooled is None else pooled.macro,
        auroc_sites=_accepted(record) if pooled is None else _fewest_sites(pooled),
        bytes_up=record.bytes_up,
        seconds=record.seconds,
        missing=tuple((part.site, part.state, part.why) for part in record.sites if part.state != "accepted"),
    )


def _labels(measured: Sequence[Measured]) -> LabelsStatus | None:
    if not measured:
        return None
    last = measured[-1]
    return LabelsStatus(last.round, last.split, _fewest_sites(last), last.macro, last.labels)


def _fewest_sites(measured: Measured) -> int:
    valued = [label.sites for label in measured.labels if label.auroc.value is not None]
    return min(valued, default=len(measured.sites))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
