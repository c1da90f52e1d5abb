"""The SuperNode of this machine as the relay sees it: a task, its message, and the bundle as bytes to take a digest of.

Flower's own starter (SuperExec) installs the bundle of a task and imports it in a process of its own. Here nothing is
done with it: what a bundle holds is the coordinator's, and what runs at a hospital is what the hospital installed.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Context, Message, RecordDict
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime.run_clientapp import push_message

from more_model.errors import ConfigError, RoundError

_LOG = logging.getLogger(__name__)
#: The only kind of task that a hospital takes, and how the relay calls itself.
CLIENT_APP = "flwr-clientapp"
_SIGNED = frozenset({"/flwr.proto.Runtime/AcquireTask"})
_COMPLETED = "completed"
#: Flower gives a task up after a minute without a heartbeat.
_HEARTBEAT_S = 10.0
#: A call is tried again for so long: beyond it Flower has given the task up anyway.
_RETRY_S = 70.0
_LEAST_SECRET_BYTES = 32


class TaskLost(RoundError):
    """The SuperNode no longer has the message of a task, or gave the task to somebody else."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """address: ``host:port`` of the SuperNode's runtime interface. secret: the file that it has as well."""

    address: str
    secret: Path


@dataclass(frozen=True, slots=True)
class Asked:
    """message: where its content could not be read, not ``readable``, only to be replied to. bundle: hex SHA-256 over
    the bytes of its run's bundle."""

    message: Message
    readable: bool
    context: Context
    bundle: str


@contextmanager
def open_acquire(runtime: Runtime) -> Iterator[Callable[[], str | None]]:
    """A call that takes the oldest waiting task: its token, or None where none waits.

    Raises:
        OSError, ConfigError: the secret cannot be read, or is none.
        httpx.HTTPError: from the call, where the SuperNode is away or refuses it.
    """
    signing = SuperExecAuthHttpInterceptor(master_secret=_secret(runtime.secret), protected_methods=_SIGNED)
    client = _client(runtime, signing)

    def acquire() -> str | None:
        answer = client.AcquireTask(AcquireTaskRequest(supported_task_types=[CLIENT_APP]))
        return str(answer.token) if answer.HasField("task") and answer.token else None

    try:
        yield acquire
    finally:
        client.close()


class Task:
    """A task that this process has taken, from `open_task`. Every call is tried again while the SuperNode may come
    back, and raises httpx.HTTPError when it has not."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def pull(self) -> Asked:
        """The question.

        Raises:
            TaskLost: there is none any more; Flower says so to the coordinator once the task's heartbeats end.
        """
        # In this order a relay that is killed in between loses nothing for ever. Flower hands a task out again that has
        # not begun, and answers in the relay's place for a message that was pulled and whose task has begun.
        pulled = self._client.PullMessages(PullAppMessagesRequest())
        given = self._client.PullTaskInput(PullTaskInputRequest())
        run_id, node_id = int(given.run.run_id), int(given.context.node_id)
        # Flower stamps these on every message that is built in this process.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = given.task_id, run_id, node_id
        if not pulled.messages_list:
            raise TaskLost("the message of a task was pulled before, by a relay that did not answer it")
        whole = self._whole(pulled.message_object_trees[0], node_id, run_id)
        message = whole if whole is not None else message_from_proto(pulled.messages_list[0])
        context = Context(run_id=run_id, node_id=node_id, node_config={}, state=RecordDict(), run_config={})
        return Asked(message, whole is not None, context, hashlib.sha256(given.fab.content).hexdigest())

    def push(self, reply: Message, context: Context) -> None:
        """Hand over the answer, and end the task."""
        push_message(self._client, reply, context)
        self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=_COMPLETED))

    def _whole(self, tree: Any, node_id: int, run_id: int) -> Message | None:
        node, client = Node(node_id=node_id), self._client

        def confirm(object_id: str) -> None:
            client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(node=node, run_id=run_id, message_object_id=object_id)
            )

        try:
            message: Message = pull_and_inflate_object_from_tree(
                tree, make_pull_object_fn_protobuf(client.PullObject, node, run_id), confirm, return_type=Message
            )
        except httpx.HTTPError:
            raise
        except Exception as error:  # noqa: BLE001 - the content is the coordinator's: whatever is wrong with it, it is answered
            _LOG.warning("the content of a message cannot be read (%s)", type(error).__name__)
            return None
        # What travels holds no id of its own; answers name the message by it.
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message


@contextmanager
def open_task(runtime: Runtime, token: str, lost: Callable[[], None]) -> Iterator[Task]:
    """Keep the task of ``token`` by heartbeats while the block runs. ``lost`` is called, from another thread, once the
    SuperNode does not know the task any more: nobody waits for its answer then."""
    tried_again = RetryInvoker(
        lambda: exponential(base_delay=0.2, max_delay=5),
        (httpx.TransportError, httpx.HTTPStatusError),
        max_tries=None,
        max_time=_RETRY_S,
        should_giveup=_is_final,
    )
    own = RuntimeTokenHttpInterceptor(token)
    client, beating, done = _client(runtime, own, tried_again), _client(runtime, own), threading.Event()
    beats = threading.Thread(target=_beat, args=(beating, done, lost), name="heartbeats of a task", daemon=True)
    beats.start()
    try:
        yield Task(client)
    finally:
        done.set()
        client.close()


def _beat(client: Any, done: threading.Event, lost: Callable[[], None]) -> None:
    try:
        while not done.wait(_HEARTBEAT_S):
            try:
                taken = bool(client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success)
            except httpx.HTTPError as error:
                taken = not _is_final(error)
            if not taken and not done.is_set():
                lost()
                return
    finally:
        client.close()


def _is_final(error: Exception) -> bool:
    """Whether trying again cannot help: the SuperNode is there, and refuses."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR


def _client(runtime: Runtime, interceptor: object, tried_again: object = None) -> Any:
    return RuntimeHttpClient.from_server_address(
        server_address=runtime.address,
        # This machine only: the secret is not sent, it signs.
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name=CLIENT_APP), interceptor],
        retry_invoker=tried_again,
    )


def _secret(path: Path) -> bytes:
    # Another user's file: the daemon gives the relay's group a copy, or the service manager does.
    content = path.read_bytes()
    if len(content) < _LEAST_SECRET_BYTES or path.stat().st_mode & 0o007:
        raise ConfigError(
            str(path),
            [f"it holds no {_LEAST_SECRET_BYTES} bytes, or everybody may read or write it"],
            remedy="give the file that `more-client start` makes, readable by the relay's user and group only",
        )
    return content
