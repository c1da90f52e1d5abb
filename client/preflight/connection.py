"""One TLS handshake with the coordinator, by the way that the daemon takes: it tells whether the coordinator can be
reached, whose certificate it shows, and what time it is there.
"""

from __future__ import annotations

import base64
import http.client
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from client.preflight.finding import Finding, fail, ok, warn
from client.site_file import FederationPart
from more_model.errors import EnvironmentFault

_TIMEOUT_S = 10.0
#: Requests are signed over a time that may be 300 s off (Flower 1.41); half of it is used up before anybody notices.
_MOST_SKEW_S = 300.0
_WARN_SKEW_S = 30.0
_VARIABLES = ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
#: Reasons of a refused certificate (openssl-verify(1)).
_NOT_YET_VALID, _EXPIRED = 9, 10


@dataclass(frozen=True, slots=True)
class Handshake:
    """``certificate``: of the coordinator, DER. ``skew_s``: its clock less ours, to about a second; None where it
    sends no date. ``proxy``: the proxy gone through, without credentials, or ""."""

    certificate: bytes
    skew_s: float | None
    proxy: str


def shake_hands(federation: FederationPart) -> Handshake:
    """Connects, trusting the federation's root certificate only.

    Raises:
        OSError: there is no way to the coordinator, or its certificate is not to be trusted (`ssl.SSLError`).
        EnvironmentFault: the way leads through a proxy that this check cannot speak to.
    """
    context = ssl.create_default_context(cafile=federation.root_certificate)
    proxy = proxy_for(federation.host)
    connection = _connection(federation, context, proxy)
    try:
        connection.connect()
        certificate = connection.sock.getpeercert(binary_form=True)
        before = datetime.now(UTC)
        connection.request("GET", "/", headers={"Connection": "close"})
        date = connection.getresponse().getheader("Date")
        ours = before + (datetime.now(UTC) - before) / 2
    except http.client.HTTPException as error:
        raise OSError(f"the coordinator's port does not speak HTTP ({type(error).__name__})") from error
    finally:
        connection.close()
    return Handshake(certificate or b"", _skew(date, ours), "" if proxy is None else shown(proxy))


def _connection(
    federation: FederationPart, context: ssl.SSLContext, proxy: SplitResult | None
) -> http.client.HTTPSConnection:
    if proxy is None:
        return http.client.HTTPSConnection(federation.host, federation.port, context=context, timeout=_TIMEOUT_S)
    if proxy.scheme != "http":
        raise EnvironmentFault(
            f"The way leads through a proxy of the kind {proxy.scheme!r}, which this check cannot speak to.",
            remedy="give the proxy as http://HOST:PORT where it can be had so",
        )
    connection = http.client.HTTPSConnection(
        proxy.hostname or "", proxy.port or 80, context=context, timeout=_TIMEOUT_S
    )
    connection.set_tunnel(federation.host, federation.port, _credentials(proxy))
    return connection


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _skew(date: str | None, ours: datetime) -> float | None:
    try:
        return (parsedate_to_datetime(date) - ours).total_seconds() if date else None
    except (ValueError, TypeError):
        return None


def proxy_for(host: str) -> SplitResult | None:
    """The proxy that the environment names for HTTPS to ``host``.

    Raises:
        EnvironmentFault: it is no URL.
    """
    named = getproxies()
    text = named.get("https") or named.get("all")
    if not text or proxy_bypass(host):
        return None
    no_proxy = EnvironmentFault(
        "HTTPS_PROXY (or ALL_PROXY) is no URL of a proxy.",
        remedy="set it to http://HOST:PORT, or unset it",
    )
    try:
        proxy = urlsplit(text if "://" in text else f"http://{text}")
        usable = bool(proxy.hostname) and proxy.port != 0
    except ValueError as error:
        raise no_proxy from error
    if not usable:
        raise no_proxy
    return proxy


def shown(proxy: SplitResult) -> str:
    """A proxy without its credentials."""
    return f"{proxy.scheme}://{proxy.hostname}" + (f":{proxy.port}" if proxy.port else "")


def check_proxy(federation: FederationPart, environment: Mapping[str, str] = os.environ) -> Finding:
    """Which way connections take, and variables that contradict each other.

    Raises:
        EnvironmentFault: see `proxy_for`.
    """
    torn = [name for name in _VARIABLES if _differ(environment.get(name), environment.get(name.lower()))]
    if torn:
        return warn(
            "proxy",
            f"{', '.join(torn)} is set twice, in capitals and in small letters, to different values.",
            remedy="keep one of them; programs differ in which they read",
        )
    proxy = proxy_for(federation.host)
    return ok("proxy", "none; connections are direct" if proxy is None else f"connections go through {shown(proxy)}")


def _differ(first: str | None, second: str | None) -> bool:
    return bool(first) and bool(second) and first != second


def unreachable(federation: FederationPart, error: OSError) -> Finding:
    """The failure of a handshake in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return fail("coordinator", _distrusted(federation, error))
    if isinstance(error, ssl.SSLError):
        return fail(
            "coordinator",
            EnvironmentFault(
                f"{federation.address} answers, but not with TLS that this site takes ({error.reason}).",
                remedy="check the port; a proxy that opens TLS has to let this address through untouched",
                avoid="connect without TLS",
            ),
        )
    return fail(
        "coordinator",
        EnvironmentFault(
            f"{federation.address} cannot be reached: {error.strerror or error}.",
            remedy="ask the network's people to allow outbound connections to it; check the name, the proxy variables, "
            "and with the coordinator that it is up",
            avoid="open an inbound port: none is needed",
        ),
    )


def _distrusted(federation: FederationPart, error: ssl.SSLCertVerificationError) -> EnvironmentFault:
    avoid = "switch verification off, or trust whatever certificate is shown"
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        word = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
        return EnvironmentFault(
            f"The certificate of {federation.address} {word}, by this machine's clock.",
            remedy="check this machine's clock first; then ask the coordinator to renew the certificate",
            avoid=avoid,
        )
    return EnvironmentFault(
        f"The certificate of {federation.address} is not to be trusted: {error.verify_message}.",
        remedy="compare address, root_certificate and ca_fingerprint with what the coordinator gave you; a proxy that "
        "opens TLS has to let this address through untouched",
        avoid=avoid,
    )


def check_clock(handshake: Handshake) -> Finding:
    """This machine's clock against the coordinator's."""
    if handshake.skew_s is None:
        return warn("clock", "unchecked: the coordinator sent no date.", remedy="see that this machine runs NTP")
    said = f"{abs(handshake.skew_s):.0f} s {'behind' if handshake.skew_s > 0 else 'ahead of'} the coordinator's"
    remedy = "let NTP (chrony, systemd-timesyncd) set the clock of this machine; if it does, tell the coordinator"
    if abs(handshake.skew_s) >= _MOST_SKEW_S:
        cause = f"This machine's clock is {said}; from {_MOST_SKEW_S:.0f} s on every request is refused."
        return fail("clock", EnvironmentFault(cause, remedy=remedy, avoid="set it by hand while the daemon runs"))
    if abs(handshake.skew_s) >= _WARN_SKEW_S:
        return warn("clock", f"This machine's clock is {said}.", remedy=remedy)
    return ok("clock", f"within {_WARN_SKEW_S:.0f} s of the coordinator's")


def unchecked(why: str) -> Iterator[Finding]:
    """What takes the place of the checks that need the coordinator."""
    for name in ("coordinator", "clock"):
        yield warn(name, f"unchecked: {why}.", remedy="run the preflight again once the coordinator can be reached")
