"""`more-client card`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson


def card(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    new: Annotated[
        Path,
        typer.Argument(metavar="CARD", help="The new card, or the folder that holds it.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Take over a new card of the same federation, say what changed, and what is left to decide here.

    Another authority, base or model is refused. With secure sums, compare the card's digest with the other hospitals:
    the card says which key is whose. A running daemon takes the card in with its next start.

    Example: more-client card /etc/more-fed/site.toml card
    """
    with exit_on_error():
        from client.card_change import replace_card
        from client.card_folder import read_card
        from client.site_file import load_site_file

        agreed = read_card(new)
        change = replace_card(load_site_file(config), agreed)
        if as_json:
            facts = {"digest": agreed.card.digest(), "changes": change.changes, "to_do": change.to_do}
            typer.echo(json.dumps(facts))
            return
        changes = [f"Changed: {words}" for words in change.changes] or ["Nothing has changed."]
        left = [f"To do: {words}" for words in change.to_do]
        typer.echo(
            "\n".join([f"Digest of the card, to be compared by telephone: {agreed.card.digest()}", *changes, *left])
        )
