"""The gate in front of a stand-in for the SuperLink: what passes, what does not, and what a node is told."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from more_model.errors import EnvironmentFault
from server.authority import AuthorityFolder, make_authority, make_loopback, make_server_certificate
from server.fleet_gate import CALLS, FleetGate, GateSettings

MAX_BYTES = 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def echo(request: Request) -> Response:
    """Says what arrived; 412 where the caller asks for it, as the SuperLink does for a key that it does not know."""
    if request.headers.get("x-want") == "412":
        return Response(b'{"code": 2004}', status_code=412)
    headers = {"x-path": request.url.path, "x-signature": request.headers.get("flwr-signature", "none")}
    return Response(await request.body(), headers=headers, media_type="application/protobuf")


@contextmanager
def stand_in(folder: Path, port: int) -> Iterator[None]:
    pair = make_loopback(folder)
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])
    tls = {"ssl_certfile": str(pair.certificate), "ssl_keyfile": str(pair.key)}
    quick = {"ws": "none", "log_config": None, "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(app, port=port, **tls, **quick))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> GateSettings:
    folder = tmp_path_factory.mktemp("gate")
    files = AuthorityFolder(folder / "authority")
    make_authority(files, "gate")
    make_server_certificate(files, ["localhost"])
    root = make_loopback(folder / "loopback").root
    return GateSettings(
        "127.0.0.1", free_port(), files.server_certificate, files.server_key, free_port(), root, max_bytes=MAX_BYTES
    )


@pytest.fixture(scope="module")
def gate(settings: GateSettings) -> Iterator[FleetGate]:
    started = FleetGate(settings)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def node(settings: GateSettings, gate: FleetGate) -> Iterator[httpx.Client]:
    assert gate.running
    context = ssl.create_default_context(cafile=str(settings.certificate.with_name("root.pem")))
    with httpx.Client(base_url=f"https://localhost:{settings.port}", verify=context, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def away_gate(settings: GateSettings) -> Iterator[int]:
    """The port of a second gate whose SuperLink is not there."""
    port = free_port()
    started = FleetGate(replace(settings, port=port, superlink_port=free_port()))
    started.start()
    yield port
    started.stop()


@pytest.fixture(scope="module")
def superlink(settings: GateSettings) -> Iterator[None]:
    with stand_in(settings.superlink_root.parent, settings.superlink_port):
        yield


def test_calls_of_nodes_pass_with_their_body_and_signature(node: httpx.Client, superlink: None) -> None:
    for call in sorted(CALLS):
        answer = node.post(f"/v1/fleet/{call}", content=b"\x00" * MAX_BYTES, headers={"flwr-signature": "abc"})
        assert (answer.status_code, answer.content) == (200, b"\x00" * MAX_BYTES)
        assert (answer.headers["x-path"], answer.headers["x-signature"]) == (f"/v1/fleet/{call}", "abc")


def test_a_refusal_of_the_superlink_reaches_the_node_as_it_is_and_the_log(
    node: httpx.Client, superlink: None, caplog: pytest.LogCaptureFixture
) -> None:
    answer = node.post("/v1/fleet/activate-node", headers={"x-want": "412"})
    assert (answer.status_code, answer.json()) == (412, {"code": 2004})
    assert "refused by the SuperLink: /v1/fleet/activate-node from 127.0.0.1 (412)" in caplog.text


def test_a_connection_that_does_not_come_about_is_in_the_log_with_its_reason(
    settings: GateSettings, gate: FleetGate, caplog: pytest.LogCaptureFixture
) -> None:
    def told(reason: str) -> bool:
        deadline = time.monotonic() + 20
        while reason not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
        return reason in caplog.text

    with pytest.raises(httpx.HTTPError):
        httpx.post(f"http://127.0.0.1:{settings.port}/v1/fleet/pull-messages", trust_env=False)
    assert told("agree on (HTTP_REQUEST)")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.post(f"https://localhost:{settings.port}/", trust_env=False)
    assert told("ALERT_UNKNOWN_CA")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/list-nodes"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/unregister-node"),
        ("POST", "/v1/fleet/pull-messages/../../control/list-nodes"),
        ("POST", "/v1/fleet/pull-messages%2f..%2f..%2fcontrol%2flist-nodes"),
        ("GET", "/v1/fleet/pull-messages"),
        ("GET", "/"),
        ("PUT", "/v1/fleet/pull-messages"),
    ],
)
def test_nothing_else_passes(node: httpx.Client, superlink: None, method: str, path: str) -> None:
    answer = node.request(method, path)
    assert answer.status_code == 404
    assert "x-path" not in answer.headers


def test_a_request_that_is_too_large_is_refused_whether_it_says_so_or_not(node: httpx.Client, superlink: None) -> None:
    def unannounced() -> Iterator[bytes]:
        yield from (b"\x00" * 400 for _ in range(3))

    assert node.post("/v1/fleet/push-object", content=b"\x00" * (MAX_BYTES + 1)).status_code == 413
    assert node.post("/v1/fleet/push-object", content=unannounced()).status_code == 413


def test_while_the_superlink_is_away_nodes_are_told_to_try_again(node: httpx.Client, away_gate: int) -> None:
    answer = node.post(f"https://localhost:{away_gate}/v1/fleet/pull-messages")
    assert answer.status_code == 503


def test_a_renewed_certificate_is_used_for_new_connections(settings: GateSettings, gate: FleetGate) -> None:
    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", settings.port))

    before = served()
    make_server_certificate(AuthorityFolder(settings.certificate.parent), ["localhost"], renew=True)
    assert served() == before
    gate.reload_certificate()
    assert served() == settings.certificate.read_text() != before


def test_a_certificate_without_its_key_leaves_the_earlier_pair_in_use(
    settings: GateSettings, gate: FleetGate, tmp_path: Path
) -> None:
    strange = AuthorityFolder(tmp_path)
    make_authority(strange, "strange")
    make_server_certificate(strange, ["localhost"])
    before, key = ssl.get_server_certificate(("127.0.0.1", settings.port)), settings.key.read_bytes()
    settings.key.write_bytes(strange.server_key.read_bytes())
    try:
        with pytest.raises(EnvironmentFault, match="cannot be used"):
            gate.reload_certificate()
    finally:
        settings.key.write_bytes(key)
    assert ssl.get_server_certificate(("127.0.0.1", settings.port)) == before


def test_a_port_that_is_taken_is_an_error(settings: GateSettings, gate: FleetGate) -> None:
    with pytest.raises(EnvironmentFault, match=f"cannot listen on 127.0.0.1:{settings.port}"):
        FleetGate(replace(settings, superlink_port=free_port())).start()
