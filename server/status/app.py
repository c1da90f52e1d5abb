"""The status over HTTP: a page, JSON and metrics, for those with a token; each site sees what a site may see.

It listens on 127.0.0.1: people reach it through SSH, or through a reverse proxy with TLS.
"""

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

from more_model.errors import MoreError
from more_model.report.page import page_environment
from server.status.metrics import CONTENT_TYPE, prometheus
from server.status.model import Status
from server.status.sessions import LASTS_S, Sessions
from server.status.tokens import TokenEntry, TokenFile
from server.status.view import headline, sections
from server.status.viewer import seen_by

_LOG = logging.getLogger(__name__)
COOKIE = "more_status"
_MOST_BYTES = 4096
_BAD_TOKEN = "This is no token of this federation, or it was withdrawn."
_Look = Callable[[], Status]


def status_app(look: _Look, tokens: TokenFile) -> FastAPI:
    """The application. ``look`` gives the whole status, as the coordinator may see it; what it raises of `MoreError`
    is shown to the coordinator with status 503."""
    # The library's own pages would describe the interface to people without a token, and load from the internet.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages, sessions = _pages(), Sessions(tokens)
    doors = _Doors(tokens, sessions)

    @app.middleware("http")
    async def _headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request)
        response.headers.update(pages.headers)
        return response

    @app.exception_handler(MoreError)
    def _unreadable(request: Request, error: MoreError) -> Response:
        _LOG.error("the status cannot be shown: %s", error.cause)
        return PlainTextResponse(doors.told(request, error), status_code=503)

    _answer_readers(app, look, doors, pages)
    _answer_logins(app, pages, sessions)
    return app


def _answer_readers(app: FastAPI, look: _Look, doors: _Doors, pages: _Pages) -> None:
    @app.get("/")
    def _page(request: Request) -> Response:
        entry = doors.viewer(request)
        if entry is None:
            return RedirectResponse("login", status_code=303)
        return HTMLResponse(pages.status(_cut(look(), entry)))

    @app.get("/status.json")
    def _json(request: Request) -> Response:
        entry = doors.viewer(request)
        return _refused() if entry is None else JSONResponse(_cut(look(), entry).as_json())

    @app.get("/metrics")
    def _metrics(request: Request) -> Response:
        entry = doors.viewer(request)
        if entry is None:
            return _refused()
        return Response(prometheus(_cut(look(), entry)), headers={"content-type": CONTENT_TYPE})


def _answer_logins(app: FastAPI, pages: _Pages, sessions: Sessions) -> None:
    @app.get("/login")
    def _form() -> Response:
        return HTMLResponse(pages.login())

    @app.post("/login")
    async def _login(request: Request) -> Response:
        return await _logged_in(request, pages, sessions)

    @app.post("/logout")
    def _logout(request: Request) -> Response:
        sessions.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("login", status_code=303)
        response.delete_cookie(COOKIE)
        return response


@dataclass(frozen=True, slots=True)
class _Doors:
    tokens: TokenFile
    sessions: Sessions

    def viewer(self, request: Request) -> TokenEntry | None:
        """Whose token a request brings (programs, in its head) or logged in with (people, by cookie)."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.tokens.find(token.strip())
        return self.sessions.of(request.cookies.get(COOKIE, ""))

    def told(self, request: Request, error: MoreError) -> str:
        """What is said of an error: everything to the coordinator, to others that there is one."""
        try:
            entry = self.viewer(request)
        except MoreError:
            # The tokens themselves cannot be read, so nobody is known.
            entry = None
        return error.explain() if entry is not None and entry.site is None else "The status cannot be read now."


async def _logged_in(request: Request, pages: _Pages, sessions: Sessions) -> Response:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            return PlainTextResponse("too large", status_code=413)
    token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
    name = await run_in_threadpool(sessions.open, token)
    if name is None:
        _LOG.warning("a login with a wrong token from %s", request.client.host if request.client else "nowhere")
        return HTMLResponse(pages.login(_BAD_TOKEN), status_code=401)
    # 303: the browser asks for the page anew, and a reload does not send the token again.
    response = RedirectResponse("./", status_code=303)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, name, max_age=LASTS_S, httponly=True, samesite="strict", secure=secure)
    return response


def _cut(status: Status, entry: TokenEntry) -> Status:
    return status if entry.site is None else seen_by(status, entry.site)


def _refused() -> Response:
    return PlainTextResponse("a token is needed", status_code=401, headers={"www-authenticate": "Bearer"})


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

    return _Pages(status_page, login_page, _security_headers(css, script))


def _security_headers(css: str, script: str) -> dict[str, str]:
    policy = (
        f"default-src 'none'; style-src {_source(css)}; script-src {_source(script)}; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }


def _source(text: str) -> str:
    """How a policy names one inline style or script: by its digest."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
