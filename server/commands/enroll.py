"""`more-server enroll`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import ConfigError
from server.commands.options import AsJson, By, Federation, operator


def enroll(
    site: Annotated[str, typer.Argument(help="Name of the site.", show_default=False)],
    key: Annotated[
        Path, typer.Option("--key", help="The file enrolment.json that the site handed over.", show_default=False)
    ],
    federation: Federation = Path(),
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Admit a site by the public keys that it made itself; a running coordinator lets it in within seconds.

    Compare the fingerprint with the site by telephone: the file alone does not prove who made it. A key that was ever
    revoked is refused.

    Example: more-server enroll north --key enrolment.json --federation /srv/federation
    """
    with exit_on_error():
        from more_model.enrolment import Enrolment
        from server.federation_file import read_federation
        from server.sites import NAME, SiteRegister

        settings = read_federation(federation)
        enrolment = Enrolment.read(key.read_bytes(), str(key))
        if enrolment.site != site:
            raise ConfigError(
                str(key),
                [f"this is the enrolment of {enrolment.site!r}, not of {site!r}"],
                remedy="ask the site which name is right; it is part of what it signed",
            )
        entry = SiteRegister(settings.state / NAME).enroll(enrolment, by=operator(by))
        asked = site in settings.sites
        if as_json:
            typer.echo(json.dumps({**entry.as_dict(), "in_federation_file": asked}))
            return
        typer.echo(f"{site} is enrolled: {entry.patients} patients, {', '.join(entry.modalities)}.")
        typer.echo(f"Fingerprint, to be compared by telephone: {entry.enrolment.fingerprint}")
        if not asked:
            typer.echo(f"It can connect, but is asked in no round before federation.toml has a table [sites.{site}].")
