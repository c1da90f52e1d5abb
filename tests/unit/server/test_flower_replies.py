"""Answers taken part by part from a SuperLink that is made up; the answers are Flower's own, but for their bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from more_model.exchange import FACTS_RECORD
from server.flower_delivery import passing_reason
from server.flower_replies import ReplyGrid

MOST = 200_000


@dataclass
class MadeUpSuperLink:
    """``parts``: content by id; an empty one is still to come, one that lacks was never announced."""

    waiting: list[Message] = field(default_factory=list)
    parts: dict[str, bytes] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    goes_away: bool = False
    pulled: int = 0

    def answer(self, question: Message, size: int = 3, *, comes: bool = True) -> dict[str, bytes]:
        """Has an answer wait; its parts by id, not there yet unless it ``comes``."""
        tensors = ArrayRecord({"a": Array(np.full(size, 7, np.float32))})
        reply = Message(RecordDict({"t": tensors, FACTS_RECORD: ConfigRecord({"round": 1})}), reply_to=question)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        parts = {number: each.deflate() for number, each in get_all_nested_objects(reply).items()}
        self.parts.update(parts if comes else dict.fromkeys(parts, b""))
        self.waiting.append(reply)
        return parts

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802 - Flower's name
        self.asked.append(list(request.message_ids))
        found = [each for each in self.waiting if each.metadata.reply_to_message_id in request.message_ids]
        self.waiting = [each for each in self.waiting if each not in found]
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(each)) for each in found],
            message_object_trees=[get_object_tree(each) for each in found],
        )

    def PullObject(self, request: Any) -> Any:  # noqa: N802 - Flower's name
        self.pulled += 1
        content = self.parts.get(request.object_id)
        return PullObjectResponse(
            object_found=content is not None, object_available=bool(content), object_content=content or b""
        )

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802 - Flower's name
        if self.goes_away:
            raise httpx.ConnectError("gone")
        self.dropped.append(request.message_object_id)


@pytest.fixture
def link() -> MadeUpSuperLink:
    return MadeUpSuperLink()


@pytest.fixture
def grid(link: MadeUpSuperLink) -> ReplyGrid:
    made = ReplyGrid("127.0.0.1:9", root_certificates=b"", token="any", most_bytes=MOST)
    made.set_run(Run.create_empty(7))
    made.__dict__["_client"] = link
    return made


def asked(number: int) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 7, 1
    question = Message(RecordDict(), dst_node_id=number, message_type="train", ttl=60.0)
    question.metadata.__dict__["_message_id"] = f"question {number}"
    return question


def refusals(replies: list[Message]) -> dict[str, object]:
    said = {each.metadata.reply_to_message_id: each.content.config_records[FACTS_RECORD] for each in replies}
    return {number: facts.get("refusal", "none") for number, facts in said.items()}


def test_an_answer_that_is_still_to_come_holds_up_no_other(grid: ReplyGrid, link: MadeUpSuperLink) -> None:
    late = link.answer(asked(1), comes=False)
    link.answer(asked(2), size=4)
    assert refusals(grid.pull_messages(["question 1", "question 2"])) == {"question 2": "none"}
    assert grid.pull_messages(["question 1"]) == []
    link.parts.update(late)
    (reply,) = grid.pull_messages(["question 1"])
    assert reply.content["t"]["a"].numpy().tolist() == [7.0, 7.0, 7.0]
    assert reply.metadata.message_id in link.dropped
    assert link.asked == [["question 1", "question 2"]], "an answer is announced once only"


@pytest.mark.parametrize("content", [b"ArrayRecord", b"Message 0 0\x00", b"\xff" * 90, b"Message  5\x00hello"])
def test_bytes_that_are_no_answer_are_a_refusal_of_their_site_alone(
    grid: ReplyGrid, link: MadeUpSuperLink, content: bytes
) -> None:
    parts = link.answer(asked(1))
    link.parts.update(dict.fromkeys(parts, content))
    link.answer(asked(2), size=4)
    found = refusals(grid.pull_messages(["question 1", "question 2"]))
    assert found["question 2"] == "none"
    assert str(found["question 1"]).startswith("malformed answer (")
    assert grid.pull_messages(["question 1"]) == [], "and that is over"


def test_an_answer_whose_node_went_before_it_had_all_come_is_to_be_asked_for_again(
    grid: ReplyGrid, link: MadeUpSuperLink
) -> None:
    parts = link.answer(asked(1), comes=False)
    assert grid.pull_messages(["question 1"]) == []
    for number in parts:
        # The SuperLink gives up what has not come within minutes.
        link.parts.pop(number)
    (reply,) = grid.pull_messages(["question 1"])
    assert reply.has_error() and reply.metadata.reply_to_message_id == "question 1"
    assert passing_reason(reply) is not None


def test_an_answer_that_is_here_is_not_lost_where_the_superlink_goes_away(
    grid: ReplyGrid, link: MadeUpSuperLink
) -> None:
    link.answer(asked(1))
    link.goes_away = True
    assert refusals(grid.pull_messages(["question 1"])) == {"question 1": "none"}


def test_what_is_too_large_is_not_taken(grid: ReplyGrid, link: MadeUpSuperLink) -> None:
    link.answer(asked(1), size=MOST)
    assert refusals(grid.pull_messages(["question 1"])) == {"question 1": "malformed answer (too large)"}
    assert len(link.dropped) == 1


def test_an_answer_whose_content_names_another_question_is_none(grid: ReplyGrid, link: MadeUpSuperLink) -> None:
    link.answer(asked(2))
    (other,) = link.waiting
    link.answer(asked(1))
    mine = link.waiting.pop()
    link.parts[mine.object_id] = link.parts[other.object_id]
    link.waiting = [mine]
    assert refusals(grid.pull_messages(["question 1"])) == {
        "question 1": "malformed answer (no answer to this question)"
    }


def test_an_answer_that_nobody_waits_for_any_more_is_dropped(grid: ReplyGrid, link: MadeUpSuperLink) -> None:
    link.answer(asked(1), comes=False)
    assert grid.pull_messages(["question 1"]) == []
    assert grid.pull_messages(["question 2"]) == []
    assert len(link.dropped) == 1
    pulled = link.pulled
    grid.pull_messages(["question 2"])
    assert link.pulled == pulled
