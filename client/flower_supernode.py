"""Flower's SuperNode as a child of the hospital's daemon: it holds the connection to the coordinator and nothing else;
and the relay as another child, where a trial lets it run as the same user.

A SuperNode gives up when it is refused; ours is started again, ever less often, for as long as the daemon runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.flower_farewell import Farewell
from more_model.private_file import secret
from more_model.supervision import Backoff, Program, Supervised, console_script

#: Where the SuperNode offers messages to the relay: this machine only.
RUNTIME_HOST = "127.0.0.1"
_QUIET_ENVIRONMENT: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
}
#: Refusals last at least as long as Flower remembers a dead connection (two missed heartbeats of 30 s).
RECONNECT = Backoff(first_s=2.0, longest_s=120.0, settled_s=90.0, jitter=0.5)
#: The SuperNode's heartbeat runs in a thread that may die alone, and its connection may end for good with an error (of
#: TLS, be it a handshake that took too long, or a status): the process then goes on, unknown to the coordinator.
_BROKEN = ("Exception in thread", "Heartbeat failed unexpectedly", "_ssl.c:", " for url '")


@dataclass(frozen=True, slots=True)
class Connection:
    """superlink: ``host:port`` of the coordinator. root_certificate: PEM that its certificate must come from.
    node_key: the site's private key (ECDSA P-384, OpenSSH). folder: what the SuperNode may write, and nothing else of
    the site lies there. runtime_port: where the relay reaches it, on this machine."""

    superlink: str
    root_certificate: Path
    node_key: Path
    folder: Path
    runtime_port: int

    @property
    def secret(self) -> Path:
        """What the relay proves itself with: 32 random bytes."""
        return self.folder / "superexec.secret"


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why there is no connection: what a log line means and what helps."""

    code: str
    cause: str
    remedy: str
    avoid: str = ""


_HINDRANCES: tuple[tuple[str, Hindrance], ...] = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        Hindrance(
            "certificate",
            "the coordinator's certificate is not trusted here: another authority, another host name, or expired",
            "compare the fingerprint of the root certificate with the coordinator by telephone, and ask whether the "
            "server certificate was renewed",
            "switch verification off: whoever answers could then be anybody",
        ),
    ),
    (
        "WRONG_VERSION_NUMBER",
        Hindrance(
            "no-tls",
            "what answers does not speak TLS",
            "check the address and port; a web proxy in between may answer in the coordinator's place",
        ),
    ),
    (
        "[code: 2004]",
        Hindrance(
            "not-admitted",
            "the coordinator does not admit this site's key: not enrolled, revoked, or still held by an earlier "
            "process that was killed",
            "wait two minutes; after that ask the coordinator what `more-server sites` says of this site",
            "make new keys: the coordinator would have to enroll the site anew",
        ),
    ),
    (
        "401 Unauthorized",
        Hindrance(
            "not-authenticated",
            "the coordinator refused this site's signature: its key was revoked, or the two clocks differ by minutes",
            "compare this machine's clock with another, then ask the coordinator what `more-server sites` says",
        ),
    ),
    (
        "Connection refused",
        Hindrance("unreachable", "nothing listens at the coordinator's address", "wait; it is tried again and again"),
    ),
    (
        "Name or service not known",
        Hindrance("no-such-host", "the coordinator's host name is not known here", "check the address and the DNS"),
    ),
)


def start_supernode(connection: Connection, backoff: Backoff = RECONNECT) -> Supervised:
    """Start the SuperNode and keep it running; returns at once, whether the coordinator answers or not."""
    child = Supervised(supernode_program(connection), backoff)
    child.start()
    return child


def supernode_program(connection: Connection) -> Program:
    """The command line and environment of the SuperNode."""
    secret(connection.secret)
    command = [
        console_script("flower-supernode"),
        *("--superlink", connection.superlink, "--root-certificates", str(connection.root_certificate.resolve())),
        *("--auth-supernode-private-key", str(connection.node_key.resolve())),
        *("--host", RUNTIME_HOST, "--port", str(connection.runtime_port)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(connection.secret.resolve())),
    ]
    memory = connection.folder / "connected"
    farewell = Farewell(connection.superlink, connection.root_certificate, connection.node_key, memory)

    def broken(line: str) -> bool:
        farewell.note(line)
        return _is_broken(line)

    environment = _environment(connection.folder)
    return Program("supernode", command, connection.folder, environment, broken, farewell.say)


def relay_program(connection: Connection, socket: Path) -> Program:
    """The relay to the daemon at ``socket``, as this same user."""
    command = [
        *(console_script("more-client"), "relay"),
        *("--runtime", f"{RUNTIME_HOST}:{connection.runtime_port}", "--secret", str(connection.secret.resolve())),
        *("--socket", str(socket.resolve())),
    ]
    return Program("relay", command, connection.folder / "relay", {"PYTHONUNBUFFERED": "1"})


def hindrance(lines: Sequence[str]) -> Hindrance | None:
    """What the newest telling line of a SuperNode's log means; None where it tells of nothing."""
    for line in reversed(lines):
        if "SuperNode ID:" in line:
            return None
        for sign, meaning in _HINDRANCES:
            if sign in line:
                return meaning
    return None


def _is_broken(line: str) -> bool:
    return any(sign in line for sign in _BROKEN)


def _environment(folder: Path) -> dict[str, str]:
    # The way out may lead through a proxy of the hospital; between programs of this machine there is none.
    direct = ",".join(part for part in (os.environ.get("NO_PROXY", ""), RUNTIME_HOST, "localhost") if part)
    return {
        **_QUIET_ENVIRONMENT,
        "FLWR_HOME": str(folder.resolve() / "flower"),
        "NO_PROXY": direct,
        "no_proxy": direct,
    }
