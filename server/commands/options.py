"""Options that several commands share, each with one meaning."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Annotated

import typer

Federation = Annotated[
    Path, typer.Option("--federation", help="The federation file, or the folder that holds federation.toml.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides this; without it, the user of this machine.")]


def operator(named: str | None) -> str:
    """Who is entered as having decided: the name given, else the login name, else the number of the user."""
    if named is not None:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
