"""Sending long answers over HTTP: in slices, to clients that may read slowly, stop reading, or go.

Of a client that does not read, the server holds a slice and what is being made for it, and ends the connection after a
while. What cannot be finished ends without its last byte, so that nobody takes a part for the whole. `Turns` bounds how
many answers there are at one time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from logstream_server.errors import LogstreamError

from .retrieve import Unavailable

log = logging.getLogger(__name__)

SLICE_BYTES: Final = 64 << 10
SLICE_S: Final = 20.0
"""How long a client may take for a slice of an answer: as long as one on a socket may be silent."""


class Turns:
    """So many requests at one time, from the request to the last byte of the answer; the others wait for a while."""

    def __init__(self, app: ASGIApp, turns: int, wait_s: float, reason: str) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(turns)
        self._wait_s, self._reason = wait_s, reason

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises Unavailable when its turn does not come."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable(self._reason) from None
        try:
            await self._app(scope, receive, send)
        finally:
            self._turns.release()


class Sliced(Response):
    """An answer that is handed over in slices: of a client that does not read it, the server holds no second copy."""

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """See ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            if scope["method"] != "HEAD":
                await send_slices(self.body, send)
        except TimeoutError:
            return  # an answer that is not whole: the server below closes the connection
        await send({"type": "http.response.body", "body": b""})


class Parts(Protocol):
    """What an answer is made of, piece by piece."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """No more is asked for. Called once, whatever becomes of the answer."""


class Streamed(Response):
    """An answer that is made while it is sent, from `parts`; the next is made when the client has taken the last.
    A LogstreamError in `parts` breaks the answer off."""

    def __init__(self, parts: Parts, headers: Mapping[str, str], media_type: str, status: int = 200) -> None:
        super().__init__(None, status, headers, media_type)
        if "Content-Length" not in headers:
            del self.headers["content-length"]  # that of no body
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        gone = asyncio.create_task(disconnect(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD" or await self._send_parts(send, gone):
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await self._parts.aclose()

    async def _send_parts(self, send: Send, gone: asyncio.Task[None]) -> bool:
        """Whether all were sent; else the server below closes the connection."""
        try:
            async for part in self._parts:
                await send_slices(part, send)
                if gone.done():
                    return False
        except TimeoutError:
            return False
        except LogstreamError as error:
            log.warning("an answer was broken off: %s", error)
            return False
        return True


async def send_slices(body: bytes | memoryview, send: Send) -> None:
    """One slice after the other. Raises TimeoutError when the client does not take one."""
    view = memoryview(body)
    for start in range(0, len(view), SLICE_BYTES):
        part = bytes(view[start : start + SLICE_BYTES])
        async with asyncio.timeout(SLICE_S):
            await send({"type": "http.response.body", "body": part, "more_body": True})


async def disconnect(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
