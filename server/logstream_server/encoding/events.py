"""What a client is told: the server's messages as values, and what the client itself has to say.

The other side of `messages`: that module writes `logstream.json.v1`, this one reads it (docs/protocol.md). `client`
gives these events for a server, `localfile` the same ones for a local file, `printer` shows them. No I/O.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, get_args

import msgspec


class _Message(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A message of the server. Fields that it may add later are ignored."""


class Hello(_Message, frozen=True, tag="hello"):
    """The first message of each connection. `cursor` stands before the first line that follows.

    `recovered` answers our cursor: None when we gave none, False when the server could not go on there, for `reason`.
    `streams` are those that the server has, each with name, state and size in bytes.
    """

    stream: str | None = None
    cursor: str | None = None
    recovered: bool | None = None
    reason: str | None = None
    version: int = 1
    server: str = ""
    streams: list[dict[str, Any]] = []
    limits: dict[str, Any] = {}


class Subscribed(_Message, frozen=True, tag="subscribed"):
    """The answer to `subscribe`, like a Hello for one more stream."""

    stream: str
    cursor: str | None = None
    recovered: bool | None = None
    reason: str | None = None


class Unsubscribed(_Message, frozen=True, tag="unsubscribed"):
    """The answer to `unsubscribe`: nothing of the stream follows."""

    stream: str


class Lines(_Message, frozen=True, tag="lines"):
    """A batch of lines without their newlines, none where all were filtered out. `cursor` stands after the last.

    `offset` is the byte in the file at which the first begins. `partial`: the last has no newline yet; `continued`: the
    first goes on with a partial one. `cut`: index and full length in bytes of each line that was over the limit.
    """

    stream: str
    cursor: str
    offset: int | None
    lines: list[str]
    partial: bool = False
    continued: bool = False
    cut: tuple[tuple[int, int], ...] = ()


class Gap(_Message, frozen=True, tag="gap"):
    """Lines are missing here; `lost_bytes` is None when nobody can tell how many."""

    stream: str
    reason: str
    detail: str = ""
    lost_bytes: int | None = msgspec.field(name="bytes", default=None)
    cursor: str | None = None


class Event(_Message, frozen=True, tag="event"):
    """Something happened to the file: rotated, truncated, deleted, appeared, unreadable."""

    stream: str
    kind: str = msgspec.field(name="event")
    detail: str = ""
    cursor: str | None = None


class ServerError(_Message, frozen=True, tag="error"):
    """Something that we asked for cannot be done; the connection stays."""

    code: int
    reason: str
    stream: str | None = None


class Bye(_Message, frozen=True, tag="bye"):
    """The server is about to close; `reconnect` says whether to come back, and `retry_ms` when."""

    reason: str = ""
    reconnect: bool = True
    retry_ms: int = 0


class Disconnected(msgspec.Struct, frozen=True):
    """The connection broke, or could not be made; the next try is in `retry_s` seconds. Made by the client itself."""

    reason: str
    code: int | None
    retry_s: float


class Reconnected(msgspec.Struct, frozen=True):
    """There is a connection again, after `attempts` tries and `downtime_s` seconds. A Hello follows."""

    attempts: int
    downtime_s: float


ServerMessage = Hello | Subscribed | Unsubscribed | Lines | Gap | Event | ServerError | Bye
ClientEvent = ServerMessage | Disconnected | Reconnected

_decoder = msgspec.json.Decoder(ServerMessage)
_encode = msgspec.json.Encoder().encode
_KNOWN_TYPES: Final = frozenset(message.__struct_config__.tag for message in get_args(ServerMessage))


class _Typed(msgspec.Struct):
    type: str


def parse_server_message(data: str | bytes) -> ServerMessage | None:
    """The message, or None for a type that this client does not know. Raises ValueError for what is no message."""
    try:
        message: ServerMessage = _decoder.decode(data)
    except msgspec.ValidationError:
        if msgspec.json.decode(data, type=_Typed).type not in _KNOWN_TYPES:
            return None
        raise
    return message


def reason_in(body: bytes) -> str:
    """Why a server refused: the sentence in an RFC 9457 answer, or the first line of a short text, or nothing."""
    with suppress(ValueError, AttributeError):
        problem = msgspec.json.decode(body)
        return str(problem.get("detail") or problem.get("title") or "")
    text = body.decode("utf-8", "replace").strip()
    return text.splitlines()[0] if text and len(text) < 200 and not text.startswith("<") else ""


def encode_event(event: ServerMessage) -> bytes:
    """The message as the server would write it, without what has its default."""
    return _encode(event)
