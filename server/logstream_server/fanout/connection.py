"""A client's WebSocket after the handshake: ready-made frames out, control frames and a few messages in.

The protocol object that the transport gets when the connection is taken over (see protocol). It is all that an idle
client costs: no task, no queue, no timer of its own; the hub's clock looks after all of them. Everything here runs on
the event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from logstream_server.access.gate import Guest
from logstream_server.encoding.frames import FrameParser, Opcode, ProtocolError, encode_close, encode_frame, parse_close

from .channel import Subscription

MAX_MESSAGE_BYTES: Final = 64 << 10
"""The longest message a client may send: a filter with all its patterns has less."""
MAX_MESSAGES_PER_TICK: Final = 1000
"""Frames a client may send between two ticks of the clock (half a second): answering pings must not be a full-time
job."""
CLOSE_WAIT_S: Final = 5.0
"""How long a peer may take to answer our close frame."""
PING: Final = encode_frame(Opcode.PING, b"")


class Owner(Protocol):
    """The hub, as connections see it."""

    now: float

    def connection_ready(self, connection: Connection) -> None:
        """The peer has taken everything: go on sending."""

    def connection_message(self, connection: Connection, opcode: Opcode, payload: bytes) -> None:
        """A text or binary message came."""

    def connection_gone(self, connection: Connection) -> None:
        """The connection is lost or closed."""


class Connection(asyncio.Protocol):
    """One client. Implements channel.Sink."""

    __slots__ = (
        "_alive_at",
        "_buffered",
        "_closing_at",
        "_counted_at",
        "_fd",
        "_messages",
        "_on_lost",
        "_owner",
        "_parser",
        "_pinged_at",
        "_pong",
        "_transport",
        "blocked",
        "early",
        "format",
        "guest",
        "is_gone",
        "lag",
        "next_check",
        "subscriptions",
    )

    def __init__(self, owner: Owner, format_name: str) -> None:
        self._owner = owner
        self._transport: Any = None
        self._fd = -1
        self._parser: FrameParser | None = None
        self._messages = 0
        self._alive_at = self._pinged_at = self._counted_at = owner.now
        self._closing_at: float | None = None
        self._buffered = 0
        self._pong: bytes | None = None
        self._on_lost: Callable[[Connection], None] | None = None
        self.format = format_name
        self.guest: Guest | None = None
        self.early: tuple[bytes, ...] | None = ()
        """What a JSON client said before its `hello`; None since then."""
        self.blocked = False
        self.is_gone = False
        self.next_check = 0.0
        self.subscriptions: dict[str, Subscription] = {}

    # -- the transport's side ------------------------------------------------------------------------------------------

    def attach(self, transport: Any, on_lost: Callable[[Connection], None]) -> None:
        """Own `transport` from now on; `on_lost` is called when it ends."""
        self._transport = transport
        self._on_lost = on_lost
        # No water: `pause_writing` then says at once, within the write, that the kernel did not take everything.
        transport.set_write_buffer_limits(high=0)
        if transport.get_extra_info("sslcontext") is None:
            sock = transport.get_extra_info("socket")
            self._fd = -1 if sock is None else sock.fileno()
        transport.set_protocol(self)
        if transport.get_write_buffer_size():
            self.blocked = True

    def data_received(self, data: bytes) -> None:
        """Frames of the peer; see asyncio.Protocol."""
        now = self._owner.now
        self._alive_at = now
        if self._counted_at != now:  # the clock looks at few connections, but this is its tick
            self._counted_at, self._messages = now, 0
        parser = self._parser
        if parser is None:
            parser = FrameParser(MAX_MESSAGE_BYTES)
        try:
            for opcode, payload in parser.feed(data):
                self._messages += 1
                self._received(opcode, payload)
        except ProtocolError as error:
            self.finish(error.close_code, error.reason)
            return
        self._parser = None if parser.is_idle else parser
        if self._messages > MAX_MESSAGES_PER_TICK:
            self.finish(1008, "too many messages")

    def pause_writing(self) -> None:
        """The kernel did not take all of a write; see asyncio.BaseProtocol."""
        self.blocked = True
        self._buffered = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The kernel has taken everything; see asyncio.BaseProtocol."""
        self.blocked = False
        self._alive_at = self._owner.now
        if self._pong is not None:
            pong, self._pong = self._pong, None
            if not self.write(pong):
                return
        if not self.is_gone and self._closing_at is None:
            self._owner.connection_ready(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The end, whichever side it came from; see asyncio.BaseProtocol."""
        if self.is_gone:
            return
        self.is_gone = True
        self.blocked = True
        self._fd = -1
        self._owner.connection_gone(self)
        if self._on_lost is not None:
            self._on_lost(self)
            self._on_lost = None

    def shutdown(self) -> None:
        """Uvicorn's call to each of its connections when the server ends: the drain has said goodbye before."""
        self.abort()

    # -- the hub's side ------------------------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether no line goes there any more: it is closed, or about to be, by whichever side."""
        return self.is_gone or self._closing_at is not None or self._transport.is_closing()

    def write(self, frames: bytes, body: bytes = b"") -> bool:
        """See channel.Sink. The kernel is asked directly where nothing waits before it: one call, one copy."""
        transport = self._transport
        if self._closing_at is not None or transport.is_closing():
            self.blocked = True  # nothing comes of it any more; connection_lost follows
            return False
        sent = 0
        if self._fd >= 0 and not self.blocked:
            try:
                sent = os.writev(self._fd, (frames, body)) if body else os.write(self._fd, frames)
            except BlockingIOError:
                pass
            except OSError:
                transport.abort()
                self.blocked = True
                return False
            if sent == len(frames) + len(body):
                return True
        if body and self._fd < 0:
            transport.writelines((frames, body))  # with TLS: one call here, too
            return not self.blocked
        for part in (frames, body):
            if sent < len(part):
                transport.write(memoryview(part)[sent:] if sent else part)
            sent = max(0, sent - len(part))
        return not self.blocked

    def finish(self, code: int, reason: str) -> None:
        """Close with a code and a reason; the peer has some seconds to answer."""
        if self._closing_at is None and not self.is_gone:
            self._closing_at = self._owner.now
            self.next_check = 0.0  # the clock sees that it ends
            self._owner.connection_gone(self)
            if not self._transport.is_closing():
                self._transport.write(encode_close(code, reason))

    def abort(self) -> None:
        """End at once, without waiting for anything to be taken."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float, ping_interval_s: float, ping_timeout_s: float) -> bool:
        """The clock's look at this connection; True when it was aborted because the peer is dead or stuck."""
        if self._closing_at is not None:
            self.next_check = now + 1.0
            if now - self._closing_at > CLOSE_WAIT_S:
                self.abort()
            return False
        if self.blocked:
            buffered = self._transport.get_write_buffer_size()
            if buffered < self._buffered:
                self._alive_at = now
            self._buffered = buffered
        silent = now - self._alive_at
        if silent >= ping_interval_s + ping_timeout_s:
            self.abort()
            return True
        if now - self._pinged_at >= ping_interval_s and not self.blocked:
            self._pinged_at = now
            self.write(PING)
        until_abort = ping_interval_s + ping_timeout_s - silent
        until_ping = self._pinged_at + ping_interval_s - now
        self.next_check = now + (0.5 if self.blocked else max(0.0, min(until_abort, until_ping)))
        return False

    # -- frames that came ----------------------------------------------------------------------------------------------

    def _received(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.PONG:
            return
        if opcode is Opcode.PING:
            pong = encode_frame(Opcode.PONG, payload)
            if self.blocked:
                self._pong = pong  # the newest is enough (RFC 6455, 5.5.3)
            else:
                self.write(pong)
        elif opcode is Opcode.CLOSE:
            self._closed_by_peer(payload)
        elif self._closing_at is None:
            self._owner.connection_message(self, opcode, payload)

    def _closed_by_peer(self, payload: bytes) -> None:
        code, _ = parse_close(payload)
        if self._closing_at is None:
            self._closing_at = self._owner.now
            self.next_check = 0.0  # the clock sees that it ends
            self._owner.connection_gone(self)
            if not self._transport.is_closing():
                self._transport.write(encode_close(1000 if code == 1005 else code))
        self._transport.close()
