"""TLS between a socket's transport and the protocol that is served over it.

OpenSSL speaks it (`ssl.SSLObject`, which knows no socket); here its bytes are carried. To the transport below this is a
protocol, to the protocol above a transport, and what both say about flow is passed on as it is: a write that the kernel
did not take whole pauses the protocol within that write, and the size of the write buffer is what waits below. uvloop
has a class for TLS, too; docs/decisions/0011-tls.md says why it does not serve here.

Until the handshake is over, nobody has been let in: it has its time and its bytes, and costs no line in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

RECORD_BYTES: Final = 16 << 10
"""The most that one TLS record carries (RFC 8446, 5.1). OpenSSL's buffers keep the size that they once had, so they are
given no more at a time."""
MAX_EARLY_BYTES: Final = 64 << 10
"""What a client may send before it was answered: its own part of a handshake has some hundred bytes."""
SLICE_S: Final = 0.01
"""How long handshakes may go on before other work of the loop gets its turn: each costs a millisecond (RSA)."""

_HANDSHAKE: Final = 0x16
"""The first byte of whoever speaks TLS (RFC 8446, 5.1)."""
_SENTENCE: Final = b"this port speaks TLS: use https:// or wss://\n"
_NOT_TLS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_SENTENCE), _SENTENCE)
)


class Reception:
    """Makes the handshakes of many clients who come at once, so many at a time."""

    def __init__(self, context: Callable[[], ssl.SSLContext], timeout_s: float) -> None:
        self.context = context
        self.timeout_s = timeout_s
        self._waiting: deque[TlsTransport] = deque()
        self._is_scheduled = False

    def ask(self, transport: TlsTransport) -> None:
        """Have the transport go on with its handshake soon."""
        self._waiting.append(transport)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        end = time.monotonic() + SLICE_S
        try:
            while self._waiting and time.monotonic() < end:
                self._waiting.popleft().go_on()
        finally:
            self._is_scheduled = bool(self._waiting)
            if self._is_scheduled:
                asyncio.get_running_loop().call_soon(self._go_on)


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """One connection. `make`: the protocol above, once there is somebody to talk to; `connections`: uvicorn's set, in
    which this stands until then."""

    __slots__ = (
        "_connections",
        "_incoming",
        "_is_closing",
        "_is_expected",
        "_make",
        "_object",
        "_outgoing",
        "_protocol",
        "_raw",
        "_reception",
        "_timer",
    )

    def __init__(self, reception: Reception, make: Callable[[], asyncio.Protocol], connections: set[Any]) -> None:
        super().__init__()
        self._reception = reception
        self._make = make
        self._connections = connections
        self._raw: Any = None
        self._object: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._protocol: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_expected = False
        self._is_closing = False

    # -- the side of the transport below -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client, which is to begin now; see asyncio.BaseProtocol."""
        self._raw = transport
        self._connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._reception.timeout_s, self.abort)

    def data_received(self, data: bytes) -> None:
        """Encrypted bytes; see asyncio.Protocol."""
        if self._is_closing:
            return
        if self._protocol is not None:
            self._read(data)
        elif self._object is None and data[0] != _HANDSHAKE and not self._incoming.pending:
            self._refuse(data)
        else:
            self._incoming.write(data)
            if self._incoming.pending > MAX_EARLY_BYTES:
                self.abort()
            elif not self._is_expected:
                self._is_expected = True
                self._reception.ask(self)

    def eof_received(self) -> None:
        """The peer ends without a word of TLS; see asyncio.Protocol."""
        if self._protocol is not None:
            self._protocol.eof_received()

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; see asyncio.BaseProtocol."""
        self._is_closing = True
        self._arrived()
        protocol, self._protocol, self._object = self._protocol, None, None
        if protocol is not None:
            protocol.connection_lost(exc)

    def shutdown(self) -> None:
        """Uvicorn's call when the server ends, to whom is not served yet."""
        self.abort()

    # -- the handshake -------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Answer what has come of the handshake; the reception's call."""
        self._is_expected = False
        if self._is_closing:
            return
        if self._object is None:
            self._object = self._reception.context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError:
            self._break_off()
            return
        self._flush()
        self._arrived()
        try:
            self._protocol = self._make()
            self._protocol.connection_made(self)
            self._read(b"")
        except Exception:  # as transports do: they end, and leave the rest to the loop
            self.abort()
            raise

    def _arrived(self) -> None:
        """This is no newcomer any more."""
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, data: bytes) -> None:
        """Somebody who does not speak TLS, and perhaps HTTP: a person with the wrong address."""
        self._is_closing = True
        if data[:1].isupper():
            self._raw.write(_NOT_TLS)
        self._raw.close()

    def _break_off(self) -> None:
        """What came cannot be what a client meant. OpenSSL has left a word about it for the peer."""
        self._is_closing = True
        self._flush()
        self._raw.abort()

    # -- bytes that come -----------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        """Hand on what is in `data`, and what came before and was not read yet."""
        assert self._object is not None
        view, is_over = memoryview(data), False
        parts: list[bytes] = []
        try:
            while True:
                self._incoming.write(view[:RECORD_BYTES])
                view = view[RECORD_BYTES:]
                is_over = self._decrypt(parts)
                if is_over or not view:
                    break
        except ssl.SSLError:
            self._break_off()
            return
        self._flush()
        if parts:
            self._protocol.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        if is_over and self._protocol is not None:
            self._protocol.eof_received()
            self.close()

    def _decrypt(self, parts: list[bytes]) -> bool:
        """Whatever can be read; True when the peer has said that there is no more."""
        assert self._object is not None
        with contextlib.suppress(ssl.SSLWantReadError):  # it is dear: risked only where bytes wait
            while self._incoming.pending or self._object.pending():
                part = self._object.read(RECORD_BYTES)
                if not part:
                    return True
                parts.append(part)
        return False

    # -- the side of the protocol above --------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.WriteTransport."""
        self.writelines((data,))

    def writelines(self, list_of_data: Any) -> None:
        """See asyncio.WriteTransport. All of it is one write for the kernel."""
        if self.is_closing():
            return
        assert self._object is not None
        parts = []
        try:
            for data in list_of_data:
                view = memoryview(data)
                while view:
                    view = view[self._object.write(view[:RECORD_BYTES]) :]
                    parts.append(self._outgoing.read())
        except ssl.SSLError:
            self.abort()
            return
        if parts:
            self._raw.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def _flush(self) -> None:
        """Send what OpenSSL itself has to say."""
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def close(self) -> None:
        """Say goodbye, and end when everything was taken. The peer's own goodbye is not waited for (RFC 8446, 6.1)."""
        if self.is_closing():
            return
        self._is_closing = True
        if self._object is not None:
            with contextlib.suppress(ssl.SSLError):
                self._object.unwrap()
            self._flush()
        self._raw.close()

    def abort(self) -> None:
        """End at once."""
        self._is_closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether nothing goes out any more."""
        return self._is_closing or self._raw.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        return self._protocol  # type: ignore[no-any-return]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of TLS here, and all else below."""
        if name in ("sslcontext", "ssl_object") and self._object is not None:
            return self._object.context if name == "sslcontext" else self._object
        return self._raw.get_extra_info(name, default)

    def is_reading(self) -> bool:
        """See asyncio.ReadTransport."""
        return self._raw.is_reading()  # type: ignore[no-any-return]

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport; in bytes as they are encrypted."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See asyncio.WriteTransport."""
        return self._raw.get_write_buffer_limits()  # type: ignore[no-any-return]

    def get_write_buffer_size(self) -> int:
        """How many bytes wait for the kernel: nothing waits before them."""
        return self._raw.get_write_buffer_size()  # type: ignore[no-any-return]

    def can_write_eof(self) -> bool:
        """TLS has no end of one direction alone."""
        return False


def behind_tls(make: Callable[..., asyncio.Protocol], reception: Reception) -> Callable[..., TlsTransport]:
    """What uvicorn gets as `http=`: makes TLS, and behind it the protocol that it wanted."""

    def accept(**given: Any) -> TlsTransport:
        return TlsTransport(reception, lambda: make(**given), given["server_state"].connections)

    return accept
