"""Keeping the site's page up for as long as somebody wants it, in a thread of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from client.page.app import site_app
from client.page.doors import NAME, PageToken
from client.page.model import site_picture
from client.site_file import SiteFile
from more_model.errors import EnvironmentFault

HOST = "127.0.0.1"


def token_of(file: SiteFile) -> PageToken:
    """The token of a site's page."""
    return PageToken(file.work / NAME)


@contextmanager
def site_page(file: SiteFile, port: int) -> Iterator[int]:
    """Serves the page while the block runs, on ``port`` of 127.0.0.1 (0: any); yields the port. A token is made where
    there is none.

    Raises:
        EnvironmentFault: the port is taken.
        StoreError: others may read the token.
    """
    token = token_of(file)
    token.make()
    token.digest()
    config = uvicorn.Config(
        site_app(lambda: site_picture(file), token), ws="none", lifespan="off", access_log=False, log_config=None,
        server_header=False, timeout_graceful_shutdown=2, limit_concurrency=16,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with _listening(port) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), name="site page", daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise EnvironmentFault("the site's page could not start", remedy="its log says why")
                time.sleep(0.02)
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(5.0)


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise EnvironmentFault(
                f"the site's page cannot listen on {HOST}:{port}",
                remedy="see what listens there already (ss -ltnp), or give another --port",
            ) from error
        listener.listen()
        yield listener
