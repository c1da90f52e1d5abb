"""`more-server status`."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson

if TYPE_CHECKING:
    from server.status.model import Status
    from server.status.sources import Watched


def status(
    run: Annotated[
        Path, typer.Argument(help="Folder of a federation (with federation.toml) or of a run.", show_default=False)
    ],
    federation: Annotated[
        Path | None,
        typer.Option("--federation", help="Its federation file, where the run's folder is another one."),
    ] = None,
    as_json: AsJson = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the status page and send notifications, until this is ended.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Of the page, on 127.0.0.1; else listen.status_port. 0: any."),
    ] = None,
) -> None:
    """Show how far a federation is: what the round waits for, every site, the curves, what somebody should look at.

    Only reads. With --serve the same is a page on 127.0.0.1, for people with a token (more-server status-token).

    Example: more-server status /srv/federation
    """
    with exit_on_error():
        from server.status.sources import watched

        what = watched(run, federation)
        if serve:
            _serve(what, port, as_json)
            return
        from server.status.service import current

        found = current(what)
        typer.echo(json.dumps(found.as_json()) if as_json else _text(found))


def _serve(what: Watched, port: int | None, as_json: bool) -> None:
    from more_model.local_page.serving import HOST
    from server.federation_file import ListenPart
    from server.status.service import status_page, token_file, watch

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    listen = ListenPart() if what.federation is None else what.federation.listen
    with watch(what), status_page(what, listen.status_port if port is None else port) as taken:
        address = f"http://{HOST}:{taken}/"
        typer.echo(json.dumps({"event": "up", "address": address}) if as_json else f"Up: the status page at {address}")
        if not token_file(what).entries():
            typer.echo("Nobody has a token yet: more-server status-token", err=True)
        stop.wait()


def _text(status: Status) -> str:
    from server.status.view import duration, headline, size

    waited = f" It has waited for {duration(status.waited_s)}." if status.waited_s is not None else ""
    lines = [f"{status.federation}: {headline(status)}{waited}", *(f"! {alert.words}" for alert in status.alerts)]
    if status.why is not None:
        lines.append(status.why)
    if status.sites:
        lines.append(f"{'site':<20} {'enrolled':<12} {'connected':<9} {'now':<12} {'taken part':>10}  why")
    for site in status.sites:
        connected = "-" if site.connected is None else "yes" if site.connected else "no"
        lines.append(
            f"{site.site:<20} {site.enrolled or '-':<12} {connected:<9} {site.round_state or '-':<12} "
            f"{f'{site.accepted}/{site.asked}':>10}  {site.why or ''}".rstrip()
        )
    if status.closed:
        last = status.closed[-1]
        loss = "-" if last.loss is None else f"{last.loss:.4f}"
        auroc = "-" if last.auroc is None or last.auroc.value is None else f"{last.auroc.value:.3f}"
        short = f", {status.short_rounds} of them without some site" if status.short_rounds else ""
        figures = f"loss {loss}, macro AUROC {auroc}, {size(status.bytes_up)} received"
        lines.append(f"{len(status.closed)} rounds closed{short}; {figures}")
    return "\n".join(lines)
