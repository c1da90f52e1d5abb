"""What `more-server start` keeps up: the SuperLink with the keys of the register, and the gate for hospitals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from more_model.errors import ConfigError, EnvironmentFault, RoundError
from more_model.supervision import Supervised
from server.authority import WARN_DAYS, certificate_faults, days_left
from server.federation_file import FederationFile
from server.fleet_gate import FleetGate, GateSettings
from server.flower_superlink import (
    Reconciled,
    SuperLinkControl,
    SuperLinkFolder,
    reconcile,
    start_superlink,
    wipe_free_pages,
)
from server.single_writer import hold_alone
from server.sites import NAME as REGISTER
from server.sites import SiteRegister

_LOG = logging.getLogger(__name__)
#: A site that is enrolled or revoked while all runs is let in or out within so long.
LOOK_S = 1.0
_CERTIFICATE_LOOK_S = 3600.0


@dataclass(frozen=True, slots=True)
class Running:
    """What is up: process ids, and where things listen."""

    superlink_port: int
    superlink_pid: int | None
    fleet_address: str | None
    certificate_days_left: float | None


def superlink_folder(federation: FederationFile) -> SuperLinkFolder:
    """Where the federation's SuperLink keeps its things."""
    return SuperLinkFolder(federation.state / "superlink")


def register_of(federation: FederationFile) -> SiteRegister:
    """The federation's register of sites."""
    return SiteRegister(federation.state / REGISTER)


def serve(
    federation: FederationFile, stop: threading.Event, *, ready: Callable[[Running], None] = lambda _running: None
) -> None:
    """Start everything, call ``ready``, and keep it up until ``stop`` is set; then end it in order.

    The gate opens once the SuperLink's keys are those of the register: a site revoked meanwhile never gets in.

    Raises:
        ConfigError: certificates that sites could not trust.
        EnvironmentFault: another `start` of this federation runs, a port is taken, or the SuperLink does not come up.
    """
    folder, listen = superlink_folder(federation), federation.listen
    built_in = listen.fleet == "built-in"
    if built_in:
        _require_certificates(federation)
    with ExitStack() as stack:
        stack.enter_context(
            hold_alone(
                federation.state / ".start.lock",
                cause=f"{federation.state}: another more-server start of this federation runs",
                remedy="stop it first, or leave it",
            )
        )
        superlink = start_superlink(folder, listen.superlink_port, wait_s=federation.waits.start_s)
        stack.callback(wipe_free_pages, folder.database)
        stack.callback(superlink.stop)
        control = stack.enter_context(SuperLinkControl(listen.superlink_port, folder.loopback().root))
        keys = _Keys(federation, control, superlink)
        if not keys.follow():
            raise EnvironmentFault(
                "the SuperLink's keys could not be made those of the register", remedy="the log says why; start again"
            )
        gate = _open_gate(federation, folder) if built_in else None
        if gate is not None:
            stack.callback(gate.stop)
        address = f"{listen.fleet_host}:{listen.fleet_port}" if built_in else None
        left = days_left(federation.certificates.server_certificate) if built_in else None
        ready(Running(listen.superlink_port, superlink.pid, address, left))
        _keep(federation, stop, keys, gate)


def _keep(federation: FederationFile, stop: threading.Event, keys: _Keys, gate: FleetGate | None) -> None:
    certificate = federation.certificates.server_certificate
    seen, looks = _stamp(certificate), 0
    while not stop.wait(LOOK_S):
        keys.follow()
        if gate is None:
            continue
        if not gate.running:
            raise EnvironmentFault("the gate for hospitals has ended", remedy="start again; its log says why")
        if (now := _stamp(certificate)) is not None and now != seen:
            seen = now
            _reload(gate, federation)
        if looks % int(_CERTIFICATE_LOOK_S / LOOK_S) == 0:
            _warn_of_the_end(certificate)
        looks += 1


class _Keys:
    """Keeps the SuperLink's keys equal to the register; asks only after a change or a restart of the SuperLink."""

    def __init__(self, federation: FederationFile, control: SuperLinkControl, superlink: Supervised) -> None:
        self._register = register_of(federation)
        self._control, self._superlink = control, superlink
        self._done: tuple[dict[str, bytes], int] | None = None
        self._complaint = ""

    def follow(self) -> bool:
        """Whether they are equal now. What hinders it is logged once; the keys stay as they were until it is over."""
        try:
            enrolled = {name: entry.enrolment.node_key_pem for name, entry in self._register.enrolled().items()}
            wanted = (enrolled, self._superlink.starts)
            if wanted != self._done:
                self._tell(reconcile(self._control, enrolled))
                self._done = wanted
        except (RoundError, EnvironmentFault) as error:
            # A SuperLink on its way up, a full disk: the next look tries again.
            if error.cause != self._complaint:
                _LOG.error("%s", error.cause)
            self._complaint = error.cause
            return False
        self._complaint = ""
        return True

    def _tell(self, changes: Reconciled) -> None:
        for site in changes.registered:
            _LOG.info("%s may connect from now on", site)
        for site in changes.unregistered:
            _LOG.warning("%s may no longer connect", site)


def _open_gate(federation: FederationFile, folder: SuperLinkFolder) -> FleetGate:
    listen, files = federation.listen, federation.certificates
    gate = FleetGate(
        GateSettings(
            listen.fleet_host,
            listen.fleet_port,
            files.server_certificate,
            files.server_key,
            listen.superlink_port,
            folder.loopback().root,
            max_bytes=listen.max_request_mib * 2**20,
        )
    )
    gate.start()
    return gate


def _require_certificates(federation: FederationFile) -> None:
    if faults := certificate_faults(federation.certificates, federation.public_host):
        raise ConfigError(
            str(federation.authority),
            faults,
            remedy="run more-server init with --renew, or have your authority sign server.csr and put the result there",
            avoid="ask sites to switch verification off",
        )


def _reload(gate: FleetGate, federation: FederationFile) -> None:
    try:
        _require_certificates(federation)
        gate.reload_certificate()
        _LOG.info("the new server certificate is in use")
    except (ConfigError, EnvironmentFault) as error:
        # Two files are replaced one after the other; a half-done renewal must not end a running federation.
        _LOG.error("the earlier server certificate stays in use: %s", error.cause)


def _warn_of_the_end(certificate: Path) -> None:
    if certificate.exists() and (left := days_left(certificate)) <= WARN_DAYS:
        _LOG.warning("the server certificate ends in %.0f days: run more-server init with --renew", left)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        # Between an operator's rm and cp; what was read before stays in use.
        return None
    return found.st_mtime_ns, found.st_ino
