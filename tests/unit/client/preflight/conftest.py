"""A hospital that is ready: data, base, keys, policy; and a coordinator that answers over TLS on this machine."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from trees.certificates import MadeCertificate, write_certificate

if TYPE_CHECKING:
    from more_model.base import Base

SMALL: dict[str, Any] = {
    "preprocessing": {"image_size": 16, "ecg_rate_hz": 50, "ecg_seconds": 1},
    "xray": {"patch_size": 8, "width": 16, "depth": 1, "heads": 2},
    "ecg": {"width": 16, "depth": 1, "heads": 2, "channels": 8, "kernel": 5, "stride": 5, "second_stride": 2},
    "text": {"width": 16, "depth": 1, "heads": 2, "vocabulary": 300, "max_tokens": 48},
    "heads": {"hidden": 16, "embedding": 8},
    "lora": {"rank": 2},
}
StartCoordinator = Callable[..., str]


@dataclass
class ReadySite:
    """``folder`` with everything; ``content`` is what `write` puts into site.toml there."""

    folder: Path
    authority: MadeCertificate
    content: dict[str, Any] = field(default_factory=dict)

    def write(self) -> Path:
        path = self.folder / "site.toml"
        path.write_text(tomli_w.dumps(self.content))
        return path


def _small_base() -> Base:
    from more_model.base import Base
    from more_model.model.config import preset
    from more_model.model.more import build_more
    from more_model.tokenizer import train_tokenizer

    config, tokenizer = preset("tiny", SMALL), train_tokenizer(["the lungs are clear. sinus rhythm."], 300)
    return Base(config, build_more(config, seed=1, pad_id=int(tokenizer.pad_token_id)), tokenizer, "a test")


@pytest.fixture(scope="session")
def small_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of a few thousand parameters; read it, never change it."""
    from more_model.base import save_base

    folder = tmp_path_factory.mktemp("made") / "base"
    save_base(_small_base(), folder)
    return folder


@pytest.fixture(scope="session")
def small_fingerprint() -> dict[str, str]:
    """The parts of its fingerprint, by the method ffa and the usual seed."""
    from more_model.base import assemble

    return dict(assemble(_small_base(), "ffa", 2410_16239).fingerprint.parts)


@pytest.fixture
def ready(tmp_path: Path, small_base_folder: Path, small_fingerprint: dict[str, str]) -> ReadySite:
    """Nothing listens at the coordinator's address until a test starts it."""
    import numpy as np
    from PIL import Image

    site = ReadySite(tmp_path, write_certificate(tmp_path, "authority", ends_days=400))
    rows = ["pid,acc,film,words"]
    for number in range(4):
        grey = np.add.outer(np.arange(40), np.arange(40) + number).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
        rows.append(f"patient-{number},{number},{number}.png,The lungs are clear.")
    (tmp_path / "films.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "SOURCES.toml").write_text(
        '[preprocessing]\nimage_size = 16\necg_rate_hz = 50\necg_seconds = 1\n[[sources]]\nkind = "table"\n'
        'mapping = { path = "films.csv", patient = "pid", study = "acc", xray = "film", report_text = "words" }\n'
    )
    (tmp_path / "keys").mkdir(mode=0o700)
    for key in ("node", "identity", "site"):
        (tmp_path / "keys" / key).write_bytes(bytes(32))
        (tmp_path / "keys" / key).chmod(0o600)
    from client.installed_code import installed_code_digest

    policy = {
        "federation": {"name": "test", "ca_fingerprint": site.authority.fingerprint},
        "code": {"installed": [installed_code_digest()]},
    }
    (tmp_path / "policy.toml").write_text(tomli_w.dumps(policy))
    site.content = {
        "site": "north",
        "base": str(small_base_folder),
        "device": "cpu",
        "federation": {
            "name": "test",
            "address": "127.0.0.1:9",
            "root_certificate": "authority.pem",
            "ca_fingerprint": site.authority.fingerprint,
            "fingerprint": dict(small_fingerprint),
        },
    }
    _private(tmp_path)
    return site


def _private(folder: Path) -> None:
    """Whatever the umask of this test run is."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)


@pytest.fixture
def coordinator() -> Iterator[StartCoordinator]:
    """``coordinator(certificate, skew_s=60)`` starts a server and gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(certificate: MadeCertificate | None, *, skew_s: float = 0.0) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response_only(404)
                self.send_header("Date", format_datetime(datetime.now(UTC) + timedelta(seconds=skew_s), usegmt=True))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of whoever runs the tests are not the site's."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
