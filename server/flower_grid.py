"""The round loop's transport over Flower's `Grid`, whatever grid it is: in-process, Ray, or SuperLink."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from more_model.errors import RoundError
from more_model.exchange import (
    FACTS_RECORD,
    JOINED_STAGE,
    RUN_FACT,
    STAGE_FACT,
    SUM_ACTION,
    TENSORS_RECORD,
    VERDICT_FACT,
    Fact,
    Instruction,
    Joined,
    Refusal,
    SumStage,
    Tensors,
    Update,
)
from more_model.packed import PACKED, pack, unpack
from more_model.score_exchange import Evaluation, Question


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message that is to be built and sent, perhaps more than once. ``group``: the round, as Flower shows it."""

    content: RecordDict
    kind: str
    group: str = ""

    def message(self, node: int, *, ttl_s: float) -> Message:
        """The same as a Flower message to a node. Its content is a copy: Flower takes apart what it sends."""
        return Message(
            RecordDict(dict(self.content)), dst_node_id=node, message_type=self.kind, group_id=self.group, ttl=ttl_s
        )


class Send(Protocol):
    """Sends one message to each site named and waits for replies; a site without one in time is absent."""

    def __call__(self, asked: Mapping[str, Outgoing], timeout_s: float) -> Mapping[str, Message]: ...


def sent_once(grid: Grid, nodes: Mapping[str, int]) -> Send:
    """Over a grid that loses nothing. Replies are matched by the message they answer, never by their source: Flower's
    own error replies carry the source of the link, not of the node."""

    def send(asked: Mapping[str, Outgoing], timeout_s: float) -> Mapping[str, Message]:
        messages = {site: each.message(nodes[site], ttl_s=timeout_s) for site, each in asked.items()}
        replies = grid.send_and_receive(list(messages.values()), timeout=timeout_s)
        site_of = {message.metadata.message_id: site for site, message in messages.items()}
        known = {site_of.get(reply.metadata.reply_to_message_id): reply for reply in replies}
        return {site: reply for site, reply in known.items() if site is not None}

    return send


#: Every code of a site's policy at once is shorter; what is longer would fill the journal and the page.
_MAX_REFUSAL = 400
_APART = ", "


class GridTransport:
    """Instructions and updates as Flower messages. ``verdicts``: what a site is told, with its next instruction, of its
    answer to the round before."""

    def __init__(self, send: Send, verdicts: Callable[[], Mapping[str, str]] = dict) -> None:
        self._send, self._verdicts = send, verdicts

    def exchange(
        self, instructions: Mapping[str, Instruction], *, timeout_s: float
    ) -> Mapping[str, Update | Joined | Refusal]:
        """One round trip to every site named; sites without an answer in time are absent from the result."""
        numbers = {site: instruction.round for site, instruction in instructions.items()}
        asked = _outgoing(instructions, MessageType.TRAIN)
        asked |= {site: _told(asked[site], words) for site, words in self._verdicts().items() if site in asked}
        return {site: _answer(reply, site, numbers[site]) for site, reply in self._send(asked, timeout_s).items()}

    def ask(self, messages: Mapping[str, SumStage], *, run: str, timeout_s: float) -> Mapping[str, SumStage | Refusal]:
        """The same for one later stage of a secure sum of ``run``."""
        kind = f"{MessageType.QUERY}.{SUM_ACTION}"
        asked = {site: Outgoing(_stage_content(message, run), kind) for site, message in messages.items()}
        return {site: _stage_answer(reply, site) for site, reply in self._send(asked, timeout_s).items()}

    def evaluate(self, questions: Mapping[str, Question], *, timeout_s: float) -> Mapping[str, Evaluation | Refusal]:
        """The same for one question of federated evaluation."""
        numbers = {site: question.round for site, question in questions.items()}
        asked = _outgoing(questions, MessageType.EVALUATE)
        return {site: _evaluation(reply, site, numbers[site]) for site, reply in self._send(asked, timeout_s).items()}


def discover(grid: Grid, expected: int, *, timeout_s: float, poll_s: float = 0.2) -> dict[str, int]:
    """Ask every connected node for its site's name, once ``expected`` nodes are there.

    Raises:
        RoundError: they were not there in time, a node did not answer, or two nodes claim one site.
    """
    deadline = time.monotonic() + timeout_s
    while len(nodes := sorted(grid.get_node_ids())) < expected:
        if time.monotonic() > deadline:
            raise RoundError(
                f"{len(nodes)} of {expected} sites connected within {timeout_s:g} s",
                remedy="look at the daemons of the missing sites, then start again",
            )
        time.sleep(poll_s)
    questions = [Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in nodes]
    names: dict[str, int] = {}
    for reply in grid.send_and_receive(questions, timeout=max(1.0, deadline - time.monotonic())):
        facts = {} if reply.has_error() else dict(reply.content.config_records.get(FACTS_RECORD, {}))
        if "site" not in facts:
            raise RoundError("a node could not say which site it is", remedy="look at that site's own log")
        name = str(facts["site"])
        if name in names:
            raise RoundError(f"two nodes call themselves {name!r}", remedy="give every site its own name")
        names[name] = reply.metadata.src_node_id
    if len(names) < expected:
        raise RoundError(f"{len(names)} of {expected} sites said who they are", remedy="look at the silent sites' logs")
    return names


def _outgoing(asked: Mapping[str, Instruction] | Mapping[str, Question], kind: str) -> dict[str, Outgoing]:
    """Packed once where all sites are asked the same."""
    made: dict[int, Outgoing] = {}
    for each in asked.values():
        if id(each) not in made:
            made[id(each)] = Outgoing(_record(each.tensors, each.facts()), kind, str(each.round))
    return {site: made[id(each)] for site, each in asked.items()}


def _told(asked: Outgoing, verdict: str) -> Outgoing:
    facts = ConfigRecord({**asked.content.config_records[FACTS_RECORD], VERDICT_FACT: verdict})
    return replace(asked, content=RecordDict({**asked.content, FACTS_RECORD: facts}))


def _record(tensors: Tensors, facts: Mapping[str, Fact]) -> RecordDict:
    return RecordDict(
        {TENSORS_RECORD: ArrayRecord({PACKED: Array(pack(tensors))}), FACTS_RECORD: ConfigRecord(dict(facts))}
    )


def _stage_content(message: SumStage, run: str) -> RecordDict:
    return RecordDict({FACTS_RECORD: ConfigRecord({**message.facts, STAGE_FACT: message.stage, RUN_FACT: run})})


def _answer(reply: Message, site: str, round_number: int) -> Update | Joined | Refusal:
    if reply.has_error():
        return Refusal(site, round_number, f"transport error {reply.error.code}")
    try:
        facts = dict(reply.content[FACTS_RECORD])
        if "refusal" in facts:
            return Refusal(site, round_number, _codes(str(facts["refusal"])))
        if facts.pop(STAGE_FACT, None) == JOINED_STAGE:
            return Joined(site, round_number, facts)
        tensors = unpack(reply.content[TENSORS_RECORD][PACKED].numpy())
        return Update.from_parts(facts, tensors)
    except Exception as error:  # noqa: BLE001 - whatever one site sends, it must not end the round of the others
        return Refusal(site, round_number, f"malformed answer ({type(error).__name__})")


def _codes(refusal: str) -> str:
    """The codes of a refusal, as many whole ones as fit; of a single one that is longer, its beginning."""
    if len(refusal) <= _MAX_REFUSAL:
        return refusal
    whole, _, _ = refusal[: _MAX_REFUSAL + len(_APART)].rpartition(_APART)
    return whole or refusal[:_MAX_REFUSAL]


def _evaluation(reply: Message, site: str, round_number: int) -> Evaluation | Refusal:
    if reply.has_error():
        return Refusal(site, round_number, f"transport error {reply.error.code}")
    try:
        facts = dict(reply.content[FACTS_RECORD])
        if "refusal" in facts:
            return Refusal(site, round_number, _codes(str(facts["refusal"])))
        return Evaluation.from_parts(facts)
    except Exception as error:  # noqa: BLE001 - as above
        return Refusal(site, round_number, f"malformed answer ({type(error).__name__})")


def _stage_answer(reply: Message, site: str) -> SumStage | Refusal:
    if reply.has_error():
        return Refusal(site, 0, f"transport error {reply.error.code}")
    try:
        facts = dict(reply.content[FACTS_RECORD])
        if "refusal" in facts:
            return Refusal(site, 0, _codes(str(facts["refusal"])))
        packed = reply.content.array_records.get(TENSORS_RECORD, {}).get(PACKED)
        arrays = unpack(packed.numpy()) if packed is not None else {}
        return SumStage(str(facts.pop(STAGE_FACT)), facts, arrays)
    except Exception as error:  # noqa: BLE001 - as above
        return Refusal(site, 0, f"malformed answer ({type(error).__name__})")
