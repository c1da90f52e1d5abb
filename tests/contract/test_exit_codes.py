"""docs/exit-codes.md and the errors of the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import more_model.errors
from more_model.cli_errors import exit_on_error
from more_model.errors import MoreError

# Numbers are never reused: a code may be added to this list, none may change.
KNOWN = {
    "MoreError": 1,
    "ConfigError": 2,
    "InputRefused": 3,
    "DataError": 4,
    "StoreError": 5,
    "ExchangeError": 6,
    "RoundError": 7,
    "EnvironmentFault": 8,
    "ClaimBroken": 9,
}
HEADING = re.compile(r"^## (\d+) `(\w+)`$", re.M)
ROW = re.compile(r"^\| (\d+) \| `(\w+)` \|", re.M)


def descendants(kind: type[MoreError]) -> set[type[MoreError]]:
    below = set(kind.__subclasses__())
    return below.union(*(descendants(child) for child in below))


def own_codes() -> dict[str, int]:
    """Every error class that brings an exit code of its own; the others end a command with their parent's."""
    return {kind.__name__: kind.exit_code for kind in {MoreError, *descendants(MoreError)} if "exit_code" in vars(kind)}


@pytest.fixture(scope="module")
def page(checkout: Path) -> str:
    return (checkout / "docs" / "exit-codes.md").read_text(encoding="utf-8")


def test_codes_never_change() -> None:
    found = own_codes()
    assert {name: found[name] for name in KNOWN} == KNOWN


def test_codes_are_distinct_and_never_zero() -> None:
    codes = list(own_codes().values())
    assert len(codes) == len(set(codes))
    assert 0 not in codes


def test_every_error_has_a_section_and_every_section_an_error(page: str) -> None:
    assert {name: int(code) for code, name in HEADING.findall(page)} == own_codes()


def test_the_table_and_the_sections_agree(page: str) -> None:
    assert ROW.findall(page) == HEADING.findall(page)


def test_each_section_gives_cause_and_remedy(page: str) -> None:
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    assert len(sections) == len(KNOWN)
    for section in sections:
        assert re.search(r"^\*\*Cause\.\*\* \w.{40}", section, re.M), section[:40]
        assert re.search(r"^\*\*Remedy\.\*\* \w.{40}", section, re.M), section[:40]


def test_module_docstring_lists_the_same_codes() -> None:
    listed = re.findall(r"^\s+(?:\+-- )?(\w+)\s+(\d)\s", more_model.errors.__doc__ or "", re.M)
    assert {name: int(code) for name, code in listed} == KNOWN


# Those of the errors module: a class below them ends with its parent's code and may have its own arguments.
@pytest.mark.parametrize("kind", [getattr(more_model.errors, name) for name in KNOWN], ids=lambda kind: kind.__name__)
def test_a_command_ends_with_the_code_and_the_message(kind: type[MoreError]) -> None:
    arguments = {"ConfigError": ("somewhere", ["one fault"]), "InputRefused": ("some-reason", "a cause")}
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        with exit_on_error():
            raise kind(*arguments.get(kind.__name__, ("a cause",)), remedy="do this", avoid="do that")

    result = CliRunner().invoke(app)
    assert result.exit_code == kind.exit_code
    assert result.stdout == ""
    assert "What to do: do this" in result.stderr and "Do not: do that" in result.stderr


def test_only_the_errors_module_defines_exit_codes(checkout: Path) -> None:
    """A code given elsewhere would not be in the table."""
    for room in ("more_model", "privacy", "client", "server", "simulation"):
        for path in (checkout / room).rglob("*.py"):
            if path != checkout / "more_model" / "errors.py":
                assert not re.search(r"^\s+exit_code\s*=", path.read_text(encoding="utf-8"), re.M), path
