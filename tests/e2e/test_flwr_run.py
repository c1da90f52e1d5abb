"""`flwr run .` for real: Flower's command, its managed SuperLink and its simulation runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from more_model.run_folder import RunFolder
from simulation.flower_federation import train_federated
from simulation.run import prepare
from simulation.settings import load_run_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Run = Callable[..., str]


def processes_with(entry: str) -> set[int]:
    """Processes that inherited this entry of the environment: exactly those that the test has started."""
    found = set()
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            try:
                if entry.encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.add(int(place.name))
            except OSError:  # it ended meanwhile, or belongs to somebody else
                continue
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def flwr_run(checkout: Path, tmp_path: Path) -> Iterator[Run]:
    """``flwr_run(config, out, nodes)`` with a SuperLink of its own, which is ended afterwards."""
    if not Path("/proc/self/environ").is_file():
        pytest.skip("the managed SuperLink can be found and ended only where there is /proc")
    home = tmp_path / "flwr-home"
    # Ray makes sockets below its folder, whose paths may have about 100 characters: pytest's folder is too deep.
    ray_folder = tempfile.mkdtemp(prefix="more-ray-", dir="/tmp")
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "RAY_TMPDIR": ray_folder,
        # Flower looks for its other programs on the path.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    def run(config: Path, out: Path, nodes: int, *more: str) -> str:
        facts = " ".join([f'config="{config}"', f'out="{out}"', *more])
        federation = f"num-supernodes={nodes} client-resources-num-cpus=1"
        command = ["flwr", "run", ".", "local", "--stream", "--federation-config", federation, "-c", facts]
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=400, check=False
        )
        return done.stdout + done.stderr

    yield run
    started = processes_with(f"FLWR_HOME={home}")
    for number in started:
        os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while (left := processes_with(f"FLWR_HOME={home}")) and time.monotonic() < deadline:
        time.sleep(0.2)
    for number in left:
        os.kill(number, signal.SIGKILL)
    shutil.rmtree(ray_folder, ignore_errors=True)


def test_flwr_run_gives_the_bits_of_the_inprocess_engine_and_a_report(
    flwr_run: Run, write_miniature: Callable[..., Path], tmp_path: Path
) -> None:
    evaluation = {"linear_probe": False, "retrieval": False, "examples": 0}
    config = write_miniature(tmp_path / "config", {"evaluation": evaluation})
    out = tmp_path / "run"

    printed = flwr_run(config, out, 2)
    assert "Flower runs 2 nodes, but this run has 3 sites: site-1, site-2, site-3" in printed, printed
    assert not (out / "summary.json").exists()

    printed = flwr_run(config, out, 3, "resume=true")
    assert "Successfully started run" in printed
    assert "Status: complete" in printed, printed
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], set(summary["arms"])) == ("complete", {"federated"})
    assert [set(entry["sites"]) for entry in summary["rounds"]] == [{"site-1", "site-2", "site-3"}] * 2
    assert "SYNTHETIC" in (out / "report.html").read_text(encoding="utf-8").upper()

    (tmp_path / "inprocess").mkdir()
    bench = prepare(load_run_config(config), RunFolder(tmp_path / "inprocess"), lambda _stage, _done, _total: None)
    train_federated(bench, "federated", bench.config.seed)
    for number in (1, 2):
        name = f"arms/federated/checkpoints/round-{number:04d}.safetensors"
        assert (out / name).read_bytes() == (tmp_path / "inprocess" / name).read_bytes()
