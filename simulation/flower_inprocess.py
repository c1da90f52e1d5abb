"""Flower's `Grid` within one process: real ClientApps, real Messages, no network and no Ray. Milliseconds per round."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

#: Node ids of a grid count from here; 1 is the link itself.
_FIRST_NODE = 1001
_APP_RAISED = 2


class InProcessGrid(Grid):
    """Delivers each message to the ClientApp of its node at once, one after another, in the order given.

    ``tap`` sees every message on the wire, in both directions, exactly as it is delivered.
    """

    def __init__(
        self, app: ClientApp, partitions: int, *, tap: Callable[[Message], None] | None = None, run_id: int = 1
    ) -> None:
        self._app = app
        self._tap = tap
        self._run_id = run_id
        self._replies: dict[str, Message] = {}
        self._contexts = {
            _FIRST_NODE + number: Context(
                run_id=run_id,
                node_id=_FIRST_NODE + number,
                node_config={"partition-id": number, "num-partitions": partitions},
                state=RecordDict(),
                run_config={},
            )
            for number in range(partitions)
        }
        # Flower stamps these on every message that is built in this process.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, 1

    def set_run(self, run: Run) -> None:
        """There is one run only."""
        self._run_id = run.run_id

    @property
    def run(self) -> Run:
        """Run information."""
        return Run.create_empty(self._run_id)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message; Flower's own recommendation is to call `Message` directly."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes, in the order of their partitions."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message and keep its reply until it is pulled."""
        numbers = []
        for message in messages:
            number = str(uuid.uuid4())
            message.metadata.__dict__["_message_id"] = number
            self._replies[number] = self._delivered(message)
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to these messages."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver and collect; nothing here can be late, so ``timeout`` has nothing to bound."""
        return self.pull_messages(list(self.push_messages(messages)))

    def _delivered(self, message: Message) -> Message:
        # A copy, as if it had travelled: the nodes must not share one content.
        arriving = copy.deepcopy(message)
        if self._tap is not None:
            self._tap(arriving)
        try:
            reply = self._app(arriving, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001 - Flower's runtime answers any exception of an app this way
            reply = Message(Error(code=_APP_RAISED, reason=type(error).__name__), reply_to=message)
        reply.metadata.__dict__["_message_id"] = str(uuid.uuid4())
        if self._tap is not None:
            self._tap(reply)
        return reply


def partition_of(context: Context) -> int:
    """The number of the site that a simulated node stands for."""
    return int(context.node_config["partition-id"])
