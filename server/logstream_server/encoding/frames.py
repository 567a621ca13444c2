"""WebSocket frames as values: bytes to messages and messages to bytes, after RFC 6455.

For the server side of a connection that is already open: its frames leave unmasked and uncompressed, the peer's must
come masked. No sockets, no handshake, no timers, no reply policy; those are in `protocol` (the slim protocol of a
connection that was taken over) and `hub`. The channels call `encode_text_frames` once per batch of lines, the plain
ASGI fallback and the tests call `parse_server_frames`.

Section numbers below are those of https://www.rfc-editor.org/rfc/rfc6455
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from logstream_server.errors import LogstreamError, cut_close_reason

MAX_CONTROL_PAYLOAD: Final = 125
"""Bytes in the payload of a close, ping or pong frame (5.5)."""

NO_STATUS: Final = 1005
"""What `parse_close` gives for a close frame without a code; never on the wire (7.4.1)."""

# The codes an endpoint may send: 7.4.1, and 1012 to 1014 from the IANA registry that 11.7 founds; then the ranges of
# 7.4.2 for libraries and for private use.
_CLOSE_CODES: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)))

_FIN: Final = 0x80
_RSV: Final = 0x70
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127


class Opcode(IntEnum):
    """Frame types of 5.2; the others are reserved and refused."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_OPCODES: Final = {int(opcode): opcode for opcode in Opcode}


class Message(NamedTuple):
    """A whole message (fragments joined) or a control frame, in the order in which the last byte of each came."""

    opcode: Opcode
    payload: bytes


class ProtocolError(LogstreamError):
    """The peer broke RFC 6455 or our size limit: close with `close_code` (1002, 1007 or 1009) and `reason`."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(close_code, reason)
        self.close_code = close_code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (close code {self.close_code})"


def _build_headers() -> list[bytes]:
    """Header of a final, unmasked text frame for each payload length 0..65535, at its index.

    3 MB and 4 ms at import (Python 3.11), so that a header costs one list look-up for each line sent.
    """
    octets = [bytes((value,)) for value in range(256)]
    text = octets[_FIN | Opcode.TEXT]
    high = [text + octets[_LENGTH_16] + octet for octet in octets]
    headers = [prefix + low for prefix in high for low in octets]
    headers[:_LENGTH_16] = [text + length for length in octets[:_LENGTH_16]]
    return headers


HEADERS: Final = _build_headers()
"""`HEADERS[n]`: header of a text frame of `n` payload bytes, 0 <= n < 65536."""


def encode_header(opcode: Opcode, payload_bytes: int, *, fin: bool = True, masked: bool = False) -> bytes:
    """The header (5.2) of a frame with `payload_bytes` bytes of payload, without the masking key."""
    first = (_FIN if fin else 0) | opcode
    mask = _MASKED if masked else 0
    if payload_bytes < _LENGTH_16:
        return bytes((first, mask | payload_bytes))
    if payload_bytes < 65536:
        return bytes((first, mask | _LENGTH_16)) + payload_bytes.to_bytes(2, "big")
    return bytes((first, mask | _LENGTH_64)) + payload_bytes.to_bytes(8, "big")


def encode_frame(opcode: Opcode, payload: bytes, *, fin: bool = True, mask: bytes | None = None) -> bytes:
    """One frame. The server sends it unmasked; `mask` (4 bytes) makes it a client's frame.

    Text must be UTF-8 and a control payload at most 125 bytes: the caller's duty, since it made them.
    """
    header = encode_header(opcode, len(payload), fin=fin, masked=mask is not None)
    return header + payload if mask is None else header + mask + apply_mask(payload, mask)


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame; `reason` is cut at a character's edge to 123 bytes of UTF-8 (5.5.1)."""
    return encode_frame(Opcode.CLOSE, code.to_bytes(2, "big") + cut_close_reason(reason).encode())


def encode_text_frames(lines: list[bytes]) -> bytes:
    """One text frame for each line (UTF-8 without its newline), all joined, in order.

    The hot path of the whole server: each line of a channel passes here once, 60 to 100 ns for 200 bytes. The
    comprehension is a quarter faster here than `map` (measured on 3.11).
    """
    parts = [b""] * (2 * len(lines))
    try:
        parts[::2] = [HEADERS[len(line)] for line in lines]
    except IndexError:  # a line of 65536 bytes or more
        parts[::2] = [encode_header(Opcode.TEXT, len(line)) for line in lines]
    parts[1::2] = lines
    return b"".join(parts)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """Mask or unmask (5.3, its own inverse): each byte is XORed with `mask[i % 4]`. Some 1 us for a KiB."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame's payload; `(1005, "")` when it is empty.

    Raises ProtocolError for one byte only or a code that may not be sent (1002) and for a reason not in UTF-8 (1007).
    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise ProtocolError(1002, "close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CLOSE_CODES:
        raise ProtocolError(1002, f"close code {code} is not valid")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolError(1007, "close reason is not UTF-8") from None


def parse_server_frames(data: bytes) -> list[Message]:
    """Split a run of whole, final, unmasked frames, such as the answer of `encode_text_frames`, into messages.

    Raises ProtocolError (1002) when the bytes are no such run; it reads our own output, so that would be our mistake.
    """
    messages: list[Message] = []
    position = 0
    while position < len(data):
        header = Header.parse(data, position)
        if header is None or not header.fin or header.mask or header.end > len(data):
            raise ProtocolError(1002, f"no whole server frame at byte {position}")
        messages.append(Message(header.opcode, bytes(data[header.start : header.end])))
        position = header.end
    return messages


class Header(NamedTuple):
    """A frame's header (5.2), with the place of its payload: `start` and `end` index the bytes it was read from."""

    fin: bool
    opcode: Opcode
    mask: bytes
    start: int
    end: int

    @classmethod
    def parse(cls, data: bytes | bytearray, position: int) -> Header | None:
        """The header at `position`, or None while its bytes are not all there. `mask` is empty when absent."""
        available = len(data) - position
        if available < 2:
            return None
        first, second = data[position], data[position + 1]
        if first & _RSV:
            raise ProtocolError(1002, "reserved bits are set")
        opcode = _OPCODES.get(first & _OPCODE)
        if opcode is None:
            raise ProtocolError(1002, f"unknown opcode {first & _OPCODE:#x}")
        length = second & _LENGTH
        extended = 0 if length < _LENGTH_16 else 2 if length == _LENGTH_16 else 8
        mask_start = position + 2 + extended
        start = mask_start + 4 if second & _MASKED else mask_start
        if start > len(data):
            return None
        if extended:
            length = int.from_bytes(data[position + 2 : mask_start], "big")
            if length >> 63:
                raise ProtocolError(1002, "the top bit of a 64-bit length is set")
        return cls(bool(first & _FIN), opcode, bytes(data[mask_start:start]), start, start + length)


class FrameParser:
    """Turns the bytes that a client sends, cut anywhere, into messages; strict, and bounded by `max_message_bytes`.

    It holds at most one unfinished frame and one unfinished message, each below the limit, and nothing between
    messages. After a close frame whatever follows is thrown away (5.5.1). After a ProtocolError it is of no more use.
    """

    __slots__ = ("_buffer", "_closed", "_fragments", "_max_message_bytes", "_opcode")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer: bytearray | None = None  # the beginning of a frame
        self._fragments: bytearray | None = None  # the beginning of a message; bytes, since empty fragments have no end
        self._opcode = Opcode.CONTINUATION  # of that message
        self._closed = False

    @property
    def held_bytes(self) -> int:
        """Bytes kept of an unfinished frame and an unfinished message; 0 while idle."""
        return len(self._buffer or b"") + len(self._fragments or b"")

    @property
    def is_idle(self) -> bool:
        """Whether nothing has begun: a new parser would do as well."""
        return self._buffer is None and self._fragments is None and not self._closed

    def feed(self, data: bytes) -> list[Message]:
        """The messages and control frames that are complete with `data`, in order.

        A text message's payload is valid UTF-8, a close frame's passes `parse_close`. Bytes that follow an offence in
        the same data, and messages before it, are lost with the connection.

        Raises ProtocolError: 1002 for a broken rule, 1007 for text that is not UTF-8, 1009 for a message over the
        limit, known from its header before any of it is kept.
        """
        if self._closed:
            return []
        source: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            source = self._buffer
        messages: list[Message] = []
        position = 0
        while (header := Header.parse(source, position)) is not None:
            self._check(header)
            if header.end > len(source):
                break
            payload = bytes(source[header.start : header.end])
            position = header.end
            message = self._complete(header, apply_mask(payload, header.mask) if payload else payload)
            if message is not None:
                messages.append(message)
                if message.opcode is Opcode.CLOSE:
                    self._closed = True
                    position = len(source)
                    break
        self._keep(source, position)
        return messages

    def _keep(self, source: bytes | bytearray, position: int) -> None:
        """Hold what follows `position`: the beginning of a frame. An idle parser holds no buffer."""
        if position == len(source):
            self._buffer = None
        elif source is not self._buffer:
            self._buffer = bytearray(source[position:])
        elif position:
            del self._buffer[:position]

    def _check(self, header: Header) -> None:
        """The rules that a header shows by itself: 5.1 (mask), 5.4 (fragments), 5.5 (control frames), our limit."""
        opcode, length = header.opcode, header.end - header.start
        if not header.mask:
            raise ProtocolError(1002, "frame of a client without a mask")
        if opcode >= Opcode.CLOSE:
            if length > MAX_CONTROL_PAYLOAD:
                raise ProtocolError(1002, f"control frame of {length} bytes, over {MAX_CONTROL_PAYLOAD}")
            if not header.fin:
                raise ProtocolError(1002, "fragmented control frame")
            return
        begun = 0
        if opcode is Opcode.CONTINUATION:
            if self._fragments is None:
                raise ProtocolError(1002, "continuation of no message")
            begun = len(self._fragments)
        elif self._fragments is not None:
            raise ProtocolError(1002, "new message inside an unfinished one")
        if begun + length > self._max_message_bytes:
            raise ProtocolError(1009, f"message of {begun + length} bytes or more, over {self._max_message_bytes}")

    def _complete(self, header: Header, payload: bytes) -> Message | None:
        """The message that a whole frame ends, checked; None for a fragment that is not the last."""
        opcode = header.opcode
        if opcode >= Opcode.CLOSE:
            if opcode is Opcode.CLOSE:
                parse_close(payload)
            return Message(opcode, payload)
        if not header.fin or self._fragments is not None:
            if self._fragments is None:
                self._fragments, self._opcode = bytearray(), opcode
            self._fragments += payload
            if not header.fin:
                return None
            payload, opcode = bytes(self._fragments), self._opcode
            self._fragments = None
        if opcode is Opcode.TEXT:
            _check_utf8(payload)
        return Message(opcode, payload)


def _check_utf8(payload: bytes) -> None:
    """Refuse text that is not UTF-8 (8.1)."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError(1007, "text is not UTF-8") from None
