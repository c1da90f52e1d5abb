"""Answers of hospitals, taken from the SuperLink without waiting for one site on behalf of the others.

Flower's own grid waits up to three minutes for the parts of one answer while the others lie there, takes it however
large it is, and raises whatever an odd one makes it raise. Here an answer is taken part by part as the parts come, up
to a bound, and one that cannot be read is a refusal of its site.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from flwr.app import ConfigRecord, Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.superlink.grid import HttpGrid

from more_model.exchange import FACTS_RECORD

_LOG = logging.getLogger(__name__)
#: What counts for a part beside its content: each is a request.
_PART_BYTES = 1024
#: So long the parts of one answer are taken, then it is the next one's turn.
_TURN_S = 2.0


@dataclass(slots=True)
class _Coming:
    """An answer on its way. ``number``: its own; ``answers``: that of the question."""

    number: str
    answers: str
    missing: list[str]
    parts: dict[str, bytes] = field(default_factory=dict)
    size: int = 0


class _Broken(Exception):
    """An answer that cannot be taken; the text is what its site is said to have refused with."""


class _Lost(Exception):
    """An answer whose node was gone before all of its parts had come: the question has to be asked again."""


class ReplyGrid(HttpGrid):
    """Flower's grid with another way to take answers. ``most_bytes``: of one answer."""

    def __init__(self, address: str, *, root_certificates: bytes, token: str, most_bytes: int) -> None:
        super().__init__(address, root_certificates=root_certificates, token=token)
        self._most_bytes = most_bytes
        self._coming: dict[str, _Coming] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Whole answers to the questions of these numbers. An answer to a question that is not named any more is
        dropped. Raises httpx.HTTPError where the SuperLink does not answer."""
        asked = set(message_ids)
        for answers in self._coming.keys() - asked:
            self._drop(self._coming.pop(answers))
        if fresh := sorted(asked - self._coming.keys()):
            self._announced(fresh)
        taken = {answers: self._taken(coming) for answers, coming in self._coming.items()}
        whole = {answers: reply for answers, reply in taken.items() if reply is not None}
        for answers in whole:
            self._drop(self._coming.pop(answers))
        return list(whole.values())

    def _announced(self, message_ids: list[str]) -> None:
        """Which answers have begun to come. The SuperLink says so once only."""
        found = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=message_ids))
        for said, tree in zip(found.messages_list, found.message_object_trees, strict=True):
            answers, parts = said.metadata.reply_to_message_id, [part.object_id for part in iterate_object_tree(tree)]
            self._coming[answers] = _Coming(said.metadata.message_id, answers, list(dict.fromkeys(parts)))

    def _taken(self, coming: _Coming) -> Message | None:
        """The answer, or a refusal in its place; None while parts are missing."""
        try:
            return self._whole(coming) if self._pulled(coming) else None
        except _Lost:
            _LOG.info("an answer did not come whole")
            return _in_place_of(coming.answers, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, "not whole"))
        except _Broken as error:
            _LOG.warning("an answer is %s", error)
            refusal = ConfigRecord({"refusal": f"malformed answer ({error})"})
            return _in_place_of(coming.answers, content=RecordDict({FACTS_RECORD: refusal}))

    def _pulled(self, coming: _Coming) -> bool:
        pull = make_pull_object_fn_protobuf(self._runtime_client.PullObject, self.node, self.run.run_id)
        until = time.monotonic() + _TURN_S
        while coming.missing:
            if coming.size + _PART_BYTES * len(coming.missing) > self._most_bytes:
                raise _Broken("too large")
            if time.monotonic() > until:
                return False
            try:
                content = pull(coming.missing[-1])
            except ObjectUnavailableError:
                return False
            except ObjectPullError as error:
                raise _Lost from error
            coming.parts[coming.missing.pop()] = content
            coming.size += len(content) + _PART_BYTES
        if coming.size > self._most_bytes:
            raise _Broken("too large")
        return True

    def _whole(self, coming: _Coming) -> Message:
        try:
            reply = inflate_object_from_contents(coming.number, coming.parts)
        except Exception as error:
            # Whatever it is: the bytes are one site's, and must not end the round of the others.
            raise _Broken(type(error).__name__) from error
        if not isinstance(reply, Message) or reply.metadata.reply_to_message_id != coming.answers:
            raise _Broken("no answer to this question")
        reply.metadata.__dict__["_message_id"] = coming.number
        return reply

    def _drop(self, coming: _Coming) -> None:
        """The SuperLink need not keep it any longer."""
        run_id = self.run.run_id
        about = ConfirmMessageReceivedRequest(node=self.node, run_id=run_id, message_object_id=coming.number)
        # What it is not told of, it keeps until the run ends; the answer is here all the same.
        with suppress(httpx.HTTPError):
            self._runtime_client.ConfirmMessageReceived(about)


def _in_place_of(answers: str, **what: Any) -> Message:
    """In the place of an answer, matched to its question like one."""
    metadata = Metadata(
        run_id=0,
        message_id="",
        src_node_id=0,
        dst_node_id=0,
        reply_to_message_id=answers,
        group_id="",
        created_at=time.time(),
        ttl=1.0,
        message_type="train",
    )
    return make_message(metadata=metadata, **what)
