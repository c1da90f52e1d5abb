"""The site's page over HTTP, and the same as JSON, for whoever has the token; it listens on 127.0.0.1."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from client.page.doors import LASTS_S, PageToken, Sessions
from client.page.model import SitePicture
from client.page.view import headline, sections, warnings
from more_model.errors import MoreError
from more_model.report.page import page_environment

_LOG = logging.getLogger(__name__)
COOKIE = "more_site_page"
_MOST_BYTES = 4096
_WRONG = "This is not the token of this page."
_Look = Callable[[], SitePicture]


def site_app(look: _Look, token: PageToken) -> FastAPI:
    """The application; ``look`` gives what there is to see at each request."""
    # The library's own pages would describe the interface to people without a token, and load from the internet.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages, doors = Pages.made(), _Doors(token, Sessions(token))

    @app.middleware("http")
    async def _headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request)
        response.headers.update(pages.headers)
        return response

    @app.exception_handler(MoreError)
    def _unreadable(request: Request, error: MoreError) -> Response:
        _LOG.error("the page cannot be shown: %s", error.explain())
        return PlainTextResponse("The page cannot be shown now; its own log says why.", status_code=503)

    _answer_readers(app, look, doors, pages)
    _answer_logins(app, doors, pages)
    return app


def _answer_readers(app: FastAPI, look: _Look, doors: _Doors, pages: Pages) -> None:
    @app.get("/")
    def _page(request: Request) -> Response:
        if not doors.open_to(request):
            return RedirectResponse("login", status_code=303)
        return HTMLResponse(pages.site(look()))

    @app.get("/site.json")
    def _json(request: Request) -> Response:
        if not doors.open_to(request):
            return PlainTextResponse("a token is needed", status_code=401, headers={"www-authenticate": "Bearer"})
        return JSONResponse(look().as_json())


def _answer_logins(app: FastAPI, doors: _Doors, pages: Pages) -> None:
    @app.get("/login")
    def _form() -> Response:
        return HTMLResponse(pages.login())

    @app.post("/login")
    async def _login(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                return PlainTextResponse("too large", status_code=413)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        name = await run_in_threadpool(doors.sessions.open, given)
        if name is None:
            _LOG.warning("a login with a wrong token")
            return HTMLResponse(pages.login(_WRONG), status_code=401)
        # 303: the browser asks for the page anew, and a reload does not send the token again.
        response = RedirectResponse("./", status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, name, max_age=LASTS_S, httponly=True, samesite="strict", secure=secure)
        return response

    @app.post("/logout")
    def _logout(request: Request) -> Response:
        doors.sessions.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("login", status_code=303)
        response.delete_cookie(COOKIE)
        return response


@dataclass(frozen=True, slots=True)
class _Doors:
    token: PageToken
    sessions: Sessions

    def open_to(self, request: Request) -> bool:
        """Programs bring the token in the head of each request, people a cookie from their login."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.token.fits(token.strip())
        return self.sessions.holds(request.cookies.get(COOKIE, ""))


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
        digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'"

        def site_page(picture: SitePicture, *, alone: bool = False) -> str:
            return site.render(
                picture=picture, headline=headline(picture), warnings=warnings(picture), sections=sections(picture),
                css=Markup(css), policy=policy, alone=alone,
            )  # fmt: skip

        def login_page(fault: str = "") -> str:
            return login.render(css=Markup(css), fault=fault)

        return cls(site_page, login_page, _headers_with(f"{policy}; frame-ancestors 'none'"))


def _headers_with(policy: str) -> dict[str, str]:
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }
