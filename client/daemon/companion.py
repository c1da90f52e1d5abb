"""What runs beside the daemon: the SuperNode that holds the connection, and for a trial the relay's starter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from client.flower_supernode import RECONNECT, Connection, hindrance, superexec_program, supernode_program
from client.site_file import SiteFile
from client.wire import SOCKET_VARIABLE
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


def companions(file: SiteFile, *, runtime_port: int, relay: bool) -> list[Callable[[], Supervision]]:
    """What to start beside the daemon: each of `programs`."""
    return [_starting(program) for program in programs(file, runtime_port=runtime_port, relay=relay)]


def programs(file: SiteFile, *, runtime_port: int, relay: bool) -> list[Program]:
    """The SuperNode, and with ``relay`` the relay's starter as this same user, which a trial on one machine may do and
    a hospital should not: a bundle could then read what this user can."""
    connection = Connection(
        superlink=file.federation.address,
        root_certificate=file.federation.root_certificate,
        node_key=file.keys.node,
        folder=file.work / "supernode",
        runtime_port=runtime_port,
    )
    if not relay:
        return [supernode_program(connection)]
    starter = superexec_program(connection)
    told = {**starter.environment, SOCKET_VARIABLE: str(file.socket)}
    return [supernode_program(connection), replace(starter, environment=told)]


def _starting(program: Program) -> Callable[[], Supervision]:
    def start() -> Supervision:
        child = Supervised(program, RECONNECT)
        child.start()
        return Supervision(program.name, child)

    return start
