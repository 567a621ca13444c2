"""A client's WebSocket over plain ASGI messages: for servers that cannot hand the connection over.

Slower (a task per client, a message at a time), but the same to the hub: it takes batches of frames and says when it is
ready for more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from logstream_server.encoding.frames import Opcode, parse_server_frames
from logstream_server.fanout.connection import Connection, Owner


class TaskConnection(Connection):
    """A Connection that sends by awaiting; `run` is its life. How and to whom is for those who implement it."""

    __slots__ = ("_aborted", "_changed", "_close", "_pending", "_stuck_since")

    def __init__(self, owner: Owner, format_name: str) -> None:
        super().__init__(owner, format_name)
        self._pending: list[bytes] = []
        self._close: tuple[int, str] | None = None
        self._changed = asyncio.Event()
        self._aborted = asyncio.Event()
        self._stuck_since = 0.0

    def write(self, frames: bytes, body: bytes = b"") -> bool:
        """Always blocks until the batch was sent: there is no telling what the server behind ASGI has buffered."""
        self._block()
        if not self.is_closing:
            self._pending.append(frames + body)
            self._changed.set()
        return False

    def _block(self) -> None:
        if not self.blocked:
            self.blocked, self._stuck_since = True, self._owner.now

    @property
    def is_closing(self) -> bool:
        """See Connection."""
        return self.is_gone or self._close is not None

    def finish(self, code: int, reason: str) -> None:
        """See channel.Sink."""
        if not self.is_closing:
            self._block()  # also a close may hang
            self._close = (code, reason)
            self._owner.connection_gone(self)
            self._changed.set()

    def abort(self) -> None:
        """End at once."""
        self._aborted.set()

    def check(self, now: float, ping_interval_s: float, ping_timeout_s: float) -> bool:
        """The server below pings; only a send that does not end is ours to end."""
        self.next_check = now + ping_interval_s
        if self.blocked and now - self._stuck_since > ping_interval_s + ping_timeout_s:
            self.abort()
            return True
        return False

    async def run(self, begin: Coroutine[Any, Any, None]) -> None:
        """Send and receive until either side closes; `begin` goes on beside that."""
        receiver = asyncio.create_task(self._receive())
        sender = asyncio.create_task(self._send())
        aborted = asyncio.create_task(self._aborted.wait())
        beginner = asyncio.create_task(begin)
        tasks = (receiver, sender, aborted, beginner)
        try:
            await asyncio.wait(tasks[:3], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.is_gone = True
            self._owner.connection_gone(self)  # first: what follows may be cancelled
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()  # a defect of ours is the server's to log

    async def _send(self) -> None:
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                while self._pending:
                    await self._send_frames(self._pending.pop(0))
                    self._stuck_since = self._owner.now
                if self._close is not None:
                    await self._send_close(*self._close)
                    return
                self.blocked = False
                self._owner.connection_ready(self)
        except (WebSocketDisconnect, RuntimeError):
            return  # the peer has gone in the middle of a send

    async def _receive(self) -> None:
        """Returns when the peer has gone."""
        raise NotImplementedError

    async def _send_frames(self, frames: bytes) -> None:
        """Returns when more may be sent."""
        raise NotImplementedError

    async def _send_close(self, code: int, reason: str) -> None:
        raise NotImplementedError


class AsgiConnection(TaskConnection):
    """A Starlette WebSocket."""

    __slots__ = ("_websocket",)

    def __init__(self, owner: Owner, format_name: str, websocket: WebSocket) -> None:
        super().__init__(owner, format_name)
        self._websocket = websocket

    async def _receive(self) -> None:
        while True:
            message: dict[str, Any] = dict(await self._websocket.receive())
            if message["type"] == "websocket.disconnect":
                return
            text, data = message.get("text"), message.get("bytes")
            opcode, payload = (Opcode.BINARY, data or b"") if text is None else (Opcode.TEXT, text.encode())
            if self._close is None:
                self._owner.connection_message(self, opcode, payload)

    async def _send_frames(self, frames: bytes) -> None:
        for opcode, payload in parse_server_frames(frames):
            if opcode is Opcode.TEXT:
                await self._websocket.send_text(payload.decode())
            elif opcode is Opcode.BINARY:
                await self._websocket.send_bytes(payload)

    async def _send_close(self, code: int, reason: str) -> None:
        await self._websocket.close(code, reason)
