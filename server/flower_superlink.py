"""Flower's SuperLink as a child of ours: how it is started, how it is watched, and who may connect to it.

docs/superlink.md says which options are used and why. The SuperLink serves this machine only; hospitals reach it
through `server.fleet_gate` or another reverse proxy.
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListNodesResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    UnregisterNodeRequest,
    UnregisterNodeResponse,
)

from more_model.errors import EnvironmentFault, RoundError
from more_model.private_file import secret
from more_model.supervision import Backoff, Program, Supervised, console_script
from server.authority import Loopback, loopback_files, make_loopback

_LOG = logging.getLogger(__name__)
HOST = "127.0.0.1"
#: No call home, nothing installed at run time, and no proxy between programs of this machine.
QUIET_ENVIRONMENT: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    # The older gRPC interfaces would open ports of their own.
    "FLWR_INTERNAL_GRPC_CONTROL_API": "0",
    "FLWR_INTERNAL_GRPC_FLEET_API": "0",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
}
#: The SuperLink of a `start` that was killed is told to end, and may take so long.
_LEAVE_S = 10.0
_MEDIA_TYPE = "application/protobuf"
_UNREGISTERED = "unregistered"


@dataclass(frozen=True, slots=True)
class SuperLinkFolder:
    """Where the SuperLink keeps its things: ``path`` is for its owner alone."""

    path: Path

    @property
    def database(self) -> Path:
        """Its durable state: registered keys, runs, messages on their way (and with them single updates)."""
        return self.path / "superlink.sqlite"

    @property
    def secret(self) -> Path:
        """What a SuperExec proves itself with: 32 random bytes."""
        return self.path / "superexec.secret"

    @property
    def loopback_root(self) -> Path:
        """What programs of this machine check the SuperLink with."""
        return loopback_files(self.path).root

    def loopback(self) -> Loopback:
        """The pair of this machine, made where it is missing or ends soon."""
        return make_loopback(self.path)


@dataclass(frozen=True, slots=True)
class Node:
    """A registered key as the SuperLink knows it. ``status``: registered (never seen), online or offline."""

    node_id: int
    name: str
    key_pem: bytes
    status: str


def start_superlink(
    folder: SuperLinkFolder, port: int, *, wait_s: float = 60.0, backoff: Backoff | None = None
) -> Supervised:
    """Start the SuperLink on 127.0.0.1 and return once it answers; from then on it is kept running.

    Raises:
        EnvironmentFault: the port is taken, or it did not answer within ``wait_s``; nothing is left running.
    """
    require_free_port(port, "listen.superlink_port")
    child = Supervised(superlink_program(folder, port), backoff)
    child.start()
    try:
        wait_until_listening(child, port, folder.loopback(), wait_s)
    except BaseException:
        child.stop()
        raise
    return child


def superlink_program(folder: SuperLinkFolder, port: int) -> Program:
    """The command line and environment of the SuperLink."""
    pair = folder.loopback()
    secret(folder.secret)
    command = [
        console_script("flower-superlink"),
        *("--ssl-ca-certfile", str(pair.root), "--ssl-certfile", str(pair.certificate), "--ssl-keyfile", str(pair.key)),
        *("--host", HOST, "--port", str(port)),
        *("--database", str(folder.database)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder.secret)),
    ]
    return Program("superlink", command, folder.path, _environment(folder))


def require_free_port(port: int, setting: str, *, wait_s: float = _LEAVE_S) -> None:
    """Refuse a port of 127.0.0.1 that somebody listens on for longer than ``wait_s`` (EnvironmentFault names
    ``setting``)."""
    deadline = time.monotonic() + wait_s
    while (error := _hindered_port(port)) is not None:
        if time.monotonic() >= deadline:
            raise EnvironmentFault(
                f"port {port} of {HOST} cannot be used ({error.strerror})",
                remedy=f"end what listens there (ss -ltnp shows it), or set another {setting} in federation.toml",
                avoid="start a second coordinator of this federation beside the first",
            )
        time.sleep(0.2)


def _hindered_port(port: int) -> OSError | None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error
    return None


def wait_until_listening(child: Supervised, port: int, pair: Loopback, wait_s: float) -> None:
    """Return once the SuperLink answers.

    Raises:
        EnvironmentFault: it did not within ``wait_s``; the message holds the end of its log.
    """
    deadline = time.monotonic() + wait_s
    with SuperLinkControl(port, pair.root) as control:
        while time.monotonic() < deadline:
            if control.answers():
                return
            time.sleep(0.2)
    said = "\n".join(f"    {line}" for line in child.last_lines[-8:])
    raise EnvironmentFault(
        f"the SuperLink did not answer on {HOST}:{port} within {wait_s:g} s (started {child.starts} times); it said:\n"
        f"{said or '    nothing'}",
        remedy="mend what it complains of; on a slow machine raise waits.start_s",
    )


class SuperLinkControl:
    """Calls to the SuperLink's control interface, which anyone on this machine may make: Flower's open edition does not
    ask who calls. Use it in a ``with`` block."""

    def __init__(self, port: int, root: Path, *, timeout_s: float = 10.0) -> None:
        context = ssl.create_default_context(cafile=str(root))
        # The environment's proxies are for the outside.
        self._client = httpx.Client(
            base_url=f"https://{HOST}:{port}", verify=context, timeout=timeout_s, trust_env=False
        )

    def __enter__(self) -> SuperLinkControl:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            return self._client.get("/health").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def nodes(self) -> tuple[Node, ...]:
        """Every key that may connect. RoundError where the SuperLink does not answer."""
        found = self.call("list-nodes", ListNodesRequest(), ListNodesResponse())
        return tuple(
            Node(node.node_id, node.name, node.public_key, node.status)
            for node in found.nodes_info
            if node.status != _UNREGISTERED
        )

    def register(self, name: str, key_pem: bytes) -> int:
        """Let a key connect; returns its node id. RoundError where it is registered, or ever was."""
        request = RegisterNodeRequest(public_key=key_pem, name=name)
        return int(self.call("register-node", request, RegisterNodeResponse()).node_id)

    def unregister(self, node_id: int) -> None:
        """Never let a key connect again; a connection of it ends at its next request."""
        self.call("unregister-node", UnregisterNodeRequest(node_id=node_id), UnregisterNodeResponse())

    def call(self, what: str, request: Any, reply: Any) -> Any:
        """One call, answered into ``reply``. RoundError where the SuperLink does not answer, or refuses."""
        try:
            answer = self._client.post(
                f"/v1/control/{what}",
                content=request.SerializeToString(deterministic=True),
                headers={"content-type": _MEDIA_TYPE, "accept": _MEDIA_TYPE},
            )
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise RoundError(
                f"the SuperLink refused {what} ({error.response.status_code}): {error.response.text[:200]}",
                remedy="look at its log",
            ) from error
        except httpx.HTTPError as error:
            raise RoundError(
                f"the SuperLink did not answer {what} ({type(error).__name__})",
                remedy="see that more-server start runs",
            ) from error
        reply.ParseFromString(answer.content)
        return reply


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What `reconcile` changed, by site, and which keys the SuperLink would not take back."""

    registered: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def reconcile(control: SuperLinkControl, enrolled: Mapping[str, bytes]) -> Reconciled:
    """Make the SuperLink's keys those of ``enrolled`` (site -> PEM) without touching any key that is right already.

    Revoked ones go first. RoundError where the SuperLink does not answer.
    """
    known = {node.key_pem: node for node in control.nodes()}
    gone = [node for key, node in known.items() if key not in enrolled.values()]
    for node in gone:
        control.unregister(node.node_id)
    registered, refused = [], []
    for site, key in enrolled.items():
        if key in known:
            continue
        try:
            control.register(site, key)
            registered.append(site)
        except RoundError as error:
            # One bad entry must not keep the others out.
            _LOG.error("%s cannot connect: %s", site, error.cause)
            refused.append(site)
    return Reconciled(tuple(registered), tuple(node.name for node in gone), tuple(refused))


def wipe_free_pages(database: Path) -> None:
    """Rewrite the database of a stopped SuperLink: SQLite leaves deleted content, single updates among it, in free
    pages and in the write-ahead log. What is not deleted stays."""
    if not database.is_file():
        return
    try:
        with closing(sqlite3.connect(database, timeout=5.0, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        _LOG.warning("%s was not rewritten (%s); deleted updates may still stand in it", database, error)


def _environment(folder: SuperLinkFolder) -> dict[str, str]:
    direct = ",".join(part for part in (os.environ.get("NO_PROXY", ""), HOST, "localhost") if part)
    return {**QUIET_ENVIRONMENT, "FLWR_HOME": str(folder.path / "flower"), "NO_PROXY": direct, "no_proxy": direct}
