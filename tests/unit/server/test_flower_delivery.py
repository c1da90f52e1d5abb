"""Asking over a SuperLink that comes and goes: a made-up session stands for it, everything else is real."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from more_model.exchange import FACTS_RECORD
from server import flower_delivery
from server.flower_delivery import Delivery, Waits, Watch
from server.flower_grid import Outgoing
from server.flower_session import Session, SessionLost

SITES = ("north", "south")
NODES = {"north": 11, "south": 12, "stranger": 13}
ASKED = {site: Outgoing(RecordDict({FACTS_RECORD: ConfigRecord({"round": 1})}), MessageType.TRAIN) for site in SITES}
Answer = Callable[[Message], RecordDict | Error | None]


def said(**facts: str) -> RecordDict:
    return RecordDict({FACTS_RECORD: ConfigRecord(dict(facts))})


@dataclass
class MadeUpGrid:
    """``script``: per node, what it answers to its first, second, ... message; the last one for ever. None: nothing."""

    script: dict[int, list[RecordDict | Error | None]]
    present: set[str] = field(default_factory=lambda: set(NODES))
    faults: list[Exception] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    connected: dict[str, str] = field(default_factory=dict)
    replies: dict[str, Message] = field(default_factory=dict)

    def get_nodes(self) -> list[Any]:
        if self.faults:
            raise self.faults.pop(0)
        return [
            SimpleNamespace(name=name, node_id=NODES[name], last_activated_at=self.connected.get(name, "at first"))
            for name in sorted(self.present)
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        numbers = []
        for message in messages:
            number = f"message {len(self.sent)}"
            message.metadata.__dict__["_message_id"] = number
            answers = self.script[message.metadata.dst_node_id]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer is not None:
                self.replies[number] = Message(answer, reply_to=message)
            self.sent.append(message)
            numbers.append(number)
        return numbers

    def pull_messages(self, numbers: Iterable[str]) -> list[Message]:
        return [self.replies.pop(number) for number in numbers if number in self.replies]


@dataclass
class Sessions:
    """Opens sessions over one grid, or raises what is next in ``faults``; ``closed`` tells how each ended."""

    grid: MadeUpGrid
    faults: list[Exception] = field(default_factory=list)
    alive: list[bool] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    opened: int = 0

    def __call__(self) -> Session:
        if self.faults:
            raise self.faults.pop(0)
        self.opened += 1
        return Session(self.opened, self.grid, lambda: self.alive.pop(0) if self.alive else True, self.closed.append)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    monkeypatch.setattr(flower_delivery, "_POLL_S", 0.005)
    monkeypatch.setattr(flower_delivery, "_LOOK_S", 0.005)
    monkeypatch.setattr(
        flower_delivery, "_ASK_AGAIN", flower_delivery.Backoff(first_s=0.01, longest_s=0.01, jitter=0.0)
    )


def delivery(sessions: Sessions, *, needed: int = 2, absent_s: float = 60.0, watch: Watch | None = None) -> Delivery:
    return Delivery(sessions, SITES, Waits(needed, absent_s, 5.0), watch)


def answers(replies: Any) -> dict[str, str]:
    return {site: str(reply.content[FACTS_RECORD]["site"]) for site, reply in replies.items()}


def test_every_site_is_asked_once_and_nobody_else() -> None:
    grid = MadeUpGrid({11: [said(site="n")], 12: [said(site="s")], 13: [said(site="x")]})
    assert answers(delivery(Sessions(grid))(ASKED, 5.0)) == {"north": "n", "south": "s"}
    assert [message.metadata.dst_node_id for message in grid.sent] == [11, 12]
    assert all(5.0 < message.metadata.ttl <= 10.0 for message in grid.sent)


@pytest.mark.parametrize(
    "passing",
    [
        Error(5, "node unavailable"),
        *(said(refusal=code) for code in ("daemon-unreachable", "relay-stopped", "draining")),
    ],
    ids=str,
)
def test_what_passes_is_asked_again(passing: RecordDict | Error) -> None:
    grid = MadeUpGrid({11: [passing, passing, said(site="n")], 12: [said(site="s")]})
    assert answers(delivery(Sessions(grid))(ASKED, 5.0)) == {"north": "n", "south": "s"}
    assert len(grid.sent) == 4


def test_a_refusal_of_the_site_is_an_answer() -> None:
    grid = MadeUpGrid({11: [said(refusal="outside-hours", site="n")], 12: [said(site="s")]})
    replies = delivery(Sessions(grid))(ASKED, 5.0)
    assert replies["north"].content[FACTS_RECORD]["refusal"] == "outside-hours"
    assert len(grid.sent) == 2


def test_a_site_that_never_answers_is_absent_once_the_time_is_up() -> None:
    grid = MadeUpGrid({11: [None], 12: [said(site="s")]})
    assert answers(delivery(Sessions(grid))(ASKED, 0.2)) == {"south": "s"}


def test_a_site_that_has_been_away_for_long_is_not_waited_for_once_enough_have_answered() -> None:
    grid = MadeUpGrid({11: [said(site="n")], 12: [said(site="s")]}, present={"south"})
    # Without the rule this would wait for an hour.
    assert answers(delivery(Sessions(grid), needed=1, absent_s=0.05)(ASKED, 3600.0)) == {"south": "s"}


def test_a_refusal_is_not_one_of_the_answers_that_a_round_needs() -> None:
    grid = MadeUpGrid({11: [said(site="n")], 12: [said(refusal="outside-hours")]}, present={"south"})
    # Were it one, this would end without north, which comes back.
    watch = Watch(answered=lambda _site: grid.present.add("north"))
    asking = delivery(Sessions(grid), needed=1, absent_s=0.0, watch=watch)
    assert set(asking(ASKED, 5.0)) == {"north", "south"}


def test_a_site_that_comes_back_is_asked() -> None:
    grid = MadeUpGrid({11: [said(site="n")], 12: [said(site="s")]}, present={"south"})
    watch = Watch(answered=lambda site: grid.present.add("north") if site == "south" else None)
    assert answers(delivery(Sessions(grid), watch=watch)(ASKED, 5.0)) == {"north": "n", "south": "s"}


def test_a_node_that_has_forgotten_its_question_is_asked_again() -> None:
    grid = MadeUpGrid({11: [None, said(site="n")], 12: [said(site="s")]})
    watch = Watch(answered=lambda _site: grid.connected.update(north="anew"))
    # Without the rule this would wait for an hour.
    assert answers(delivery(Sessions(grid), watch=watch)(ASKED, 3600.0)) == {"north": "n", "south": "s"}
    assert [message.metadata.dst_node_id for message in grid.sent] == [11, 12, 11]


def test_a_superlink_that_is_away_is_waited_for() -> None:
    grid = MadeUpGrid({11: [said(site="n")], 12: [said(site="s")]}, faults=[httpx.ConnectError("away")] * 3)
    sessions = Sessions(grid, faults=[SessionLost("not there yet")])
    assert answers(delivery(sessions)(ASKED, 5.0)) == {"north": "n", "south": "s"}
    assert sessions.opened == 1


def test_what_was_out_is_sent_again_in_a_new_session_after_the_task_was_lost() -> None:
    gone = httpx.HTTPStatusError("gone", request=httpx.Request("POST", "https://x"), response=httpx.Response(401))
    grid = MadeUpGrid({11: [None, said(site="n")], 12: [said(site="s")]})
    sessions = Sessions(grid)
    watch = Watch(answered=lambda _site: grid.faults.append(gone))
    assert answers(delivery(sessions, watch=watch)(ASKED, 5.0)) == {"north": "n", "south": "s"}
    # South had answered already and is not asked again.
    assert [message.metadata.dst_node_id for message in grid.sent] == [11, 12, 11]
    assert sessions.opened >= 2 and sessions.closed[0] is False


def test_a_session_whose_heartbeat_died_is_replaced() -> None:
    grid = MadeUpGrid({11: [None, said(site="n")], 12: [said(site="s")]})
    sessions = Sessions(grid, alive=[True, False])
    assert answers(delivery(sessions)(ASKED, 5.0)) == {"north": "n", "south": "s"}
    assert sessions.opened == 2 and sessions.closed == [False]


def test_an_answer_after_the_round_was_closed_is_named_and_not_used() -> None:
    late: list[tuple[str, str]] = []
    grid = MadeUpGrid({11: [None, said(site="n")], 12: [said(site="s")]})
    asking = delivery(Sessions(grid), watch=Watch(late=lambda site, group: late.append((site, group))))
    first = {site: replace(each, group="1") for site, each in ASKED.items()}
    assert answers(asking(first, 0.1)) == {"south": "s"}
    grid.replies["message 0"] = Message(said(site="too late"), reply_to=grid.sent[0])
    second = {site: replace(each, group="2") for site, each in ASKED.items()}
    assert answers(asking(second, 5.0)) == {"north": "n", "south": "s"}
    assert late == [("north", "1")]


def test_who_is_told_of_what() -> None:
    told: list[Any] = []
    grid = MadeUpGrid({11: [said(site="n")], 12: [said(site="s")]}, present={"south"})
    watch = Watch(told.append, lambda site: told.append(("asked", site)), lambda site: told.append(("answered", site)))
    delivery(Sessions(grid), needed=1, absent_s=0.0, watch=watch)(ASKED, 5.0)
    assert told[0] == {"north": False, "south": True}
    assert ("asked", "south") in told and ("answered", "south") in told and ("asked", "north") not in told


def test_connecting_waits_for_as_many_as_are_needed() -> None:
    grid = MadeUpGrid({}, present={"south", "stranger"})
    assert delivery(Sessions(grid)).connect(1, 5.0) == {"south"}
    assert delivery(Sessions(grid)).connect(2, 0.05) == {"south"}
