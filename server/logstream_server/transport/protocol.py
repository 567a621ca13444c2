"""uvicorn's WebSocket protocol class with one extension more: the app may take the connection over.

uvicorn's own class keeps a protocol state machine and a task for each connection for as long as it lasts, 25 KiB and
more. Once Starlette has routed, checked and accepted the request, the app calls the extension with the protocol object
that the transport shall have from then on, and returns; uvicorn's object is freed. On another server, or in a test
client, the extension is not in the scope and the app goes on with plain ASGI messages (see fallback).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from logstream_server.fanout.connection import Connection

EXTENSION: Final = "logstream.takeover"
MAX_EARLY_BYTES: Final = 64 << 10
"""What a client may send before it was accepted; a sane one sends nothing."""

TakeOver = Callable[[Connection], None]


class _NoTransport:
    """What uvicorn's object sees after it has lost its connection: run_asgi closes the transport when the app
    returns."""

    def close(self) -> None:
        """Nothing to close."""

    def is_closing(self) -> bool:
        """It is gone."""
        return True

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def write(self, data: bytes) -> None:
        """Nothing is written."""


_NO_TRANSPORT: Final = cast(asyncio.Transport, _NoTransport())


_COMPLAINT: Final = b"the request has a line over 8 KiB, too many headers, or a body\n"
_UNREADABLE: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_COMPLAINT), _COMPLAINT)
)


class TakeoverProtocol(WebSocketsSansIOProtocol):
    """Given to uvicorn as `ws=`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._early: list[bytes] | None = None

    def handle_connect(self, event: Any) -> None:
        """The request: offer the extension to the app."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            self._early = []
            scope["extensions"][EXTENSION] = self._take_over

    def data_received(self, data: bytes) -> None:
        """Frames that come before the app has decided are kept as they are, for whoever will read them."""
        if self._early is None:
            super().data_received(data)
            self._refuse_unread_request()
            return
        self._early.append(data)
        if sum(map(len, self._early)) > MAX_EARLY_BYTES:
            self.transport.abort()

    def _refuse_unread_request(self) -> None:
        """A request that the library will not read (a line over 8 KiB, too many headers, a body) gets no answer from
        uvicorn's class, and its connection would stay for ever. The HTTP class hands requests over whole, so it is
        known now."""
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(_UNREADABLE)
            self.transport.close()

    async def receive(self) -> Any:
        """The second message that the app waits for is the peer's first frame: it has not taken the connection over."""
        if self.handshake_complete:
            self._go_on()
        return await super().receive()

    async def send(self, message: Any) -> None:
        """An app that closes has not taken the connection over either."""
        await super().send(message)
        if message["type"] == "websocket.close":
            self._go_on()
        elif (
            self.close_sent
        ):  # a refusal; uvicorn takes it for an app that forgot to answer, and logs an error for each
            self.handshake_complete = True

    def _go_on(self) -> None:
        """Be uvicorn's own class from here on."""
        early, self._early = self._early, None
        for data in early or ():
            super().data_received(data)

    def _take_over(self, connection: Connection) -> None:
        """Hand the transport to `connection`; this object is of no more use."""
        transport = self.transport
        if transport.is_closing():  # the peer has gone meanwhile: uvicorn's object sees to its end
            connection.connection_lost(None)
            return
        self.stop_keepalive()
        early, self._early = self._early or [], None
        self.transport = _NO_TRANSPORT
        self.connections.discard(self)
        self.scope["extensions"].pop(EXTENSION, None)
        self.connections.add(connection)  # type: ignore[arg-type]  # it has the one method that the server calls
        connection.attach(transport, self.connections.discard)
        for data in early:  # after the app has said its first words
            self.loop.call_soon(connection.data_received, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer went before the app had decided."""
        self._early = None
        super().connection_lost(exc)
