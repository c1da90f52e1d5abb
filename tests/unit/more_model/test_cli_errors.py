"""How commands end: a deliberate error and one of the operating system with their codes, a bug with its traceback."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import DataError


def test_a_deliberate_error_ends_with_its_code_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, exit_on_error():
        raise DataError("no table", remedy="bring it")
    assert ended.value.exit_code == 4
    assert "What to do: bring it" in capsys.readouterr().err


def test_an_error_of_the_system_names_the_path_and_ends_with_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, exit_on_error():
        (tmp_path / "absent" / "file").write_text("x")
    assert ended.value.exit_code == 8
    assert "absent" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        raise ZeroDivisionError


@pytest.mark.parametrize("room", ["more_model", "client", "server", "simulation", "privacy"])
def test_no_command_prints_local_variables(room: str) -> None:
    """Typer's own tracebacks would show them, and they are patient data."""
    assert import_module(f"{room}.cli").app.pretty_exceptions_enable is False
