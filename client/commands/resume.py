"""``more-client resume``: the end of a pause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson


def resume(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Answer rounds again after more-client pause; also where no daemon runs, for its next start.

    Example: more-client resume /etc/more-fed/site.toml
    """
    with exit_on_error():
        from client.daemon.by_hand import order
        from client.daemon.control import RESUME
        from client.site_file import load_site_file

        found = order(load_site_file(config), RESUME)
        typer.echo(json.dumps(found) if as_json else "Not paused: rounds are answered as the policy allows.")
