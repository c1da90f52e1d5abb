"""nginx with the configuration of deploy/, on loopback, in front of a stand-in for the SuperLink."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from trees.certificates import MadeCertificate, write_certificate

from server.authority import make_loopback
from server.federation_file import ListenPart
from server.fleet_gate import CALLS, PREFIX

Seen = tuple[str, str | None, int]
_MAIN = """\
daemon off;
user root;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/coordinator.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """nginx at ``port``; ``seen``: path, signature and size of what reached the stand-in."""

    port: int
    tls: ssl.SSLContext
    client: httpx.Client
    seen: list[Seen]

    def post(self, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        return self.client.post(f"https://127.0.0.1:{self.port}{path}", content=content, headers=headers)

    def raw(self, request: bytes) -> bytes:
        """The status line of an answer to bytes that a library would tidy up first."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as plain,
            self.tls.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(request)
            return connection.recv(4096).split(b"\r\n", 1)[0]


@contextmanager
def _stand_in(folder: Path, port: int, seen: list[Seen], *, trusted: bool = True) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            seen.append((self.path, self.headers.get("flwr-signature"), len(body)))
            self.send_response(int(self.headers.get("x-want", "200")))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the name that the library asks for

        def log_message(self, *_words: object) -> None:
            """Nothing: the test looks at what was seen."""

    pair = make_loopback(folder if trusted else folder / "stranger")
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


def _adapted(deploy: Path, folder: Path, port: int, superlink: int, own: MadeCertificate) -> str:
    """The configuration of deploy/: only paths and ports are others."""
    text = (deploy / "nginx" / "coordinator.conf").read_text()
    changes = {
        "listen 8443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server 127.0.0.1:9443;": f"server 127.0.0.1:{superlink};",
        "/srv/federation/authority/server.pem": str(own.certificate),
        "/srv/federation/authority/server.key": str(own.key),
        "/srv/federation/state/superlink/loopback_root.pem": str(make_loopback(folder).root),
        "/var/log/nginx/more-fed-refused.log": str(folder / "refused.log"),
    }
    for here, there in changes.items():
        assert here in text, f"the configuration no longer has {here!r}"
        text = text.replace(here, there)
    return text


@contextmanager
def _nginx(program: str, folder: Path, configuration: str, port: int) -> Iterator[None]:
    (folder / "coordinator.conf").write_text(configuration)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(process, port, folder / "nginx.log")
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


@pytest.fixture(scope="module")
def proxy(
    deploy: Path, installed_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """nginx with our configuration in front of a stand-in."""
    program, folder = installed_program("nginx"), tmp_path_factory.mktemp("nginx")
    superlink, port, seen = _free_port(), _free_port(), list[Seen]()
    root = write_certificate(folder, "root")
    own = write_certificate(folder, "server", authority=root)
    tls = ssl.create_default_context(cafile=str(root.certificate))
    with (
        _stand_in(folder, superlink, seen),
        _nginx(program, folder, _adapted(deploy, folder, port, superlink, own), port),
        httpx.Client(verify=tls, trust_env=False, timeout=10.0) as client,
    ):
        yield Proxy(port, tls, client, seen)


@pytest.mark.parametrize("call", sorted(CALLS))
def test_a_call_of_a_node_passes_with_its_signature_and_body(proxy: Proxy, call: str) -> None:
    answer = proxy.post(f"{PREFIX}{call}", b"\x00a message", **{"flwr-signature": "signed"})
    assert (answer.status_code, answer.content) == (200, b"\x00a message")
    assert proxy.seen[-1] == (f"{PREFIX}{call}", "signed", 10)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/control/start-run",
        "/v1/control/list-nodes",
        "/v1/runtime/pull-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/",
        "/v1/fleet/get-run/more",
        "/v1/fleet/get-runs",
        "/V1/FLEET/GET-RUN",
        "/v1/fleet/get-run?run=1",
        "/status.json",
    ],
)
def test_everything_else_is_hidden(proxy: Proxy, path: str) -> None:
    before = len(proxy.seen)
    assert proxy.post(path, b"x").status_code == 404
    assert len(proxy.seen) == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_hidden(proxy: Proxy, method: str) -> None:
    assert proxy.client.request(method, f"https://127.0.0.1:{proxy.port}/v1/fleet/get-run").status_code == 404


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/control/../fleet/get-run",
        b"/v1/control/%2e%2e/fleet/get-run",
        b"/v1/fleet/%67et-run",
        b"/v1//fleet/get-run",
        b"/v1/control/start-run#/v1/fleet/get-run",
        b"/v1/fleet/get-run%00",
        b"https://localhost/v1/control/start-run",
    ],
)
def test_no_spelling_that_two_servers_could_read_in_two_ways_passes(proxy: Proxy, target: bytes) -> None:
    before = len(proxy.seen)
    status = proxy.raw(b"POST " + target + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
    assert re.match(rb"HTTP/1.1 40[04]", status), status
    assert len(proxy.seen) == before


def test_too_large_a_request_is_refused_and_the_largest_passes(proxy: Proxy) -> None:
    largest = ListenPart().max_request_mib * 2**20
    assert proxy.post("/v1/fleet/push-object", bytes(largest)).status_code == 200
    before = len(proxy.seen)
    assert proxy.post("/v1/fleet/push-object", bytes(largest + 1)).status_code == 413
    assert len(proxy.seen) == before


def test_plain_http_is_refused(proxy: Proxy) -> None:
    answer = proxy.client.post(f"http://127.0.0.1:{proxy.port}/v1/fleet/get-run", content=b"x")
    assert answer.status_code == 400
    assert "HTTPS" in answer.text


@pytest.mark.parametrize("status", [401, 403, 412, 500])
def test_what_the_superlink_says_reaches_the_node_unchanged(proxy: Proxy, status: int) -> None:
    assert proxy.post("/v1/fleet/pull-messages", b"told", **{"x-want": str(status)}).status_code == status


def test_nodes_are_told_to_try_again_where_the_superlink_is_away_or_somebody_else(
    deploy: Path, installed_program: Callable[[str], str], tmp_path: Path
) -> None:
    program, superlink, port = installed_program("nginx"), _free_port(), _free_port()
    root = write_certificate(tmp_path, "root")
    own = write_certificate(tmp_path, "server", authority=root)
    # A rule that somebody adds later.
    denied = "location /denied { deny all; }\n    location / {"
    configuration = _adapted(deploy, tmp_path, port, superlink, own).replace("location / {", denied)
    tls, seen, address = (
        ssl.create_default_context(cafile=str(root.certificate)),
        list[Seen](),
        f"https://127.0.0.1:{port}",
    )
    with _nginx(program, tmp_path, configuration, port), httpx.Client(verify=tls, trust_env=False) as client:
        assert client.post(f"{address}/v1/fleet/get-run").status_code == 503
        assert client.get(f"{address}/denied").status_code == 404
        with _stand_in(tmp_path, superlink, seen, trusted=False):
            assert client.post(f"{address}/v1/fleet/get-run").status_code == 503
    assert seen == []


def test_it_forwards_the_calls_and_the_size_of_the_built_in_gate(deploy: Path) -> None:
    text = (deploy / "nginx" / "coordinator.conf").read_text()
    named = re.search(r"\^POST /v1/fleet/\(([a-z|-]+)\)\\z", text)
    assert named is not None
    assert set(named[1].split("|")) == CALLS
    assert f"client_max_body_size       {ListenPart().max_request_mib}m;" in text
    assert f"listen {ListenPart().fleet_port} ssl;" in text
    assert f"server 127.0.0.1:{ListenPart().superlink_port};" in text
    assert not re.search(r"listen\s+80\b", text)
