"""A federation over real processes on loopback: a coordinator and hospitals, set up with the installed commands.

Every process ends with this one. ``kill`` is SIGKILL, ``start`` is what a supervisor does afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from client.records.lines import entries
from more_model.supervision import console_script

_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on at the moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def eventually(condition: Callable[[], bool], what: str, wait_s: float = 60.0) -> None:
    """Wait for something that another process does; what it waits for is named when it fails."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"within {wait_s:g} s: {what}")
        time.sleep(0.1)


def command(*line: str, cwd: Path | None = None) -> str:
    """Run one installed command to its end and return what it printed; fails with its whole output."""
    done = subprocess.run(
        [console_script(line[0]), *line[1:]], cwd=cwd, env={**os.environ, **_QUIET}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(line)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass
class Service:
    """A command that runs on; its log goes to ``log``. ``around``: a program and its arguments that become it."""

    line: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    around: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        """Start it, again if it has ended."""
        wrapped = [*self.around, sys.executable, "-P", "-m", "more_model.dies_with_parent", str(os.getpid())]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapped, console_script(self.line[0]), *self.line[1:]],
                stdout=log,
                stderr=log,
                env={**os.environ, **_QUIET, **self.environment},
                start_new_session=True,
            )
        self.starts += 1

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self, pid: int | None = None) -> None:
        """SIGKILL to it, or to a process of its own making."""
        assert self.process is not None
        os.kill(pid if pid is not None else self.process.pid, signal.SIGKILL)
        if pid is None:
            self.process.wait(30)

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def children(self, name: str) -> list[int]:
        """Process ids of its descendants whose command line holds ``name``."""
        assert self.process is not None
        return [pid for pid in _descendants(self.process.pid) if name in _command_line(pid)]


@dataclass
class Hospital:
    """One site's folder and its daemon, with the SuperNode and the relay that it starts."""

    name: str
    folder: Path
    daemon: Service

    @property
    def site_file(self) -> Path:
        return self.folder / "site.toml"

    @property
    def audit_log(self) -> Path:
        return self.folder / "records" / "audit.jsonl"

    def status(self) -> dict[str, Any]:
        return dict(json.loads(command("more-client", "status", str(self.site_file), "--json")))

    def audit(self, kind: str) -> list[Mapping[str, Any]]:
        """The contents of the audit log's entries of one kind."""
        return [entry.content for entry in entries(self.audit_log) if entry.kind == kind]


@dataclass(frozen=True)
class SiteData:
    """What a hospital of the federation has: a store, and what it declares."""

    store: Path
    patients: int
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A federation that is to be: its base, what a simulation's configuration said, and its hospitals' data.
    ``settings``: laid over federation.toml, ``site_settings`` over every site.toml; ``allowance``: options of
    ``more-client policy allow``."""

    base: Path
    training: Mapping[str, Any]
    split: Mapping[str, Any]
    seed: int
    rounds: int
    method: str
    public_seed: int
    local_epochs: int
    sites: Mapping[str, SiteData]
    settings: Mapping[str, Any] = field(default_factory=dict)
    site_settings: Mapping[str, Any] = field(default_factory=dict)
    allowance: Sequence[str] = ("--unprotected", "--max-rounds", "99")


class Deployment:
    """A coordinator and its hospitals. Use it in a ``with`` block."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.coordinator = folder / "coordinator"
        fleet, superlink, status, *runtime = free_ports(3 + len(plan.sites))
        self.ports = {"fleet": fleet, "superlink": superlink, "status": status}
        self._runtime = dict(zip(plan.sites, runtime, strict=True))
        self._set_up_coordinator()
        self.hospitals = {name: self._set_up_hospital(name, data) for name, data in plan.sites.items()}
        self._publish()
        self.link = Service(("more-server", "start", "--federation", str(self.coordinator)), folder / "start.log")
        self.run = Service(("more-server", "run", "--federation", str(self.coordinator), "--json"), folder / "run.log")

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        for service in (self.run, *(each.daemon for each in self.hospitals.values()), self.link):
            if service.running:
                service.stop(30)

    @property
    def run_folder(self) -> Path:
        return self.coordinator / "state" / "run"

    def start_all(self) -> None:
        """Everything but the run."""
        self.link.start()
        for hospital in self.hospitals.values():
            hospital.daemon.start()

    def run_to_the_end(self, timeout_s: float) -> None:
        """Start the run and wait for its end; fails with the logs where it does not end well."""
        self.run.start()
        deadline = time.monotonic() + timeout_s
        while self.run.running and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.run.process is not None and self.run.process.returncode == 0, self.logs()

    def outcome(self) -> dict[str, Any]:
        """What the run that has ended printed last."""
        lines = [line for line in self.run.text().splitlines() if line.startswith("{")]
        assert lines, self.run.text()
        return dict(json.loads(lines[-1]))

    def logs(self) -> str:
        """The end of every log, for a test that fails."""
        services = {"start": self.link, "run": self.run, **{n: h.daemon for n, h in self.hospitals.items()}}
        return "\n".join(f"--- {name}\n{service.text()[-4000:]}" for name, service in services.items())

    def _set_up_coordinator(self) -> None:
        plan = self.plan
        public = f"localhost:{self.ports['fleet']}"
        content: dict[str, Any] = {
            "name": "trial",
            "public_address": public,
            "base": str(plan.base),
            "seed": plan.seed,
            "public_seed": plan.public_seed,
            "method": plan.method,
            "local_epochs": plan.local_epochs,
            "rounds": {"rounds": plan.rounds, "round_timeout_s": 600},
            "training": dict(plan.training),
            "listen": {
                "fleet_host": "127.0.0.1",
                "fleet_port": self.ports["fleet"],
                "superlink_port": self.ports["superlink"],
                "status_port": self.ports["status"],
            },
            "sites": {
                name: {"patients": data.patients, "modalities": list(data.modalities)}
                for name, data in plan.sites.items()
            },
        }
        command("more-server", "init", str(self.coordinator), "--name", "trial", "--address", public)
        (self.coordinator / "federation.toml").write_text(tomli_w.dumps({**content, **plan.settings}))

    def _set_up_hospital(self, name: str, data: SiteData) -> Hospital:
        folder = self.folder / name
        kinds = [option for kind in data.modalities for option in ("--modality", kind)]
        made = json.loads(
            command(
                "more-client", "init", name, "--out", str(folder), "--patients", str(data.patients), *kinds, "--json"
            )
        )
        command(
            "more-server", "enroll", name, "--key", made["enrolment"], "--federation", str(self.coordinator)
        )  # fmt: skip
        (folder / "store").symlink_to(data.store)
        (folder / "base").symlink_to(self.plan.base)
        line = ("more-client", "start", str(folder / "site.toml"), "--with-relay", "--stop-within", "20")
        line += ("--runtime-port", str(self._runtime[name]))
        return Hospital(name, folder, Service(line, self.folder / f"{name}.log"))

    def _publish(self) -> None:
        card = self.coordinator / "card"
        command("more-server", "card", "--federation", str(self.coordinator), "--out", str(card))
        told = json.loads((card / "federation-card.json").read_text())["ca_fingerprint"]
        for name, hospital in self.hospitals.items():
            data = self.plan.sites[name]
            kinds = [option for kind in data.modalities for option in ("--modality", kind)]
            command(
                "more-client", "init", name, "--out", str(hospital.folder), "--patients", str(data.patients), *kinds,
                "--card", str(card), "--ca-fingerprint", told,
            )  # fmt: skip
            content = tomllib.loads(hospital.site_file.read_text())
            content.update(device="cpu", socket="d.sock", split=dict(self.plan.split), evaluation_threshold=1)
            content.update(self.plan.site_settings)
            hospital.site_file.write_text(tomli_w.dumps(content))
            command(
                "more-client", "policy", "allow", str(hospital.site_file), "--minimum-patients", "2",
                *self.plan.allowance,
            )  # fmt: skip


@dataclass
class Watched:
    """What was seen of the coordinator's processes while a run went on: resident memory in MiB after each closed
    round, of ``more-server run`` and of the SuperLink."""

    run_mib: list[float] = field(default_factory=list)
    superlink_mib: list[float] = field(default_factory=list)


def watch_memory(deployment: Deployment, timeout_s: float) -> Watched:
    """Start the run and look at the memory at the end of each round, until the run ends."""
    seen, deadline = Watched(), time.monotonic() + timeout_s
    deployment.run.start()
    assert deployment.run.process is not None
    while deployment.run.running and time.monotonic() < deadline:
        if len(closed_rounds(deployment.run_folder)) > len(seen.run_mib):
            seen.run_mib.append(memory_mib(deployment.run.process.pid))
            seen.superlink_mib.append(sum(memory_mib(pid) for pid in deployment.link.children("flower-superlink")))
        time.sleep(0.2)
    assert deployment.run.process.returncode == 0, deployment.logs()
    return seen


def closed_rounds(run_folder: Path) -> list[dict[str, Any]]:
    """The events of closed rounds, in order."""
    path = run_folder / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == "round closed"]


def memory_mib(pid: int) -> float:
    """Resident memory of a process; 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _descendants(pid: int) -> list[int]:
    found = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    """Of all its threads: the kernel lists a child under the one that made it."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            found += [int(each) for each in thread.read_text().split()]
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
