"""The site's page over HTTP, and the same as JSON, for whoever has the token; it listens on 127.0.0.1."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from markupsafe import Markup

from client.page.doors import PageToken
from client.page.model import SitePicture
from client.page.view import headline, sections, warnings
from more_model.errors import MoreError
from more_model.local_page.sessions import Sessions
from more_model.local_page.web import Doors, answer_logins, bare_app, refused, security_headers, source
from more_model.report.page import page_environment

_LOG = logging.getLogger(__name__)
COOKIE = "more_site_page"
_MOST_SESSIONS = 32
_WRONG = "This is not the token of this page."
_Look = Callable[[], SitePicture]


def site_app(look: _Look, token: PageToken) -> FastAPI:
    """The application; ``look`` gives what there is to see at each request."""
    pages = Pages.made()
    app = bare_app(pages.headers)
    doors = Doors(token, Sessions(token, most=_MOST_SESSIONS), COOKIE, _WRONG)

    @app.exception_handler(MoreError)
    def _unreadable(request: Request, error: MoreError) -> Response:
        _LOG.error("the page cannot be shown: %s", error.explain())
        return PlainTextResponse("The page cannot be shown now; its own log says why.", status_code=503)

    _answer_readers(app, look, doors, pages)
    answer_logins(app, doors, pages.login)
    return app


def _answer_readers(app: FastAPI, look: _Look, doors: Doors[str], pages: Pages) -> None:
    @app.get("/")
    def _page(request: Request) -> Response:
        if doors.holder(request) is None:
            return RedirectResponse("login", status_code=303)
        return HTMLResponse(pages.site(look()))

    @app.get("/site.json")
    def _json(request: Request) -> Response:
        if doors.holder(request) is None:
            return refused()
        return JSONResponse(look().as_json())


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages as text, and the headers that they are sent with. ``site(picture, alone=True)`` is for a file: without
    what only a server can do."""

    site: Callable[..., str]
    login: Callable[..., str]
    headers: dict[str, str]

    @classmethod
    def made(cls) -> Pages:
        """From the templates of this package."""
        environment = page_environment("client.page")
        own = resources.files("client.page").joinpath("page.css").read_text("utf-8")
        css = str(environment.globals["style"]) + own
        site, login = environment.get_template("site.html.j2"), environment.get_template("login.html.j2")
        policy = f"default-src 'none'; style-src {source(css)}; form-action 'self'; base-uri 'none'"

        def site_page(picture: SitePicture, *, alone: bool = False) -> str:
            return site.render(
                picture=picture, headline=headline(picture), warnings=warnings(picture), sections=sections(picture),
                css=Markup(css), policy=policy, alone=alone,
            )  # fmt: skip

        def login_page(fault: str = "") -> str:
            return login.render(css=Markup(css), fault=fault)

        return cls(site_page, login_page, security_headers(policy))
