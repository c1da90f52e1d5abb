"""Keeping the site's page up for as long as somebody wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from client.page.app import site_app
from client.page.doors import NAME, PageToken
from client.page.model import site_picture
from client.site_file import SiteFile
from more_model.local_page.serving import served


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
    app = site_app(lambda: site_picture(file), token)
    with served(app, port, name="page of the site", setting="--port", connections=16) as taken:
        yield taken
