"""The application factory: settings in, a Starlette application out.

`/ws`, `/api/v1/...`, `/` and `/assets/...` stand below --base-path; `/healthz`, `/readyz` and `/metrics` at the root,
or on --metrics-port and nowhere else, with `/status`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Lifespan

from .health import health_routes
from .metrics import metrics_routes
from .page import page_routes, read_assets
from .problems import HANDLERS, problem
from .rest import create_api
from .service import Service
from .settings import Settings
from .status import status_routes
from .ws import socket_endpoint


class State(TypedDict):
    """What handlers find in `request.state`."""

    service: Service


def create_app(settings: Settings, service: Service | None = None) -> Starlette:
    """The whole server as an ASGI application. `service`: made from the settings when it is not given."""
    service = service or Service.build(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        await service.start()
        try:
            yield {"service": service}
        finally:
            await service.stop()

    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", socket_endpoint),
        Route("/ws", _needs_websocket),
        _mount("/api/v1", create_api(service)),
        *page_routes(read_assets()),
    ]
    if settings.base_path:
        routes = [
            _mount(settings.base_path, Router(routes, redirect_slashes=False)),
            Route(settings.base_path, _add_slash),
        ]
    if settings.metrics_port is None:
        routes = [*_operations(service), *routes]
    return _starlette(routes, lifespan)


def create_metrics_app(service: Service) -> Starlette:
    """What `--metrics-port` serves."""
    return _starlette([*_operations(service), *status_routes(service)])


def _operations(service: Service) -> list[BaseRoute]:
    return [*health_routes(service), *metrics_routes(service)]


def _starlette(routes: list[BaseRoute], lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
    app.router.redirect_slashes = False  # its redirects name http:// and the host that it sees, not the one outside
    return app


def _mount(path: str, app: ASGIApp) -> Mount:
    """Starlette's own does not match a newline, which the name of a file, and so of a stream, may have."""
    mount = Mount(path, app)
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


async def _needs_websocket(_request: Request) -> Response:
    """A browser's address line, or curl, at the socket's address."""
    return problem(426, "this is a WebSocket; the page and /api/v1 are for HTTP", {"Upgrade": "websocket"})


async def _add_slash(request: Request) -> Response:
    """The page's addresses are relative to its folder; so is this one, to be true behind any proxy."""
    return Response(status_code=308, headers={"Location": request.url.path.rsplit("/", 1)[-1] + "/"})
