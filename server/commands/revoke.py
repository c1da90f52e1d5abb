"""`more-server revoke`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson, By, Federation, operator


def revoke(
    site: Annotated[str, typer.Argument(help="Name of the site.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; it stays in the register.", show_default=False)],
    federation: Federation = Path(),
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Shut a site out for good: its keys never come back, and no other site notices.

    A running coordinator ends its connection within seconds. What it contributed to closed rounds stays in the model.

    Example: more-server revoke north --reason "laptop stolen" --federation /srv/federation
    """
    with exit_on_error():
        from server.federation_file import read_federation
        from server.sites import NAME, SiteRegister

        settings = read_federation(federation)
        entry = SiteRegister(settings.state / NAME).revoke(site, reason=reason, by=operator(by))
        if as_json:
            typer.echo(json.dumps(entry.as_dict()))
        else:
            typer.echo(f"{site} is revoked since {entry.revoked_at}: {entry.reason}")
