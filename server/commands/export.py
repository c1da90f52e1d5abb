"""`more-server export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson


def export(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the federation, or its federation file.", show_default=False)
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder to write; new or empty.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write the federation's run as a folder for people: settings, rounds, figures, privacy, and the model.

    Works while the run goes on: it then holds what is closed so far. No secrets and no paths of this machine are in it;
    the counts that sites reported are. More-model commands read its checkpoints, given the base.

    Example: more-server export /srv/federation --to results/chest-consortium
    """
    with exit_on_error():
        from rich.console import Console

        from server.export import export_run
        from server.federation_file import read_federation

        with Console(stderr=True).status("Exporting"):
            summary = export_run(read_federation(folder), to)
        if as_json:
            typer.echo(json.dumps({"written": str(to), **summary}))
            return
        state = "ended" if summary["ended"] is not None else "not ended"
        typer.echo(f"{to} written: {len(summary['rounds'])} rounds, run {state}, {summary['status']}.")
        for name, model in summary["models"].items():
            typer.echo(f"{name:<5} round {model['round']:>4}  {model['file']}  sha256 {model['sha256']}")
