"""The coordinator's certificates: its own authority, or a request to the hospital's, and how long they still hold.

Sites trust one root certificate. With an authority of its own the coordinator signs its server certificate itself and
can renew it without any site noticing; with the authority of a hospital it writes a signing request instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from more_model.errors import ConfigError
from more_model.private_file import replace, write_new
from server.certificates import (
    Signer,
    alternative_names,
    common_name,
    hosts_of,
    issued,
    new_authority,
    pem,
    private_pem,
)

AUTHORITY_DAYS = 3650
#: What browsers and libraries accept at most for a server's certificate.
SERVER_DAYS = 398
_REMEDY = "run more-server init, or put the certificate from your authority there"
#: From so few days on, start and status warn.
WARN_DAYS = 30
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class AuthorityFolder:
    """Where the files lie. ``root`` is what sites trust: the own authority's certificate, or a copy of the hospital
    authority's that somebody puts there."""

    path: Path

    @property
    def authority_key(self) -> Path:
        """Private key of the own authority; may be kept elsewhere between renewals."""
        return self.path / "authority.key"

    @property
    def root(self) -> Path:
        """Certificate of the authority."""
        return self.path / "root.pem"

    @property
    def server_key(self) -> Path:
        """Private key of the server certificate."""
        return self.path / "server.key"

    @property
    def server_certificate(self) -> Path:
        """The certificate that sites see."""
        return self.path / "server.pem"

    @property
    def request(self) -> Path:
        """The signing request for the hospital's authority."""
        return self.path / "server.csr"


@dataclass(frozen=True, slots=True)
class Loopback:
    """The pair with which the SuperLink serves its own machine, and the root that programs there check it with."""

    root: Path
    certificate: Path
    key: Path


def make_authority(folder: AuthorityFolder, name: str, *, now: datetime | None = None) -> None:
    """A new authority: ECDSA on P-256, 10 years. ConfigError where one is there already."""
    own = new_authority(f"{name} authority", AUTHORITY_DAYS, _now(now))
    write_new(folder.authority_key, private_pem(own.key))
    write_new(folder.root, pem(own.certificate), mode=0o644)


def make_server_certificate(
    folder: AuthorityFolder,
    hosts: Sequence[str],
    *,
    days: int = SERVER_DAYS,
    renew: bool = False,
    now: datetime | None = None,
) -> tuple[Path, ...]:
    """A server key and certificate for ``hosts`` (DNS names and IP addresses), signed by the own authority; returns
    what was replaced, which is nothing without ``renew``.

    Raises:
        ConfigError: no host, a host that is none, no authority here, or files that are there already.
    """
    signer = Signer(_load_key(folder.authority_key), load_certificate(folder.root))
    replaced = tuple(path for path in (folder.server_key, folder.server_certificate) if path.exists())
    if replaced and not renew:
        raise ConfigError(
            str(folder.path), ["there is a server certificate already"], remedy="add --renew to replace it"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issued(key.public_key(), hosts, signer, days, _now(now))
    replace(folder.server_key, private_pem(key))
    replace(folder.server_certificate, pem(certificate), mode=0o644)
    return replaced


def make_request(folder: AuthorityFolder, hosts: Sequence[str]) -> None:
    """A server key and a signing request for ``hosts``, for the hospital's own authority.

    Raises:
        ConfigError: no host, a host that is none, or files that are there already.
    """
    names = alternative_names(hosts)
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(common_name(hosts[0]))
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_new(folder.server_key, private_pem(key))
    write_new(folder.request, request.public_bytes(serialization.Encoding.PEM), mode=0o644)


def loopback_files(folder: Path) -> Loopback:
    """Where the loopback pair lies in ``folder``, whether it is there or not."""
    return Loopback(folder / "loopback_root.pem", folder / "loopback.pem", folder / "loopback.key")


def make_loopback(folder: Path, *, now: datetime | None = None) -> Loopback:
    """The loopback pair in ``folder``; made anew where there is none or it ends within `WARN_DAYS`. Nobody outside the
    machine ever sees it, and the key that signed it is thrown away."""
    pair = loopback_files(folder)
    moment = _now(now)
    files = (pair.root, pair.certificate, pair.key)
    if all(path.exists() for path in files) and days_left(pair.certificate, now=moment) > WARN_DAYS:
        return pair
    signer = new_authority("loopback", SERVER_DAYS, moment)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issued(key.public_key(), _LOOPBACK_HOSTS, signer, SERVER_DAYS, moment)
    replace(pair.key, private_pem(key))
    replace(pair.certificate, pem(certificate), mode=0o644)
    replace(pair.root, pem(signer.certificate), mode=0o644)
    return pair


def load_certificate(path: Path) -> x509.Certificate:
    """The (first) certificate of a PEM file; ConfigError where there is none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(str(path), ["there is no certificate (PEM) here"], remedy=_REMEDY) from error


def days_left(path: Path, *, now: datetime | None = None) -> float:
    """Days until the certificate of ``path`` ends; below 0 once it has."""
    return (load_certificate(path).not_valid_after_utc - _now(now)) / timedelta(days=1)


def fingerprint(path: Path) -> str:
    """SHA-256 of a certificate (DER), hexadecimal in pairs with colons: what sites compare by telephone."""
    return load_certificate(path).fingerprint(hashes.SHA256()).hex(":")


def certificate_faults(folder: AuthorityFolder, host: str, *, now: datetime | None = None) -> tuple[str, ...]:
    """Why sites that dial ``host`` could not trust this server; empty where they can.

    Raises:
        ConfigError: a file is missing or is not what its name says.
    """
    certificate, root = load_certificate(folder.server_certificate), load_certificate(folder.root)
    left = {path.name: days_left(path, now=now) for path in (folder.server_certificate, folder.root)}
    faults = [f"{name} ended {-days:.0f} days ago" for name, days in left.items() if days <= 0]
    if certificate.public_key() != _load_key(folder.server_key).public_key():
        faults.append("server.pem does not belong to server.key")
    if _now(now) < certificate.not_valid_before_utc:
        faults.append("server.pem is not valid yet; look at this machine's clock")
    if host not in hosts_of(certificate):
        faults.append(f"server.pem is not for {host}, but for {', '.join(hosts_of(certificate)) or 'no host'}")
    # An authority may sign through others, whose certificates then follow in server.pem; those a handshake checks.
    if len(x509.load_pem_x509_certificates(folder.server_certificate.read_bytes())) == 1:
        try:
            certificate.verify_directly_issued_by(root)
        except Exception:  # noqa: BLE001 - the library raises a different error for every way in which it may not fit
            faults.append("server.pem was not signed by root.pem")
    return tuple(faults)


def _now(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else now


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            str(path), ["there is no private key (PEM, without a password) here"], remedy=_REMEDY
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(str(path), ["this key is not one of an elliptic curve"], remedy=_REMEDY)
    return key
