"""The hospital's end of a PACS export: a DICOM storage service (C-STORE and C-ECHO, PS3.4 annexes B and A).

Whoever is not on the site's list is dropped before a byte of theirs is read; an application entity that calls from
another one's address is rejected. What a sender may make this process hold is bounded, and whatever is wrong with an
instance is answered with a status: the service goes on.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import TCPServer
from typing import Any, Final, cast

from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from client.dicom_spool import STORAGE_CLASSES, Spool
from client.site_file import ReceiverPart, ReceiverTls
from more_model.errors import EnvironmentFault, InputRefused

_LOG = logging.getLogger(__name__)

# Status codes of C-STORE (DICOM PS3.4, table B.2-1).
SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_AS_ANNOUNCED: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

#: Calling AE title not recognised (DICOM PS3.8, table 9-21): permanent, by the service user.
_UNKNOWN_CALLER: Final = (0x01, 0x01, 0x03)
_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
#: What the X-ray reader decodes. Deflated data sets are not asked for: their size is not known beforehand.
_COMPRESSED: Final = (
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
)
#: Takes films in twice as fast as the library's 16 KiB.
_PDU_BYTES: Final = 2**17
_SILENCE_S: Final = 60.0
_HANDSHAKE_S: Final = 10.0
#: Associations that run when the receiver is stopped may finish what they send.
_FAREWELL_S: Final = 10.0
#: Commands, negotiation and framing beside the data set itself.
_FRAMING_BYTES: Final = 2**20

Networks = Mapping[str, tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]]


@dataclass(slots=True)
class Receiver:
    """A running receiver. ``address``: host and port that it listens at. ``counts``: instances by what became of them:
    "stored", "repeated", or the reason of a refusal; and "caller-rejected"."""

    address: tuple[str, int]
    spool: Spool
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Add one."""
        with self.lock:
            self.counts[what] += 1


@contextmanager
def receiving(part: ReceiverPart, spool: Spool) -> Iterator[Receiver]:
    """Listens while the block runs; at its end, associations may finish for ten seconds.

    Raises:
        OSError: the address is taken or not this machine's. ssl.SSLError: certificate and key do not fit.
    """
    networks = {caller.ae_title: tuple(map(ipaddress.ip_network, caller.addresses)) for caller in part.callers}
    receiver = Receiver((part.host, part.port), spool)
    handlers: list[Any] = [
        (evt.EVT_REQUESTED, _admit, [receiver, networks]),
        (evt.EVT_C_ECHO, _echo),
        (evt.EVT_C_STORE, _store, [receiver]),
    ]
    with _quiet_library():
        server = _Server(part, handlers, networks)
        receiver.address = server.server_address[:2]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.stop_accepting()
            _say_farewell(server)
            server.server_close()
            thread.join()


def _entity(part: ReceiverPart) -> AE:
    entity = AE(part.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = [caller.ae_title for caller in part.callers]
    entity.maximum_associations = part.max_associations
    entity.maximum_pdu_size = _PDU_BYTES
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SILENCE_S
    entity.add_supported_context(Verification, list(_UNCOMPRESSED))
    for uid, kind in STORAGE_CLASSES.items():
        entity.add_supported_context(uid, [*_UNCOMPRESSED, *(_COMPRESSED if kind == "xray" else ())])
    return entity


def _admit(event: Any, receiver: Receiver, networks: Networks) -> None:
    requestor = event.assoc.requestor
    title = requestor.primitive.calling_ae_title.strip()
    address = requestor.address_info.address
    if not _within(address, networks.get(title, ())):
        receiver.count("caller-rejected")
        _LOG.warning("an association from %s was rejected: no caller of this site's list calls from there so", address)
        event.assoc.acse.send_reject(*_UNKNOWN_CALLER)
        event.assoc.kill()


def _echo(event: Any) -> int:
    _renew_allowance(event)
    return SUCCESS


def _store(event: Any, receiver: Receiver) -> int:
    try:
        meta = event.file_meta
        if event.request.AffectedSOPClassUID != event.context.abstract_syntax or event.request.DataSet is None:
            raise InputRefused("not-as-announced", "The instance is not of the class negotiated, or not there.")
        with event.request.DataSet.getbuffer() as content:
            new = receiver.spool.keep(meta, content)
        receiver.count("stored" if new else "repeated")
        return SUCCESS
    except EnvironmentFault as error:
        receiver.count("disk-full")
        _LOG.error("an instance was refused: %s", error)
        return OUT_OF_RESOURCES
    except InputRefused as error:
        receiver.count(error.reason)
        _LOG.warning("an instance was refused: %s", error.reason)
        return NOT_AS_ANNOUNCED if error.reason == "not-as-announced" else CANNOT_UNDERSTAND
    except OSError as error:
        # The text of the error names a path only, but the sender learns nothing of this machine.
        receiver.count("not-writable")
        _LOG.error("an instance could not be written: %s", error)
        return OUT_OF_RESOURCES
    finally:
        _renew_allowance(event)


def _renew_allowance(event: Any) -> None:
    held = event.assoc.dul.socket
    if held is not None and held.socket is not None:
        held.socket.allowance.received_bytes = 0


@dataclass(slots=True)
class _Allowance:
    """What one connection may still bring before the next message is dealt with."""

    limit_bytes: int
    received_bytes: int = 0

    def require(self) -> None:
        """Ends the connection of whoever sends more: the library below would read any length that is announced."""
        if self.received_bytes > self.limit_bytes:
            raise OSError("a message is larger than this site takes")


class _BoundedSocket(socket.socket):
    allowance: _Allowance

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self.allowance.require()
        data = super().recv(size, flags)
        self.allowance.received_bytes += len(data)
        return data


class _BoundedTlsSocket(ssl.SSLSocket):
    allowance: _Allowance

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        self.allowance.require()
        data = super().recv(buflen, flags)
        self.allowance.received_bytes += len(data)
        return data


class _Server(ThreadedAssociationServer):
    """The library's server, with the list of addresses in front and TLS negotiated in the connection's own thread: in
    the library it is negotiated where connections are accepted, so one silent caller would stop all others."""

    def __init__(self, part: ReceiverPart, handlers: list[Any], networks: Networks) -> None:
        self._networks = networks
        self._tls = None if part.tls is None else _tls_context(part.tls)
        self._limit_bytes = part.max_instance_mib * 2**20 + _FRAMING_BYTES
        entity = _entity(part)
        super().__init__(
            entity, (part.host, part.port), part.ae_title, entity.supported_contexts, evt_handlers=handlers
        )

    def stop_accepting(self) -> None:
        """Ends `serve_forever`; what the library adds to this would end the running associations."""
        TCPServer.shutdown(self)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        known = any(_within(client_address[0], networks) for networks in self._networks.values())
        if not known:
            _LOG.warning("a connection from %s was dropped: the address is not on this site's list", client_address[0])
        return known

    def finish_request(self, request: Any, client_address: Any) -> None:
        bounded = self._bounded(request, client_address[0])
        if bounded is not None:
            bounded.allowance = _Allowance(self._limit_bytes)
            bounded.settimeout(_SILENCE_S)
            super().finish_request(bounded, client_address)

    def _bounded(self, request: socket.socket, address: str) -> _BoundedSocket | _BoundedTlsSocket | None:
        if self._tls is None:
            return _BoundedSocket(fileno=request.detach())
        request.settimeout(_HANDSHAKE_S)
        try:
            return cast(_BoundedTlsSocket, self._tls.wrap_socket(request, server_side=True))
        except OSError as error:
            _LOG.warning("a connection from %s spoke no TLS that this site takes: %s", address, error)
            return None


def _tls_context(part: ReceiverTls) -> ssl.SSLContext:
    """TLS 1.2 or later; callers prove with a certificate of the authority who they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(part.certificate, part.key)
    context.load_verify_locations(part.caller_authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.sslsocket_class = _BoundedTlsSocket
    return context


def _within(address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    own = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(own, "ipv4_mapped", None)
    return any((mapped or own) in network for network in networks)


def _say_farewell(server: _Server) -> None:
    deadline = time.monotonic() + _FAREWELL_S
    while any(running.is_established for running in server.active_associations) and time.monotonic() < deadline:
        time.sleep(0.05)
    for association in server.active_associations:
        association.abort()


@contextmanager
def _quiet_library() -> Iterator[None]:
    """The library logs what it is sent, header values included; none of it reaches the site's log."""
    logger = logging.getLogger("pynetdicom")
    before = logger.propagate
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before
