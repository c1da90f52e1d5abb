"""A disk that fills up in the middle of a run, at a hospital and at the coordinator: nothing is lost, it goes on."""

from __future__ import annotations

import json
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w
from trees.deployment import Deployment, Hospital, closed_rounds, command, eventually
from trees.simulated import Simulated, checkpoints
from trees.small_disk import SmallDisk, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROUNDS = 4
WAIT_S = 300.0
FULL_S = 20.0
SITE = "site-1"
NO_SPACE = "No space left on device"


@pytest.fixture(scope="module")
def simulation(simulated: Callable[..., Simulated]) -> Simulated:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    return simulated(ROUNDS)


@pytest.fixture
def deployment(simulation: Simulated, short_folder: Path) -> Iterator[Deployment]:
    with Deployment(short_folder / "f", simulation.plan) as made:
        yield made


def test_a_full_disk_at_a_hospital(deployment: Deployment, simulation: Simulated) -> None:
    hospital = deployment.hospitals[SITE]
    with SmallDisk(hospital.folder / "disk", 4096) as disk:
        keep_on(disk, hospital)
        deployment.start_all()
        deployment.run.start()
        eventually(lambda: len(closed_rounds(deployment.run_folder)) >= 1, "a round is closed", WAIT_S)
        disk.fill()
        eventually(
            lambda: not deployment.run.running or hospital.status()["obstacle"] is not None,
            "the hospital's people are told",
            WAIT_S,
        )
        assert deployment.run.running, deployment.logs()
        told = command("more-client", "status", str(hospital.site_file))
        assert "cannot answer" in told and NO_SPACE in told and "What to do:" in told
        assert NO_SPACE in hospital.daemon.text()
        disk.keep_full(FULL_S)
        closed = len(closed_rounds(deployment.run_folder))
        assert closed < ROUNDS and deployment.run.running, "the others wait for it"

        disk.clear()
        cleared = time.monotonic()
        eventually(lambda: len(closed_rounds(deployment.run_folder)) > closed, "the round is closed", WAIT_S)
        print(f"the round was closed {time.monotonic() - cleared:.1f} s after space had returned")
        eventually(lambda: not deployment.run.running, "the run ends by itself", WAIT_S)
        require_the_bits(deployment, deployment.run_folder, simulation)
        assert hospital.status()["obstacle"] is None and hospital.daemon.starts == 1
        require_whole(disk.path / "audit.jsonl")


def test_a_full_disk_at_the_coordinator(deployment: Deployment, simulation: Simulated) -> None:
    with SmallDisk(deployment.run_folder, 4096) as disk:
        deployment.run.around = disk.around
        deployment.start_all()
        deployment.run.start()
        eventually(lambda: len(closed_rounds(disk.path)) >= 1, "a round is closed", WAIT_S)
        disk.fill()
        eventually(lambda: not deployment.run.running, "the run ends", WAIT_S)
        assert deployment.run.process is not None and deployment.run.process.returncode == 8, deployment.run.text()
        said = deployment.run.text().partition("Traceback")
        assert NO_SPACE in said[0] and not said[1], deployment.run.text()
        held = kept(disk)
        assert 1 <= len(held) < ROUNDS

        # A supervisor starts it again while there is still no space.
        deployment.run.start()
        eventually(lambda: not deployment.run.running, "it ends again", WAIT_S)
        assert deployment.run.process.returncode == 8, deployment.run.text()
        assert kept(disk) == held

        disk.clear()
        deployment.run.start()
        eventually(lambda: not deployment.run.running, "the run ends by itself", WAIT_S)
        # SQLite follows the links of a path, and would look at this side of the mount.
        shutil.copytree(disk.path, deployment.folder / "seen")
        require_the_bits(deployment, deployment.folder / "seen", simulation)


def keep_on(disk: SmallDisk, hospital: Hospital) -> None:
    """Records and work of a hospital on the disk, and its daemon in sight of it."""
    content = tomllib.loads(hospital.site_file.read_text())
    content["work"] = "disk/work"
    content["controls"] = {"audit_log": "disk/audit.jsonl", "ledger": "disk/ledger.sqlite"}
    hospital.site_file.write_text(tomli_w.dumps(content))
    hospital.daemon.around = disk.around


def kept(disk: SmallDisk) -> list[str]:
    """The checkpoints, by name."""
    return sorted(path.name for path in (disk.path / "checkpoints").iterdir())


def require_the_bits(deployment: Deployment, run_folder: Path, simulation: Simulated) -> None:
    assert deployment.run.process is not None and deployment.run.process.returncode == 0, deployment.logs()
    assert checkpoints(run_folder) == checkpoints(simulation.out / "arms" / "federated")
    outcome = deployment.outcome()
    assert (outcome["status"], outcome["rounds"], outcome["short_rounds"]) == ("complete", ROUNDS, 0)


def require_whole(audit_log: Path) -> None:
    verified = json.loads(command("more-client", "audit", "verify", str(audit_log), "--json"))
    assert verified["whole"], verified
