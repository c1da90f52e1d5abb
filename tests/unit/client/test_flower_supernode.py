"""How the SuperNode is started, and what its log means; real ones are in tests/faults."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from client import flower_farewell
from client.flower_farewell import Farewell
from client.flower_supernode import RECONNECT, Connection, hindrance, relay_program, supernode_program


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    return Connection("fed.example.org:8443", tmp_path / "root.pem", tmp_path / "keys/node", tmp_path / "node", 9101)


def test_the_supernode_is_bound_to_one_authority_and_one_key(connection: Connection) -> None:
    program = supernode_program(connection)
    line = " ".join(program.command)
    assert f"--superlink fed.example.org:8443 --root-certificates {connection.root_certificate}" in line
    assert f"--auth-supernode-private-key {connection.node_key}" in line
    assert "--host 127.0.0.1 --port 9101" in line
    assert "--insecure" not in line and "--max-retries" not in line
    assert program.folder == connection.folder
    assert program.environment["FLWR_HOME"] == str(connection.folder / "flower")


def test_messages_are_handed_to_the_holder_of_the_secret_only(connection: Connection) -> None:
    node, relay = supernode_program(connection), relay_program(connection, Path("d.sock"))
    for program in (node, relay):
        assert str(connection.secret) in program.command
    assert "process" in node.command
    assert connection.secret.stat().st_mode & 0o077 == 0
    assert str(connection.node_key) not in " ".join(relay.command)


def test_the_hospitals_own_proxy_is_not_used_on_this_machine(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example.org")
    assert supernode_program(connection).environment["NO_PROXY"] == "intranet.example.org,127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["[code: 2004] Failed to activate SuperNode.", "Shutting down"], "not-admitted"),
        (["[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired (_ssl.c:1006)"], "certificate"),
        (["Client error '401 Unauthorized' for url"], "not-authenticated"),
        (["[code: 2004] Failed", "SuperNode ID: 1"], None),
        (["SuperNode ID: 1", "[Errno 111] Connection refused"], "unreachable"),
        ([], None),
    ],
)
def test_the_newest_telling_line_counts(lines: list[str], code: str | None) -> None:
    found = hindrance(lines)
    assert (found and found.code) == code
    assert found is None or (found.cause and found.remedy)


@pytest.mark.parametrize(
    ("line", "ended"),
    [
        ("Exception in thread Thread-3 (_run):", True),
        ("ERROR :     _ssl.c:989: The handshake operation timed out", True),
        ("ERROR :     Server error '500 Internal Server Error' for url 'https://x:1/v1/fleet/pull-messages'", True),
        ("INFO : Received successfully", False),
        ("WARNING :   Connection attempt failed, retrying in 0.88 seconds", False),
    ],
)
def test_what_died_alone_ends_the_process(connection: Connection, line: str, ended: bool) -> None:
    assert supernode_program(connection).broken(line) is ended


def test_reconnecting_never_gives_up_and_waits_at_most_two_minutes() -> None:
    assert max(RECONNECT.wait_s(failures, 0.0) for failures in (1, 10, 100_000)) == 120


def test_a_site_that_was_never_connected_has_nothing_to_take_back(connection: Connection) -> None:
    program = supernode_program(connection)
    program.before()
    assert not program.broken("INFO : Starting Flower SuperNode")
    program.before()


def test_a_connection_that_cannot_be_taken_back_now_is_taken_back_before_a_later_start(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    request = httpx.Request("POST", "https://x")
    unknown = httpx.HTTPStatusError("400", request=request, response=httpx.Response(400, request=request))
    faults: list[Exception | None] = [httpx.ConnectError("away"), OSError("no key"), None]

    def deactivate(_farewell: Farewell, node: int) -> None:
        asked.append(node)
        if (fault := faults.pop(0)) is not None:
            raise fault

    monkeypatch.setattr(Farewell, "_deactivate", deactivate)
    program = supernode_program(connection)
    assert not program.broken("INFO :      SuperNode ID: 9980624132803600225")
    for _ in range(4):
        program.before()
    assert asked == [9980624132803600225] * 3, "until it was heard, and no more then"
    assert not program.broken("INFO :      SuperNode ID: 5")
    faults.append(unknown)
    # The next daemon speaks for the SuperNode of one that was killed.
    program = supernode_program(connection)
    program.before()
    program.before()
    assert asked[3:] == [5], "the coordinator knew"


def test_a_copy_on_another_machine_ends_no_connection(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Farewell, "_deactivate", lambda *_: pytest.fail("it is in use elsewhere"))
    program = supernode_program(connection)
    program.broken("INFO :      SuperNode ID: 5")
    monkeypatch.setattr(flower_farewell, "_boot", lambda: "another")
    program.before()
