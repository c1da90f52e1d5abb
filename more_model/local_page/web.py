"""An application for people with a token: what every answer tells the browser, the login, and who asks."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from more_model.local_page.sessions import LASTS_S, Holder, Sessions, Tokens

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Doors(Generic[Holder]):
    """Who comes in. ``cookie``: its name; ``wrong``: what is said of a token that is none."""

    tokens: Tokens[Holder]
    sessions: Sessions[Holder]
    cookie: str
    wrong: str

    def holder(self, request: Request) -> Holder | None:
        """Whose token a request brings (programs, in its head) or logged in with (people, by cookie)."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.tokens.find(token.strip())
        return self.sessions.of(request.cookies.get(self.cookie, ""))


def bare_app(headers: Mapping[str, str]) -> FastAPI:
    """An application without pages, which sends ``headers`` with every answer."""
    # The library's own pages would describe the interface to people without a token, and load from the internet.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def _headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request)
        response.headers.update(headers)
        return response

    return app


def answer_logins(app: FastAPI, doors: Doors[Holder], form: Callable[..., str]) -> None:
    """Adds the login and its end. ``form``: the page with the form, as text, for a fault (or none)."""

    @app.get("/login")
    def _form() -> Response:
        return HTMLResponse(form())

    @app.post("/login")
    async def _login(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                return PlainTextResponse("too large", status_code=413)
        token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        name = await run_in_threadpool(doors.sessions.open, token)
        if name is None:
            _LOG.warning("a login with a wrong token from %s", request.client.host if request.client else "nowhere")
            return HTMLResponse(form(doors.wrong), status_code=401)
        # 303: the browser asks for the page anew, and a reload does not send the token again.
        response = RedirectResponse("./", status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(doors.cookie, name, max_age=LASTS_S, httponly=True, samesite="strict", secure=secure)
        return response

    @app.post("/logout")
    def _logout(request: Request) -> Response:
        doors.sessions.end(request.cookies.get(doors.cookie, ""))
        response = RedirectResponse("login", status_code=303)
        response.delete_cookie(doors.cookie)
        return response


def refused() -> Response:
    """For a program without a token."""
    return PlainTextResponse("a token is needed", status_code=401, headers={"www-authenticate": "Bearer"})


def security_headers(policy: str) -> dict[str, str]:
    """What a browser is told with every answer; ``policy``: of its content (CSP Level 3)."""
    return {
        "content-security-policy": f"{policy}; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }


def source(text: str) -> str:
    """How a policy names one inline style or script: by its digest."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
