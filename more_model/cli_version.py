"""The `--version` option that all five command lines share."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

DISTRIBUTION = "more-fed"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
]
