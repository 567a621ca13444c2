"""Bytes of a growing file in, segments of whole lines out.

The tailer feeds what it read; history feeds what it reads again by cursor. Both get the same segments for the same
bytes, however the bytes are cut, so a reader can pass from one to the other at any segment edge. What is not here:
files, decoding, filters. A segment carries many ordinary lines as one bytes object, because splitting is the view's
business and is cheapest when done once for many lines; a line that needs a remark (cut, partial, continued) is a
segment of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import stringzilla

MARKER_BYTES: Final = 32
"""How many bytes before a position prove it (Fluent Bit's offset marker has the same length)."""

HOLE_BYTES: Final = 4096
"""A run of NULs this long at the start of a line is a hole in a sparse file, not text: a page is the least a hole
has."""

_HOLE_IN_BODY: Final = re.compile(rb"(?<=\n)\x00{%d,}" % HOLE_BYTES)
_UTF8_LENGTH: Final = ((0x80, 0x00, 1), (0xE0, 0xC0, 2), (0xF0, 0xE0, 3), (0xF8, 0xF0, 4))
"""(mask, value, length) of the first byte of a UTF-8 sequence, RFC 3629 section 3."""


class Flag(IntFlag):
    """What a reader must know about a segment besides its bytes."""

    LINES = 0
    """Only whole ordinary lines, each ended by its newline; `len(data) == end - start`."""
    CUT = 1
    """One line longer than the limit; `data` is its beginning, `end - start` its length in the file."""
    PARTIAL = 2
    """One line whose newline has not been written yet."""
    CONTINUED = 4
    """One line whose beginning went out before, as PARTIAL."""
    HOLE = 8
    """No line: a run of NULs that a sparse file shows where nothing was written; `data` is empty."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The bytes `start` to `end` of a file, `data` as far as it is kept, and `marker`, the up to 32 bytes before
    `end`."""

    start: int
    end: int
    data: bytes
    marker: bytes
    flags: Flag = Flag.LINES


def count_newlines(data: bytes) -> int:
    """How many lines end in `data`. Eight times as fast as `bytes.count`, which before Python 3.13 looks at one byte at
    a time."""
    count: int = stringzilla.count(data, b"\n")
    return count


def incomplete_utf8(data: bytes) -> int:
    """How many bytes at the end of `data` begin a UTF-8 sequence that is not finished yet (0 to 3)."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        for mask, value, length in _UTF8_LENGTH:
            if byte & mask == value:
                return back if length > back else 0
        return 0
    return 0


class LineFramer:
    """Cuts the bytes of one file, given in order, into segments.

    `offset` is the file offset of the first byte to come and `before` the up to 32 bytes in front of it: they tell
    whether that byte begins a line. `start` is the offset of the first byte that no segment has covered yet: the
    position of a reader who got every segment so far. Memory is bounded by `max_line_bytes`, whatever is fed.
    """

    __slots__ = (
        "_before",
        "_continued",
        "_held",
        "_held_bytes",
        "_in_hole",
        "_only_nuls",
        "_tail",
        "max_line_bytes",
        "offset",
        "start",
    )

    def __init__(self, max_line_bytes: int, offset: int = 0, before: bytes = b"") -> None:
        self.max_line_bytes = max_line_bytes
        self.offset = offset
        self.start = offset
        self._tail = before[-MARKER_BYTES:]
        self._before = self._tail
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._only_nuls = False
        # A file that begins with NULs was truncated under a writer that does not append: its holes have any length.
        self._in_hole = offset == 0 or (before != b"" and not self._tail.strip(b"\0"))
        self._continued = not self._in_hole and not before.endswith(b"\n")

    @property
    def marker(self) -> bytes:
        """The up to 32 bytes before `start`."""
        return self._before

    @property
    def tail(self) -> bytes:
        """The up to 32 bytes before `offset`."""
        return self._tail

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished line are held (its length in the file, not in memory)."""
        return self.offset - self.start

    @property
    def is_continuing(self) -> bool:
        """Whether the next byte continues a line whose beginning went out already."""
        return self._continued

    def feed(self, data: bytes) -> list[Segment]:
        """Take the next bytes of the file; return the segments they complete, in file order."""
        out: list[Segment] = []
        if not data:
            return out
        base, tail = self.offset, self._tail
        self.offset = base + len(data)
        self._tail = data[-MARKER_BYTES:] if len(data) >= MARKER_BYTES else (tail + data)[-MARKER_BYTES:]
        done = self._take_hole(out, data, 0, base, tail)
        if done == len(data):
            return out
        self._in_hole = False
        if self._held_bytes or self._continued:
            done = self._finish_held(out, data, done, base, tail)
        end = data.rfind(b"\n", done) + 1
        if end > done:
            self._emit_body(out, data, self._take_hole(out, data, done, base, tail), end, base, tail)
            done = end
        done = self._take_hole(out, data, done, base, tail)
        if done < len(data):
            self._keep(data[done:] if done else data)
        return out

    def skip_nuls(self, count: int) -> list[Segment]:
        """The next `count` bytes are NULs that need not be read (a hole that the file system knows)."""
        self.offset += count
        self._tail = (self._tail + b"\0" * min(count, MARKER_BYTES))[-MARKER_BYTES:]
        out: list[Segment] = []
        if self.may_skip_nuls:
            self._held, self._held_bytes = [], 0
            self._emit(out, self.offset, b"", self._tail, Flag.HOLE)
            self._in_hole = True
        else:
            self._keep(b"\0" * min(count, self.max_line_bytes + 1))
        return out

    @property
    def may_skip_nuls(self) -> bool:
        """Whether NULs that come now belong to a hole and not to a line that has begun."""
        return not self._continued and (self._only_nuls or not self._held_bytes)

    def flush_partial(self) -> list[Segment]:
        """Let go of the unfinished line, as PARTIAL; what comes later of it will be CONTINUED.

        An unfinished UTF-8 sequence and a carriage return (half of a CRLF, it may be) stay behind.
        """
        if not self._held_bytes:
            return []
        data = b"".join(self._held)
        keep = 0
        if len(data) == self.pending:
            keep = incomplete_utf8(data) or int(data.endswith(b"\r"))
        if keep == len(data):
            return []
        rest = data[len(data) - keep :] if keep else b""
        out: list[Segment] = []
        end = self.offset - keep
        marker = (self._before + data[: len(data) - keep])[-MARKER_BYTES:] if keep else self._tail
        self._emit_line(out, end, data[: len(data) - keep], marker, Flag.PARTIAL)
        self._continued = True
        self._held = [rest] if rest else []
        self._held_bytes = len(rest)
        return out

    def finish(self) -> list[Segment]:
        """The file has died: let go of everything that is held."""
        out: list[Segment] = []
        if self._held_bytes:
            self._emit_line(out, self.offset, b"".join(self._held), self._tail, Flag.PARTIAL)
            self._held, self._held_bytes = [], 0
            self._continued = True
        return out

    # -- the pieces of feed -------------------------------------------------------------------------------------------

    def _take_hole(self, out: list[Segment], data: bytes, done: int, base: int, tail: bytes) -> int:
        """Where a line may begin, let go of the NULs that are a hole; return how much of `data` is done."""
        if done == len(data) or data[done] or not self.may_skip_nuls:
            return done
        end = len(data) - len((data[done:] if done else data).lstrip(b"\0"))
        if not self._in_hole and base + end - self.start < HOLE_BYTES:
            return done
        self._held, self._held_bytes = [], 0
        self._emit(out, base + end, b"", _marker(tail, data, end), Flag.HOLE)
        self._in_hole = end == len(data)
        return end

    def _finish_held(self, out: list[Segment], data: bytes, done: int, base: int, tail: bytes) -> int:
        """Complete the line that began in an earlier feed, if its newline is here; return how much of `data` is
        done."""
        newline = data.find(b"\n", done)
        if newline < 0:
            return done
        end = newline + 1
        self._keep(data[done:end])
        line = b"".join(self._held)
        self._held, self._held_bytes = [], 0
        marker = _marker(tail, data, end)
        if self._continued or base + end - self.start > self.max_line_bytes:
            self._emit_line(out, base + end, line, marker, Flag.LINES)
            self._continued = False
        else:
            self._emit(out, base + end, line, marker, Flag.LINES)
        return end

    def _emit_body(self, out: list[Segment], data: bytes, done: int, end: int, base: int, tail: bytes) -> None:
        """Whole lines from `done` to `end`: usually one segment; holes and over-long lines stand alone."""
        if data.find(b"\0", done, end) >= 0:
            for hole in _HOLE_IN_BODY.finditer(data, done, end):
                self._emit_lines(out, data, done, hole.start(), base, tail)
                self._emit(out, base + hole.end(), b"", _marker(tail, data, hole.end()), Flag.HOLE)
                done = hole.end()
        self._emit_lines(out, data, done, end, base, tail)

    def _emit_lines(self, out: list[Segment], data: bytes, done: int, end: int, base: int, tail: bytes) -> None:
        """Whole lines without holes; hops from newline to newline by the limit, so it costs little on short lines."""
        limit = self.max_line_bytes
        position = done
        while end - position > limit + 1:
            newline = data.rfind(b"\n", position, position + limit + 1)
            if newline >= 0:
                position = newline + 1
                continue
            newline = data.find(b"\n", position)
            if position > done:
                self._emit(out, base + position, data[done:position], _marker(tail, data, position), Flag.LINES)
            done = newline + 1
            self._emit_line(out, base + done, data[position:done], _marker(tail, data, done), Flag.LINES)
            position = done
        if end > done:
            whole = data if end - done == len(data) else data[done:end]
            self._emit(out, base + end, whole, _marker(tail, data, end), Flag.LINES)

    def _emit_line(self, out: list[Segment], end: int, line: bytes, marker: bytes, flags: Flag) -> None:
        """One line of its own; cut to the limit at a character's edge when it is longer than that."""
        if self._continued:
            flags |= Flag.CONTINUED
        newline = 0 if flags & Flag.PARTIAL else 1
        length = end - self.start - newline
        if line.endswith(b"\r\n") and length == len(line) - 1:
            length -= 1  # the limit is for the text, whichever way the line ends
        if length > self.max_line_bytes:
            flags |= Flag.CUT
            line = line[: self.max_line_bytes]
            line = line[: len(line) - incomplete_utf8(line)]
        self._emit(out, end, line, marker, flags)

    def _emit(self, out: list[Segment], end: int, data: bytes, marker: bytes, flags: Flag) -> None:
        if end > self.start:
            out.append(Segment(self.start, end, data, marker, flags))
            self.start, self._before = end, marker

    def _keep(self, data: bytes) -> None:
        """Hold `data`, but never more than the limit and what tells that it was passed (a CRLF's two bytes)."""
        if self._only_nuls or not self._held_bytes:
            self._only_nuls = not data.strip(b"\0")
        room = self.max_line_bytes + 2 - self._held_bytes
        if room > 0:
            kept = data[:room]
            self._held.append(kept)
            self._held_bytes += len(kept)
            if len(self._held) > 1024:  # a writer that goes byte by byte must not cost a list entry a byte
                self._held = [b"".join(self._held)]


def _marker(tail: bytes, data: bytes, end: int) -> bytes:
    """The up to 32 bytes before position `end` of `data`, which follows `tail`."""
    if end >= MARKER_BYTES:
        return data[end - MARKER_BYTES : end]
    return (tail + data[:end])[-MARKER_BYTES:]
