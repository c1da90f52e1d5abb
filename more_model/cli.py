"""The command line `more-model`: what one model and one site's data can be asked without a federation."""

from __future__ import annotations

import typer

from more_model.cli_version import VersionOption
from more_model.commands.describe import describe
from more_model.commands.inspect import inspect

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Typer would print local variables, which here are studies with patient ids and report texts.
    pretty_exceptions_enable=False,
    help="The MoRE model: its readers, its evaluation, and what it says about one patient.",
)


@app.callback()
def main(version: VersionOption = False) -> None:
    """The MoRE model: its readers, its evaluation, and what it says about one patient."""


for command in (inspect, describe):
    app.command()(command)
