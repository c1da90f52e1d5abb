"""``more-client relay``: between Flower's SuperNode and the daemon."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from more_model.cli_errors import exit_on_error
from more_model.commands.options import AsJson


def relay(
    runtime: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the SuperNode hands out messages, on this machine.")
    ] = "127.0.0.1:9094",
    secret: Annotated[
        Path | None,
        typer.Option(help="The SuperNode's secret; relay.secret beside the socket by default.", show_default=False),
    ] = None,
    socket: Annotated[Path, typer.Option(help="The daemon's socket.")] = Path("/run/more-fed/daemon.sock"),
    stop_s: Annotated[
        float, typer.Option("--stop-within", min=0.0, help="Seconds that SIGTERM lets the daemon go on answering.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Pass messages from the SuperNode to the daemon and the answers back, until SIGTERM or Ctrl-C.

    Run it as a user of its own that may read nothing of the site but the secret and the socket. Of a run's app bundle
    it looks at the digest only. Where the SuperNode or the daemon is away, it tries again for as long as it takes.

    Example: more-client relay --runtime 127.0.0.1:9094 --socket /run/more-fed/daemon.sock
    """
    with exit_on_error():
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        # httpx says every request at this level.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        # Before Flower is imported. It talks to this machine only, so no proxy is meant for it.
        quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "NO_PROXY": "*", "no_proxy": "*"}
        os.environ.update(quiet)
        from client.flower_relay_service import RelayService, serve
        from client.flower_runtime import Runtime

        source = Runtime(runtime, secret or socket.with_name("relay.secret"))
        finished = serve(RelayService(source, socket, stop_s))
        words = "nothing was left unfinished." if finished else "a question was left unanswered."
        typer.echo(json.dumps({"event": "stopped", "finished": finished}) if as_json else f"Stopped; {words}")
        if not finished:
            sys.stdout.flush()
            logging.shutdown()
            # A thread still waits for the daemon or the SuperNode; that would outlast the bound.
            os._exit(0)
