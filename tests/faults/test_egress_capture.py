"""What leaves a hospital, counted on the way: the frames at the daemon's socket are what the audit log says, and what
goes to the coordinator under TLS is that and what Flower puts around it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from trees.deployment import Deployment, Service, eventually, free_ports
from trees.small_federation import small_federation
from trees.taps import Tap, tcp_tap, unix_tap

from client.egress import payload_digest
from client.wire import Frame, Limits, receive
from more_model.supervision import console_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SITE, ROUNDS, IDLE_S = "site-1", 3, 30.0
#: What Flower puts around one message. It sends some eighteen requests for it: the question's parts are fetched and
#: confirmed, the answer and each of its parts pushed. Each has about 0.8 KiB of head, signature and TLS.
MESSAGE_BYTES = 24 * 1024


@dataclass(frozen=True)
class Captured:
    """A run that has ended. ``frames``: what the daemon said to the relay. ``up``: bytes that left under TLS from the
    connection of the node to the end of the run, ``idle``: those of `IDLE_S` in which nothing was asked."""

    deployment: Deployment
    raw: tuple[bytes, ...]
    frames: tuple[Frame, ...]
    released: tuple[Mapping[str, Any], ...]
    up: int
    idle: int
    seconds: float
    connections: int


class _Bytes:
    """A connection whose other end has said everything."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def recv(self, size: int) -> bytes:
        piece, self._content = self._content[:size], self._content[size:]
        return piece


@pytest.fixture(scope="module")
def captured(write_miniature: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    made = tmp_path_factory.mktemp("captured")
    settings = {"evaluation": {"split": "test"}}
    config = write_miniature(made)
    plan = small_federation(made / "prepared", config, ROUNDS, names=(SITE,), settings=settings).plan
    # Not under pytest's own folder: the path of a Unix socket is short.
    folder = Path(tempfile.mkdtemp(prefix="more-"))
    with Deployment(folder / "f", plan) as deployment:
        fleet, relay_tap, relay = _tapped(deployment)
        deployment.start_all()
        eventually((deployment.hospitals[SITE].folder / "d.sock").exists, "the daemon listens", 120)
        relay.start()
        try:
            yield _captured(deployment, fleet, relay_tap)
        finally:
            relay.stop()
            fleet.close()
            relay_tap.close()
    shutil.rmtree(folder)


def _tapped(deployment: Deployment) -> tuple[Tap, Tap, Service]:
    """The hospital calls the coordinator through one tap, and its relay calls the daemon through another."""
    hospital, (runtime,) = deployment.hospitals[SITE], free_ports(1)
    fleet, port = tcp_tap(deployment.ports["fleet"])
    content = tomllib.loads(hospital.site_file.read_text())
    content["federation"]["address"] = f"localhost:{port}"
    hospital.site_file.write_text(tomli_w.dumps(content))
    hospital.daemon.line = (
        *("more-client", "start", str(hospital.site_file), "--stop-within", "20"),
        *("--runtime-port", str(runtime)),
    )
    tap = unix_tap(hospital.folder / "r.sock", hospital.folder / "d.sock")
    secret = hospital.folder / "work" / "supernode" / "superexec.secret"
    line = ("more-client", "relay", "--runtime", f"127.0.0.1:{runtime}", "--secret", str(secret))
    relay = Service((*line, "--socket", str(hospital.folder / "r.sock")), hospital.folder / "relay.log")
    return fleet, tap, relay


def _captured(deployment: Deployment, fleet: Tap, relay_tap: Tap) -> Captured:
    hospital = deployment.hospitals[SITE]
    eventually(lambda: "SuperNode ID" in hospital.daemon.text(), "the node is connected", 120)
    before = fleet.up_bytes
    time.sleep(IDLE_S)
    idle, started = fleet.up_bytes - before, time.monotonic()
    deployment.run_to_the_end(300)
    seconds, up = time.monotonic() - started, fleet.up_bytes - before - idle
    raw = tuple(bytes(back) for back in relay_tap.kept if back)
    frames = tuple(receive(_Bytes(each), Limits()) for each in raw)  # type: ignore[arg-type]
    released = tuple(hospital.audit("released"))
    return Captured(deployment, raw, frames, released, up, idle, seconds, fleet.connections)


def payload_bytes(frame: Frame) -> int:
    """Names and values of the facts (a number as 8 bytes), and the arrays."""
    facts = sum(len(n.encode()) + (len(v.encode()) if isinstance(v, str) else 8) for n, v in frame.facts.items())
    return facts + sum(array.nbytes for array in frame.arrays.values())


def test_the_audit_log_accounts_for_every_payload_byte_at_the_daemons_socket(captured: Captured) -> None:
    assert [frame.kind for frame in captured.frames].count("update") == ROUNDS
    assert [frame.kind for frame in captured.frames].count("evaluation") == ROUNDS + 1
    assert [frame.kind for frame in captured.frames] == [entry["message"] for entry in captured.released]
    assert [payload_digest(f.facts, f.arrays) for f in captured.frames] == [e["sha256"] for e in captured.released]
    assert [payload_bytes(frame) for frame in captured.frames] == [entry["bytes"] for entry in captured.released]
    for raw, frame in zip(captured.raw, captured.frames, strict=True):
        # A header, JSON's quotes, and of each array its name, type, shape and place (safetensors).
        assert 0 < len(raw) - payload_bytes(frame) <= 256 + 128 * len(frame.arrays)


def test_what_leaves_under_tls_is_what_was_released_and_what_flower_puts_around_it(captured: Captured) -> None:
    released = sum(entry["bytes"] for entry in captured.released)
    polling = captured.idle * (captured.seconds / IDLE_S + 1)
    around = captured.up - polling - released
    print(
        f"{len(captured.released)} messages of {released} bytes; {captured.up} left in {captured.seconds:.0f} s over "
        f"{captured.connections} connections; idle: {captured.idle} in {IDLE_S:.0f} s"
    )
    assert captured.up > released
    assert around <= MESSAGE_BYTES * len(captured.released)


def test_a_log_of_a_real_run_is_verified_and_any_change_of_it_is_found(captured: Captured, tmp_path: Path) -> None:
    log = captured.deployment.hospitals[SITE].audit_log
    lines = log.read_bytes().splitlines(keepends=True)
    copy = tmp_path / "audit.jsonl"

    def verify(content: list[bytes], *options: str) -> tuple[int, dict[str, Any]]:
        copy.write_bytes(b"".join(content))
        line = [console_script("more-client"), "audit", "verify", str(copy), "--json", *options]
        done = subprocess.run(line, capture_output=True, text=True)
        return done.returncode, json.loads(done.stdout)

    code, whole = verify(lines)
    assert code == 0 and whole["whole"] and whole["released_bytes"] == sum(e["bytes"] for e in captured.released)
    middle = next(n for n, line in enumerate(lines) if b'"update"' in line)
    edited = lines[middle].replace(b'"round":1', b'"round":2')
    assert edited != lines[middle]
    changed = {
        "edited": [*lines[:middle], edited, *lines[middle + 1 :]],
        "deleted": [*lines[:middle], *lines[middle + 1 :]],
        "reordered": [*lines[:middle], lines[middle + 1], lines[middle], *lines[middle + 2 :]],
    }
    for content in changed.values():
        code, found = verify(content)
        assert code == 5 and not found["whole"] and found["fault_count"]
    code, found = verify(lines[:-1], "--anchor", whole["anchor"])
    assert code == 5 and any("the given anchor knows" in fault for fault in found["faults"])
