"""`GET .../events`: the live log over plain HTTP, for places where WebSockets are blocked.

To the hub it is a client like any other: the same views, the same cursors, and from the file where it reads slowly. It
is told what a JSON client of the socket is told, and ends with `bye`. `wire` says how that is written.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from logstream_server.access.gate import Guest
from logstream_server.encoding import messages
from logstream_server.encoding.frames import Opcode, encode_frame
from logstream_server.encoding.view import Format
from logstream_server.encoding.wire import PING, RETRY_MS, JsonLines, Wire
from logstream_server.errors import CloseCode
from logstream_server.fanout.connection import Owner
from logstream_server.fanout.query import SocketQuery, Wish
from logstream_server.service import Service
from logstream_server.tailing.stream import Stream
from logstream_server.transport.fallback import TaskConnection

from .problems import NEVER_STORED
from .sending import SLICE_BYTES, disconnect
from .ws import begin, open_handshake

HEADERS: Final = {**NEVER_STORED, "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""No proxy may hold back what is to be seen at once: not to cache it, not to compress it, and NGINX not to buffer."""


class HttpConnection(TaskConnection):
    """A client of the hub at the other end of a response."""

    __slots__ = ("_receive_message", "_send_message", "_wire", "_wrote_at")

    def __init__(self, owner: Owner, wire: Wire, receive: Receive, send: Send) -> None:
        super().__init__(owner, wire.name)
        self._wire = wire
        self._receive_message, self._send_message = receive, send
        self._wrote_at = owner.now

    def check(self, now: float, ping_interval_s: float, ping_timeout_s: float) -> bool:
        """See Connection. Nobody answers here, but a connection that is silent is taken for dead on the way."""
        if super().check(now, ping_interval_s, ping_timeout_s):
            return True
        if not self.blocked and now - self._wrote_at >= ping_interval_s:
            self.write(self._ping())
            self._wrote_at = now
        self.next_check = self._wrote_at + ping_interval_s
        return False

    def _ping(self) -> bytes:
        """Lines of JSON have no comments: there the client is told again where it is."""
        subscription = next(iter(self.subscriptions.values()), None)
        if subscription is None or not isinstance(self._wire, JsonLines):
            return PING
        channel = subscription.channel
        token = messages.token(channel.stream, channel.place_of(subscription)[1])
        return encode_frame(Opcode.TEXT, messages.lines_message(channel.stream, token, None, []))

    async def _receive(self) -> None:
        await disconnect(self._receive_message)

    async def _send_frames(self, frames: bytes) -> None:
        await self._send_bytes(self._wire.transcode(frames))

    async def _send_bytes(self, data: bytes) -> None:
        """In slices, each of which is a sign of life."""
        for start in range(0, len(data), SLICE_BYTES):
            part = data[start : start + SLICE_BYTES]
            await self._send_message({"type": "http.response.body", "body": part, "more_body": True})
            self._stuck_since = self._wrote_at = self._owner.now

    async def _send_close(self, code: int, reason: str) -> None:
        """The response ends as it should, with a last message."""
        is_worth_it = code < 4000 or CloseCode(code).reconnect
        bye = messages.bye_message(reason, reconnect=is_worth_it, retry_ms=RETRY_MS)
        await self._send_bytes(self._wire.encode(bye))
        await self._send_message({"type": "http.response.body", "body": b""})


class Live(Response):
    """Lines of `stream` from where `wish` begins, until one side has had enough."""

    def __init__(self, service: Service, guest: Guest, wire: Wire, stream: Stream, wish: Wish) -> None:
        super().__init__(None, headers=HEADERS, media_type=wire.media_type)
        del self.headers["content-length"]  # nobody knows
        self._service, self._guest, self._wire, self._stream = service, guest, wire, stream
        self._query = SocketQuery(wish, Format.JSON, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Raises Refused before anything is sent."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        handshake = open_handshake(self._service, self._guest, scope)
        try:
            connection = HttpConnection(self._service.hub, self._wire, receive, send)
            handshake.join(connection)
            await send(start)
            await send({"type": "http.response.body", "body": self._wire.preface, "more_body": True})
            await connection.run(begin(self._service, connection, self._query, self._stream, handshake))
        finally:
            handshake.end()
