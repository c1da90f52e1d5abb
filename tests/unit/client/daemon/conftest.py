"""Daemons of the miniature's hospitals as processes of their own; every one ends with its test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from trees.certificates import write_certificate

from client.daemon.control import ask
from client.daemon.opening import open_site
from client.daemon.serve import Daemon
from client.daemon.sockets import door_for
from client.records.audit_log import open_log
from client.records.lines import Entry, entries
from client.site_file import load_site_file
from client.wire import BUNDLE_FACT, WHO, Frame, Limits, receive, send
from more_model.exchange import Instruction
from more_model.private_file import secret

if TYPE_CHECKING:
    from simulation.workbench import Workbench

WAIT_S = 60.0
FEDERATION = "chest"
#: Digest of the app bundle that every policy here names.
BUNDLE = "b0" * 32
START = "import typer; from client.commands.start import start; typer.run(start)"


def eventually(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"within {wait_s:g} s: {what}")
        time.sleep(0.02)


@dataclass
class RunningSite:
    """A site's folder and the daemon that runs in it. ``policy``: its content; None removes the file."""

    folder: Path
    content: dict[str, Any]
    policy: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        return self.folder / "d.sock"

    @property
    def site_file(self) -> Path:
        return self.folder / "site.toml"

    def write_site_file(self) -> None:
        self.site_file.write_text(tomli_w.dumps(self.content))

    def launch(self) -> None:
        self.write_site_file()
        options = [str(self.site_file), "--no-connect", "--stop-within", "20", *self.options]
        # However this test run ends, it leaves no daemon behind.
        wrapped = ["-P", "-m", "more_model.dies_with_parent", str(os.getpid()), sys.executable, "-P", "-c", START]
        command = [sys.executable, *wrapped, *options]
        with (self.folder / "daemon.log").open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment}
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)

    def up(self) -> None:
        """Wait until it answers, and let its policy name the code that it runs."""
        eventually(lambda: self.status_or_none() is not None or self.exit_code is not None, "a daemon that answers")
        assert self.exit_code is None, self.log
        self.policy["code"] = {"installed": [self.status()["code"]], "bundles": [BUNDLE]}
        self.write_policy()

    def start(self) -> None:
        self.launch()
        self.up()

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process is not None else None

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()

    def status_or_none(self) -> dict[str, Any] | None:
        return ask(self.socket, "status")

    def status(self) -> dict[str, Any]:
        found = self.status_or_none()
        assert found is not None, self.log
        return found

    def write_policy(self, changes: Mapping[str, Any] | None = None) -> None:
        merged = {part: {**self.policy.get(part, {}), **(changes or {}).get(part, {})} for part in self.policy}
        (self.folder / "policy.toml").write_text(tomli_w.dumps(merged))

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(WAIT_S)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def audit(self, kind: str) -> list[Entry]:
        return [entry for entry in entries(self.folder / "records" / "audit.jsonl") if entry.kind == kind]


NewSite = Callable[..., RunningSite]


@pytest.fixture
def new_site(miniature_bench: Workbench) -> Iterator[NewSite]:
    """``new_site("site-1", local_epochs=50)``: a hospital of the miniature, not started yet; its policy allows the
    federation of `FEDERATION` what it asks, without privacy."""
    made: list[RunningSite] = []
    # Not under pytest's own folder: the path of a Unix socket is short.
    parent = Path(tempfile.mkdtemp(prefix="more-"))
    authority = write_certificate(parent, "authority", ends_days=400)
    bench = miniature_bench

    def new(name: str, *, local_epochs: int = 1, **content: Any) -> RunningSite:
        folder = parent / name
        folder.mkdir()
        choice = bench.config.federation
        federation = {
            "name": FEDERATION,
            "address": "127.0.0.1:9",
            "root_certificate": str(authority.certificate),
            "ca_fingerprint": authority.fingerprint,
            "method": choice.method,
            "public_seed": choice.public_seed,
            "local_epochs": local_epochs,
        }
        site = {
            "site": name,
            "store": str(bench.folder / "workspace" / "sites" / name),
            "base": str(bench.base_folder),
            "socket": "d.sock",
            "device": "cpu",
            "federation": federation,
            "split": bench.config.data.split.model_dump(exclude_none=True),
            **content,
        }
        policy: dict[str, Any] = {
            "federation": {"name": FEDERATION, "ca_fingerprint": authority.fingerprint},
            "code": {},
            "exchange": {"groups": ["xray", "ecg", "text", "shared"], "max_bytes_per_round": 10**7, "max_rounds": 9},
            "privacy": {"unprotected": True, "secure_sums": "allowed"},
            "evaluation": {},
            "schedule": {"windows": ["mon-sun 00:00-24:00"]},
            "resources": {"minimum_patients": 2},
        }
        made.append(RunningSite(folder, site, policy))
        return made[-1]

    yield new
    for site in made:
        if site.process is not None and site.exit_code is None:
            site.kill()
    rmtree(parent)


@dataclass
class Here:
    """The same daemon in the test's own process, on real sockets: it starts in no time and can be looked into."""

    site: RunningSite
    daemon: Daemon
    thread: threading.Thread
    ended: list[bool]

    def ask(
        self,
        kind: str,
        facts: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Any] | None = None,
        *,
        bundle: str | None = BUNDLE,
    ) -> Frame:
        """As the relay asks, on a connection of its own."""
        said = {} if bundle is None or kind == WHO else {BUNDLE_FACT: bundle}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(WAIT_S)
            connection.connect(str(self.site.socket))
            send(connection, Frame(kind, {**(facts or {}), **said}, arrays or {}))
            return receive(connection, Limits())

    def train(self, instruction: Instruction) -> Frame:
        return self.ask("train", instruction.facts(), instruction.tensors)


@pytest.fixture
def here() -> Iterator[Callable[[RunningSite], Any]]:
    """``with here(site) as daemon``: opened anew each time, as after a restart."""

    @contextmanager
    def running(site: RunningSite) -> Iterator[Here]:
        site.write_site_file()
        file, wake, ended = load_site_file(site.site_file), threading.Event(), list[bool]()
        with open_log(file.controls.audit_log, site=file.site, anchor_file=file.controls.audit_anchor) as log:
            opened = open_site(file)
            site.policy["code"] = {"installed": [opened.code], "bundles": [BUNDLE]}
            if not (site.folder / "policy.toml").exists():
                site.write_policy()
            daemon = Daemon(opened, log, secret(file.keys.site), door_for(file.socket, ()))
            thread = threading.Thread(target=lambda: ended.append(daemon.run(wake)))
            thread.start()
            try:
                yield Here(site, daemon, thread, ended)
            finally:
                daemon.drain(0.0)
                thread.join(WAIT_S)
                daemon.close()

    yield running


@pytest.fixture(scope="module")
def instruct(miniature_bench: Workbench) -> Callable[..., Instruction]:
    """``instruct(2, seed=4)``: what the coordinator of the miniature asks in round 2 of 4."""
    from more_model.model.inventory import export_tensors

    assembled = miniature_bench.assembled()
    tensors = export_tensors(assembled.model)

    def build(number: int = 1, **changes: Any) -> Instruction:
        asked = Instruction(
            round=number,
            rounds=4,
            tensors=tensors,
            training=miniature_bench.config.training.model_dump_json(),
            seed=3,
            spec_digest=assembled.spec.digest(),
            fingerprint=assembled.fingerprint,
            run="federated",
        )
        return replace(asked, **changes)

    return build


@pytest.fixture(scope="session")
def bundle() -> str:
    """Digest of the app bundle that the sites' policies name."""
    return BUNDLE


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    return eventually
