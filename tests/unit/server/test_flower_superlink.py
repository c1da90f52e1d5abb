"""How the SuperLink is started and whose keys it knows; the real one is in tests/faults."""

from __future__ import annotations

import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from more_model.errors import EnvironmentFault, RoundError
from more_model.supervision import Backoff, Program, Supervised
from server.flower_superlink import (
    Node,
    Reconciled,
    SuperLinkFolder,
    reconcile,
    require_free_port,
    superlink_program,
    wait_until_listening,
    wipe_free_pages,
)


class FakeControl:
    """The SuperLink's table of keys; ``used`` are those that it would never take back."""

    def __init__(self, known: dict[str, bytes], used: frozenset[bytes] = frozenset()) -> None:
        self.table = {number: Node(number, name, key, "online") for number, (name, key) in enumerate(known.items(), 1)}
        self.used = used

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self.table.values())

    def register(self, name: str, key_pem: bytes) -> int:
        if key_pem in self.used:
            raise RoundError("Public key already in use.")
        number = max(self.table, default=0) + 1
        self.table[number] = Node(number, name, key_pem, "registered")
        return number

    def unregister(self, node_id: int) -> None:
        del self.table[node_id]


def test_only_what_differs_from_the_register_is_touched() -> None:
    control = FakeControl({"north": b"n", "south": b"s"})
    north = control.table[1]
    done = reconcile(control, {"north": b"n", "east": b"e"})  # type: ignore[arg-type]
    assert done == Reconciled(registered=("east",), unregistered=("south",))
    assert control.table[1] is north
    assert [node.name for node in control.nodes()] == ["north", "east"]
    assert reconcile(control, {"north": b"n", "east": b"e"}) == Reconciled()  # type: ignore[arg-type]


def test_a_site_with_new_keys_is_another_node() -> None:
    control = FakeControl({"north": b"old"})
    reconcile(control, {"north": b"new"})  # type: ignore[arg-type]
    assert [(node.name, node.key_pem) for node in control.nodes()] == [("north", b"new")]


def test_a_key_that_is_not_taken_back_keeps_nobody_else_out(caplog: pytest.LogCaptureFixture) -> None:
    control = FakeControl({}, used=frozenset({b"bad"}))
    done = reconcile(control, {"bad": b"bad", "good": b"good"})  # type: ignore[arg-type]
    assert done == Reconciled(registered=("good",), refused=("bad",))
    assert "bad cannot connect" in caplog.text


def test_the_superlink_serves_this_machine_only_and_asks_for_keys(tmp_path: Path) -> None:
    program = superlink_program(SuperLinkFolder(tmp_path), 9443)
    line = " ".join(program.command)
    for part in ("--host 127.0.0.1 --port 9443", "--isolation process", "--enable-supernode-auth", "--database "):
        assert part in line
    assert "--insecure" not in line
    assert program.environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert program.environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert "127.0.0.1" in program.environment["NO_PROXY"]


def test_superlink_and_superexec_share_a_secret_that_nobody_else_can_read(tmp_path: Path) -> None:
    folder = SuperLinkFolder(tmp_path)
    for program in (superlink_program(folder, 9443),):
        assert str(folder.secret) in program.command
    assert len(folder.secret.read_bytes()) == 32
    assert folder.secret.stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_named_with_the_setting() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=rf"port {port} of 127\.0\.0\.1.*\n.*another listen\.superlink_port"):
            require_free_port(port, "listen.superlink_port", wait_s=0.0)
    require_free_port(port, "listen.superlink_port")


def test_a_port_that_is_about_to_be_free_is_waited_for() -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    threading.Timer(0.3, taken.close).start()
    require_free_port(port, "listen.superlink_port")


def test_a_superlink_that_does_not_come_up_is_quoted(tmp_path: Path) -> None:
    program = Program("superlink", ["sh", "-c", "echo no space left on device; exit 1"], tmp_path)
    child = Supervised(program, Backoff(first_s=0.1, longest_s=0.1))
    child.start()
    try:
        with pytest.raises(EnvironmentFault, match="no space left on device"):
            wait_until_listening(child, 1, SuperLinkFolder(tmp_path).loopback(), 1.0)
    finally:
        child.stop()


def test_deleted_updates_do_not_stay_in_the_database(tmp_path: Path) -> None:
    database, mark = tmp_path / "superlink.sqlite", b"an update of one hospital " * 400
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE objects (content BLOB)")
        connection.execute("INSERT INTO objects VALUES (?)", (mark,))
        connection.execute("INSERT INTO objects VALUES ('kept')")
        connection.execute("DELETE FROM objects WHERE content = ?", (mark,))
        # Closed by hand without the checkpoint that a clean end makes.
        before = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert mark[:200] in before
    wipe_free_pages(database)
    assert mark[:200] not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT content FROM objects").fetchall() == [("kept",)]


def test_wiping_a_database_that_is_not_there_does_nothing(tmp_path: Path) -> None:
    wipe_free_pages(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []
