"""What the tests of `deploy/` share: where it lies, and which command lines our own programs have."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer

DEPLOY = Path(__file__).parents[3] / "deploy"
_APPS = {
    "more-model": "more_model.cli",
    "more-client": "client.cli",
    "more-server": "server.cli",
    "more-sim": "simulation.cli",
    "more-privacy": "privacy.cli",
}


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder deploy/ of the checkout."""
    return DEPLOY


@pytest.fixture(scope="session")
def faults_of_command() -> Callable[[str], list[str]]:
    """What is wrong with a command line of our programs, as its own parser sees it."""
    return _faults


@pytest.fixture(scope="session")
def installed_program() -> Callable[[str], str]:
    """The path of a program of the system. Skips with a printed reason where there is none, and fails instead where
    MORE_FED_REQUIRE_DEPLOY_TOOLS is set to anything but an empty word or 0."""
    return _program


def _faults(line: str) -> list[str]:
    words = shlex.split(line)
    program = Path(words[0]).name
    if program not in _APPS:
        return [f"{program} is none of {', '.join(_APPS)}"]
    command: click.Command = typer.main.get_command(importlib.import_module(_APPS[program]).app)
    rest, context = words[1:], click.Context(command, info_name=program)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0]) if rest else None
        if found is None:
            return [f"{program} has no command {' '.join(rest[:1])!r}"]
        command, rest = found, rest[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    try:
        # Parses and checks every value, runs nothing.
        command.make_context(command.name or "", list(rest), parent=context)
    except click.ClickException as error:
        return [f"{line}: {error.format_message()}"]
    return []


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        reason = f"{name} is not installed"
        if os.environ.get("MORE_FED_REQUIRE_DEPLOY_TOOLS", "0") not in {"", "0"}:
            pytest.fail(f"{reason} (MORE_FED_REQUIRE_DEPLOY_TOOLS forbids skipping)", pytrace=False)
        pytest.skip(reason)
    return found
