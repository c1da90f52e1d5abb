"""The forms of our certificates: what stands in an authority's, in a server's, and in a request for one.

They keep to what Python 3.13 demands when it verifies strictly (RFC 5280): key identifiers on both, critical uses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from more_model.errors import ConfigError

#: Clocks of sites may be a little behind.
_BACKDATED = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority that can sign."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def new_authority(name: str, days: int, now: datetime) -> Signer:
    """A new authority (ECDSA on P-256) that may sign servers' certificates, but no further authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(key.public_key(), common_name(name), common_name(name), days, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Signer(key, certificate)


def issued(
    public: ec.EllipticCurvePublicKey, hosts: Sequence[str], signer: Signer, days: int, now: datetime
) -> x509.Certificate:
    """A server's certificate for ``hosts``; ConfigError as `alternative_names`."""
    names, issuer = alternative_names(hosts), signer.certificate
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(public, common_name(hosts[0]), issuer.subject, days, now)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """``hosts`` (DNS names and IP addresses) as a certificate names them; ConfigError lists those that are neither."""
    names: list[x509.GeneralName] = []
    faults = [] if hosts else ["no host name is given"]
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if host and host.isascii() and not set(host) & set(" /:@"):
                names.append(x509.DNSName(host))
            else:
                faults.append(f"{host!r} is neither a host name nor an IP address")
    if faults:
        raise ConfigError("host names of the server certificate", faults, remedy="give what sites dial, without a port")
    return x509.SubjectAlternativeName(names)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def common_name(common: str) -> x509.Name:
    """The name of a holder, cut to the 64 characters that X.509 allows."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def pem(certificate: x509.Certificate) -> bytes:
    """As text between BEGIN and END lines."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The same for a private key, PKCS #8, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    public: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, days: int, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
