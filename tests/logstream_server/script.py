"""A WebSocket server that follows a script and breaks where the script says so: for tests of what connects to one."""

from __future__ import annotations

import asyncio
import http
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Close
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from logstream_server.client.client import LogStreamClient, Patience
from logstream_server.encoding.events import (
    ClientEvent,
    Lines,
)

QUICK = Patience(first_s=0.01, longest_s=0.05)
"""Of a client whose server breaks on purpose."""

Scene = Callable[[ServerConnection, "Script"], Awaitable[None]]
"""What the server does with one connection; when it returns, the connection is cut without a word."""


class Script:
    """A server: the first connection plays the first scene, and so on; requests and messages are kept."""

    def __init__(self, *scenes: Scene | http.HTTPStatus | Response) -> None:
        self.scenes = list(scenes)
        self.queries: list[dict[str, list[str]]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.received: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        scene = self.scenes.pop(0)
        assert callable(scene)
        reader = asyncio.create_task(self._read(connection))
        await scene(connection, self)
        reader.cancel()
        if connection.close_code is None:
            connection.transport.abort()

    async def heard(self, count: int) -> None:
        """Wait until so many messages have come from the client, over all connections."""
        while len(self.received) < count:
            self._news.clear()
            await self._news.wait()

    async def _read(self, connection: ServerConnection) -> None:
        async for message in connection:
            self.received.append(json.loads(message))
            self._news.set()

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse with a status if that is the next scene."""
        parts = urlsplit(request.path)
        self.paths.append(parts.path)
        self.queries.append(parse_qs(parts.query))
        self.headers.append(dict(request.headers.raw_items()))
        scene = self.scenes[0]
        if callable(scene):
            return None
        self.scenes.pop(0)
        return scene if isinstance(scene, Response) else connection.respond(scene, "no")


@asynccontextmanager
async def playing(script: Script, protocols: tuple[str, ...] = ("logstream.json.v1",)) -> AsyncIterator[str]:
    """The script's server, on a free port; gives its address."""
    subprotocols = [Subprotocol(name) for name in protocols] or None
    server = await serve(
        script.handle, "127.0.0.1", 0, subprotocols=subprotocols, process_request=script.answer, compression=None
    )
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close(close_connections=True)
        await server.wait_closed()


def scene(*messages: dict[str, Any] | Close | str | bytes | float, stay: bool = False) -> Scene:
    """Send messages, then cut the connection, or stay.

    A float is seconds of rest, an int waits for so many messages of the client, a Close closes with its code.
    """

    async def play(connection: ServerConnection, script: Script) -> None:
        for message in messages:
            if isinstance(message, Close):
                await connection.close(message.code, message.reason)
            elif isinstance(message, int):
                await script.heard(message)
            elif isinstance(message, float):
                await asyncio.sleep(message)
            elif isinstance(message, dict):
                await connection.send(json.dumps(message))
            else:
                await connection.send(message)
        if stay:
            await connection.wait_closed()

    return play


def hello(cursor: str | None = "c0", recovered: bool | None = None, **fields: Any) -> dict[str, Any]:
    """The server's first message."""
    rest = {"version": 1, "server": "logstream/0.1.0", "streams": [], "stream": "app.log", "limits": {}}
    return {"type": "hello", "cursor": cursor, "recovered": recovered, "reason": None, **rest, **fields}


def lines(cursor: str, *texts: str, **fields: Any) -> dict[str, Any]:
    """A batch."""
    return {"type": "lines", "stream": "app.log", "cursor": cursor, "offset": 0, "lines": list(texts), **fields}


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; nothing here takes ten seconds unless it hangs."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(bounded())


async def take(client: LogStreamClient, count: int) -> list[ClientEvent]:
    """The next events."""
    return [await anext(client) for _ in range(count)]


def texts(events: list[ClientEvent]) -> list[str]:
    """All lines in the events."""
    return [line for event in events if isinstance(event, Lines) for line in event.lines]


async def until_lines(client: LogStreamClient, count: int) -> list[ClientEvent]:
    """Events up to and with the batch that makes `count` lines."""
    events: list[ClientEvent] = []
    while len(texts(events)) < count:
        events.append(await anext(client))
    return events
