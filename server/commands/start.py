"""`more-server start`."""

from __future__ import annotations

import json
import logging
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from more_model.cli_errors import exit_on_error
from server.commands.options import AsJson, Federation

if TYPE_CHECKING:
    from server.superlink_service import Running


def start(federation: Federation = Path(), as_json: AsJson = False) -> None:
    """Keep the SuperLink and the gate for hospitals up until this is ended (Ctrl-C, SIGTERM).

    Sites that are enrolled or revoked meanwhile are let in or out within seconds; a renewed server certificate is taken
    up. What ends by itself is started again. The log goes to stderr; one line on stdout says that all is up.

    Example: more-server start --federation /srv/federation
    """
    with exit_on_error():
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        for chatty in ("httpx", "httpcore", "uvicorn.error"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        from server.federation_file import load_federation
        from server.superlink_service import serve

        settings = load_federation(federation)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        serve(settings, stop, ready=lambda running: typer.echo(_line(running, as_json)))


def _line(running: Running, as_json: bool) -> str:
    if as_json:
        return json.dumps({"event": "up", **asdict(running)})
    gate = f"hospitals at {running.fleet_address}" if running.fleet_address else "hospitals through your reverse proxy"
    return f"Up: SuperLink on 127.0.0.1:{running.superlink_port}, {gate}."
