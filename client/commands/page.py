"""``more-client page``: the site at a glance, for its own people."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson
from more_model.errors import ConfigError

if TYPE_CHECKING:
    from client.site_file import SiteFile


def page(
    config: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0: any that is free.")] = 8450,
    once: Annotated[bool, typer.Option("--once", help="Write the page to a file and end.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="That file.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Serve the site's page until Ctrl-C: cohort, quarantine, what left the building, privacy budget, certificates.

    It only reads, listens on 127.0.0.1 alone, and asks for the token in a file that only this user can read. Small
    numbers of people are not shown. With --once the page becomes one file; without --out its content goes to the screen
    as JSON, if --json is given.

    Example: more-client page /etc/more-fed/site.toml --port 8450
    """
    with exit_on_error():
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        from client.site_file import load_site_file

        if (out is not None) != once and not (once and as_json):
            raise ConfigError("more-client page", ["--once and --out belong together"])
        file = load_site_file(config)
        if once:
            _once(file, out, as_json)
        else:
            _serve(file, port, as_json)


def _once(file: SiteFile, out: Path | None, as_json: bool) -> None:
    from rich.console import Console

    from client.page.app import Pages
    from client.page.model import site_picture
    from more_model.private_file import replace

    with Console(stderr=True).status("Reading the store and the log"):
        picture = site_picture(file)
    if out is not None:
        replace(out, Pages.made().site(picture, alone=True).encode())
    typer.echo(json.dumps(picture.as_json()) if as_json else f"{out} written.")


def _serve(file: SiteFile, port: int, as_json: bool) -> None:
    from client.page.service import site_page, token_of
    from more_model.local_page.serving import HOST

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with site_page(file, port) as taken:
        address, token = f"http://{HOST}:{taken}/", str(token_of(file).path)
        typer.echo(
            json.dumps({"event": "up", "address": address, "token_file": token})
            if as_json
            else f"Up: the page of {file.site} at {address}\nIts token stands in {token}"
        )
        stop.wait()
