"""``more-client pause``: no new round until told otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson


def pause(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Refuse every new round until more-client resume; one that has begun is finished.

    A pause outlasts restarts, and may be ordered while no daemon runs. The coordinator is told "paused", nothing more.

    Example: more-client pause /etc/more-fed/site.toml
    """
    with exit_on_error():
        from client.daemon.by_hand import order
        from client.daemon.control import PAUSE
        from client.site_file import load_site_file

        found = order(load_site_file(config), PAUSE)
        since = found["paused_since"]
        typer.echo(json.dumps(found) if as_json else f"Paused since {since}; more-client resume ends it.")
