"""Certificates: the right authority, and how many days are left."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from client.preflight.finding import Finding, fail, ok, warn
from client.site_file import SiteFile
from more_model.errors import ConfigError, EnvironmentFault

_WARN_DAYS = 30


def check_root(site: SiteFile) -> Finding:
    """The root certificate is the one whose fingerprint the site was told, and is valid.

    Raises:
        ConfigError: it cannot be read, or is another one.
    """
    path, told = site.federation.root_certificate, site.federation.ca_fingerprint
    certificate = _read(path)
    found = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    if found != told:
        raise ConfigError(
            "federation.ca_fingerprint",
            [f"{path} has the fingerprint {found}, not {told}"],
            remedy="ask the coordinator for both again, the fingerprint by another way than the file (by telephone)",
            avoid="copy the fingerprint from the file: it would vouch for whatever came",
        )
    return days_left("root certificate", certificate)


def check_receiver(site: SiteFile) -> Iterator[Finding]:
    """The certificates of the DICOM receiver, where it uses TLS.

    Raises:
        ConfigError: one cannot be read.
    """
    tls = site.receiver.tls if site.receiver is not None else None
    if tls is not None:
        yield days_left("receiver's certificate", _read(tls.certificate))
        yield days_left("callers' authority", _read(tls.caller_authority))


def of_coordinator(der: bytes) -> Finding:
    """The certificate that the coordinator shows."""
    return days_left("coordinator's certificate", x509.load_der_x509_certificate(der))


def days_left(name: str, certificate: x509.Certificate, now: datetime | None = None) -> Finding:
    """Whether a certificate is valid now, and for how long."""
    now = now or datetime.now(UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    days = (last - now).days
    remedy = "have it renewed; whoever uses it gets the new one before the old one ends"
    if now < first:
        cause = f"It is valid from {first:%Y-%m-%d} on, by this machine's clock."
        return fail(name, EnvironmentFault(cause, remedy="check this machine's clock"))
    if now > last:
        return fail(name, EnvironmentFault(f"It ended on {last:%Y-%m-%d}.", remedy=remedy, avoid="set the clock back"))
    if days < _WARN_DAYS:
        return warn(name, f"{days} days are left.", remedy=remedy)
    return ok(name, f"{days} days are left")


def _read(path: Path) -> x509.Certificate:
    if not path.is_file():
        raise ConfigError(str(path), ["there is no such file"], remedy="put the certificate there that you were given")
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise ConfigError(
            str(path), ["this is no certificate in PEM"], remedy="copy it again, as it was given"
        ) from error
