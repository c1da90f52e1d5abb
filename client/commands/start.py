"""``more-client start``: the hospital's daemon."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error


def start(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    relay_user: Annotated[
        list[str] | None,
        typer.Option(help="User that the relay runs as; give it once for each. Without it, this user alone."),
    ] = None,
    stop_s: Annotated[
        float, typer.Option("--stop-within", min=0.0, help="Seconds that SIGTERM lets a round go on.")
    ] = 60.0,
) -> None:
    """Run the site's daemon: it trains when the federation asks and the policy allows, until SIGTERM, Ctrl-C or drain.

    Nothing leaves without an entry in the audit log. A policy that is changed holds at once; SIGHUP reads it as well.

    Example: more-client start /etc/more-fed/site.toml --relay-user more-relay
    """
    with exit_on_error():
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        from client.daemon.serve import Service, serve
        from client.site_file import load_site_file

        finished = serve(load_site_file(config), Service(relay_users=tuple(relay_user or ()), stop_s=stop_s))
        if not finished:
            # A thread is still training. Waiting for it would outlast the bound; the round is trained again, alike.
            logging.shutdown()
            os._exit(0)
