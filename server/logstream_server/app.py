"""The application factory: settings in, a Starlette application out.

`/ws`, `/api/v1/...`, `/` and `/assets/...` stand below --base-path; `/healthz`, `/readyz` and `/metrics` at the root,
or on --metrics-port and nowhere else, with `/status`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from .access.access import is_own_name
from .access.door import Door
from .access.gate import Why
from .endpoints.health import health_routes
from .endpoints.login import login_routes
from .endpoints.metrics import metrics_routes
from .endpoints.page import page_routes, read_assets
from .endpoints.problems import HANDLERS, deny, nothing_here, problem
from .endpoints.rest import create_api
from .endpoints.status import status_routes
from .endpoints.ws import socket_endpoint
from .service import Service
from .settings import Settings


class State(TypedDict):
    """What handlers find in `request.state`."""

    service: Service
    door: Door
    """Where connections find it; see `arrival`."""


def create_app(settings: Settings, service: Service | None = None) -> Starlette:
    """The whole server as an ASGI application. `service`: made from the settings when it is not given."""
    service = service or Service.build(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        await service.start()
        try:
            yield {"service": service, "door": service.door}
        finally:
            await service.stop()

    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", socket_endpoint),
        Route("/ws", _needs_websocket),
        _mount("/api/v1", create_api(service)),
        *login_routes(service),
        *page_routes(read_assets()),
    ]
    if settings.base_path:
        routes = [
            _mount(settings.base_path, Router(routes, redirect_slashes=False, default=nothing_here)),
            Route(settings.base_path, _add_slash),
        ]
    if settings.metrics_port is None:
        routes = [*_operations(service), *routes]
    # Without a token, what keeps foreign pages out of a server on their reader's own machine is its name alone.
    guards = [] if service.gate.needs_token or not settings.only_this_machine else [Middleware(_OwnName, service)]
    return _starlette(routes, lifespan, guards)


def create_metrics_app(service: Service) -> Starlette:
    """What `--metrics-port` serves."""
    return _starlette([*_operations(service), *status_routes(service)])


def _operations(service: Service) -> list[BaseRoute]:
    return [*health_routes(service), *metrics_routes(service)]


class _OwnName:
    """Lets in who asks for this machine by one of its own names; see `access.is_own_name`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            host = HTTPConnection(scope).headers.get("host", "")
            if not is_own_name(host, self._service.settings.allowed_origins):
                detail = f"this server does not go by the name {host[:200]} (--allowed-origin http://NAME, or a token)"
                refused = self._service.gate.refused(Why.HOST, 403, detail)
                await deny(problem(refused.status, refused.reason), scope, receive, send)
                return
        await self._app(scope, receive, send)


def _starlette(
    routes: list[BaseRoute], lifespan: Lifespan[Starlette] | None = None, guards: Sequence[Middleware] = ()
) -> Starlette:
    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan, middleware=guards)
    app.router.default = nothing_here
    app.router.redirect_slashes = False  # its redirects name http:// and the host that it sees, not the one outside
    return app


def _mount(path: str, app: ASGIApp) -> Mount:
    """Starlette's own does not match a newline, which the name of a file, and so of a stream, may have."""
    mount = Mount(path, app)
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


async def _needs_websocket(_request: Request) -> Response:
    """A browser's address line, or curl, at the socket's address."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}  # RFC 9110, 7.8: both
    return problem(426, "this is a WebSocket; the page and /api/v1 are for HTTP", headers)


async def _add_slash(request: Request) -> Response:
    """The page's addresses are relative to its folder; so is this one, to be true behind any proxy."""
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=308, headers={"Location": request.url.path.rsplit("/", 1)[-1] + "/" + query})
