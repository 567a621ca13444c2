"""Health and readiness, for whoever restarts and routes: a kubelet, a load balancer. Neither needs a token.

`/healthz` fails when restarting would help: a mount that was lost is bound anew by a new process. That the event loop
turns is shown by the answer itself. `/readyz` fails while clients should go elsewhere. Neither cares whether a file
exists.
"""

from __future__ import annotations

import time
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from logstream_server.service import Service

MOUNT_ERROR_S: Final = 60.0
"""How long a mount may answer with nothing but errors: remounting takes seconds."""


def health_routes(service: Service) -> list[BaseRoute]:
    """`/healthz` and `/readyz`."""

    async def healthz(_request: Request) -> Response:
        return _answer(sickness(service, time.monotonic()))

    async def readyz(_request: Request) -> Response:
        return _answer(unreadiness(service))

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def sickness(service: Service, now: float) -> str | None:
    """Why the process should be restarted; None when it is well. `now`: monotonic seconds."""
    for stream in service.monitor.streams.values():
        since = stream.counters.mount_error_since
        if since is not None and now - since > MOUNT_ERROR_S:
            return f"{stream.name}: the mount has been answering with errors for {now - since:.0f} s"
    return None


def unreadiness(service: Service) -> str | None:
    """Why no client should be sent here; None when it is ready."""
    if service.is_draining:
        return "the server is shutting down"
    return None if service.is_started else "the server is starting"


def _answer(reason: str | None) -> Response:
    return PlainTextResponse("ok\n" if reason is None else f"{reason}\n", 200 if reason is None else 503)
