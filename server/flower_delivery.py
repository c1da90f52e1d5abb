"""Messages to hospitals over the SuperLink, asked again for as long as it takes: nodes, relays and the SuperLink itself
may all go away and come back while a round waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from flwr.app import Message

from more_model.exchange import FACTS_RECORD
from more_model.supervision import Backoff
from server.flower_grid import Outgoing
from server.flower_session import Session, SessionLost

_LOG = logging.getLogger(__name__)
#: What a hospital's relay or its daemon says when it is about to be there again.
PASSING = frozenset({"daemon-unreachable", "relay-stopped", "draining"})
_POLL_S = 0.5
_ASK_AGAIN = Backoff(first_s=1.0, longest_s=15.0, settled_s=0.0, jitter=0.0)
#: Between two looks at which nodes are there.
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told: of connections (site -> whether its node is there), of a question that a connected node has, of an
    answer, and of one that came too late (site, round)."""

    connections: Callable[[Mapping[str, bool]], None] = lambda _connected: None
    asked: Callable[[str], None] = lambda _site: None
    answered: Callable[[str], None] = lambda _site: None
    late: Callable[[str, str], None] = lambda _site, _group: None


@dataclass(frozen=True, slots=True)
class Waits:
    """needed: answers, refusals aside, with which a round may go on. absent_s: for how long a site must have been away
    before a round with enough answers goes on without it. ttl_beyond_s: how much longer than its round a message may
    live."""

    needed: int
    absent_s: float
    ttl_beyond_s: float


@dataclass(slots=True)
class _Asked:
    """One question on its way. ``again_at``: not to be sent before; ``number``: of the message that is out, to the node
    as it was connected ``since``."""

    outgoing: Outgoing
    number: str = ""
    since: str = ""
    tries: int = 0
    again_at: float = 0.0
    answer: Message | None = None


@dataclass(frozen=True, slots=True)
class _Node:
    """A connected node; ``since``: when it connected, in the SuperLink's words."""

    node_id: int
    since: str


@dataclass(slots=True)
class _Nodes:
    """Which sites' nodes are there, and since when the others are away (monotonic clock)."""

    present: dict[str, _Node] = field(default_factory=dict)
    away_since: dict[str, float] = field(default_factory=dict)
    looked_at: float = -_LOOK_S


class Delivery:
    """The `Send` of a deployment; see there. Only nodes whose registered name is one of ``sites`` are asked: the
    coordinator gave these names to keys, no node can take another's."""

    def __init__(
        self,
        open_session: Callable[[], Session],
        sites: tuple[str, ...],
        waits: Waits,
        watch: Watch | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._open, self._sites, self._waits = open_session, sites, waits
        self._watch, self._stop = watch or Watch(), stop or threading.Event()
        self._session: Session | None = None
        #: Questions of closed rounds that nobody has answered yet: number -> site, round.
        self._overdue: dict[str, tuple[str, str]] = {}
        self._nodes = _Nodes(away_since=dict.fromkeys(sites, time.monotonic()))

    def close(self, whole: bool) -> None:
        """End the session; ``whole``: the run came to its end."""
        if self._session is not None:
            self._session.close(whole)
            self._session = None

    def connect(self, needed: int, timeout_s: float) -> set[str]:
        """Wait until so many sites are connected, at most so long; returns those that are."""
        deadline = time.monotonic() + timeout_s
        while not self._stop.is_set():
            with self._lost_is_passing():
                self._look(self._current())
            if len(self._nodes.present) >= needed or time.monotonic() > deadline:
                break
            self._stop.wait(_POLL_S)
        return set(self._nodes.present)

    def __call__(self, asked: Mapping[str, Outgoing], timeout_s: float) -> Mapping[str, Message]:
        """Ask until every site has answered, the time is up, or enough have and the others are away for long."""
        deadline = time.monotonic() + timeout_s
        open_ = {site: _Asked(outgoing) for site, outgoing in asked.items()}
        while not self._stop.is_set():
            with self._lost_is_passing():
                self._once(self._current(open_), open_, deadline)
            if self._enough(open_) or time.monotonic() >= deadline:
                break
            self._stop.wait(_POLL_S)
        self._overdue |= {
            each.number: (site, each.outgoing.group)
            for site, each in open_.items()
            if each.answer is None and each.number
        }
        return {site: each.answer for site, each in open_.items() if each.answer is not None}

    def _once(self, session: Session, open_: Mapping[str, _Asked], deadline: float) -> None:
        self._look(session)
        waiting = {site: each for site, each in open_.items() if each.answer is None}
        for site, each in waiting.items():
            self._give_up_what_a_node_lost(site, each)
            if not each.number and site in self._nodes.present and time.monotonic() >= each.again_at:
                self._push(session, site, each, deadline)
        numbers = {each.number: site for site, each in waiting.items() if each.number}
        asked = [*numbers, *self._overdue]
        for reply in session.grid.pull_messages(asked) if asked else ():
            number = reply.metadata.reply_to_message_id
            if number in numbers:
                self._take(numbers[number], open_[numbers[number]], reply)
            elif number in self._overdue:
                self._too_late(*self._overdue.pop(number), reply)

    def _give_up_what_a_node_lost(self, site: str, each: _Asked) -> None:
        """A node that was killed has forgotten what it had taken, and Flower does not hand it out again: where it is
        back before its death was noticed, nobody would ever answer. Asked twice, a site gives the same answer."""
        node = self._nodes.present.get(site)
        if each.number and node is not None and node.since != each.since:
            _LOG.info("%s has connected anew since it was asked, and is asked again", site)
            each.number = ""

    def _push(self, session: Session, site: str, each: _Asked, deadline: float) -> None:
        ttl_s = max(1.0, deadline - time.monotonic()) + self._waits.ttl_beyond_s
        node = self._nodes.present[site]
        numbers = list(session.grid.push_messages([each.outgoing.message(node.node_id, ttl_s=ttl_s)]))
        each.number, each.since, each.tries = (numbers[0] if numbers else "") or "", node.since, each.tries + 1
        if each.number:
            self._watch.asked(site)
        else:
            each.again_at = time.monotonic() + _ASK_AGAIN.wait_s(each.tries, 0.0)

    def _take(self, site: str, each: _Asked, reply: Message) -> None:
        if (why := passing_reason(reply)) is None:
            each.answer = reply
            self._watch.answered(site)
            return
        wait_s = _ASK_AGAIN.wait_s(each.tries, 0.0)
        _LOG.info("%s did not answer (%s) and is asked again in %.0f s", site, why, wait_s)
        each.number, each.again_at = "", time.monotonic() + wait_s

    def _too_late(self, site: str, group: str, reply: Message) -> None:
        # Whatever it holds was made from tensors that are no longer the global ones.
        if not reply.has_error():
            _LOG.warning("the answer of %s to round %s came after the round was closed; it is not used", site, group)
            self._watch.late(site, group)

    def _enough(self, open_: Mapping[str, _Asked]) -> bool:
        missing = [site for site, each in open_.items() if each.answer is None]
        answered = sum(each.answer is not None and not _refusal(each.answer) for each in open_.values())
        if not missing:
            return True
        now, away = time.monotonic(), self._nodes.away_since
        long_gone = all(site in away and now - away[site] >= self._waits.absent_s for site in missing)
        return answered >= self._waits.needed and long_gone

    def _look(self, session: Session) -> None:
        now = time.monotonic()
        if now - self._nodes.looked_at < _LOOK_S:
            return
        present = {
            node.name: _Node(node.node_id, node.last_activated_at)
            for node in session.grid.get_nodes()
            if node.name in self._sites
        }
        away = {site: self._nodes.away_since.get(site, now) for site in self._sites if site not in present}
        self._nodes = _Nodes(present, away, now)
        self._watch.connections({site: site in present for site in self._sites})

    def _current(self, open_: Mapping[str, _Asked] | None = None) -> Session:
        """The session, a new one where the last was lost; what was on its way in that is sent again."""
        if self._session is not None and self._session.alive():
            return self._session
        self.close(False)
        self._overdue.clear()
        for each in (open_ or {}).values():
            each.number = ""
        self._session = self._open()
        _LOG.info("run %d of the SuperLink carries the messages", self._session.run_id)
        return self._session

    @contextmanager
    def _lost_is_passing(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500:
                # It is there and knows the task no more.
                self.close(False)
            _LOG.warning("the SuperLink refused a request (%d)", error.response.status_code)
            self._stop.wait(_LOOK_S)
        except (httpx.HTTPError, SessionLost) as error:
            _LOG.warning("the SuperLink does not answer (%s); it is asked again", type(error).__name__)
            self._stop.wait(_LOOK_S)


def passing_reason(reply: Message) -> str | None:
    """Why a reply is none for good and the question is to be asked again; None for an answer."""
    if reply.has_error():
        # The node or its relay was gone; Flower says so with numbers of its own.
        return f"Flower's error {reply.error.code}"
    refusal = _refusal(reply)
    return refusal if refusal in PASSING else None


def _refusal(reply: Message) -> str:
    return str(reply.content.config_records.get(FACTS_RECORD, {}).get("refusal", ""))
