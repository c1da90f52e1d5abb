"""A model that a federation of synthetic hospitals trained explains itself, and models with random weights do not."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import typer
from typer.testing import CliRunner

from more_model.commands.explain import explain
from simulation.cli import app as more_sim


@pytest.fixture(scope="module")
def demo_run(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with its federated arm alone and no more scoring than it must have."""
    folder = tmp_path_factory.mktemp("explanations")
    settings = tomllib.loads((checkout / "simulation" / "configs" / "demo.toml").read_text(encoding="utf-8"))
    settings["arms"] = ["federated"]
    settings["evaluation"] |= {"replicates": 20, "linear_probe": False, "retrieval": False, "examples": 0}
    (folder / "demo.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    done = CliRunner().invoke(more_sim, ["run", str(folder / "demo.toml"), "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_explanations_of_the_demo_mean_something(demo_run: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(explain)
    asked: dict[str, Any] = {
        "--checkpoint": demo_run / "checkpoints" / "federated.safetensors",
        "--data": demo_run,
        "--lesions": demo_run / "workspace" / "cohort" / "synthetic_lesions.csv",
        "--out": tmp_path,
    }
    words = [str(word) for pair in asked.items() for word in pair]
    done = CliRunner().invoke(app, ["--check", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    checks = json.loads((tmp_path / "explanation-checks.json").read_text(encoding="utf-8"))
    assert checks["passed"], done.output
    for found in checks["modalities"].values():
        assert found["model"]["deletion"]["ci95"][0] > 0
        assert found["model"]["specific_deletion"]["ci95"][0] > 0
    xray = checks["modalities"]["xray"]
    assert xray["model"]["pointing"]["ratio"]["value"] >= 2
    assert all(random["pointing"]["ratio"]["value"] < 2 for random in xray["randomised"])
