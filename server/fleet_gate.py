"""The one door for hospitals: a TLS server that passes on what their nodes need and nothing else.

Flower serves the interface of nodes, the one that starts and stops runs, and the one of apps on one port, the second
without asking who calls. So that port stays on this machine, and only calls of nodes come through here. A reverse proxy
such as nginx can stand in its place (docs/superlink.md).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from more_model.errors import EnvironmentFault

_LOG = logging.getLogger(__name__)
PREFIX = "/v1/fleet/"
#: What a node of Flower 1.41 calls. register-node and unregister-node are left out: enrolment is the coordinator's.
CALLS = frozenset(
    {
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "pull-object",
        "push-object",
        "confirm-message-received",
        "get-run",
        "get-fab",
    }
)
#: Headers that belong to one connection (RFC 9110, 7.6.1), or that each side sets itself.
_NOT_PASSED_ON = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "date",
        "server",
    }
)
#: What the SuperLink says to a key that is not registered (412), or no longer, and to a signature that is wrong (401).
_NOT_ADMITTED = frozenset({401, 412})
_LAST_REQUESTS_S = 5
#: A piece of 5 MiB at 18 kB/s; slower callers are not served.
_BODY_S = 300
_UPSTREAM = httpx.Timeout(60.0, connect=5.0)


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Where it listens and with what, and where the SuperLink is. ``superlink_root``: PEM that its certificate comes
    from. ``max_bytes``: of one request."""

    host: str
    port: int
    certificate: Path
    key: Path
    superlink_port: int
    superlink_root: Path
    max_bytes: int = 8 * 2**20
    #: Each may hold one request in memory, before anybody has proved who they are.
    max_connections: int = 256


class FleetGate:
    """The running gate, in a thread of this process."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._config = uvicorn.Config(
            _application(settings),
            host=settings.host,
            port=settings.port,
            ssl_certfile=str(settings.certificate),
            ssl_keyfile=str(settings.key),
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=75,
            # Connections that nodes keep open would otherwise hold up the end for half a minute.
            timeout_graceful_shutdown=_LAST_REQUESTS_S,
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )
        self._server = uvicorn.Server(self._config)
        self._thread = threading.Thread(target=self._run, name="fleet gate", daemon=True)

    def start(self, wait_s: float = 15.0) -> None:
        """Return once it listens.

        Raises:
            EnvironmentFault: it cannot listen there, or certificate and key do not fit each other.
        """
        self._thread.start()
        deadline = time.monotonic() + wait_s
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"the gate for hospitals cannot listen on {self._settings.host}:{self._settings.port}",
                    remedy="see whether something listens there already (ss -ltnp), whether this user may use the "
                    "port, and whether server.key belongs to server.pem",
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; requests on their way may finish within five seconds."""
        self._server.should_exit = True
        self._thread.join(2.0 * _LAST_REQUESTS_S)
        self._server.force_exit = True
        self._thread.join(_LAST_REQUESTS_S)

    @property
    def running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def reload_certificate(self) -> None:
        """Use the certificate that now lies in the file for every new connection; those that are open stay.

        Raises:
            EnvironmentFault: certificate and key do not fit each other; the earlier pair stays in use.
        """
        settings = self._settings
        try:
            # Tried apart first: a pair that does not fit would leave the live one half replaced.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certificate, settings.key)
        except (ssl.SSLError, OSError) as error:
            raise EnvironmentFault(
                f"{settings.certificate}: the new certificate cannot be used", remedy="put the matching key beside it"
            ) from error
        assert self._config.ssl is not None
        self._config.ssl.load_cert_chain(settings.certificate, settings.key)

    def _run(self) -> None:
        try:
            self._config.load()
            assert self._config.ssl is not None
            self._config.ssl.sslobject_class = _Handshake
            self._server.run()
        except SystemExit:
            # uvicorn's way to say that it could not start; `start` sees that the thread has ended.
            _LOG.error("the gate for hospitals has ended")


class _Handshake(ssl.SSLObject):
    """Says why nobody came to speak: plain HTTP, or a hospital that does not trust this certificate."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            _LOG.warning("refused: a connection without TLS that both ends agree on (%s)", error.reason)
            raise


def _application(settings: GateSettings) -> Starlette:
    context = ssl.create_default_context(cafile=str(settings.superlink_root))
    client = httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{settings.superlink_port}",
        verify=context,
        timeout=_UPSTREAM,
        limits=httpx.Limits(max_connections=settings.max_connections),
        trust_env=False,
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def forward(request: Request) -> Response:
        return await _forward(request, client, settings.max_bytes)

    async def refuse(request: Request) -> Response:
        _LOG.warning("refused: %s %s from %s", request.method, request.url.path[:80], _caller(request))
        return PlainTextResponse("not found", status_code=404)

    routes = [Route(f"{PREFIX}{call}", forward, methods=["POST"]) for call in sorted(CALLS)]
    return Starlette(routes=[*routes, Route("/{path:path}", refuse, methods=_ALL_METHODS)], lifespan=lifespan)


_ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


async def _forward(request: Request, client: httpx.AsyncClient, max_bytes: int) -> Response:
    try:
        async with asyncio.timeout(_BODY_S):
            body = await _body(request, max_bytes)
    except (ClientDisconnect, TimeoutError):
        return PlainTextResponse("the request did not arrive", status_code=408)
    if body is None:
        _LOG.warning("refused: a request of more than %d bytes from %s", max_bytes, _caller(request))
        return PlainTextResponse("too large", status_code=413)
    headers, path = _passed_on(request.headers), request.url.path
    try:
        async with client.stream("POST", path, content=body, headers=headers) as answer:
            # Raw, as it came; nothing that a node asks for is large (pieces of arrays have 5 MiB).
            content = b"".join([chunk async for chunk in answer.aiter_raw()])
            if answer.status_code in _NOT_ADMITTED:
                _LOG.warning("refused by the SuperLink: %s from %s (%d)", path, _caller(request), answer.status_code)
            return Response(content, status_code=answer.status_code, headers=_passed_on(answer.headers))
    except httpx.HTTPError:
        # Nodes try again after this code, and only after it and its neighbours.
        return PlainTextResponse("the SuperLink does not answer", status_code=503)


async def _body(request: Request, max_bytes: int) -> bytes | None:
    """None where it is larger, found before it is all read."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > max_bytes:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}


def _caller(request: Request) -> str:
    return request.client.host if request.client is not None else "somebody"
