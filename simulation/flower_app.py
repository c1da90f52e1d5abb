"""``flwr run .``: the federated arm of a run configuration on Flower's own runtime, with a report like `more-sim run`.

The bundle that Flower makes of this project carries no code (`fab-include` in pyproject.toml): both apps below are
imported from the package that is installed where they run. The other arms are added afterwards by
``more-sim run CONFIG --out OUT --resume``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from rich.console import Console

from client.flower_app import build_client_app
from client.hospital import Hospital
from more_model.errors import ConfigError, RoundError
from server.journal import RoundRecord
from simulation.arms import TrainedArm
from simulation.flower_federation import train_over_grid
from simulation.run import run
from simulation.settings import load_run_config
from simulation.site_folder import hospital_of_context, index_of, write_site_folders
from simulation.workbench import Workbench

#: The simulated nodes register themselves in one go; this only bridges the start of two threads.
_REGISTRATION_S = 10.0

server_app = ServerApp()


@server_app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Prepare the run, train its federated arm over ``grid``, evaluate, write summary and report.

    Raises:
        RoundError: the number of nodes is not the number of sites, or a site was missing in a round.
    """
    facts = context.run_config
    path = Path(str(facts["config"])).absolute()
    config = load_run_config(path)
    if "federated" not in config.arms:
        raise ConfigError(str(path), ["arms: there is no federated arm, and `flwr run` trains no other"])

    def federate(bench: Workbench, arm: str, seed: int) -> tuple[TrainedArm, list[RoundRecord]]:
        write_site_folders(bench)
        return train_over_grid(bench, grid, arm, seed)

    summary = run(
        config,
        _out(facts),
        resume=bool(facts["resume"]),
        overwrite=bool(facts["overwrite"]),
        console=Console(),
        arms=("federated",),
        federate=federate,
        on_sites=lambda sites: require_nodes(grid, sites),
    )
    if summary["status"] != "complete":
        raise RoundError("a site was missing in a round", remedy="read the rounds in summary.json")


def require_nodes(grid: Grid, sites: Sequence[str], *, timeout_s: float = _REGISTRATION_S) -> None:
    """Refuse (RoundError) a federation that is not exactly as large as the run, before anything long is done."""
    deadline = time.monotonic() + timeout_s
    while (nodes := len(list(grid.get_node_ids()))) != len(sites):
        if time.monotonic() > deadline:
            raise RoundError(
                f"Flower runs {nodes} nodes, but this run has {len(sites)} sites: {', '.join(sites)}",
                remedy=f'flwr run . local --stream --federation-config "num-supernodes={len(sites)}" '
                '-c "resume=true" (what is prepared already is kept)',
            )
        time.sleep(0.1)


def _out(facts: Mapping[str, Any]) -> Path:
    return Path(str(facts["out"])).absolute()


def _hospital(context: Context) -> Hospital:
    return hospital_of_context(context.node_config, index_of(_out(context.run_config)))


client_app = build_client_app(_hospital)
