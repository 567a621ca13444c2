"""The application factory: settings in, a Starlette application out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, WebSocketRoute

from .service import Service
from .settings import Settings
from .ws import socket_endpoint


class State(TypedDict):
    """What handlers find in `request.state`."""

    service: Service


def create_app(settings: Settings, service: Service | None = None) -> Starlette:
    """The whole server as an ASGI application. `service`: made from the settings when it is not given."""
    service = service or Service.build(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        await service.start()
        try:
            yield {"service": service}
        finally:
            await service.stop()

    routes: list[BaseRoute] = [WebSocketRoute("/ws", socket_endpoint)]
    if settings.base_path:
        routes = [Mount(settings.base_path, routes=routes)]
    return Starlette(routes=routes, lifespan=lifespan)
