"""`more-server backup`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import RoundError
from server.commands.options import AsJson


def backup(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the federation, or its federation file.", show_default=False)
    ],
    to: Annotated[Path, typer.Option("--to", help="The file to write; must not be there yet.", show_default=False)],
    with_authority_key: Annotated[
        bool,
        typer.Option("--with-authority-key", help="Also the private key of the federation's own authority, if here."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back a federation up into one file, while everything runs: settings, certificates, register, rounds, checkpoints.

    The server's private key and the current model are in it: keep the file as you keep them. Left out are the base,
    and the SuperLink's database, in which single updates of hospitals lie; neither is needed to go on. Exit code 7: it
    was written, but a checkpoint that was copied is not the one that its round recorded.

    Example: more-server backup /srv/federation --to /mnt/backup/federation-2026-03-01.tar
    """
    with exit_on_error():
        from rich.console import Console

        from server.backup import LEFT_OUT, write_backup

        with Console(stderr=True).status("Writing the backup"):
            made = write_backup(folder, to, authority_key=with_authority_key)
        manifest = made.manifest
        if as_json:
            facts = manifest.model_dump(mode="json", by_alias=True)
            typer.echo(json.dumps({**facts, "written": str(to), "bytes": made.bytes, "faults": list(made.faults)}))
        else:
            key = "with" if manifest.authority_key else "without"
            typer.echo(f"{to} written: {len(manifest.files)} files, {made.bytes} bytes, {key} the authority's key.")
            typer.echo("\n".join(f"Not in it: {what} ({why})." for what, why in LEFT_OUT.items()))
        if made.faults:
            raise RoundError(
                "\n".join(["the backup is written, but:", *(f"  - {fault}" for fault in made.faults)]),
                remedy="keep the backup before this one too; a run goes on from its last checkpoint only",
            )
