"""Reading what is in the file already: the last N lines, and the rest of a lagging reader.

Runs on the scheduler's threads. Costs are bounded by what is asked for, not by the file's size.
"""

from __future__ import annotations

import logging
from typing import Final

from logstream_server.lines.catchup import Leg
from logstream_server.lines.cursor import HEAD_BYTES, Generation, Mark, Position, Positions
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import MARKER_BYTES, Flag, LineFramer, count_newlines
from logstream_server.lines.ring import Entry
from logstream_server.tailing.files import GONE_ERRNOS, LogFile, NotALog, raise_if_exhausted
from logstream_server.tailing.siblings import find_content, marker_at
from logstream_server.tailing.stream import Stream, StreamStatus

log = logging.getLogger(__name__)

ROTATED: Final = "the file was rotated or emptied a moment ago"
"""Why a reader waits for the follower's next look."""
BLOCK_BYTES: Final = 1 << 16
MAX_BLOCK_BYTES: Final = 1 << 20
MAX_LINE_SEARCH_BYTES: Final = 64 << 20
"""How far back the start of one line is looked for; a longer line is shown from the middle."""
MAX_FILTER_SEARCH_BYTES: Final = 256 << 20
"""How far back the last N matching lines are looked for: some seconds of a core."""

NO_ANSWER: Final = frozenset({StreamStatus.STARTING, StreamStatus.HUNG, StreamStatus.UNREADABLE})
"""States in which the file system has not said yet, or does not say now, what there is."""


class NotNow(Exception):
    """The file system refuses at the moment; nothing is lost by waiting. Internal to catching up."""


class NotYet(NotNow):
    """The follower sees at its next look what a reader has met already. Internal to catching up."""


class Lost(Exception):
    """The bytes are not there any more; `lost_bytes` is how many, as far as is known. Internal to catching up."""

    def __init__(self, reason: str, lost_bytes: int | None) -> None:
        super().__init__(reason)
        self.reason, self.lost_bytes = reason, lost_bytes


def wait_for_look(stream: Stream) -> None:
    """Raises NotYet while the follower's next look tells where what was followed went."""
    if stream.is_seen_soon():
        raise NotYet(ROTATED)


def wait_for_first_look(stream: Stream, head: Positions) -> None:
    """Raises NotNow where nothing was followed yet, and nothing says that there is nothing: what there is may be what a
    reader has read."""
    if not head and stream.state.status in NO_ANSWER:
        raise NotNow(stream.state.detail or "the file was not looked at yet")


# -- the rest of a reader who is behind --------------------------------------------------------------------------------


def read_leg(stream: Stream, leg: Leg, max_bytes: int, max_line_bytes: int, *, raw: bool = False) -> list[Entry]:
    """The next about `max_bytes` of a leg as ring entries (without numbers), at least one line of it. Raises Lost,
    NotNow.

    `raw`: bytes as they are, lines not looked at.
    """
    position, left = leg.position, leg.until - leg.position.offset
    if position.generation.forgotten:
        raise Lost("more files were rotated away meanwhile than are remembered", None)
    file = stream.file_of(position.generation)
    if file is not None:
        try:
            return _read_leg(file, leg, max_bytes, max_line_bytes, raw)
        except OSError as error:
            if error.errno not in GONE_ERRNOS:
                raise NotNow(str(error)) from error
        except (NotALog, Lost):
            log.debug("%s: %r does not hold the rest any more", stream.name, file.path)
        finally:
            file.release()
    if leg.until <= len(position.generation.head):
        return _from_head(leg, max_line_bytes, raw)
    # It was rotated away, or truncated after a copy was made: the content may be there under another name.
    try:
        file = find_content(stream.path, stream.roots, proof(position), keep_open=stream.keeps_open)
        if file is None:
            raise Lost("the file was truncated or deleted before this was read", left)
        try:
            return _read_found(file, leg, max_bytes, max_line_bytes, raw)
        finally:
            file.release()
    except OSError as error:  # there is no descriptor to look for it with
        raise NotNow(error.strerror or str(error)) from error


def _from_head(leg: Leg, max_line_bytes: int, raw: bool) -> list[Entry]:
    """The first bytes of a file that is gone: they are remembered, and so few are no proof of another one."""
    position, head = leg.position, leg.position.generation.head
    data, before = head[position.offset : leg.until], head[: position.offset][-MARKER_BYTES:]
    if raw:
        marker = (before + data)[-MARKER_BYTES:]
        return [_entry(position.generation, position.offset, leg.until, data, marker, Flag.LINES)]
    framer = LineFramer(max_line_bytes, position.offset, before)
    segments = framer.feed(data) + framer.finish()
    return [_entry(position.generation, s.start, s.end, s.data, s.marker, s.flags) for s in segments]


def _read_found(file: LogFile, leg: Leg, max_bytes: int, max_line_bytes: int, raw: bool) -> list[Entry]:
    try:
        return _read_leg(file, leg, max_bytes, max_line_bytes, raw)
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        raise Lost(f"the file cannot be read: {error}", leg.until - leg.position.offset) from error


def proof(position: Position) -> Mark:
    """A mark that a file with the content of the position's generation matches, as strong as can be."""
    head = position.generation.head
    if position.offset < len(head):
        position = Position(position.generation, len(head), head[-MARKER_BYTES:])
    return Mark.of(position)


def _read_leg(file: LogFile, leg: Leg, max_bytes: int, max_line_bytes: int, raw: bool) -> list[Entry]:
    position = leg.position
    before = position.marker or marker_at(file, position.offset)
    head = position.generation.head
    # By name it may be another file at each read, of which 32 bytes say little.
    head = head if position.offset < HEAD_BYTES or not file.keeps_open else b""
    framer = LineFramer(max_line_bytes, position.offset, before)
    out: list[Entry] = []
    while not out and framer.offset < leg.until:
        read = file.read(framer.offset, min(max_bytes, leg.until - framer.offset), framer.tail, head=head)
        if not read.intact or not read.data:
            raise Lost("the file was truncated before this was read", leg.until - position.offset)
        if raw:
            data = (
                read.data[: read.data.rfind(b"\n") + 1] or read.data
            )  # whole lines, but of a line longer than this a piece
            marker = (before + data[-MARKER_BYTES:])[-MARKER_BYTES:]
            return [_entry(position.generation, framer.offset, framer.offset + len(data), data, marker, Flag.LINES)]
        segments = framer.feed(read.data)
        if framer.offset >= leg.until:
            segments += framer.finish()
        elif not read.data.strip(b"\0"):
            segments += framer.skip_nuls(min(file.next_data(framer.offset), leg.until) - framer.offset)
        out = [_entry(position.generation, s.start, s.end, s.data, s.marker, s.flags) for s in segments]
    return out


def _entry(generation: Generation, start: int, end: int, data: bytes, marker: bytes, flags: Flag) -> Entry:
    return Entry(-1, generation, start, end, data, marker, flags, None, None, 0)


# -- the last N lines --------------------------------------------------------------------------------------------------


def tail_start(
    stream: Stream, lines: int, chosen: LineFilter, end: Positions, *, counts_unfinished: bool = True
) -> Positions:
    """Where the last `lines` lines (that pass) before `end` begin, in the current file; `end` where there is none any
    more. `counts_unfinished`: a line behind `end` that is held back until it has its newline is one of them. Raises
    NotNow."""
    wait_for_first_look(stream, end)  # who begins at nothing would get all of it
    if not end or lines <= 0:
        return end
    last = end[-1]
    is_held_back = stream.state.pending and last.offset == stream.state.offset
    wanted = lines - (counts_unfinished and is_held_back)
    if not wanted or last.offset == 0:
        return end
    file = stream.file_of(last.generation)
    if file is None:
        return end
    try:
        start = _start_in(file, last, wanted, chosen)
        if not still_holds(file, last):  # the follower has not seen that yet
            start = _start_where_it_went(stream, last, wanted, chosen)
    except NotALog:
        return end
    except OSError as error:
        if error.errno in GONE_ERRNOS:
            return end
        raise NotNow(error.strerror or str(error)) from error
    finally:
        file.release()
    return (*end[:-1], start)


def _start_in(file: LogFile, last: Position, lines: int, chosen: LineFilter) -> Position:
    """The place in `file` where the last `lines` lines before `last` begin. Raises OSError, NotALog."""
    offset = _filtered_start(file, last.offset, lines, chosen) if chosen else find_lines(file, last.offset, lines)
    return Position(last.generation, offset, marker_at(file, offset))


def still_holds(file: LogFile, last: Position) -> bool:
    """Whether what was followed up to `last` is there: it may be emptied, and its name lead to another file. Raises
    OSError, NotALog."""
    read = file.read(last.offset, 0, last.marker, head=last.generation.head)
    return read.intact and read.stat.size >= last.offset


def _start_where_it_went(stream: Stream, last: Position, lines: int, chosen: LineFilter) -> Position:
    """The same in the file that has the content now. Raises OSError, NotALog, NotYet."""
    file = find_content(stream.path, stream.roots, proof(last), keep_open=stream.keeps_open)
    if file is None:
        wait_for_look(stream)
        return last
    try:
        return _start_in(file, last, lines, chosen)
    finally:
        file.release()


def find_lines(file: LogFile, end: int, lines: int) -> int:
    """The offset where the last `lines` lines before `end` begin (0 when there are fewer). Raises OSError.

    An unfinished line before `end` counts as one. Blocks are read backwards; holes are jumped over.
    """
    if end and file.read(end - 1, 1).data == b"\n":
        end -= 1
    position, block_bytes, missing, line_end = end, BLOCK_BYTES, lines, end
    while position > 0:
        start = max(0, position - block_bytes)
        block = file.read(start, position - start).data
        found = count_newlines(block)
        if found >= missing:
            at = len(block)
            for _ in range(missing):
                at = block.rfind(b"\n", 0, at)
            return start + at + 1
        if found:
            line_end = start
        missing -= found
        position = start if block.strip(b"\0") else _hole_start(file, start)
        if line_end - position > MAX_LINE_SEARCH_BYTES and block.strip(b"\0"):
            return position
        block_bytes = min(block_bytes * 2, MAX_BLOCK_BYTES)
    return 0


def _hole_start(file: LogFile, end: int) -> int:
    """An offset at or before `end` such that all between is a hole: steps that double, so a huge hole costs little."""
    low, step = end, MAX_BLOCK_BYTES
    while low > 0:
        candidate = max(0, low - step)
        if file.next_data(candidate) < low:
            return low
        low, step = candidate, step * 2
    return low


def _filtered_start(file: LogFile, end: int, lines: int, chosen: LineFilter) -> int:
    """As find_lines, counting lines that pass; gives up, with what was found, at the search limit."""
    position, missing, carry = end, lines, b""
    lowest = max(0, end - MAX_FILTER_SEARCH_BYTES)
    while position > lowest:
        start = max(lowest, position - MAX_BLOCK_BYTES)
        block = file.read(start, position - start).data + carry
        cut = 0 if start == 0 else block.find(b"\n") + 1
        if cut == 0 and start > 0:  # no line begins here: it is longer than the block
            carry = block if len(block) < MAX_LINE_SEARCH_BYTES else b""
            position = start
            continue
        body = block[cut:]
        found = chosen.select(body[:-1].split(b"\n") if body.endswith(b"\n") else body.split(b"\n")) if body else []
        if len(found) >= missing:
            return start + cut + _line_offset(body, found[-missing])
        missing -= len(found)
        carry, position = block[:cut], start
    return position


def _line_offset(body: bytes, index: int) -> int:
    at = 0
    for _ in range(index):
        at = body.index(b"\n", at) + 1
    return at
