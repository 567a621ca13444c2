"""The operator's port: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

STUCK_S: Final = 600.0
"""Every call to the API server ends within seconds: work that lasts longer than this hangs, and a restart ends it."""


def sickness(longest_s: float) -> str | None:
    """Why the process should be restarted; None when it is well. That the loop turns is shown by the answer itself.

    An API server that cannot be reached is no reason: a restart would not bring it back.
    """
    return None if longest_s < STUCK_S else f"a look at a LogStream has been lasting for {longest_s:.0f} s"


def create_endpoints(
    registry: CollectorRegistry, longest_s: Callable[[], float], is_ready: Callable[[], bool]
) -> web.Application:
    """The application. `longest_s`: how long the longest work has been going on; `is_ready`: all has been seen once."""

    async def healthz(_request: web.Request) -> web.Response:
        reason = sickness(longest_s())
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def readyz(_request: web.Request) -> web.Response:
        ready = is_ready()
        return web.Response(text="ok\n" if ready else "starting\n", status=200 if ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
