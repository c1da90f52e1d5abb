"""The round loop's transport over Flower's `Grid`, whatever grid it is: in-process, Ray, or SuperLink."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from more_model.errors import RoundError
from more_model.exchange import FACTS_RECORD, TENSORS_RECORD, Instruction, Refusal, Update


class GridTransport:
    """Instructions and updates as Flower messages. Replies are matched by the message they answer, never by their
    source: Flower's own error replies carry the source of the link, not of the node."""

    def __init__(self, grid: Grid, nodes: Mapping[str, int]) -> None:
        self._grid = grid
        self._nodes = dict(nodes)

    def exchange(self, instructions: Mapping[str, Instruction], *, timeout_s: float) -> Mapping[str, Update | Refusal]:
        """One round trip to every site named; sites without an answer in time are absent from the result."""
        messages = {
            site: Message(
                _content(instruction),
                dst_node_id=self._nodes[site],
                message_type=MessageType.TRAIN,
                group_id=str(instruction.round),
                ttl=timeout_s,
            )
            for site, instruction in instructions.items()
        }
        replies = self._grid.send_and_receive(list(messages.values()), timeout=timeout_s)
        site_of = {message.metadata.message_id: site for site, message in messages.items()}
        answers: dict[str, Update | Refusal] = {}
        for reply in replies:
            site = site_of.get(reply.metadata.reply_to_message_id)
            if site is not None:
                answers[site] = _answer(reply, site, instructions[site].round)
        return answers


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


def _content(instruction: Instruction) -> RecordDict:
    arrays = ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in instruction.tensors.items()})
    return RecordDict({TENSORS_RECORD: arrays, FACTS_RECORD: ConfigRecord(dict(instruction.facts()))})


def _answer(reply: Message, site: str, round_number: int) -> Update | Refusal:
    if reply.has_error():
        return Refusal(site, round_number, f"transport error {reply.error.code}")
    try:
        facts = dict(reply.content[FACTS_RECORD])
        if "refusal" in facts:
            return Refusal(site, round_number, str(facts["refusal"])[:120])
        tensors = {name: array.numpy() for name, array in reply.content[TENSORS_RECORD].items()}
        return Update.from_parts(facts, tensors)
    except Exception as error:  # noqa: BLE001 - whatever one site sends, it must not end the round of the others
        return Refusal(site, round_number, f"malformed answer ({type(error).__name__})")
