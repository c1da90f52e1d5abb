"""`more-privacy epsilon` through its real command line."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from privacy.cli import app

ARGUMENTS = ["epsilon", "--noise-multiplier", "1", "--sampling-rate", "1", "--steps", "50", "--delta", "1e-5"]


def test_text_shows_epsilon_accountant_and_assumptions() -> None:
    result = CliRunner().invoke(app, ARGUMENTS)
    assert result.exit_code == 0
    assert result.stdout.startswith("epsilon     54.377 at delta 1e-05\naccountant  exact Gaussian")
    assert "  - Adjacency add-remove" in result.stdout


def test_json_is_one_object_with_the_same_number() -> None:
    result = CliRunner().invoke(app, [*ARGUMENTS, "--adjacency", "replace", "--json"])
    content = json.loads(result.stdout)
    assert content["epsilon"] == pytest.approx(159.44, abs=0.01)
    assert set(content) == {"epsilon", "delta", "accountant", "assumptions"}


def test_printed_epsilon_is_never_below_the_computed_one() -> None:
    computed = json.loads(CliRunner().invoke(app, [*ARGUMENTS, "--json"]).stdout)["epsilon"]
    printed = float(CliRunner().invoke(app, ARGUMENTS).stdout.split()[1])
    assert computed <= printed <= computed + 0.001


def test_bad_arguments_end_with_code_2_and_name_every_fault() -> None:
    result = CliRunner().invoke(
        app, ["epsilon", "--noise-multiplier", "0", "--sampling-rate", "2", "--steps", "0", "--delta", "1"]
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    for word in ("4 faults", "noise multiplier", "sampling rate", "steps", "delta", "What to do:"):
        assert word in result.stderr


def test_unknown_adjacency_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, [*ARGUMENTS, "--adjacency", "swap"])
    assert result.exit_code == 2
    assert "add-remove" in result.stderr


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout.strip() == f"more-fed {version('more-fed')}"
