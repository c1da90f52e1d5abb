"""A coordinator on loopback, served from this process, and SuperNodes of hospitals; everything ends with the test."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from client.flower_supernode import Connection, hindrance, start_supernode
from client.site_keys import make_keys
from more_model.enrolment import Enrolment
from more_model.supervision import Backoff, Supervised
from server.authority import make_authority, make_server_certificate
from server.federation_file import FederationFile, load_federation
from server.flower_superlink import SuperLinkControl
from server.sites import SiteRegister
from server.superlink_service import Running, register_of, serve, superlink_folder

QUICK = Backoff(first_s=0.2, longest_s=1.0, jitter=0.0)
WAIT_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Wait for something that another process does; what it waits for is named when it fails."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"within {wait_s:g} s: {what}")
        time.sleep(0.1)


@dataclass
class Coordinator:
    """A served federation and the nodes that were started against it."""

    federation: FederationFile
    folder: Path
    running: list[Running] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    nodes: list[Supervised] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    @property
    def register(self) -> SiteRegister:
        return register_of(self.federation)

    def new_site(self, name: str, *, enroll: bool = True) -> Path:
        """Keys of a site, enrolled or not; returns its folder."""
        folder = self.folder / "sites" / name
        made = make_keys(folder, name, patients=100, modalities=("xray", "report"))
        if enroll:
            self.register.enroll(Enrolment.read(made.file.read_bytes(), str(made.file)), by="tester")
        return folder

    def node(self, site: Path, *, root: Path | None = None, port: int | None = None) -> Supervised:
        """A SuperNode with the keys of ``site``, kept running until the module ends."""
        connection = Connection(
            superlink=f"localhost:{port or self.federation.listen.fleet_port}",
            root_certificate=root or self.federation.certificates.root,
            node_key=site / "keys" / "node",
            folder=site / f"node-{len(self.nodes)}",
            runtime_port=free_port(),
        )
        child = start_supernode(connection, QUICK)
        self.nodes.append(child)
        self.connections.append(connection)
        return child

    def status(self, site: str) -> str:
        """What the SuperLink says of a site: registered, online, offline, or none."""
        root = superlink_folder(self.federation).loopback_root
        with SuperLinkControl(self.federation.listen.superlink_port, root) as control:
            return next((node.status for node in control.nodes() if node.name == site), "none")

    def superlink_pid(self) -> int:
        return next(running.superlink_pid for running in self.running if running.superlink_pid is not None)


def hindered(node: Supervised, code: str) -> Callable[[], bool]:
    def told() -> bool:
        found = hindrance(node.last_lines)
        return found is not None and found.code == code

    return told


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    return eventually


@pytest.fixture(scope="session")
def is_hindered() -> Callable[[Supervised, str], Callable[[], bool]]:
    return hindered


@pytest.fixture(scope="session")
def a_free_port() -> Callable[[], int]:
    return free_port


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("coordinator")
    (folder / "base").mkdir()
    fleet, superlink = free_port(), free_port()
    (folder / "federation.toml").write_text(
        f"""
        name = "faults"
        public_address = "localhost:{fleet}"
        base = "base"
        [listen]
        fleet_host = "127.0.0.1"
        fleet_port = {fleet}
        superlink_port = {superlink}
        [sites.north]
        patients = 100
        modalities = ["xray", "report"]
        """,
        encoding="utf-8",
    )
    federation = load_federation(folder)
    make_authority(federation.certificates, federation.name)
    make_server_certificate(federation.certificates, ["localhost"])
    made, stop, ready = Coordinator(federation, folder), threading.Event(), threading.Event()

    def run() -> None:
        try:
            serve(federation, stop, ready=lambda running: (made.running.append(running), ready.set()))
        except BaseException as error:  # noqa: BLE001 - handed over: the test thread fails with it
            made.faults.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(2 * WAIT_S), "the coordinator did not come up"
        assert not made.faults, made.faults
        yield made
    finally:
        for node in made.nodes:
            node.stop(timeout_s=5.0)
        stop.set()
        thread.join(WAIT_S)
    assert not thread.is_alive() and not made.faults, made.faults


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """As `module_folder`, for one test."""
    folder = Path(tempfile.mkdtemp(prefix="more-"))
    yield folder
    shutil.rmtree(folder)
