"""The running relay, between Flower's own SuperNode interface and a daemon's socket, both real and in this process."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict
from trees.super_node import DIGEST, SECRET, WAIT_S, SuperNode, eventually

from client import flower_relay_service, flower_runtime
from client.daemon.companion import hand_over
from client.daemon.sockets import Listener, door_for
from client.flower_messages import tensors_of, tensors_record
from client.flower_relay import Patience
from client.flower_relay_service import Relay, RelayService
from client.flower_runtime import Runtime, open_acquire, open_task
from client.wire import BUNDLE_FACT, Frame, Limits
from more_model.errors import ConfigError, EnvironmentFault
from more_model.exchange import FACTS_RECORD, SUM_ACTION


def open_to_all(path: Path) -> bool:
    """Whether any user of this machine may reach a file or folder."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


#: Where this is root, the relay runs as somebody who may read nothing of the site, as in a hospital; but that user has
#: to reach the program itself.
NOBODY = pwd.getpwuid(65534)
AS_NOBODY = os.geteuid() == 0 and all(open_to_all(Path(each)) for each in (sys.prefix, flower_relay_service.__file__))
USERS = (NOBODY.pw_name,) if AS_NOBODY else ()
RELAY = """
import os, typer, client.flower_relay_service
from client.commands.relay import relay
if AS_NOBODY:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
typer.run(relay)
"""
Answer = Callable[[Frame], Frame]

LOADED = """
import sys, client.flower_relay_service
heavy = {"torch", "transformers", "timm", "peft", "pandas", "scipy", "sklearn", "pydicom", "wfdb"}
print(*sorted(heavy & {name.split(".")[0] for name in sys.modules}))
print(*sorted(n for n in sys.modules if n.split(".")[0] in ("client", "server", "privacy", "simulation")))
"""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[SuperNode]:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    made = SuperNode(port)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the path of a socket."""
    with tempfile.TemporaryDirectory(prefix="more-") as name:
        path = Path(name)
        path.chmod(0o755)
        path.joinpath("secret").write_bytes(SECRET)
        path.joinpath("secret").chmod(0o640)
        yield path


@pytest.fixture
def daemon(folder: Path) -> Iterator[Callable[[Answer], list[Frame]]]:
    """``daemon(answer)``: one that answers so; what it was asked."""
    made: list[Listener] = []

    def start(answer: Answer) -> list[Frame]:
        asked: list[Frame] = []

        def handle(frame: Frame, _still_wanted: Callable[[], bool]) -> Frame:
            asked.append(frame)
            return answer(frame)

        made.append(Listener(door_for(folder / "d.sock", USERS), Limits(), handle))
        return asked

    yield start
    for listener in made:
        listener.close()


@pytest.fixture
def relay(node: SuperNode, folder: Path) -> Iterator[Relay]:
    patience = Patience(gone_s=WAIT_S, pause_s=0.01, longest_pause_s=0.05)
    made = Relay(RelayService(Runtime(f"127.0.0.1:{node.port}", folder / "secret"), folder / "d.sock", 1.0, patience))
    yield made
    made.stop()
    made.hang_up()
    assert made.join(WAIT_S)


def instruction(**facts: Any) -> RecordDict:
    return tensors_record({"0": np.arange(5, dtype=np.float32)}, {"round": 2, **facts})


def update(frame: Frame) -> Frame:
    return Frame("update", {"site": "north"}, {"a": frame.arrays["0"] * 2})


def test_it_loads_neither_torch_nor_anything_that_reads_data() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", LOADED], capture_output=True, text=True, check=True)
    heavy, ours = done.stdout.split("\n")[:2]
    assert heavy == ""
    relay = {f"client.flower_{name}" for name in ("messages", "relay", "relay_service", "runtime")}
    assert set(ours.split()) == {"client", "client.daemon", "client.daemon.notify", "client.wire"} | relay


def test_a_message_reaches_the_daemon_with_the_bundles_digest_and_the_answer_goes_back(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]]
) -> None:
    asked = daemon(update)
    relay.start()
    for number in (2, 3):
        message_id = node.ask("train", instruction(round=number))
        reply = node.reply()
        assert reply.metadata.reply_to_message_id == message_id
        assert np.array_equal(tensors_of(reply.content)["a"], np.arange(5) * 2.0)
    assert [(frame.kind, frame.facts["round"]) for frame in asked] == [("train", 2), ("train", 3)]
    assert [frame.facts[BUNDLE_FACT] for frame in asked] == [DIGEST, DIGEST]
    eventually(lambda: {t.status.sub_status for t in node.state.get_tasks()} == {"completed"}, "both tasks end")


@pytest.mark.parametrize("kind", ["train", "evaluate", f"query.{SUM_ACTION}"])
def test_no_message_says_of_itself_which_bundle_it_came_with(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]], kind: str
) -> None:
    asked = daemon(lambda _frame: Frame("refusal", {"refusal": "paused", "site": "north"}))
    relay.start()
    node.ask(kind, instruction(**{BUNDLE_FACT: "ab" * 32}))
    assert node.refusal() == "paused"
    assert [frame.facts[BUNDLE_FACT] for frame in asked] == [DIGEST]


def test_who_a_site_is_needs_no_bundle(node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]]) -> None:
    asked = daemon(lambda _frame: Frame("site-name", {"site": "north"}))
    relay.start()
    node.ask("query", RecordDict())
    assert dict(node.reply().content[FACTS_RECORD]) == {"site": "north"}
    assert [(frame.kind, dict(frame.facts)) for frame in asked] == [("who", {})]


@pytest.mark.parametrize(("kind", "damaged"), [("train.other", False), ("query.more", False), ("train", True)])
def test_what_no_relay_answers_is_refused_and_the_next_message_is_answered(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]], kind: str, damaged: bool
) -> None:
    asked = daemon(update)
    relay.start()
    node.ask(kind, instruction(), damaged=damaged)
    assert node.refusal() == "daemon-did-not-understand"
    assert asked == []
    node.ask("train", instruction())
    assert not node.reply().has_error()


def test_it_waits_for_a_secret_a_supernode_and_a_daemon_that_are_not_there_yet(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]], folder: Path, caplog: Any
) -> None:
    (folder / "secret").rename(folder / "away")
    node.stop()
    relay.start()
    eventually(lambda: "No such file" in caplog.text, "the relay misses the secret")
    (folder / "away").rename(folder / "secret")
    eventually(lambda: "it is not there (ConnectError)" in caplog.text, "the relay misses the SuperNode")
    node.start()
    node.ask("train", instruction())
    eventually(lambda: node.state.get_tasks()[0].status.status == "running", "the relay takes the task")
    daemon(update)
    assert node.reply().content[FACTS_RECORD]["site"] == "north"


def test_another_secret_is_refused_and_said_once(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]], folder: Path, caplog: Any
) -> None:
    daemon(update)
    (folder / "secret").write_bytes(b"?" * 32)
    node.ask("train", instruction())
    relay.start()
    eventually(lambda: "is this its secret" in caplog.text, "the relay is refused")
    time.sleep(1.0)
    assert caplog.text.count("is this its secret") == 1
    (folder / "secret").write_bytes(SECRET)
    assert node.reply().content[FACTS_RECORD]["site"] == "north"


@pytest.mark.parametrize(("content", "mode"), [(SECRET, 0o644), (SECRET[:16], 0o600)])
def test_a_secret_that_everybody_reads_or_that_is_short_is_not_used(
    node: SuperNode, folder: Path, content: bytes, mode: int
) -> None:
    path = folder / "bad"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="everybody may read"), open_acquire(Runtime(f"127.0.0.1:{node.port}", path)):
        pass


def test_a_supernode_that_comes_back_empty_ends_the_wait_for_its_former_question(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flower_runtime, "_HEARTBEAT_S", 0.1)
    go_on = threading.Event()

    def slow(frame: Frame) -> Frame:
        assert frame.facts["round"] == 3 or go_on.wait(WAIT_S)
        return update(frame)

    asked = daemon(slow)
    relay.start()
    node.ask("train", instruction())
    eventually(lambda: len(asked) == 1, "the daemon works")
    node.forget()
    new = node.ask("train", instruction(round=3))
    assert node.reply().metadata.reply_to_message_id == new
    go_on.set()


def test_heartbeats_keep_a_task_and_nothing_else_does(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flower_runtime, "_HEARTBEAT_S", 0.1)
    go_on = threading.Event()
    asked = daemon(lambda frame: update(frame) if go_on.wait(WAIT_S) else frame)
    relay.start()
    node.ask("train", instruction())
    eventually(lambda: len(asked) == 1, "the daemon works")
    (record,) = node.state.task_token_store.values()
    # As if a minute had gone by: only a new heartbeat moves it again.
    record.active_until -= timedelta(seconds=50)
    before = record.active_until
    eventually(lambda: record.active_until > before + timedelta(seconds=45), "a heartbeat came")
    go_on.set()
    assert not node.reply().has_error()


def killed_while_starting(runtime: Runtime) -> None:
    with open_acquire(runtime) as acquire:
        assert acquire()


def killed_with_the_message(runtime: Runtime) -> None:
    with open_acquire(runtime) as acquire:
        token = acquire()
    assert token is not None
    with open_task(runtime, token, lambda: None) as task:
        task.pull()


@pytest.mark.parametrize("killed", [killed_while_starting, killed_with_the_message])
def test_a_relay_that_is_killed_leaves_no_message_without_an_answer(
    node: SuperNode, relay: Relay, daemon: Callable[[Answer], list[Frame]], folder: Path, killed: Callable[..., None]
) -> None:
    daemon(update)
    message_id = node.ask("train", instruction())
    killed(Runtime(f"127.0.0.1:{node.port}", folder / "secret"))
    for record in node.state.task_token_store.values():
        record.active_until -= timedelta(seconds=120)
    relay.start()
    reply = node.reply()
    assert reply.metadata.reply_to_message_id == message_id
    assert reply.has_error() is (killed is killed_with_the_message), "the question again, or Flower's own word for it"


def test_a_relay_that_ends_by_itself_is_an_error_so_that_it_is_started_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_release(_runtime: Runtime) -> None:
        # What Flower does where the SuperNode is of another minor release.
        raise SystemExit(1)

    monkeypatch.setattr(flower_relay_service, "open_acquire", other_release)
    with pytest.raises(EnvironmentFault, match="ended by itself"):
        flower_relay_service.serve(RelayService(Runtime("127.0.0.1:9", folder / "secret"), folder / "d.sock"))


@pytest.mark.parametrize("busy", [False, True])
def test_as_a_user_of_its_own_it_answers_and_sigterm_ends_it_in_order_within_its_bound(
    node: SuperNode, daemon: Callable[[Answer], list[Frame]], folder: Path, busy: bool
) -> None:
    go_on = threading.Event()
    asked = daemon(lambda frame: update(frame) if go_on.wait(WAIT_S) else frame)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(folder / "notify"))
    (folder / "notify").chmod(0o777)
    (folder / "secret").chmod(0o600)
    hand_over(folder / "secret", door_for(folder / "d.sock", USERS))
    manager.settimeout(WAIT_S)
    options = ["--runtime", f"127.0.0.1:{node.port}", "--socket", str(folder / "d.sock"), "--stop-within", "0.5"]
    # A user of its own has no home to write to.
    environment = {**os.environ, "HOME": "/nonexistent", "NOTIFY_SOCKET": str(folder / "notify"),
                   "WATCHDOG_USEC": "300000"}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", f"AS_NOBODY = {AS_NOBODY}\n{RELAY}", *options, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert manager.recv(100) == b"READY=1"
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        node.ask("train", instruction())
        eventually(lambda: len(asked) == 1, "the daemon works")
        if not busy:
            go_on.set()
            assert not node.reply().has_error()
        process.terminate()
        if busy:
            assert node.refusal() == "relay-stopped"
        said, _ = process.communicate(timeout=WAIT_S)
    finally:
        go_on.set()
        process.kill()
        process.wait()
        manager.close()
    assert process.returncode == 0
    assert said == f'{{"event": "stopped", "finished": {str(not busy).lower()}}}\n'
