"""A real uvicorn in a thread of the test's own process, and a client that decides byte by byte what it sends when.

For tests that must see both ends of a connection; a server as a process of its own is in `process`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import uvicorn

from logstream_server.encoding.frames import Message, Opcode, ProtocolError, encode_frame, parse_server_frames
from logstream_server.transport.protocol import TakeoverProtocol

from .process import eventually

T = TypeVar("T")

PATIENCE_S = 20.0
MASK = b"\x0f\xf0\xaa\x01"
REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
"""The key is RFC 6455's own example."""


class Inside:
    """A uvicorn server in a thread, on a free port."""

    def __init__(self, make: Callable[[], uvicorn.Server]) -> None:
        self.server = make()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        eventually(lambda: self.server.started or not self._thread.is_alive(), "the server's start")
        assert self.server.started

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self.server.serve([self._sock])

        with asyncio.Runner(loop_factory=self.server.config.get_loop_factory()) as runner:
            runner.run(serve())

    def submit(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the server's loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def call(self, function: Callable[[], T]) -> T:
        """What a function returns on the server's loop."""

        async def main() -> T:
            return function()

        return self.submit(main()).result(PATIENCE_S)

    def stop(self) -> None:
        """End it; returns when it has."""
        self.server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def serve_app(app: Any, **config: Any) -> Inside:
    """A server of an ASGI application with our protocol class."""
    config = {"ws": TakeoverProtocol, "lifespan": "off", "log_config": None, "ws_ping_interval": None, **config}
    return Inside(lambda: uvicorn.Server(uvicorn.Config(app, **config)))


class RawClient:
    """A WebSocket client on a bare socket. `early`: a frame that goes out with the request, which goes in `pieces`."""

    def __init__(
        self,
        port: int,
        path: str = "/",
        trust: ssl.SSLContext | None = None,
        early: Message | None = None,
        pieces: int = 1,
        **headers: str,
    ) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if trust is not None:
            self.sock = trust.wrap_socket(self.sock, server_hostname="127.0.0.1")
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        data = REQUEST.format(path=path, host=f"127.0.0.1:{port}", more=more).encode()
        if early is not None:
            data += encode_frame(*early, mask=MASK)
        for number in range(pieces):
            time.sleep(0.05 if number else 0)  # else the kernel may hand them over together
            self.sock.sendall(data[number * 40 : (number + 1) * 40 if number < pieces - 1 else None])
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def answer(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer to the request."""
        while b"\r\n\r\n" not in self._unread:
            data = self.sock.recv(65536)
            assert data, self._unread
            self._unread += data
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def open(self) -> Self:
        """Wait until the server has accepted."""
        status, _ = self.answer()
        assert status == 101
        return self

    def send(self, opcode: Opcode, payload: bytes = b"") -> None:
        """A frame."""
        self.sock.sendall(encode_frame(opcode, payload, mask=MASK))

    def frames(self, count: int = 1) -> list[Message]:
        """The next frames; fewer when the connection ends before."""
        while True:
            try:
                messages = parse_server_frames(self._unread)
            except ProtocolError:  # the last one is not whole yet
                messages = []
            if len(messages) >= count:
                self._unread = b""
                return messages
            data = self.sock.recv(65536)
            if not data:
                return messages
            self._unread += data

    def rest(self) -> bytes:
        """Everything until the connection ends."""
        while data := self.sock.recv(65536):
            self._unread += data
        return self._unread
