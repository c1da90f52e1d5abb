"""``more-client start``: the hospital's daemon."""

from __future__ import annotations

import json
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
    connect: Annotated[
        bool, typer.Option("--connect/--no-connect", help="Hold the connection to the coordinator as well.")
    ] = True,
    runtime_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the relay finds the connection, on this machine.")
    ] = 9094,
    with_relay: Annotated[
        bool, typer.Option("--with-relay", help="Start the relay too, as this same user; for a trial only.")
    ] = False,
    stop_s: Annotated[
        float, typer.Option("--stop-within", min=0.0, help="Seconds that SIGTERM lets a round go on.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Say how it ended as one JSON object.")] = False,
) -> None:
    """Run the site's daemon: it trains when the federation asks and the policy allows, until SIGTERM, Ctrl-C or drain.

    Nothing leaves without an entry in the audit log. A changed policy holds at once; SIGHUP has it read as well. What
    was ingested since the start comes in with the next one.

    Example: more-client start /etc/more-fed/site.toml --relay-user more-relay
    """
    with exit_on_error():
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        from client.daemon.companion import companions
        from client.daemon.serve import Service, serve
        from client.site_file import load_site_file

        file = load_site_file(config)
        users = tuple(relay_user or ())
        beside = companions(file, runtime_port=runtime_port, relay=with_relay, relay_users=users) if connect else []
        finished = serve(file, Service(relay_users=users, stop_s=stop_s, companions=beside))
        typer.echo(json.dumps({"event": "stopped", "finished": finished}) if as_json else _end(finished))
        if not finished:
            sys.stdout.flush()
            # A thread is still training. Waiting for it would outlast the bound; the round is trained again, alike.
            logging.shutdown()
            os._exit(0)


def _end(finished: bool) -> str:
    if finished:
        return "Stopped; nothing was left unfinished."
    return "Stopped in the middle of a round; it is trained again, alike, after the next start."
