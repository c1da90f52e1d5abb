"""The status over HTTP: a page, JSON and metrics, for those with a token; each site sees what a site may see.

It listens on 127.0.0.1: people reach it through SSH, or through a reverse proxy with TLS.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from markupsafe import Markup

from more_model.errors import MoreError
from more_model.local_page.sessions import Sessions
from more_model.local_page.web import Doors, answer_logins, bare_app, refused, security_headers, source
from more_model.report.page import page_environment
from server.status.metrics import CONTENT_TYPE, prometheus
from server.status.model import Status
from server.status.tokens import TokenEntry, TokenFile
from server.status.view import headline, sections
from server.status.viewer import seen_by

_LOG = logging.getLogger(__name__)
COOKIE = "more_status"
_MOST_SESSIONS = 256
_BAD_TOKEN = "This is no token of this federation, or it was withdrawn."
_Look = Callable[[], Status]


def status_app(look: _Look, tokens: TokenFile) -> FastAPI:
    """The application. ``look`` gives the whole status, as the coordinator may see it; what it raises of `MoreError`
    is shown to the coordinator with status 503."""
    pages = _pages()
    app = bare_app(pages.headers)
    doors = Doors(tokens, Sessions(tokens, most=_MOST_SESSIONS), COOKIE, _BAD_TOKEN)

    @app.exception_handler(MoreError)
    def _unreadable(request: Request, error: MoreError) -> Response:
        _LOG.error("the status cannot be shown: %s", error.cause)
        return PlainTextResponse(_told(doors, request, error), status_code=503)

    _answer_readers(app, look, doors, pages)
    answer_logins(app, doors, pages.login)
    return app


def _answer_readers(app: FastAPI, look: _Look, doors: Doors[TokenEntry], pages: _Pages) -> None:
    @app.get("/")
    def _page(request: Request) -> Response:
        entry = doors.holder(request)
        if entry is None:
            return RedirectResponse("login", status_code=303)
        return HTMLResponse(pages.status(_cut(look(), entry)))

    @app.get("/status.json")
    def _json(request: Request) -> Response:
        entry = doors.holder(request)
        return refused() if entry is None else JSONResponse(_cut(look(), entry).as_json())

    @app.get("/metrics")
    def _metrics(request: Request) -> Response:
        entry = doors.holder(request)
        if entry is None:
            return refused()
        return Response(prometheus(_cut(look(), entry)), headers={"content-type": CONTENT_TYPE})


def _told(doors: Doors[TokenEntry], request: Request, error: MoreError) -> str:
    """What is said of an error: everything to the coordinator, to others that there is one."""
    try:
        entry = doors.holder(request)
    except MoreError:
        # The tokens themselves cannot be read, so nobody is known.
        entry = None
    return error.explain() if entry is not None and entry.site is None else "The status cannot be read now."


def _cut(status: Status, entry: TokenEntry) -> Status:
    return status if entry.site is None else seen_by(status, entry.site)


@dataclass(frozen=True, slots=True)
class _Pages:
    status: Callable[[Status], str]
    login: Callable[..., str]
    headers: dict[str, str]


def _pages() -> _Pages:
    environment = page_environment("server.status")
    css = str(environment.globals["style"]) + resources.files("server.status").joinpath("status.css").read_text("utf-8")
    script = environment.get_template("refresh.js.j2").render()
    status = environment.get_template("status.html.j2")
    login = environment.get_template("login.html.j2")

    def status_page(shown: Status) -> str:
        return status.render(
            status=shown,
            headline=headline(shown),
            sections=sections(shown),
            css=Markup(css),
            script=Markup(script),
        )

    def login_page(fault: str = "") -> str:
        return login.render(css=Markup(css), fault=fault)

    policy = (
        f"default-src 'none'; style-src {source(css)}; script-src {source(script)}; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'"
    )
    return _Pages(status_page, login_page, security_headers(policy))
