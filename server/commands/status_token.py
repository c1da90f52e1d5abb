"""`more-server status-token`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson, Federation


def status_token(
    federation: Federation = Path(),
    site: Annotated[
        str | None, typer.Option("--site", help="A site, which sees its own row; without it, the coordinator.")
    ] = None,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="End every token of this site (or the coordinator's) instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a token for the status page; it is shown this once, and only its digest is kept.

    Example: more-server status-token --site north --federation /srv/federation
    """
    with exit_on_error():
        from server.federation_file import read_federation
        from server.status.tokens import NAME, TokenFile

        tokens = TokenFile(read_federation(federation).state / NAME)
        whose = "the coordinator" if site is None else site
        if withdraw:
            ended = tokens.withdraw(site)
            typer.echo(
                json.dumps({"site": site, "withdrawn": ended}) if as_json else f"Tokens of {whose} that ended: {ended}"
            )
            return
        token = tokens.make(site)
        typer.echo(json.dumps({"site": site, "token": token}) if as_json else f"Token of {whose}: {token}")
