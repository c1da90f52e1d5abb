"""The way to the coordinator: TLS, certificates, clocks and proxies, with real sockets on this machine."""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trees.certificates import MadeCertificate, write_certificate

from client.preflight.certificates import check_receiver, check_root, days_left
from client.preflight.connection import Handshake, check_clock, check_proxy, shake_hands, unreachable
from client.preflight.finding import Finding
from client.preflight.run import collected
from client.site_file import FederationPart, SiteFile, load_site_file
from more_model.errors import EnvironmentFault


@pytest.fixture
def authority(tmp_path: Path) -> MadeCertificate:
    return write_certificate(tmp_path, "authority")


def federation(authority: MadeCertificate, address: str) -> FederationPart:
    return FederationPart(
        name="test",
        address=address,
        root_certificate=authority.certificate,
        ca_fingerprint=authority.fingerprint,
    )


def failed(authority: MadeCertificate, address: str) -> Finding:
    part = federation(authority, address)
    with pytest.raises(OSError) as error:
        shake_hands(part)
    return unreachable(part, error.value)


@pytest.mark.parametrize(
    ("ends_days", "begins_days", "said"),
    [(-1.0, -10.0, "has expired"), (10.0, 5.0, "is not valid yet")],
)
def test_certificates_out_of_time(
    authority: MadeCertificate, coordinator: Any, tmp_path: Path, ends_days: float, begins_days: float, said: str
) -> None:
    shown = write_certificate(tmp_path, "shown", authority=authority, begins_days=begins_days, ends_days=ends_days)
    found = failed(authority, coordinator(shown))
    assert said in found.cause and "clock" in found.remedy and "verification off" in found.avoid
    assert found.exit_code == 8


def test_a_certificate_of_another_authority(authority: MadeCertificate, coordinator: Any, tmp_path: Path) -> None:
    other = write_certificate(tmp_path, "other")
    shown = write_certificate(tmp_path, "shown", authority=other)
    assert "is not to be trusted" in failed(authority, coordinator(shown)).cause


def test_plain_http_is_not_taken(authority: MadeCertificate, coordinator: Any) -> None:
    found = failed(authority, coordinator(None))
    assert "not with TLS" in found.cause and found.avoid == "connect without TLS"


def test_nobody_listens(authority: MadeCertificate) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = failed(authority, f"127.0.0.1:{taken.getsockname()[1]}")
    assert "cannot be reached: Connection refused" in found.cause


@pytest.mark.parametrize(
    ("skew_s", "level", "said"),
    [
        (0.0, "ok", "within 30 s"),
        (120.0, "warn", "120 s behind"),
        (-120.0, "warn", "120 s ahead of"),
        (900.0, "fail", "every request is refused"),
        (None, "warn", "unchecked"),
    ],
)
def test_clocks(skew_s: float | None, level: str, said: str) -> None:
    found = check_clock(Handshake(b"", skew_s, ""))
    assert (found.level, said in found.cause) == (level, True)


def test_the_skew_is_measured(authority: MadeCertificate, coordinator: Any, tmp_path: Path) -> None:
    shown = write_certificate(tmp_path, "shown", authority=authority)
    measured = shake_hands(federation(authority, coordinator(shown, skew_s=-500.0))).skew_s
    assert measured == pytest.approx(-500.0, abs=2.0)


@pytest.mark.parametrize(("days", "level"), [(400.0, "ok"), (29.5, "warn"), (0.5, "warn"), (-1.0, "fail")])
def test_days_left(tmp_path: Path, days: float, level: str) -> None:
    from cryptography import x509

    made = write_certificate(tmp_path, "made", begins_days=-30, ends_days=days)
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    assert days_left("made", certificate).level == level
    early = days_left("made", certificate, datetime.now(UTC) - timedelta(days=31))
    assert early.level == "fail" and "clock" in early.remedy


def test_the_receivers_certificates_are_looked_at_too(ready: Any) -> None:
    write_certificate(ready.folder, "site", ends_days=3)
    ready.content["receiver"] = {
        "callers": [{"ae_title": "PACS", "addresses": ["10.0.0.5"]}],
        "tls": {"certificate": "site.pem", "key": "site.key", "caller_authority": "authority.pem"},
    }
    site = load_site_file(ready.write())
    assert [found.level for found in check_receiver(site)] == ["warn", "ok"]
    (ready.folder / "authority.pem").write_text("no certificate")
    assert [found.level for found in collected("receiver", lambda: check_receiver(site))] == ["warn", "fail"]
    [found] = collected("root certificate", lambda: check_root(site))
    assert found.exit_code == 2 and "PEM" in found.cause
    assert isinstance(site, SiteFile)


class _Proxy(socketserver.ThreadingTCPServer):
    """Connects whoever brings the right credentials to where they ask; ``asked`` are the targets."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[str] = []


class _Tunnel(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        target = self.rfile.readline().split()[1].decode()
        headers = dict(line.decode().strip().split(": ", 1) for line in iter(self.rfile.readline, b"\r\n"))
        expected = base64.b64encode(b"user:pa ss").decode()
        if headers.get("Proxy-Authorization") != f"Basic {expected}":
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        self.server.asked.append(target)
        host, _, port = target.partition(":")
        with socket.create_connection((host, int(port))) as onward:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ways = {self.connection: onward, onward: self.connection}
            while True:
                for ready in select.select(list(ways), [], [])[0]:
                    data = ready.recv(2**16)
                    if not data:
                        return
                    ways[ready].sendall(data)


@pytest.fixture
def proxy() -> Iterator[_Proxy]:
    with _Proxy() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_through_a_proxy(
    authority: MadeCertificate, coordinator: Any, tmp_path: Path, proxy: _Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = coordinator(write_certificate(tmp_path, "shown", authority=authority))
    port = proxy.server_address[1]
    part = federation(authority, address)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pa%20ss@127.0.0.1:{port}")
    assert shake_hands(part).proxy == f"http://127.0.0.1:{port}"
    assert proxy.asked == [address]
    assert check_proxy(part).cause == f"connections go through http://127.0.0.1:{port}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrong@127.0.0.1:{port}")
    found = failed(authority, address)
    assert "407" in found.cause and "wrong" not in str(found)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert shake_hands(part).proxy == ""
    assert "direct" in check_proxy(part).cause


@pytest.mark.parametrize("proxy_url", ["http://host:port", "socks5://10.0.0.1:1080", "http://"])
def test_proxies_that_cannot_be_used(
    authority: MadeCertificate, proxy_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy_url)
    with pytest.raises(EnvironmentFault, match=r"no URL of a proxy|cannot speak to"):
        shake_hands(federation(authority, "coordinator.example.org:8443"))


def test_variables_that_contradict_each_other(authority: MadeCertificate) -> None:
    part = federation(authority, "coordinator.example.org:8443")
    found = check_proxy(part, {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://user:secret@b:1"})
    assert found.level == "warn" and "HTTPS_PROXY is set twice" in found.cause and "secret" not in found.cause
