"""What happens in the round that is open: one small JSON file, written by the coordinator's run and read by others.

{"schema": 1, "beat_at": "...", "round": 3, "rounds": 8, "phase": "asking", "phase_since": "...", "deadline": "...",
 "why": null, "sites": {"north": {"state": "training", "reached": "training", "since": "...", "why": null}},
 "connections": {"north": {"connected": true, "since": "..."}}}

Times are UTC, ISO 8601. The file is a view and no record: what counts is in the journal. It is replaced whole, so
readers never see a part of it, and it is not synced: after a crash of the machine the journal says how far the run
came.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from more_model.errors import MoreError

_LOG = logging.getLogger(__name__)
NAME = "live.json"
#: How often a run says that it is there. It is heard of no more once three of these have passed without a word.
BEAT_S = 10.0

#: In the order in which a site climbs them; the last four end its round.
LiveSite: TypeAlias = Literal["configured", "training", "submitted", "accepted", "quarantined", "refused", "absent"]
#: ``connecting``: for sites to be there. ``ended``: the run is over, well or with ``why``.
Phase: TypeAlias = Literal["connecting", "asking", "aggregating", "measuring", "between rounds", "ended"]
Rung: TypeAlias = Literal["configured", "training", "submitted"]
_REACHED: Mapping[str, Rung] = {
    "configured": "configured",
    "training": "training",
    "submitted": "submitted",
    "accepted": "submitted",
    "quarantined": "submitted",
}
_RUNGS: tuple[Rung, ...] = ("configured", "training", "submitted")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteNow(_Part):
    """One site in the open round; ``reached`` is how far it came, also once it is absent."""

    state: LiveSite
    reached: Rung | None
    since: datetime
    why: str | None = None


class Connection(_Part):
    """Whether a site's node is connected."""

    connected: bool
    since: datetime


class Live(_Part):
    """The file's content."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    beat_at: datetime
    phase: Phase
    phase_since: datetime
    round: int | None = None
    rounds: int | None = None
    round_since: datetime | None = None
    deadline: datetime | None = None
    why: str | None = None
    sites: dict[str, SiteNow] = {}
    connections: dict[str, Connection] = {}


def read_live(path: Path) -> Live | None:
    """What the file says; None where there is none.

    Raises:
        MoreError: it is not what `LiveState` writes (it was written by another version).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Live.model_validate_json(content)
    except ValidationError as error:
        raise MoreError(
            f"{path}: this is not the state of a run that this version knows",
            remedy="use the version that the run was started with; the journal is read by both",
        ) from error


class LiveState:
    """The writer: the run calls it at every change, from any thread.

    A file that cannot be written (a full disk) is logged and never ends a round.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Replaces the file of an earlier start of the run: what was open then is open no more."""
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        now = clock()
        self._live = Live(beat_at=now, phase="connecting", phase_since=now)
        self._change()

    def open_round(self, number: int, rounds: int, sites: Iterable[str], *, timeout_s: float) -> None:
        """Round ``number`` of ``rounds`` asks these sites and waits for them at most ``timeout_s``."""
        now = self._clock()
        asked = {site: SiteNow(state="configured", reached="configured", since=now) for site in sorted(sites)}
        self._change(
            phase="asking",
            round=number,
            rounds=rounds,
            round_since=now,
            deadline=now + timedelta(seconds=timeout_s),
            sites=asked,
            why=None,
        )

    def site(self, site: str, state: LiveSite, why: str | None = None) -> None:
        """How far a site has come in the open round. ``why`` is a sentence of ours or a refusal's code."""
        with self._lock:
            before = self._live.sites.get(site)
            if before is not None and (before.state, before.why) == (state, why):
                return
            reached = _furthest(before.reached if before else None, _REACHED.get(state))
            now = SiteNow(state=state, reached=reached, since=self._clock(), why=why)
            self._put(sites={**self._live.sites, site: now})

    def connections(self, connected: Mapping[str, bool]) -> None:
        """Which sites' nodes are connected, as far as the SuperLink knows."""
        with self._lock:
            now, known = self._clock(), self._live.connections
            current = {
                site: known[site]
                if site in known and known[site].connected == there
                else Connection(connected=there, since=now)
                for site, there in sorted(connected.items())
            }
            if current != known:
                self._put(connections=current)

    def phase(self, phase: Phase, why: str | None = None) -> None:
        """What the run does now; with ``ended`` and a ``why`` it failed."""
        self._change(phase=phase, deadline=None, why=why)

    def beat(self) -> None:
        """The run is there, whatever its rounds do."""
        self._change()

    @contextmanager
    def beating(self, every_s: float = BEAT_S) -> Iterator[None]:
        """Beats from a thread of its own for as long as the block runs."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(every_s):
                self.beat()

        thread = threading.Thread(target=beat, name="live state", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _change(self, **parts: object) -> None:
        with self._lock:
            self._put(**parts)

    def _put(self, **parts: object) -> None:
        now = self._clock()
        since = now if parts.get("phase", self._live.phase) != self._live.phase else self._live.phase_since
        self._live = self._live.model_copy(update={**parts, "beat_at": now, "phase_since": since})
        draft = self._path.with_name(f".{self._path.name}.part")
        try:
            draft.write_text(self._live.model_dump_json(by_alias=True), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            _LOG.warning("%s: the status page will be behind (%s)", self._path, error.strerror)


def _furthest(before: Rung | None, now: Rung | None) -> Rung | None:
    reached = [rung for rung in _RUNGS if rung in (before, now)]
    return reached[-1] if reached else None
