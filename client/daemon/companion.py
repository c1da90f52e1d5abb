"""What runs beside the daemon: the SuperNode that holds the connection, and for a trial the relay."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.daemon.sockets import Door, door_for
from client.flower_supernode import RECONNECT, Connection, hindrance, relay_program, supernode_program
from client.site_file import SiteFile
from more_model.private_file import replace, secret
from more_model.supervision import Program, Supervised


@dataclass(frozen=True, slots=True)
class Supervision:
    """One supervised program; see `client.daemon.serve.Companion`."""

    name: str
    child: Supervised

    def stop(self, timeout_s: float = 15.0) -> None:
        """End it."""
        self.child.stop(timeout_s)

    def status(self) -> Mapping[str, Any]:
        """Whether it runs, how often it was started, and what hinders the connection."""
        found = hindrance(self.child.last_lines)
        told = asdict(found) if found is not None else None
        return {"name": self.name, "pid": self.child.pid, "starts": self.child.starts, "hindrance": told}


def companions(
    file: SiteFile, *, runtime_port: int, relay: bool, relay_users: Sequence[str] = ()
) -> list[Callable[[], Supervision]]:
    """What to start beside the daemon, once it listens: each of `programs`. The relay's own users find the secret
    beside the socket."""
    connection = _connection(file, runtime_port)

    def prepare() -> None:
        hand_over(connection.secret, door_for(file.socket, relay_users))

    return [_starting(program, prepare) for program in programs(file, runtime_port=runtime_port, relay=relay)]


def programs(file: SiteFile, *, runtime_port: int, relay: bool) -> list[Program]:
    """The SuperNode, and with ``relay`` the relay as this same user, which a trial on one machine may do and a hospital
    should not: whoever breaks into it by a message could then read what this user can."""
    connection = _connection(file, runtime_port)
    return [supernode_program(connection), *([relay_program(connection, file.socket)] if relay else [])]


def hand_over(secret_file: Path, door: Door) -> Path:
    """A copy of the SuperNode's secret beside the daemon's socket, for those who may come through it."""
    copy = door.path.with_name("relay.secret")
    replace(copy, secret(secret_file))
    if door.group is not None:
        os.chown(copy, -1, door.group)
        copy.chmod(0o640)
    return copy


def _connection(file: SiteFile, runtime_port: int) -> Connection:
    return Connection(
        superlink=file.federation.address,
        root_certificate=file.federation.root_certificate,
        node_key=file.keys.node,
        folder=file.work / "supernode",
        runtime_port=runtime_port,
    )


def _starting(program: Program, prepare: Callable[[], None]) -> Callable[[], Supervision]:
    def start() -> Supervision:
        prepare()
        child = Supervised(program, RECONNECT)
        child.start()
        return Supervision(program.name, child)

    return start
