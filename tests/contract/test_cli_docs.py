"""docs/cli.md is what `--help` says, and `--help` says enough."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

SCRIPTS = ("more-model", "more-client", "more-server", "more-sim", "more-privacy")


@pytest.fixture(scope="module")
def generator(checkout: Path) -> Any:
    spec = importlib.util.spec_from_file_location("generate_cli", checkout / "docs" / "generate_cli.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def all_commands(generator: Any) -> dict[tuple[str, ...], click.Command]:
    found = {}
    for script, app in generator.console_scripts().items():
        found.update(dict(generator.commands(typer.main.get_command(app), (script,))))
    return found


def test_the_five_console_scripts_are_declared(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tuple(project["scripts"]) == SCRIPTS


def test_page_is_what_the_commands_say(generator: Any, checkout: Path) -> None:
    page = (checkout / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == generator.render(), "run `make docs`"


@pytest.mark.parametrize("columns", ["20", "200"])
def test_page_does_not_depend_on_the_terminal(checkout: Path, columns: str) -> None:
    environment = {**os.environ, "COLUMNS": columns, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run(
        [sys.executable, "docs/generate_cli.py", "--check"],
        cwd=checkout, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_command_has_help_and_an_example(all_commands: dict[tuple[str, ...], click.Command]) -> None:
    for path, command in all_commands.items():
        assert command.help and command.help.strip(), f"{' '.join(path)} has no help"
        if not getattr(command, "commands", None) and len(path) > 1:
            assert " ".join(path) in " ".join(command.help.split()), f"{' '.join(path)} shows no example of itself"


def test_every_option_and_argument_has_help(all_commands: dict[tuple[str, ...], click.Command]) -> None:
    bare = [
        f"{' '.join(path)}: {parameter.name}"
        for path, command in all_commands.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert not bare


def test_every_command_offers_json(all_commands: dict[tuple[str, ...], click.Command]) -> None:
    without = [
        " ".join(path)
        for path, command in all_commands.items()
        if len(path) > 1
        and not getattr(command, "commands", None)
        and not any("--json" in parameter.opts for parameter in command.params)
    ]
    assert not without


@pytest.mark.parametrize("script", SCRIPTS)
def test_version_and_unknown_option(generator: Any, script: str) -> None:
    app = generator.console_scripts()[script]
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("more-fed 0.")
    assert CliRunner().invoke(app, ["--no-such-option"]).exit_code == 2


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_quick_because_nothing_heavy_is_imported(checkout: Path, script: str) -> None:
    """A person who asks for help must not wait for torch, Flower or pandas."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = project["scripts"][script].partition(":")[0]
    heavy = {"torch", "transformers", "flwr", "ray", "pandas", "sklearn", "matplotlib", "dp_accounting", "scipy"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == []
