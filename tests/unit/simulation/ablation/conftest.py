"""One finished miniature ablation, of which one variant failed; and a writer of such configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from simulation.cli import app

WriteAblation = Callable[..., Path]
Ablate = Callable[..., Result]


@dataclass(frozen=True)
class FinishedAblation:
    """Its configuration, its directory and what the command said."""

    config: Path
    out: Path
    result: Result


@pytest.fixture(scope="session")
def write_ablation(write_miniature: Callable[..., Path]) -> WriteAblation:
    """``write_ablation(folder, {"lora_ranks": [0]}, {"seed": 4})``: the miniature with an ``[ablation]`` table and
    nested changes; a probe only where asked."""

    def write(folder: Path, ablation: dict[str, Any], changes: dict[str, Any] | None = None) -> Path:
        quick = {"arms": ["centralized"], "evaluation": {"linear_probe": False, "replicates": 20}}
        return write_miniature(folder, {**quick, **(changes or {}), "ablation": ablation})

    return write


@pytest.fixture(scope="session")
def ablate() -> Ablate:
    """``more-sim ablate`` with these arguments."""
    return lambda *arguments: CliRunner().invoke(app, ["ablate", *map(str, arguments)])


@pytest.fixture(scope="session")
def finished(
    write_ablation: WriteAblation, ablate: Ablate, tmp_path_factory: pytest.TempPathFactory
) -> FinishedAblation:
    """Every kind of variant but two; ``pairing-admission-window`` fails, because its table is not there."""
    folder = tmp_path_factory.mktemp("ablation")
    chosen = {
        "lora_ranks": [0, 2],
        "attention": ["linear"],
        "pairing": [{"rule": "admission-window", "admissions": "admissions.csv"}, "none"],
        "missing": ["ecg"],
        "hospitals": ["site-2"],
        "unseen": {"labels": ["Edema", "MI"]},
    }
    config = write_ablation(folder, chosen)
    arguments = (config, "--out", folder / "run", "--json")
    result = ablate(*arguments)
    return FinishedAblation(config, folder / "run", result)
