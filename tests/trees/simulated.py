"""The miniature as a simulation with hospitals that lack a modality, and the plan of the same federation deployed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trees.deployment import Plan, SiteData, command
from trees.miniature import write_miniature

from simulation.settings import load_run_config

#: Three hospitals: one without ECGs, one without X-rays, one with both.
MODALITIES = {"site-1": ("xray", "report"), "site-2": ("ecg", "report"), "site-3": ("xray", "ecg", "report")}
LACKING = {"site-1": ["ecg"], "site-2": ["xray"]}


@dataclass(frozen=True)
class Simulated:
    """A finished simulation: its run directory, and what a deployment of the same federation is made of."""

    out: Path
    plan: Plan


def simulate(folder: Path, rounds: int, changes: dict[str, Any] | None = None) -> Simulated:
    """The federated arm alone, run with the installed command."""
    config = write_miniature(
        folder,
        {
            "arms": ["federated"],
            "partition": {"missing": LACKING},
            "federation": {"rounds": {"rounds": rounds}},
            "evaluation": {"linear_probe": False, "retrieval": False, "examples": 0},
            **(changes or {}),
        },
    )
    command("more-sim", "run", str(config), "--out", str(folder / "run"))
    chosen, workspace = load_run_config(config), folder / "run" / "workspace"
    plan = Plan(
        base=workspace / "base",
        training=chosen.training.model_dump(mode="json", exclude_none=True),
        split=chosen.data.split.model_dump(mode="json", exclude_none=True),
        seed=chosen.seed,
        rounds=rounds,
        method=chosen.federation.method,
        public_seed=chosen.federation.public_seed,
        local_epochs=chosen.federation.local_epochs,
        sites={name: SiteData(workspace / "sites" / name, 100, kinds) for name, kinds in MODALITIES.items()},
    )
    return Simulated(folder / "run", plan)


def checkpoints(folder: Path) -> list[tuple[int, str]]:
    """Closed rounds of a journal, also one that is being written: number, and digest of the checkpoint."""
    path = folder / "journal.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)) as database:
        if not list(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rounds'")):
            return []
        return list(database.execute("SELECT round, checkpoint_sha256 FROM rounds ORDER BY round"))
