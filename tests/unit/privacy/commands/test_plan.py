"""`more-privacy plan` through its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from privacy.commands.plan import plan

HOSPITALS = ["--mode", "hospital", "--hospitals", "10", "--rounds", "50"]


def invoke(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(plan)
    return CliRunner().invoke(app, list(arguments))


def test_table_names_the_unit_the_noise_and_every_assumption() -> None:
    result = invoke(*HOSPITALS, "--parameters", "10000")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("mode hospital: 10 hospitals, sampling rate 1, 50 steps, delta 1e-05\n")
    (row,) = [line for line in result.stdout.splitlines() if "<- asked for" in line]
    budget, noise, epsilon, on_mean, norm = row.split()[:5]
    assert float(budget) == 8
    assert float(noise) == pytest.approx(4.24, rel=0.005)
    assert 7.9 < float(epsilon) <= 8
    assert float(on_mean) == pytest.approx(float(noise) / 10, rel=0.01)
    assert float(norm) == pytest.approx(100 * float(on_mean), rel=0.01)
    assert "Per hospital: epsilon" in result.stdout
    assert "  - Adjacency add-remove" in result.stdout


def test_json_counts_all_rounds_and_draws_the_figure(tmp_path: Path) -> None:
    figure = tmp_path / "plan.svg"
    result = invoke(
        "--mode", "patient-shuffled", "--patients", "2000", "--patients-per-step", "200", "--rounds", "5",
        "--steps", "2", "--target-epsilon", "3", "--figure", str(figure), "--json",
    )  # fmt: skip
    content = json.loads(result.stdout)
    assert (content["mode"], content["unit"], content["steps"]) == ("patient-shuffled", "patient", 10)
    assert content["epsilon"] <= 3
    assert content["costs"][1]["noise_multiplier"] == content["noise_multiplier"]
    assert {"accountant", "assumptions", "claim", "warnings", "delta", "sampling_rate"} <= set(content)
    assert figure.is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--patients", "100"], "--patients-per-step is missing"),
        (["--patients", "100", "--patients-per-step", "200"], "200 patients a step"),
        ([*HOSPITALS, "--figure", "plan.pdf"], "must end in .png or .svg"),
        ([*HOSPITALS, "--target-epsilon", "0"], "target epsilon 0"),
    ],
)
def test_what_cannot_be_planned_ends_with_code_2(arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""
