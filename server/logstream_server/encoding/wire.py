"""The JSON messages of `logstream.json.v1` over plain HTTP: as Server-Sent Events, or as lines of JSON.

The channels encode each batch once, as WebSocket frames; here they become what an HTTP client reads, once for all who
are sent the same. Each message stays whole: an event or a line is complete or it is not there, and its cursor with it.
Pure. Server-Sent Events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from typing import Final

import msgspec

from .frames import Opcode, encode_frame, parse_server_frames

PING: Final = encode_frame(Opcode.PING, b"")
"""Says nothing; keeps what lies between server and client from taking the connection for dead."""
RETRY_MS: Final = 1000
"""When an EventSource comes back after the end of a response."""


class _Place(msgspec.Struct):
    cursor: str | None = None


_place = msgspec.json.Decoder(_Place)


class Wire:
    """One way of writing messages. `preface`: what comes before the first."""

    name: str
    media_type: str
    preface: bytes = b""

    def __init__(self) -> None:
        self._last: tuple[bytes, bytes] = (b"", b"")

    def encode(self, message: bytes) -> bytes:
        """One JSON message, whose text has no line breaks, as it goes out."""
        raise NotImplementedError

    def ping(self) -> bytes:
        """What says nothing."""
        return b""

    def transcode(self, frames: bytes) -> bytes:
        """A run of frames as it goes out. The hub gives the same object to one client of a view after the other."""
        known, out = self._last
        if known is not frames:
            out = b"".join(
                self.encode(payload) if opcode is Opcode.TEXT else self.ping()
                for opcode, payload in parse_server_frames(frames)
            )
            self._last = frames, out
        return out


class EventStream(Wire):
    """Server-Sent Events: `id` is the message's cursor, so that a browser by itself goes on behind it."""

    name = "sse"
    media_type = "text/event-stream"
    preface = b"retry: %d\n\n" % RETRY_MS

    def encode(self, message: bytes) -> bytes:
        """See Wire. JSON has no line breaks of its own, so that a message is one `data` field whatever is in it."""
        cursor = _place.decode(message).cursor
        event_id = b"" if cursor is None else b"id: %s\n" % cursor.encode()
        return b"%sdata: %s\n\n" % (event_id, message)

    def ping(self) -> bytes:
        """A comment."""
        return b":\n\n"


class JsonLines(Wire):
    """A message a line."""

    name = "ndjson"
    media_type = "application/x-ndjson"

    def encode(self, message: bytes) -> bytes:
        """See Wire."""
        return message + b"\n"


WIRES: Final = (EventStream, JsonLines)
"""The first is what who accepts anything gets."""
