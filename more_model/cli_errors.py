"""How every command line of the project ends when something goes wrong: text on stderr, one exit code per error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from more_model.errors import EnvironmentFault, MoreError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turns a deliberate error, or one of the operating system, into its message on stderr and its exit code; a bug
    keeps its traceback (exit code 1).

    Raises `typer.Exit` with the code of the table in `more_model.errors`.
    """
    try:
        yield
    except MoreError as error:
        print(error.explain(), file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except OSError as error:
        fault = _of_the_machine(error)
        print(fault.explain(), file=sys.stderr)
        raise typer.Exit(fault.exit_code) from error


def _of_the_machine(error: OSError) -> EnvironmentFault:
    where = f"{error.filename}: " if error.filename else ""
    return EnvironmentFault(
        f"{where}{error.strerror or type(error).__name__}",
        remedy="check that the path exists, that this user may read and write it, and that the disk has space",
    )
