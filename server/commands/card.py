"""`more-server card`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson, Federation

if TYPE_CHECKING:
    from more_model.federation_card import FederationCard


def card(
    federation: Federation = Path(),
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; without it, card in the federation's folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what every hospital gets: the federation's card, its root certificate and the app bundle; no secret.

    Send the folder card and the base. By telephone tell the fingerprint of the authority and the digest of the card.
    Write it anew after every change of federation.toml and of the enrolled sites.

    Example: more-server card --federation /srv/federation
    """
    with exit_on_error():
        from more_model.base import assemble, load_base
        from more_model.progress import shown_progress
        from server.authority import fingerprint
        from server.card import card_of, open_points, publish
        from server.federation_file import load_federation
        from server.flower_bundle import build_bundle
        from server.sites import NAME, SiteRegister

        settings = load_federation(federation)
        folder = out or (federation if federation.is_dir() else federation.parent) / "card"
        with shown_progress() as progress:
            progress("reading the base", 0, 1)
            assembled = assemble(load_base(settings.base), settings.method, settings.public_seed)
            progress("reading the base", 1, 1)
        bundle = build_bundle()
        made = card_of(settings, SiteRegister(settings.state / NAME), assembled, bundle)
        publish(made, settings, bundle, folder)
        points = open_points(made, settings)
        if as_json:
            facts = {"card": str(folder), "authority": made.ca_fingerprint, "digest": made.digest()}
            facts |= {"bundle": made.bundle, "specification": made.specification}
            typer.echo(json.dumps({**facts, "sites": list(made.sites), "open_points": points}))
        else:
            typer.echo(_text(made, folder, fingerprint(settings.certificates.root), points))


def _text(made: FederationCard, folder: Path, authority: str, points: Sequence[str]) -> str:
    lines = [
        f"The card of {made.name}: {folder}",
        "To be told by telephone:",
        f"  fingerprint of the authority  {authority}",
        f"  digest of the card            {made.digest()}",
        "What policies name:",
        f"  app bundle                    {made.bundle}",
        f"  exchange specification        {made.specification}",
        *(f"  evaluation {name:<18} {digest}" for name, digest in made.terms.items()),
        f"Sites: {', '.join(made.sites) or 'none yet'}",
    ]
    return "\n".join([*lines, *(f"Still open: {point}" for point in points)])
