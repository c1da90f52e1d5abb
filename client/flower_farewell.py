"""Tells the coordinator that a connection of this site is over, in the place of a SuperNode that was killed.

Flower remembers a connection for up to a minute after its SuperNode was killed, and refuses the next one for as long. A
SuperNode that ends in order says so; for one that did not, the daemon can, which started it or is the next to do so.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from more_model.private_file import replace

_LOG = logging.getLogger(__name__)
_CONNECTED = re.compile(r"SuperNode ID: (\d+)")


@dataclass(slots=True)
class Farewell:
    """For the SuperNodes of a site, one after the other. ``memory``: a file with the number under which the last one
    was connected, for the daemon that follows one that was killed. It counts on this machine and until it is booted
    again: a copy of the site's folder elsewhere must not end a connection that is in use here."""

    superlink: str
    root_certificate: Path
    node_key: Path
    memory: Path

    def note(self, line: str) -> None:
        """Learn the number from a line of the SuperNode's log."""
        if (found := _CONNECTED.search(line)) is not None and (boot := _boot()) is not None:
            try:
                replace(self.memory, f"{boot} {found[1]}\n".encode())
            except OSError as error:
                _LOG.info("%s was not written (%s)", self.memory, error.strerror)

    def say(self) -> None:
        """End the connection of a SuperNode that has ended. Never raises: where this fails, Flower's minute passes."""
        if (node := self._last_node()) is None:
            return
        try:
            self._deactivate(node)
            _LOG.info("the coordinator was told that the connection is over")
        except httpx.HTTPStatusError:
            # It knows: the SuperNode ended in order, or the minute has passed.
            pass
        except (httpx.HTTPError, OSError, ValueError) as error:
            _LOG.info("the coordinator was not told that the connection is over (%s)", type(error).__name__)
            return
        with suppress(OSError):
            self.memory.unlink()

    def _last_node(self) -> int | None:
        try:
            boot, node = self.memory.read_text(encoding="ascii").split()
            return int(node) if boot == _boot() else None
        except (OSError, ValueError):
            return None

    def _deactivate(self, node: int) -> None:
        key = load_ssh_private_key(self.node_key.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not the kind of key that a node has")
        client = FleetHttpClient.from_server_address(
            self.superlink,
            insecure=False,
            root_certificates=self.root_certificate.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )
        try:
            client.DeactivateNode(DeactivateNodeRequest(node_id=node))
        finally:
            client.close()


def _boot() -> str | None:
    """What this boot of this machine is called; None where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
