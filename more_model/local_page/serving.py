"""An application on a port of 127.0.0.1, for as long as a block runs, in a thread of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from more_model.errors import EnvironmentFault

HOST = "127.0.0.1"


@contextmanager
def served(app: FastAPI, port: int, *, name: str, setting: str, connections: int) -> Iterator[int]:
    """Serves ``app`` on ``port`` (0: any) and yields the port. ``name``: of the page, in errors; ``setting``: what
    chooses another port; ``connections``: at most so many at a time.

    Raises:
        EnvironmentFault: the port is taken.
    """
    config = uvicorn.Config(
        app, ws="none", lifespan="off", access_log=False, log_config=None, server_header=False,
        timeout_graceful_shutdown=2, limit_concurrency=connections,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with _listening(port, name, setting) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), name=name, daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise EnvironmentFault(f"the {name} could not start", remedy="its log says why")
                time.sleep(0.02)
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(5.0)


@contextmanager
def _listening(port: int, name: str, setting: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise EnvironmentFault(
                f"the {name} cannot listen on {HOST}:{port}",
                remedy=f"see what listens there already (ss -ltnp), or set another {setting}",
            ) from error
        listener.listen()
        yield listener
