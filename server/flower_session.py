"""One run of Flower's, held by this process: the place of a ServerApp, without a bundle's code.

Flower would have a SuperExec take the run's task and start a process that imports the bundle. Here the coordinator's
own program takes the task, with the same secret, and keeps it by heartbeats. A run of Flower's ends with the connection
it was made over; a run of ours goes on in the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
from flwr.common.serde import run_from_proto
from flwr.proto.control_pb2 import (
    ListRunsRequest,
    ListRunsResponse,
    StartRunRequest,
    StartRunResponse,
    StopRunRequest,
    StopRunResponse,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from more_model.errors import RoundError
from more_model.private_file import secret
from server.flower_bundle import build_bundle, bundle_digest
from server.flower_replies import ReplyGrid
from server.flower_superlink import HOST, SuperLinkControl, SuperLinkFolder

_LOG = logging.getLogger(__name__)
_COMPONENT = "flwr-serverapp"
#: Flower gives a task up after a minute without a heartbeat.
HEARTBEAT_S = 10.0
_ACQUIRE_S = 30.0
_FINISHED = "finished"
_COMPLETED, _FAILED = "completed", "failed"
_MOST_BYTES = 2**31


class SessionLost(RoundError):
    """The SuperLink is away, or no longer knows this run: begin another session."""


@dataclass(frozen=True, slots=True)
class Session:
    """A run of Flower's whose task this process holds. ``alive``: whether it still does, as far as is known.
    ``close(whole)`` ends it; the SuperLink is told whether the run came to its end."""

    run_id: int
    grid: ReplyGrid
    alive: Callable[[], bool]
    close: Callable[[bool], None]


def open_session(folder: SuperLinkFolder, port: int, *, most_bytes: int = _MOST_BYTES) -> Session:
    """End what earlier sessions left, start a run, and hold its task until the session is closed. ``most_bytes``: of
    one answer.

    Raises:
        SessionLost: the SuperLink does not answer, or gave no task.
    """
    try:
        with SuperLinkControl(port, folder.loopback_root) as control:
            run_id = _new_run(control)
        task_id, token = _acquired(folder, port, run_id)
        return _held(folder, port, _Task(run_id, task_id, token), most_bytes)
    except (httpx.HTTPError, RoundError) as error:
        raise SessionLost(f"no run could be begun at the SuperLink ({_said(error)})") from error


@dataclass(frozen=True, slots=True)
class _Task:
    """The task of a run, and what its holder proves itself with."""

    run_id: int
    task_id: int
    token: str


def _held(folder: SuperLinkFolder, port: int, task: _Task, most_bytes: int) -> Session:
    with ExitStack() as opened:
        client = _client(folder, port, RuntimeTokenHttpInterceptor(task.token))
        opened.callback(client.close)
        root = folder.loopback_root.read_bytes()
        grid = ReplyGrid(f"{HOST}:{port}", root_certificates=root, token=task.token, most_bytes=most_bytes)
        opened.callback(grid.close)
        # Flower's own retries wait for ever and end this process with a signal where a task is lost.
        grid.__dict__["_retry_invoker"] = None
        grid.set_run(_input(client, task))
        beats = _Heartbeats(client)
        beats.start()
        held = opened.pop_all()

    def close(whole: bool) -> None:
        beats.stop()
        _finish(client, _COMPLETED if whole else _FAILED)
        held.close()

    return Session(task.run_id, grid, lambda: beats.taken, close)


def _new_run(control: SuperLinkControl) -> int:
    runs = control.call("list-runs", ListRunsRequest(), ListRunsResponse()).run_dict
    for run_id in (number for number, run in runs.items() if run.status.status != _FINISHED):
        _LOG.info("the SuperLink's run %d was left by an earlier session and is ended", run_id)
        control.call("stop-run", StopRunRequest(run_id=run_id), StopRunResponse())
    fab = Fab(hash_str=bundle_digest(), content=build_bundle())
    started = control.call("start-run", StartRunRequest(fab=fab), StartRunResponse())
    if not started.HasField("run_id"):
        raise RoundError("the SuperLink started no run", remedy="look at its log")
    return int(started.run_id)


def _acquired(folder: SuperLinkFolder, port: int, run_id: int) -> tuple[int, str]:
    """Task and token of the run; tasks of ended runs that come first are passed over."""
    auth = SuperExecAuthHttpInterceptor(
        master_secret=secret(folder.secret), protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
    )
    client = _client(folder, port, auth)
    try:
        deadline = time.monotonic() + _ACQUIRE_S
        while time.monotonic() < deadline:
            answer = client.AcquireTask(AcquireTaskRequest(supported_task_types=[_COMPONENT]))
            if answer.HasField("task") and answer.token and answer.task.run_id == run_id:
                return int(answer.task.task_id), str(answer.token)
            time.sleep(0.1)
    finally:
        client.close()
    raise RoundError("the SuperLink gave no task for the run", remedy="see that no other program takes its tasks")


def _input(client: RuntimeHttpClient, task: _Task) -> Run:
    answer = client.PullTaskInput(PullTaskInputRequest())
    # Flower stamps these on every message that is built in this process.
    TaskIdentity.task_id, TaskIdentity.run_id = task.task_id, task.run_id
    TaskIdentity.node_id = answer.context.node_id
    return run_from_proto(answer.run)


def _client(folder: SuperLinkFolder, port: int, *interceptors: object) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        server_address=f"{HOST}:{port}",
        insecure=False,
        root_certificates=folder.loopback_root.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name=_COMPONENT), *interceptors],
    )


def _finish(client: RuntimeHttpClient, outcome: str) -> None:
    """Best effort: a run that is not told of its end is ended by the next session."""
    try:
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=outcome, details=""))
    except httpx.HTTPError as error:
        _LOG.info("the SuperLink was not told how its run ended (%s)", _said(error))


class _Heartbeats:
    """Tells the SuperLink that the task is held, from a thread of its own."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session heartbeat", daemon=True)
        self.taken = True

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(HEARTBEAT_S if self.taken else 1.0):
            try:
                self.taken = bool(self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success)
            except httpx.HTTPStatusError:
                # It is there and does not know the task.
                self.taken = False
            except httpx.HTTPError as error:
                # Away for a moment: the task outlives that.
                _LOG.info("a heartbeat was not taken (%s)", _said(error))


def _said(error: Exception) -> str:
    return error.cause if isinstance(error, RoundError) else type(error).__name__
