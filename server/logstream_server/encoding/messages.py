"""The JSON messages of `logstream.json.v1`: one object a text frame, told apart by `type`.

Built and parsed with msgspec, which checks what clients send against the types here. docs/protocol.md tells the same to
the authors of clients. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from logstream_server.errors import BadQuery, CloseCode
from logstream_server.lines.cursor import Cursor, Positions, cursor_at, encode_cursor
from logstream_server.lines.ring import EventKind, StreamEvent

PROTOCOL_VERSION: Final = 1
JSON_PROTOCOL: Final = "logstream.json.v1"
RAW_PROTOCOL: Final = "logstream.raw.v1"

_encode = msgspec.json.Encoder().encode


class _ClientMessage(msgspec.Struct, tag_field="type", forbid_unknown_fields=True):
    pass


class Subscribe(_ClientMessage, tag="subscribe"):
    """Lines of one more stream, please (or of one that is subscribed to already, from another position)."""

    stream: str
    tail: int | None = None
    cursor: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    grep: str | list[str] = []
    exclude: str | list[str] = []
    lag: str | None = None


class Unsubscribe(_ClientMessage, tag="unsubscribe"):
    """No more of one stream."""

    stream: str


class SetFilter(_ClientMessage, tag="filter"):
    """Another filter for a stream, from the next line on."""

    stream: str
    grep: str | list[str] = []
    exclude: str | list[str] = []


ClientMessage = Subscribe | Unsubscribe | SetFilter

_decoder = msgspec.json.Decoder(ClientMessage)


def parse_client_message(data: bytes) -> ClientMessage:
    """What a client sent. Raises BadQuery naming what is wrong with it."""
    try:
        message: ClientMessage = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuery(CloseCode.BAD_REQUEST, f"message not understood: {error}") from error
    return message


def token(stream: str, positions: Positions) -> str:
    """The cursor token of a reader at `positions`."""
    return encode_cursor(cursor_at(stream, positions))


def empty_token(stream: str) -> str:
    """The cursor of a reader of a stream that has no file yet."""
    return encode_cursor(Cursor(stream))


def lines_message(
    stream: str,
    cursor: str,
    offset: int | None,
    lines: Sequence[str],
    *,
    partial: bool = False,
    continued: bool = False,
    cut_bytes: int | None = None,
) -> bytes:
    """A batch. `offset`: of the first line in its file; `cut_bytes`: the length of a last line that was cut to the
    limit."""
    message: dict[str, Any] = {"type": "lines", "stream": stream, "cursor": cursor, "offset": offset, "lines": lines}
    if partial:
        message["partial"] = True
    if continued:
        message["continued"] = True
    if cut_bytes is not None:
        message["cut"] = [[len(lines) - 1, cut_bytes]]
    return _encode(message)


def event_message(stream: str, cursor: str, event: StreamEvent) -> bytes:
    """Something happened to the file; a loss is a `gap` of its own kind."""
    if event.kind is EventKind.GAP:
        return gap_message(stream, cursor, "lost", event.detail, event.lost_bytes)
    return _encode(
        {"type": "event", "stream": stream, "event": event.kind.value, "detail": event.detail, "cursor": cursor}
    )


def gap_message(stream: str, cursor: str, reason: str, detail: str, lost_bytes: int | None) -> bytes:
    """Lines are missing here. `lost_bytes` is None when nobody can tell how many."""
    return _encode(
        {"type": "gap", "stream": stream, "reason": reason, "detail": detail, "bytes": lost_bytes, "cursor": cursor}
    )


def hello_message(
    server: str,
    streams: Sequence[dict[str, Any]],
    stream: str | None,
    cursor: str | None,
    recovered: bool | None,
    reason: str | None,
    limits: dict[str, Any],
) -> bytes:
    """The first message of a socket. `recovered` answers a cursor in the query: null without one."""
    return _encode(
        {
            "type": "hello",
            "version": PROTOCOL_VERSION,
            "server": server,
            "streams": streams,
            "stream": stream,
            "cursor": cursor,
            "recovered": recovered,
            "reason": reason,
            "limits": limits,
        }
    )


def subscribed_message(stream: str, cursor: str, recovered: bool | None, reason: str | None) -> bytes:
    """The answer to `subscribe`; lines follow it."""
    return _encode({"type": "subscribed", "stream": stream, "cursor": cursor, "recovered": recovered, "reason": reason})


def unsubscribed_message(stream: str) -> bytes:
    """The answer to `unsubscribe`; nothing of the stream follows it."""
    return _encode({"type": "unsubscribed", "stream": stream})


def error_message(code: int, reason: str, stream: str | None = None) -> bytes:
    """What the client asked for cannot be done; `code` is one of the close codes, but the socket stays open."""
    return _encode({"type": "error", "code": int(code), "reason": reason, "stream": stream})


def bye_message(reason: str, *, reconnect: bool, retry_ms: int) -> bytes:
    """The last message: the server closes. `retry_ms`: when to come back, if at all."""
    return _encode({"type": "bye", "reason": reason, "reconnect": reconnect, "retry_ms": retry_ms})
