"""One WebSocket client of the suite: it reads only when it is told to, and keeps everything that came, in order.

The protocol is the `websockets` library's sans-I/O one, which knows nothing of the server's code. There is no
thread: while nobody calls `pump`, nothing is read, so a client that stalls is one that is left alone.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlencode

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from .checker import assert_exact

DEADLINE_S: Final = 20.0
"""How long anything that must come may take: far longer than it does, for a machine with other work."""
QUIET_S: Final = 0.3
"""How long nothing may come before it counts as nothing: six looks at the file."""
RECEIVE_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class Closed:
    """How a connection ended; code 1006 is an end without a close frame."""

    code: int
    reason: str


class Client:
    """A connection to `/ws`. `lines`: what a person has seen, whatever the format; a continued line is one."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        subprotocol: str | None = None,
        receive_buffer: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
        trust: ssl.SSLContext | None = None,
        **query: object,
    ) -> None:
        """Connects and shakes hands. `query`: the URL's parameters; `from_` is `from`, a list is a repeated one.
        `trust`: speak TLS, to whom it says."""
        self.frames: list[str] = []
        self.data = bytearray()
        self.messages: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.pings = 0
        self.pongs = 0
        self.closed: Closed | None = None
        self.refused: tuple[int, str] | None = None
        self.answers_pings = True
        self._format = query.get("format", "json" if subprotocol == "logstream.json.v1" else "text")
        self._opened = False
        self._checked = 0
        self._connect(address, receive_buffer, trust)
        self._open(address, subprotocol, headers, query)

    def _connect(self, address: tuple[str, int], receive_buffer: int | None, trust: ssl.SSLContext | None) -> None:
        self._sock = socket.socket()
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.settimeout(DEADLINE_S)
        self._sock.connect(address)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if trust is not None:
            self._sock = trust.wrap_socket(self._sock, server_hostname=address[0])

    def _open(
        self,
        address: tuple[str, int],
        subprotocol: str | None,
        headers: Iterable[tuple[str, str]],
        query: dict[str, object],
    ) -> None:
        pairs = urlencode({name.rstrip("_"): value for name, value in query.items()}, doseq=True)
        uri = parse_uri(f"ws://{address[0]}:{address[1]}/ws" + (f"?{pairs}" if pairs else ""))
        offered = [Subprotocol(subprotocol)] if subprotocol else None
        self._protocol = ClientProtocol(uri, subprotocols=offered, max_size=None)
        request = self._protocol.connect()
        for name, value in headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()
        self.wait(lambda: self._opened or bool(self.refused or self.closed), "the handshake's answer")

    # -- reading ----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """For select."""
        return self._sock.fileno()

    def pump(self, timeout_s: float = 0.0) -> bool:
        """Take what has come, waiting up to `timeout_s` for something; whether there was anything."""
        if self.closed is not None or not select.select([self._sock], [], [], timeout_s)[0]:
            return False
        self._sock.settimeout(0)
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except ssl.SSLWantReadError:  # half a record, or one that is TLS's own
            return True
        except OSError:
            data = b""
        finally:
            self._sock.settimeout(DEADLINE_S)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame):
                self._received(event)
        if self.answers_pings:
            self._flush()
        if not data or self._protocol.state is State.CLOSED:
            self._ended()
        return True

    def _answered(self, response: Response) -> None:
        if response.status_code == 101:
            self._opened = True
        else:
            self.refused = (response.status_code, (response.body or b"").decode())

    def _received(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PING:
            self.pings += 1
        elif frame.opcode is Opcode.PONG:
            self.pongs += 1
        elif frame.opcode is Opcode.BINARY:
            self.data += frame.data
        elif frame.opcode is Opcode.TEXT:
            assert frame.fin
            text = bytes(frame.data).decode()
            if self._format == "json":
                self._take_message(json.loads(text))
            else:
                self.frames.append(text)
                self.lines.append(text)

    def _take_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] != "lines":
            return
        texts = list(message["lines"])
        if message.get("continued") and texts and self.lines:
            self.lines[-1] += texts.pop(0)
        self.lines += texts

    def _ended(self) -> None:
        if self.closed is None:
            code, reason = self._protocol.close_code, self._protocol.close_reason
            self.closed = Closed(1006 if code is None else code, reason or "")
            self._sock.close()

    # -- waiting ----------------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Read until `done`; an AssertionError says what did not come."""
        end = time.monotonic() + timeout_s
        while not done():
            left = end - time.monotonic()
            if left <= 0 or self.closed is not None:
                raise AssertionError(f"{what}: has not come; {self}")
            self.pump(min(left, 0.5))

    def wait_lines(self, count: int) -> None:
        """Read until so many lines have come in all."""
        self.wait(lambda: len(self.lines) >= count, f"{count} lines")

    def wait_last(self, line: str) -> None:
        """Read until this line is the last."""
        self.wait(lambda: self.lines[-1:] == [line], f"the line {line[:60]!r}")

    def expect_bytes(self, written: bytes | bytearray, timeout_s: float = DEADLINE_S) -> None:
        """Wait for the very bytes that were written, in a raw client."""
        self.wait(lambda: len(self.data) >= len(written), f"{len(written)} bytes", timeout_s)
        if self.data == written:
            return
        at = next((i for i, (a, b) in enumerate(zip(self.data, written, strict=False)) if a != b), len(written))
        shown = f"{bytes(self.data[at : at + 40])!r} where {bytes(written[at : at + 40])!r} was written"
        raise AssertionError(f"at byte {at} of {len(written)}: {shown}")

    def expect(self, *written: Sequence[str], timeout_s: float = DEADLINE_S, quiet_s: float = 0.0) -> None:
        """Wait for all of `written`, and check: each line exactly once, each sequence in order, nothing else.

        Counts all lines since the connection was opened. `quiet_s`: and then nothing more for so long.
        """
        count = sum(map(len, written))
        try:
            self.wait(lambda: len(self.lines) >= count, f"{count} lines", timeout_s)
        except AssertionError:
            assert_exact(self.lines, *written)
            raise
        if quiet_s:
            self.quiet(quiet_s)
        assert_exact(self.lines, *written)

    def quiet(self, seconds: float = QUIET_S) -> None:
        """Nothing at all may come for so long, but pings."""
        before = self.received
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.closed is None:
            self.pump(left)
        assert self.received == before, f"something came where nothing should; {self}"

    def wait_closed(self, code: int, timeout_s: float = DEADLINE_S) -> str:
        """Read until the server closes with `code`; the reason it gave."""
        end = time.monotonic() + timeout_s
        while self.closed is None and (left := end - time.monotonic()) > 0:
            self.pump(min(left, 0.5))
        assert self.closed is not None, f"the server did not close; {self}"
        assert self.closed.code == code, str(self)
        return self.closed.reason

    def wait_message(self, kind: str, after: int = 0, **fields: object) -> dict[str, Any]:
        """The first JSON message of a type with these fields (from number `after` on), waiting for it."""

        def found() -> dict[str, Any] | None:
            wanted = {"type": kind, **fields}
            return next((m for m in self.messages[after:] if wanted.items() <= m.items()), None)

        self.wait(lambda: found() is not None, f"a message {kind} {fields}")
        message = found()
        assert message is not None
        return message

    def wait_event(self, event: str, after: int = 0) -> dict[str, Any]:
        """The first event of that kind, waiting for it."""
        return self.wait_message("event", after, event=event)

    # -- what came --------------------------------------------------------------------------------

    @property
    def received(self) -> tuple[int, int, int]:
        """How much has come: frames, messages, binary bytes."""
        return len(self.frames), len(self.messages), len(self.data)

    @property
    def hello(self) -> dict[str, Any]:
        """The first message of a JSON client."""
        self.wait(lambda: bool(self.messages), "hello")
        assert self.messages[0]["type"] == "hello"
        return self.messages[0]

    @property
    def events(self) -> list[str]:
        """The kinds of the events that came; a gap is "gap"."""
        return [m.get("event", m["type"]) for m in self.messages if m["type"] in ("event", "gap")]

    @property
    def cursor(self) -> str:
        """Where a JSON client is."""
        found: str = next(m["cursor"] for m in reversed(self.messages) if m.get("cursor"))
        return found

    def cursors(self) -> list[tuple[str, int]]:
        """Each cursor that came with lines, and how many lines had come by then."""
        out, count = [], 0
        for message in self.messages:
            if message["type"] == "lines":
                count += len(message["lines"]) - bool(message.get("continued"))
                out.append((message["cursor"], count))
        return out

    def __str__(self) -> str:
        shown = [line if len(line) <= 60 else line[:60] + "…" for line in self.lines[-5:]]
        said = [{k: v for k, v in m.items() if k not in ("cursor", "lines")} for m in self.messages[-6:]]
        ended = self.closed or self.refused or "open"
        return f"{len(self.lines)} lines, the last: {shown}; {len(self.data)} bytes; {said}; {ended}"

    # -- sending ----------------------------------------------------------------------------------

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        """A JSON message, or a frame's text or bytes."""
        if isinstance(message, bytes):
            self._protocol.send_binary(message)
        else:
            self._protocol.send_text((message if isinstance(message, str) else json.dumps(message)).encode())
        self._flush()

    def subscribe(self, stream: str, **fields: object) -> dict[str, Any]:
        """Ask for one more stream, and wait for the answer."""
        before = len(self.messages)
        self.send({"type": "subscribe", "stream": stream, **fields})
        return self.wait_message("subscribed", before, stream=stream)

    def ping(self, count: int = 1) -> None:
        """Pings with an empty payload."""
        for _ in range(count):
            self._protocol.send_ping(b"")
        self._flush()

    def send_bytes(self, data: bytes) -> None:
        """Bytes as they are, whatever the protocol says."""
        try:
            self._sock.sendall(data)
        except ConnectionError:
            self._ended()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.send_bytes(data)

    def cut(self) -> None:
        """End without a word, as a network does."""
        self._sock.close()
        self.closed = self.closed or Closed(1006, "cut by the test")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()


def pump_all(clients: Iterable[Client], timeout_s: float) -> None:
    """Let many clients take what has come, waiting up to `timeout_s` for the first of them."""
    poll = select.poll()
    by_descriptor = {c.fileno(): c for c in clients if c.closed is None}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    for descriptor, _ in poll.poll(timeout_s * 1000):
        by_descriptor[descriptor].pump()


def wait_all_last(clients: Sequence[Client], line: str) -> None:
    """Read until `line` is the last that each client has; one that was closed is not waited for."""
    end = time.monotonic() + DEADLINE_S
    waiting = list(clients)
    while waiting := [c for c in waiting if c.closed is None and c.lines[-1:] != [line]]:
        assert time.monotonic() < end, f"{line[:60]!r}: {len(waiting)} clients wait for it; {waiting[0]}"
        pump_all(waiting, 0.2)
