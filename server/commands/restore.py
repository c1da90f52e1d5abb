"""`more-server restore`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson


def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.tar", help="What more-server backup wrote.", show_default=False)
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder of the federation; new or empty.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Put a federation back from its backup, whole or not at all; a damaged file is refused (exit code 5).

    Nothing is started. The run goes on after the last round that the backup holds, with more-server start and run.

    Example: more-server restore /mnt/backup/federation-2026-03-01.tar --to /srv/federation
    """
    with exit_on_error():
        from rich.console import Console

        from server.restore import restore as put_back

        with Console(stderr=True).status("Restoring"):
            found = put_back(file, to)
        manifest = found.manifest
        if as_json:
            facts = {"federation": manifest.federation, "made_at": manifest.made_at.isoformat(timespec="seconds")}
            typer.echo(json.dumps({**facts, "files": len(manifest.files), "notes": list(found.notes)}))
            return
        typer.echo(
            f"{manifest.federation} as of {manifest.made_at:%Y-%m-%d %H:%M} UTC is in {to}. Before you start it:"
        )
        typer.echo("\n".join(f"- {note}" for note in found.notes))
