"""A hospital whose line to the coordinator is cut for longer than Flower remembers a node comes back by itself."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from trees.cut_line import Line
from trees.deployment import Deployment, closed_rounds, eventually
from trees.simulated import checkpoints

from server.status.live import NAME as LIVE
from server.status.live import read_live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROUNDS = 6
#: Flower gives a node up after two heartbeats of 30 s.
CUT_S = 100.0
WAIT_S = 300.0
SITE = "site-1"


def test_a_site_that_was_cut_off_comes_back_and_the_bits_are_the_same(
    simulated: Callable[..., Any], module_folder: Path
) -> None:
    simulation = simulated(ROUNDS)
    with Deployment(module_folder / "f", simulation.plan) as deployment:
        line = Line(deployment.ports["fleet"])
        dials_through(deployment.hospitals[SITE].site_file, line)
        folder, daemon = deployment.run_folder, deployment.hospitals[SITE].daemon
        deployment.start_all()
        deployment.run.start()
        eventually(lambda: len(closed_rounds(folder)) >= 2, "two rounds are closed", WAIT_S)

        line.cut()
        ends = time.monotonic() + CUT_S
        eventually(lambda: not connected(folder), "the coordinator misses the site", CUT_S)
        time.sleep(ends - time.monotonic())
        nodes, closed = daemon.children("flower-supernode"), len(closed_rounds(folder))
        line.mend()
        mended = time.monotonic()
        eventually(lambda: connected(folder), "the site is connected again", WAIT_S)
        back_s = time.monotonic() - mended
        eventually(lambda: len(closed_rounds(folder)) > closed, "the round that waited is closed", WAIT_S)
        print(
            f"connected {back_s:.1f} s after the line was mended, round closed after {time.monotonic() - mended:.1f} s"
        )

        eventually(lambda: not deployment.run.running, "the run ends by itself", WAIT_S)
        line.close()
        assert checkpoints(folder) == checkpoints(simulation.out / "arms" / "federated"), deployment.logs()
        outcome = deployment.outcome()
        assert (outcome["status"], outcome["rounds"], outcome["short_rounds"]) == ("complete", ROUNDS, 0)
        assert len(nodes) == 1 and daemon.starts == 1


def dials_through(site_file: Path, line: Line) -> None:
    content = tomllib.loads(site_file.read_text())
    content["federation"]["address"] = f"localhost:{line.port}"
    site_file.write_text(tomli_w.dumps(content))


def connected(run_folder: Path) -> bool:
    live = read_live(run_folder / LIVE)
    return live is not None and SITE in live.connections and live.connections[SITE].connected
