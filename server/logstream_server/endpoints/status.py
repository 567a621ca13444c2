"""`/status`, on the metrics port alone: what a person who looks after the server wants to know in few words.

How many clients, how many streams in which state, and for streams that are there and give no lines their own words. It
is what the operator writes into a LogStream's status. That port asks for no token, so there is no text of a log in it,
and it is bounded however many streams there are.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from logstream_server.service import Service
from logstream_server.tailing.stream import Stream, StreamStatus

from .problems import NEVER_STORED

TROUBLED: Final = (
    StreamStatus.UNREADABLE,
    StreamStatus.REFUSED,
    StreamStatus.UNSUPPORTED,
    StreamStatus.HUNG,
)
"""There may be a file, and it gives no lines."""
MAX_TROUBLED: Final = 20
"""Who has more has one reason for most of them."""
MAX_CHARS: Final = 200
"""Of a name or of words: both may hold a path of 4096 bytes."""


def status_routes(service: Service) -> list[BaseRoute]:
    """`/status`."""

    async def status(_request: Request) -> Response:
        body = msgspec.json.encode(describe(service))
        return Response(body, headers=NEVER_STORED, media_type="application/json")

    return [Route("/status", status)]


def describe(service: Service) -> dict[str, Any]:
    """The answer. `untold`: troubled streams that are not in the list any more."""
    streams = list(service.monitor.streams.values())
    states = Counter(stream.state.status for stream in streams)
    troubled = [stream for stream in streams if stream.state.status in TROUBLED]
    return {
        "clients": len(service.hub.connections),
        "streams": {status.value: states[status] for status in StreamStatus},
        "troubled": [_words(stream) for stream in troubled[:MAX_TROUBLED]],
        "untold": max(0, len(troubled) - MAX_TROUBLED),
    }


def _words(stream: Stream) -> dict[str, str]:
    state = stream.state
    return {"name": _cut(stream.name), "state": state.status.value, "detail": _cut(state.detail)}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"
