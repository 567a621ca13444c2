"""Where a reader is in a stream, as a value, and as the opaque token that clients carry.

A position is proven by content, not by a promise: the hash of the file's first bytes says which file, the hash of the
bytes just before the offset says that nothing was rewritten below it. Any server that sees the same file can check a
token without state of its own. Not here: reading files (history) or deciding which file to try (resume).

Token, before base64url: version (1 byte), length of the stream's name (2), name in UTF-8, then per position: flags (1;
1: the inode counts, 2: `is_over`, 4: `follows`), inode (8), offset (8), head digest (8), marker digest (8); last a
CRC-32 of all that (4). Big endian.
"""

from __future__ import annotations

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

from logstream_server.errors import LogstreamError

from .framing import MARKER_BYTES

VERSION: Final = 1
HEAD_BYTES: Final = 256
"""How many bytes from the file's start identify it; fewer while the reader is still within them."""

OLDER: Final = -1
"""The id and the last ring entry of files that were rotated away before the ring began."""
CHAIN: Final = 8
"""So many files are remembered one behind another: several empty ones may lie between two that are not."""
_MARK: Final = struct.Struct(">BQQ8s8s")
MAX_TOKEN: Final = 4096
"""Characters in a token."""
_HAS_INODE: Final = 1
_IS_OVER: Final = 2
_FOLLOWS: Final = 4
MAX_LISTED: Final = 64
"""Of so many positions the token is within MAX_TOKEN."""


class BadCursor(LogstreamError):
    """The token is not one of ours: torn, mistyped or of another version."""

    def __init__(self, token: str, reason: str) -> None:
        super().__init__(token, reason)
        self.token, self.reason = token, reason

    def __str__(self) -> str:
        shown = self.token if len(self.token) <= 40 else self.token[:40] + "…"
        return f"cursor {shown!r} is not valid: {self.reason}"


@dataclass(eq=False, slots=True)
class Generation:
    """One incarnation of a file: what a path showed from its first byte until it was truncated or replaced.

    `head` grows to HEAD_BYTES as the file does; `inode` is None where inode numbers prove nothing (remote file
    systems). `begin` is the first offset that belongs to it (not 0 when a file was shortened to a part that had gone
    out already), `end` the last, once it is known that nothing more will come, and `retired_seq` the ring's entry that
    said so (OLDER: it ended before the ring began). `forgotten`: it stands for one, and all before it, of which nothing
    is known any more but that there was something to read. `sign`: 8 bytes that no other generation has: nothing else
    tells files apart that are empty or begin alike, and only the server that chose them can. `before` is the one that
    began before it, and `marker` the bytes before `end`: they say where the start of a file lies.
    """

    id: int
    inode: int | None = None
    head: bytes = b""
    begin: int = 0
    end: int | None = None
    retired_seq: int | None = None
    forgotten: bool = False
    sign: bytes = b""
    before: Generation | None = field(default=None, repr=False)
    marker: bytes = b""

    def is_over(self, seq: int) -> bool:
        """Whether nothing more comes of it from ring entry `seq` on."""
        return self.retired_seq is not None and self.retired_seq < seq

    def comes_after(self, before: Generation | None) -> None:
        """It began after `before`; CHAIN are remembered behind it. Nothing leads back to itself, also where this one
        was taken for an older one until now, as when the times of rotated files have changed."""
        self.before, last = before, self
        for _ in range(CHAIN):
            if last.before is None:
                return
            if last.before is self:
                break
            last = last.before
        last.before = None


@dataclass(frozen=True, slots=True)
class Position:
    """A reader has everything of `generation` before `offset`; `marker` is the up to 32 bytes there."""

    generation: Generation
    offset: int
    marker: bytes = b""


Positions = tuple[Position, ...]
"""Oldest first: files that were rotated away and may still grow, then the current one. Empty: no file was seen yet."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A position as a token carries it: digests in place of bytes. Up to HEAD_BYTES `head` is that of all bytes before
    it; there `marker` is the generation's sign, if it has one. `is_over`: nothing more comes there, and it is needed
    only to say which file came next. `follows`: empty files aside, its file came next after that of the last mark
    before it that says how far a file was read."""

    inode: int | None
    offset: int
    head: bytes
    marker: bytes
    is_over: bool = False
    follows: bool = False

    @classmethod
    def of(cls, position: Position) -> Mark:
        """The mark of a reader at `position`."""
        generation = position.generation
        head = generation.head[: min(HEAD_BYTES, position.offset)]
        is_signed = generation.sign and position.offset <= HEAD_BYTES
        marker = generation.sign if is_signed else _digest(position.marker)
        return cls(generation.inode, position.offset, _digest(head), marker)

    @property
    def head_bytes(self) -> int:
        """How many bytes from the file's start `head` is the digest of."""
        return min(HEAD_BYTES, self.offset)

    @property
    def marker_bytes(self) -> int:
        """How many bytes before `offset` `marker` is the digest of."""
        return min(MARKER_BYTES, self.offset)

    def matches(self, head: bytes, marker: bytes) -> bool:
        """Whether a file with these first and these preceding bytes (lengths as above) holds what the reader has
        read."""
        if not self.offset:
            return True
        return self.head == _digest(head) and (self.offset <= HEAD_BYTES or self.marker == _digest(marker))


@dataclass(frozen=True, slots=True)
class Cursor:
    """All positions of a reader in one stream."""

    stream: str
    marks: tuple[Mark, ...] = field(default=())


def cursor_at(stream: str, positions: Positions) -> Cursor:
    """The cursor of a reader that is at `positions`."""
    listed = _listed(positions)
    offsets = {position.generation: position.offset for position in positions}
    marks: list[Mark] = []
    read: Generation | None = None
    for position in listed:
        before = _anchor(position, offsets) if read is None or position is positions[-1] else None
        if before is not None and before.generation is not read:
            marks.append(replace(Mark.of(before), is_over=True))
            read = before.generation
        is_next = read is not None and read is _before(position.generation)
        marks.append(replace(Mark.of(position), follows=is_next and 0 < position.offset < HEAD_BYTES))
        read = position.generation if position.offset else read
    return Cursor(stream, tuple(marks))


def _listed(positions: Positions) -> list[Position]:
    """Those that say where to go on. Files that were read to their end are not needed beside one that was read later;
    nor, where they are many, are the ones behind it, or behind the first, of which nothing was read."""
    last = max((index for index, position in enumerate(positions) if position.offset), default=None)
    needed = (last, len(positions) - 1)
    kept = [position for index, position in enumerate(positions) if index in needed or not _is_read(position)]
    if len(kept) > MAX_LISTED:
        kept = kept[: (0 if last is None else kept.index(positions[last])) + 1]
    return kept


def _is_read(position: Position) -> bool:
    end = position.generation.end
    return end is not None and position.offset >= end


def _before(generation: Generation) -> Generation | None:
    """The one that came directly before it, empty ones aside."""
    before = generation.before
    while before is not None and not before.head and not before.end:
        before = before.before
    return before


def _anchor(position: Position, offsets: dict[Generation, int]) -> Position | None:
    """Where the file ended that was read before this one, of which so little was read yet that other files may begin
    alike; and its inode stays when it is copied and emptied. None where that one was not read to its end."""
    if position.offset >= HEAD_BYTES:
        return None
    generation = _before(position.generation)
    while not position.offset and generation is not None and offsets.get(generation) == 0:
        generation = _before(generation)  # of which nothing was read either
    if generation is None or not generation.end or offsets.get(generation, generation.end) < generation.end:
        return None
    return Position(generation, generation.end, generation.marker)


def encode_cursor(cursor: Cursor) -> str:
    """The url-safe token."""
    name = cursor.stream.encode("utf-8", "surrogatepass")
    parts = [struct.pack(">BH", VERSION, len(name)), name]
    for mark in cursor.marks:
        flags = 0 if mark.inode is None else _HAS_INODE
        flags |= (_IS_OVER if mark.is_over else 0) | (_FOLLOWS if mark.follows else 0)
        parts.append(_MARK.pack(flags, (mark.inode or 0) & 0xFFFFFFFFFFFFFFFF, mark.offset, mark.head, mark.marker))
    raw = b"".join(parts)
    return urlsafe_b64encode(raw + struct.pack(">I", binascii.crc32(raw))).rstrip(b"=").decode("ascii")


def parse_cursor(token: str) -> Cursor:
    """The cursor that `token` stands for. Raises BadCursor."""
    if len(token) > MAX_TOKEN:
        raise BadCursor(token, f"it has {len(token)} characters, no cursor has more than {MAX_TOKEN}")
    try:
        raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except (ValueError, UnicodeEncodeError):
        raise BadCursor(token, "it is not base64url text") from None
    if len(raw) < 7 or struct.unpack(">I", raw[-4:])[0] != binascii.crc32(raw[:-4]):
        raise BadCursor(token, "it is incomplete or was changed on its way")
    if raw[0] != VERSION:
        raise BadCursor(token, f"it has version {raw[0]}, this server reads version {VERSION}")
    return _parse_body(token, raw[1:-4])


def _parse_body(token: str, body: bytes) -> Cursor:
    length = struct.unpack(">H", body[:2])[0]
    name, marks = body[2 : 2 + length], body[2 + length :]
    if len(name) != length or len(marks) % _MARK.size:
        raise BadCursor(token, "its parts have wrong lengths")
    try:
        stream = name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise BadCursor(token, "the stream's name in it is not text") from None
    return Cursor(stream, tuple(_parse_mark(*parts) for parts in _MARK.iter_unpack(marks)))


def _parse_mark(flags: int, inode: int, offset: int, head: bytes, marker: bytes) -> Mark:
    known = inode if flags & _HAS_INODE else None
    return Mark(known, offset, head, marker, is_over=bool(flags & _IS_OVER), follows=bool(flags & _FOLLOWS))


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
