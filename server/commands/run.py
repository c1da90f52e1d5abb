"""`more-server run`."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.errors import RoundError
from server.commands.options import AsJson, Federation

if TYPE_CHECKING:
    from server.deployment import Ended


def run(
    federation: Federation = Path(),
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Count rounds that lack some site's update as a success.")
    ] = False,
    new: Annotated[
        bool,
        typer.Option(
            "--new", help="Put the run that is there aside and begin another; what it spent at the sites stays spent."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the federation's rounds over the hospitals that are connected to `more-server start`, to the end.

    Ended in any way and started again, it goes on in the round that was open; sites answer what they have answered
    already with the same update. Ctrl-C and SIGTERM end it in order. The log goes to stderr. Exit code 7: too few
    sites, or, without --allow-partial, rounds that lack some site.

    Example: more-server run --federation /srv/federation
    """
    with exit_on_error():
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        # Nobody is called, and no proxy stands between programs of this machine.
        os.environ.update({"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"})
        os.environ.update({"NO_PROXY": "*", "no_proxy": "*"})
        from server.deployment import new_run, prepare, run_deployment
        from server.federation_file import load_federation

        # After the imports: Flower sets its own level while it is imported.
        for chatty in ("httpx", "httpcore", "flwr", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        settings = load_federation(federation)
        prepared = prepare(settings)
        if new and (aside := new_run(settings)) is not None:
            typer.echo(f"The run that was there lies in {aside} now.", err=True)
            prepared = prepare(settings)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        ended = run_deployment(prepared, stop)
        if ended is None:
            typer.echo(json.dumps({"status": "stopped"}) if as_json else "Stopped; run again to go on.")
            return
        typer.echo(json.dumps(ended.as_json()) if as_json else _words(ended))
        if ended.short and not allow_partial:
            raise RoundError(
                f"{ended.short} of {len(ended.records)} rounds lack some site's update",
                remedy="see which (more-server rounds) and say so with the model; --allow-partial makes it no error",
                avoid="call it the whole federation's model",
            )


def _words(ended: Ended) -> str:
    best = "" if ended.best is None else f"; the best was after round {ended.best}"
    early = " The gain had stopped, so it ended early." if ended.early else ""
    return f"{ended.run}: {len(ended.records)} rounds closed{best}.{early} Last checkpoint: {ended.digest}"
