"""A real SuperLink behind the real gate, and real SuperNodes: who gets in, who does not, and what a crash costs."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import RemoteDisconnected
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from more_model.errors import ConfigError, EnvironmentFault
from more_model.supervision import Supervised
from server.authority import AuthorityFolder, make_authority, make_server_certificate
from server.fleet_gate import FleetGate, GateSettings
from server.superlink_service import serve, superlink_folder

if TYPE_CHECKING:
    Coordinator = Any

pytestmark = pytest.mark.timeout(240)
WaitFor = Callable[..., None]
IsHindered = Callable[[Supervised, str], Callable[[], bool]]


@dataclass(frozen=True)
class Nodes:
    """SuperNodes that were all started at once: their start takes seconds each."""

    north: Supervised
    stranger: Supervised
    other_authority: Supervised
    expired: Supervised


@pytest.fixture(scope="module")
def expired_gate_port(
    coordinator: Coordinator, a_free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """A second gate to the same SuperLink, with a certificate of the right authority that ended yesterday."""
    files = AuthorityFolder(tmp_path_factory.mktemp("expired"))
    own = coordinator.federation.certificates
    files.authority_key.write_bytes(own.authority_key.read_bytes())
    files.root.write_bytes(own.root.read_bytes())
    make_server_certificate(files, ["localhost"], days=9, now=datetime.now(UTC) - timedelta(days=10))
    port = a_free_port()
    gate = FleetGate(
        GateSettings(
            "127.0.0.1",
            port,
            files.server_certificate,
            files.server_key,
            coordinator.federation.listen.superlink_port,
            superlink_folder(coordinator.federation).loopback_root,
        )
    )
    gate.start()
    yield port
    gate.stop()


@pytest.fixture(scope="module")
def nodes(coordinator: Coordinator, expired_gate_port: int, tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    strange = AuthorityFolder(tmp_path_factory.mktemp("strange"))
    make_authority(strange, "somebody else")
    north = coordinator.new_site("north")
    wary = coordinator.new_site("wary")
    return Nodes(
        coordinator.node(north),
        coordinator.node(coordinator.new_site("stranger", enroll=False)),
        coordinator.node(wary, root=strange.root),
        coordinator.node(wary, port=expired_gate_port),
    )


def test_an_enrolled_site_connects(coordinator: Coordinator, nodes: Nodes, wait_for: WaitFor) -> None:
    wait_for(lambda: coordinator.status("north") == "online", "north is online")


def test_a_key_that_was_never_enrolled_is_refused(
    nodes: Nodes, wait_for: WaitFor, is_hindered: IsHindered, caplog: pytest.LogCaptureFixture
) -> None:
    wait_for(is_hindered(nodes.stranger, "not-admitted"), "the stranger is told that it is not admitted")
    wait_for(lambda: nodes.stranger.starts >= 2, "the stranger goes on trying")
    wait_for(lambda: "refused by the SuperLink: /v1/fleet/activate-node" in caplog.text, "the coordinator's log")
    nodes.stranger.stop()


def test_a_certificate_of_another_authority_is_not_trusted(
    coordinator: Coordinator,
    nodes: Nodes,
    wait_for: WaitFor,
    is_hindered: IsHindered,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wait_for(is_hindered(nodes.other_authority, "certificate"), "the site does not trust this coordinator")
    wait_for(lambda: "ALERT_UNKNOWN_CA" in caplog.text, "the coordinator's log")
    nodes.other_authority.stop()
    assert coordinator.status("wary") == "registered"


def test_an_expired_certificate_is_not_trusted(
    coordinator: Coordinator,
    nodes: Nodes,
    wait_for: WaitFor,
    is_hindered: IsHindered,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wait_for(is_hindered(nodes.expired, "certificate"), "the site does not trust an expired certificate")
    wait_for(lambda: "ALERT_CERTIFICATE_EXPIRED" in caplog.text, "the coordinator's log")
    nodes.expired.stop()
    assert coordinator.status("wary") == "registered"


def test_plain_http_is_not_answered(
    coordinator: Coordinator, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    listen = coordinator.federation.listen
    for port in (listen.fleet_port, listen.superlink_port):
        with pytest.raises((RemoteDisconnected, ConnectionResetError, urllib.error.URLError)):
            urllib.request.urlopen(f"http://localhost:{port}/v1/fleet/pull-messages", data=b"", timeout=10)
    wait_for(lambda: "(HTTP_REQUEST)" in caplog.text, "the gate's log")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-nodes",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/../control/list-nodes",
        "/openapi.json",
        "/docs",
        "/health",
    ],
)
def test_only_calls_of_nodes_come_through_the_gate(coordinator: Coordinator, path: str) -> None:
    context = ssl.create_default_context(cafile=str(coordinator.federation.certificates.root))
    url = f"https://localhost:{coordinator.federation.listen.fleet_port}{path}"
    request = urllib.request.Request(url, data=b"", headers={"content-type": "application/protobuf"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, context=context, timeout=10)


def test_the_superlink_is_brought_back_and_the_site_reconnects(
    coordinator: Coordinator, nodes: Nodes, wait_for: WaitFor
) -> None:
    wait_for(lambda: coordinator.status("north") == "online", "north is online")
    os.kill(coordinator.superlink_pid(), signal.SIGKILL)

    # Flower gives up at an error of TLS, such as a handshake that a busy machine let run out of time; it is then
    # started again. Otherwise its process does not even end.
    def reconnected() -> bool:
        again = nodes.north.starts > 1 or any("Connection successful" in line for line in nodes.north.last_lines)
        return again and coordinator.status("north") == "online"

    wait_for(reconnected, "north reconnects, its registration having survived", 150.0)


def test_a_revoked_site_is_out_within_seconds_and_no_other_site_notices(
    coordinator: Coordinator,
    nodes: Nodes,
    wait_for: WaitFor,
    is_hindered: IsHindered,
    caplog: pytest.LogCaptureFixture,
) -> None:
    revoked = coordinator.node(coordinator.new_site("south"))
    wait_for(lambda: coordinator.status("south") == "online", "a site that is enrolled meanwhile gets in")

    coordinator.register.revoke("south", reason="key on a stolen laptop", by="tester")

    wait_for(lambda: coordinator.status("south") == "none", "the SuperLink forgets the key", 15.0)
    wait_for(is_hindered(revoked, "not-admitted"), "the revoked site is refused")
    assert "south may no longer connect" in caplog.text
    wait_for(lambda: "refused by the SuperLink" in caplog.text, "the coordinator's log")
    revoked.stop()
    assert (coordinator.status("north"), nodes.north.starts) == ("online", 1)


def test_a_second_coordinator_of_the_same_federation_is_refused(coordinator: Coordinator) -> None:
    with pytest.raises(EnvironmentFault, match="another more-server start"):
        serve(coordinator.federation, Event())


def test_a_federation_with_an_expired_certificate_does_not_start(coordinator: Coordinator, tmp_path: Path) -> None:
    files = AuthorityFolder(tmp_path / "authority")
    make_authority(files, "late")
    make_server_certificate(files, ["localhost"], days=9, now=datetime.now(UTC) - timedelta(days=10))
    late = coordinator.federation.model_copy(update={"authority": files.path, "state": tmp_path / "state"})

    with pytest.raises(ConfigError, match=r"server\.pem ended 1 days ago"):
        serve(late, Event())


def test_a_killed_supernode_gets_in_again_at_once(coordinator: Coordinator, nodes: Nodes, wait_for: WaitFor) -> None:
    wait_for(lambda: coordinator.status("north") == "online", "north is online")
    pid, before = nodes.north.pid, nodes.north.starts
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    wait_for(lambda: nodes.north.starts > before, "it is started again")
    wait_for(lambda: any("SuperNode ID" in line for line in nodes.north.last_lines[-3:]), "it gets in again")
    assert nodes.north.starts == before + 1, "Flower, which remembers a lost connection for a minute, did not refuse it"


@pytest.mark.slow
def test_a_killed_start_leaves_nothing_in_the_way_of_the_next(
    coordinator: Coordinator, a_free_port: Callable[[], int], tmp_path: Path
) -> None:
    files, fleet, superlink = AuthorityFolder(tmp_path / "authority"), a_free_port(), a_free_port()
    make_authority(files, "again")
    make_server_certificate(files, ["localhost"])
    (tmp_path / "base").mkdir()
    (tmp_path / "federation.toml").write_text(
        f'name = "again"\npublic_address = "localhost:{fleet}"\nbase = "base"\n'
        f'listen = {{fleet_host = "127.0.0.1", fleet_port = {fleet}, superlink_port = {superlink}}}\n'
        'sites.north = {patients = 9, modalities = ["xray", "report"]}\n',
        encoding="utf-8",
    )
    code = "import typer; from server.commands.start import start; typer.run(start)"
    command = [sys.executable, "-c", code, "--federation", str(tmp_path), "--json"]

    def started() -> tuple[subprocess.Popen[str], dict[str, Any]]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    first, up = started()
    first.kill()
    first.wait()
    second, up_again = started()
    assert up["superlink_port"] == up_again["superlink_port"] == superlink
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    for pid in (up["superlink_pid"], up_again["superlink_pid"]):
        assert not Path(f"/proc/{pid}").exists()
