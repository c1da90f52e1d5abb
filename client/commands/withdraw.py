"""``more-client withdraw``: a patient is never used again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson


def withdraw(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    patient: Annotated[
        str,
        typer.Argument(
            metavar="PATIENT",
            help="The id as the site's sources have it; - reads it from standard input, so that it stands in no shell "
            "history and no list of processes.",
        ),
    ] = "-",
    as_json: AsJson = False,
) -> None:
    """Never train on, nor measure with, this patient again, from the next round on; recorded, without the id.

    A round that is under way is finished with the patients it began with. What the model has learned stays in it. Also
    where no daemon runs, and for patients who are ingested later. There is no way back.

    Example: more-client withdraw /etc/more-fed/site.toml -
    """
    with exit_on_error():
        from client.daemon.by_hand import order
        from client.daemon.control import WITHDRAW
        from client.site_file import load_site_file

        name = sys.stdin.readline().strip() if patient == "-" else patient
        found = order(load_site_file(config), WITHDRAW, patient=name)
        typer.echo(json.dumps(found) if as_json else _words(found["new"], found["in_store"]))


def _words(new: bool, in_store: bool | None) -> str:
    first = "Withdrawn, from the next round on." if new else "This patient was withdrawn before."
    if in_store is False:
        return f"{first} The store holds no patient of that id now: check that it is written as in the site's sources."
    return first
