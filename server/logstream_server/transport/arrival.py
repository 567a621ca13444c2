"""uvicorn's HTTP protocol class with a bound on what comes before a request is whole: so much time, so many bytes, and
so many connections as there are descriptors for (`door`).

uvicorn times a connection only between two requests. One that never sends a request, or sends one byte of it a minute
(slow loris), would stay for ever, and headers without an end would be kept in memory. What comes after the request is
bounded elsewhere: WebSockets by the hub, answers that are not read by the kernel (server.listen).

It also sees to what uvicorn leaves out of RFC 9112: a request must name one host (3.2), and who speaks HTTP/1.0 knows
no chunks (6.1).
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable
from typing import Any, Final

from httptools import HttpParserUpgrade, parse_url
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from logstream_server.access.door import BRIEF, ENTRY, Door, Entry

MAX_HEAD_BYTES: Final = 64 << 10
"""Request line and headers; browsers send a few KiB. RFC 6585, 5 has the status for more."""

BRIEF_S: Final = 2.0
"""Who has one must say quickly what it is for."""

_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_COMPLAINT: Final = b"a request must say which host it is for, in one header Host\n"
_PLAIN: Final = [(b"connection", b"close"), (b"content-type", b"text/plain; charset=utf-8")]
_HOSTLESS_HEADERS: Final = [*_PLAIN, (b"content-length", b"%d" % len(_COMPLAINT))]
_HOSTLESS: Final = b"HTTP/1.1 400 Bad Request\r\n%s\r\n%s" % (
    b"".join(b"%s: %s\r\n" % header for header in _HOSTLESS_HEADERS),
    _COMPLAINT,
)
_OTHER_VERSION: Final = (
    b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
)
"""RFC 6455, 4.4: who speaks several can come again."""
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"

_HOST: Final = re.compile(rb"(?:\[[\w:.~%-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
"""RFC 9110, 7.2; it may be empty."""
_OLD: Final = ("0.9", "1.0")


class BoundedHttpProtocol(HttpToolsProtocol):
    """Given to uvicorn as `http=`, through `http_protocol`, which sets `request_timeout_s`. The door is found in the
    state that the application's lifespan has made; without one, everybody comes in."""

    request_timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._data = b""
        self._brief_at: Door | None = None
        self._must_leave = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A request is due; see asyncio.BaseProtocol."""
        super().connection_made(transport)
        door: Door | None = self.app_state.get("door")
        if door is not None:
            self._enter(door)
        self._expect_request()

    def _enter(self, door: Door) -> None:
        known: Entry | None = self.transport.get_extra_info(ENTRY)
        entry = door.enter(self.transport) if known is None else known
        if entry is Entry.SHUT:
            self._refuse(_FULL)
        elif entry is Entry.BRIEF:
            self._brief_at, self._must_leave = door, known is None
            self.app_state = {**self.app_state, BRIEF: True}

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of what nobody has answered yet; see asyncio.Protocol."""
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            if self._is_waiting:
                self._refuse(_TOO_LARGE)
            else:  # while the one before is being answered
                self.transport.abort()
            return
        self._data = data
        super().data_received(data)
        self._data = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Blanks behind a value are no part of it (5.1)."""
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """An address that is none is no request, whatever was asked for."""
        self.url = _origin_form(self.url)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """The request's turn has come."""
        scope = cycle.scope
        if not names_one_host(scope["headers"], scope["http_version"]):
            app = _complain
        if scope["http_version"] in _OLD:
            cycle.waiting_for_100_continue = False  # RFC 9110, 10.1.1
            app = _unchunked(app, cycle)
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """What came is no request, or no body of one."""
        if self._is_waiting or self._may_refuse:
            super().send_400_response(msg)
        else:  # two answers would mingle
            self.transport.abort()

    def on_response_complete(self) -> None:
        """The answer went out: the next request is due."""
        super().on_response_complete()
        if self._brief_at is not None and not self.transport.is_closing():
            self.transport.close()
        self._expect_request()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing to warn of: who asks for another protocol, as some clients do for HTTP/2, is answered by this one."""

    def handle_websocket_upgrade(self) -> None:
        """The connection is a WebSocket's from here on."""
        if not self._is_waiting:  # two answers would mingle
            self.transport.abort()
            return
        if self._brief_at is not None:
            self._brief_at.refusal()
            self._refuse(_FULL)
            return
        if not names_one_host(self.headers, self.scope["http_version"]):
            self._refuse(_HOSTLESS)
            return
        if any(name == b"sec-websocket-version" and value != b"13" for name, value in self.headers):
            self._refuse(_OTHER_VERSION)
            return
        self._cancel()
        # uvicorn forgets what came behind the request. It calls this where it handles the parser's word for an upgrade,
        # whose argument says how much of the data was the request's.
        upgrade = sys.exception()
        early = self._data[upgrade.args[0] :] if isinstance(upgrade, HttpParserUpgrade) else b""
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if early and isinstance(protocol, asyncio.Protocol) and not self.transport.is_closing():
            protocol.data_received(early)
        # Each holds the other. So both go now, and not when the cycle collector finds them: with thousands of clients
        # that connect it has a twentieth of the work.
        del self.parser

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; see asyncio.BaseProtocol."""
        self._cancel()
        if self._brief_at is not None and self._must_leave:
            self._brief_at.leave()
            self._must_leave = False
        super().connection_lost(exc)

    @property
    def _is_waiting(self) -> bool:
        """Whether no request is being answered."""
        cycle: RequestResponseCycle | None = getattr(self, "cycle", None)  # uvicorn's type leaves None out
        return cycle is None or cycle.response_complete

    @property
    def _may_refuse(self) -> bool:
        """Whether a request that is not whole yet can still be answered otherwise."""
        return self.cycle.more_body and not self.cycle.response_started and not self.pipeline

    @property
    def _patience_s(self) -> float:
        return min(self.request_timeout_s, BRIEF_S) if self._brief_at is not None else self.request_timeout_s

    def _expect_request(self) -> None:
        self._cancel()
        self._head_bytes = 0
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(self._patience_s, self._late)

    def _late(self) -> None:
        if self._is_waiting:
            self._refuse(_LATE if self._head_bytes else b"")
        elif self.cycle.more_body:  # else the answer takes long, which is ours to bound
            self._refuse(_LATE if self._may_refuse else b"")

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _origin_form(target: bytes) -> bytes:
    """The path and the query alone: through a proxy a whole URL may come (RFC 9112, 3.2.2), perhaps without a path, and
    uvicorn understands none for WebSockets. Raises HttpParserInvalidURLError."""
    url = parse_url(target)
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")


def names_one_host(headers: Iterable[tuple[bytes, bytes]], version: str) -> bool:
    """Whether a request with these headers says which host it is for as RFC 9112, 3.2 has it: once, and nothing that
    could be read in two ways. HTTP/1.0 (`version`) had no such header."""
    hosts = [value for name, value in headers if name == b"host"]
    return (len(hosts) == 1 or (not hosts and version in _OLD)) and all(map(_HOST.fullmatch, hosts))


async def _complain(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 400, "headers": _HOSTLESS_HEADERS})
    await send({"type": "http.response.body", "body": _COMPLAINT})


def _unchunked(app: Any, cycle: RequestResponseCycle) -> Any:
    """`app`, whose answer ends with the connection where it does not say how long it is. uvicorn would send chunks, and
    takes a length that is said for the whole."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        ends_with_connection = False

        async def send_unchunked(message: Any) -> None:
            nonlocal ends_with_connection
            if message["type"] == "http.response.start":
                ends_with_connection = all(name.lower() != b"content-length" for name, _ in message["headers"])
                if ends_with_connection:
                    cycle.chunked_encoding = False
            elif ends_with_connection:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_unchunked)

    return answer


def http_protocol(request_timeout_s: float) -> type[BoundedHttpProtocol]:
    """The class for servers in which a request may take so many seconds to arrive."""
    return type("HttpProtocol", (BoundedHttpProtocol,), {"request_timeout_s": request_timeout_s})
