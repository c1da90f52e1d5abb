"""What a run says of itself while it goes on: the live state for the status page, and one line per event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

from more_model.run_folder import RunFolder
from server.flower_delivery import Watch
from server.journal import Participation, RoundRecord
from server.status.evaluations import Measured
from server.status.live import LiveSite, LiveState

_LOG = logging.getLogger(__name__)


class RunProgress:
    """An `Observer` of the rounds and of the delivery. ``stop``: see there."""

    def __init__(
        self,
        live: LiveState,
        folder: RunFolder,
        *,
        sites: Sequence[str],
        rounds: int,
        timeout_s: float,
        stop: Callable[[], bool],
    ) -> None:
        self._live, self._folder, self._sites = live, folder, tuple(sites)
        self._rounds, self._timeout_s, self._stop = rounds, timeout_s, stop
        self._asking = False

    def watch(self) -> Watch:
        """For the delivery: who is connected, and who has the question of the open round."""
        return Watch(self._connected, lambda site: self._climb(site, "training"), self._answered, self._late)

    def opened(self, number: int) -> None:
        """A round asks its sites."""
        _LOG.info("round %d of %d: asking %s", number, self._rounds, ", ".join(self._sites))
        self._folder.event("round opened", round=number, sites=list(self._sites))
        self._live.open_round(number, self._rounds, self._sites, timeout_s=self._timeout_s)
        self._asking = True

    def admitted(self, participation: Sequence[Participation]) -> None:
        """What became of every site's answer."""
        self._asking = False
        for part in participation:
            self._live.site(part.site, cast("LiveSite", part.state), part.why)
            if part.state != "accepted":
                _LOG.warning("%s: %s (%s)", part.site, part.state, part.why)
        self._live.phase("aggregating")

    def measuring(self) -> None:
        """The sites measure the tensors."""
        self._live.phase("measuring")

    def measured(self, figures: Measured) -> None:
        """They have."""
        self._folder.event(
            "measured", round=figures.round, macro_auroc=figures.macro.value, sites=list(figures.sites),
            missing=list(figures.missing),
        )  # fmt: skip

    def closed(self, record: RoundRecord) -> None:
        """The journal holds the round."""
        accepted = [part.site for part in record.sites if part.state == "accepted"]
        facts = {"loss": record.loss, "seconds": record.seconds}
        self._folder.event("round closed", round=record.round, accepted=accepted, bytes_up=record.bytes_up, **facts)
        _LOG.info(
            "round %d closed: %d of %d sites, %.1f s", record.round, len(accepted), len(record.sites), record.seconds
        )
        self._live.phase("between rounds")

    def stop(self) -> bool:
        """Whether the run is to end before its last round."""
        return self._stop()

    def _connected(self, connected: Mapping[str, bool]) -> None:
        self._live.connections(connected)

    def _climb(self, site: str, state: Literal["training", "submitted"]) -> None:
        if self._asking:
            self._live.site(site, state)

    def _late(self, site: str, group: str) -> None:
        self._folder.event("late", site=site, round=group, used=False)

    def _answered(self, site: str) -> None:
        self._climb(site, "submitted")
