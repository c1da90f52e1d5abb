"""Certificates as a strict TLS client sees them, and everything that makes sites distrust a server."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from more_model.errors import ConfigError
from server.authority import (
    AuthorityFolder,
    certificate_faults,
    days_left,
    fingerprint,
    load_certificate,
    make_authority,
    make_loopback,
    make_request,
    make_server_certificate,
)
from server.certificates import Signer, hosts_of, issued, pem

HOSTS = ["fed.example.org", "10.0.0.5", "::1"]


@pytest.fixture
def files(tmp_path: Path) -> AuthorityFolder:
    made = AuthorityFolder(tmp_path / "authority")
    make_authority(made, "consortium")
    make_server_certificate(made, HOSTS)
    return made


def shake_hands(root: Path, certificate: Path, key: Path, host: str) -> None:
    """A TLS handshake in memory, as strict as Python can be; raises what the client raises."""
    client = ssl.create_default_context(cafile=str(root))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname=host), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].getpeercert(), "the handshake did not come to its end"


@pytest.mark.parametrize("host", HOSTS)
def test_a_strict_client_trusts_the_server_under_each_of_its_names(files: AuthorityFolder, host: str) -> None:
    shake_hands(files.root, files.server_certificate, files.server_key, host)
    assert certificate_faults(files, host) == ()


def test_a_client_does_not_trust_another_name(files: AuthorityFolder) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(files.root, files.server_certificate, files.server_key, "elsewhere.example.org")
    assert certificate_faults(files, "elsewhere.example.org") == (
        "server.pem is not for elsewhere.example.org, but for fed.example.org, 10.0.0.5, ::1",
    )


def test_keys_are_for_their_owner_alone_and_certificates_may_be_read(files: AuthorityFolder) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files.path.iterdir()}
    assert modes == {"authority.key": 0o600, "server.key": 0o600, "root.pem": 0o644, "server.pem": 0o644}


def test_terms_are_ten_years_and_398_days(files: AuthorityFolder) -> None:
    assert days_left(files.root) == pytest.approx(3650, abs=1)
    assert days_left(files.server_certificate) == pytest.approx(398, abs=1)


def test_nothing_is_overwritten(files: AuthorityFolder) -> None:
    before = {path: path.read_bytes() for path in files.path.iterdir()}
    for attempt in (
        lambda: make_authority(files, "consortium"),
        lambda: make_server_certificate(files, HOSTS),
        lambda: make_request(files, HOSTS),
    ):
        with pytest.raises(ConfigError, match="already"):
            attempt()
    assert {path: path.read_bytes() for path in files.path.iterdir()} == before


def test_renewal_says_what_it_replaces_and_leaves_the_root_that_sites_trust(files: AuthorityFolder) -> None:
    root, earlier = fingerprint(files.root), files.server_key.read_bytes()
    assert make_server_certificate(files, HOSTS, renew=True) == (files.server_key, files.server_certificate)
    assert fingerprint(files.root) == root
    assert files.server_key.read_bytes() != earlier
    shake_hands(files.root, files.server_certificate, files.server_key, "fed.example.org")


def test_an_expired_certificate_and_one_of_the_future_are_faults(files: AuthorityFolder) -> None:
    then = datetime.now(UTC) + timedelta(days=400)
    assert "server.pem ended 2 days ago" in certificate_faults(files, "fed.example.org", now=then)
    before = datetime.now(UTC) - timedelta(days=1)
    (fault,) = certificate_faults(files, "fed.example.org", now=before)
    assert "not valid yet" in fault


def test_files_that_do_not_belong_together_are_faults(files: AuthorityFolder, tmp_path: Path) -> None:
    other = AuthorityFolder(tmp_path / "other")
    make_authority(other, "consortium")
    make_server_certificate(other, ["fed.example.org"])
    files.root.write_bytes(other.root.read_bytes())
    files.server_key.write_bytes(other.server_key.read_bytes())
    assert certificate_faults(files, "fed.example.org") == (
        "server.pem does not belong to server.key",
        "server.pem was not signed by root.pem",
    )


def test_a_request_is_signed_by_another_authority(files: AuthorityFolder, tmp_path: Path) -> None:
    own = AuthorityFolder(tmp_path / "own")
    make_request(own, HOSTS)
    request = x509.load_pem_x509_csr(own.request.read_bytes())
    assert request.is_signature_valid
    assert stat.S_IMODE(own.server_key.stat().st_mode) == 0o600
    hospital = Signer(
        serialization.load_pem_private_key(files.authority_key.read_bytes(), None),  # type: ignore[arg-type]
        load_certificate(files.root),
    )
    signed = issued(request.public_key(), HOSTS, hospital, 30, datetime.now(UTC))  # type: ignore[arg-type]
    own.server_certificate.write_bytes(pem(signed))
    own.root.write_bytes(files.root.read_bytes())
    assert hosts_of(signed) == tuple(HOSTS)
    assert certificate_faults(own, "fed.example.org") == ()


def test_hosts_that_are_none_are_all_named(files: AuthorityFolder) -> None:
    with pytest.raises(ConfigError) as caught:
        make_server_certificate(files, ["fine.org", "https://x", "host:8443"], renew=True)
    assert len(caught.value.faults) == 2


def test_a_missing_certificate_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more-server init"):
        days_left(tmp_path / "none.pem")


def test_the_loopback_pair_is_kept_until_it_ends_soon(tmp_path: Path) -> None:
    pair = make_loopback(tmp_path)
    first = pair.certificate.read_bytes()
    shake_hands(pair.root, pair.certificate, pair.key, "127.0.0.1")
    assert make_loopback(tmp_path).certificate.read_bytes() == first
    make_loopback(tmp_path, now=datetime.now(UTC) + timedelta(days=370))
    assert pair.certificate.read_bytes() != first
    assert not (tmp_path / "authority.key").exists()
