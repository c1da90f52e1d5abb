"""``more-client drain``: finish what has begun, then stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson


def drain(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    within_s: Annotated[
        float, typer.Option("--within", min=0.0, help="Seconds after which the daemon stops in any case.")
    ] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Let the daemon finish the round that it is in, refuse new ones, and stop; returns at once.

    Its service does not start it again: an end in order is a success. more-client status shows how far it is.

    Example: more-client drain /etc/more-fed/site.toml --within 600
    """
    with exit_on_error():
        from client.daemon.by_hand import order
        from client.daemon.control import DRAIN
        from client.site_file import load_site_file

        found = order(load_site_file(config), DRAIN, within_s=str(within_s))
        busy = "after the round that it is in" if found["activity"] else "now"
        typer.echo(json.dumps(found) if as_json else f"The daemon of site {found['site']} stops {busy}.")
