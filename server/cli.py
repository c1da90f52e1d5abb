"""Console script `more-server`: what the coordinator runs."""

from __future__ import annotations

import typer

from more_model.cli_version import VersionOption

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The coordinator's side of a federation: what happened in each round of a run.",
)


@app.callback()
def main(version: VersionOption = False) -> None:
    """Gives the application its own options, whatever the number of its commands."""


if __name__ == "__main__":
    app()
