"""Reading what is in the file already: the last N lines, the rest of a lagging reader, the place of a cursor.

Runs on the scheduler's threads. Costs are bounded by what is asked for, not by the file's size.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from .catchup import Leg
from .cursor import HEAD_BYTES, Cursor, Generation, Mark, Position, Positions
from .files import GONE_ERRNOS, LogFile, NotALog
from .filters import LineFilter
from .framing import MARKER_BYTES, Flag, LineFramer, count_newlines
from .ring import Entry
from .siblings import find_content, holds, list_siblings, open_sibling
from .stream import Stream, StreamStatus

log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 1 << 16
MAX_BLOCK_BYTES: Final = 1 << 20
MAX_LINE_SEARCH_BYTES: Final = 64 << 20
"""How far back the start of one line is looked for; a longer line is shown from the middle."""
MAX_FILTER_SEARCH_BYTES: Final = 256 << 20
"""How far back the last N matching lines are looked for: some seconds of a core."""


OLDER: Final = -1
"""The id and the last ring entry of files that were rotated away before the ring began."""


NO_ANSWER: Final = frozenset({StreamStatus.STARTING, StreamStatus.HUNG, StreamStatus.UNREADABLE})
"""States in which the file system has not said yet, or does not say now, what there is."""


class NotNow(Exception):
    """The file system refuses at the moment; nothing is lost by waiting. Internal to catching up."""


class Lost(Exception):
    """The bytes are not there any more; `lost_bytes` is how many, as far as is known. Internal to catching up."""

    def __init__(self, reason: str, lost_bytes: int | None) -> None:
        super().__init__(reason)
        self.reason, self.lost_bytes = reason, lost_bytes


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a reader begins. `recovered`: whether the cursor was honoured in full, None without one; `reason`: why
    not."""

    positions: Positions
    recovered: bool | None = None
    reason: str | None = None


# -- chunks ------------------------------------------------------------------------------------------------------------


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
    # It was rotated away, or truncated after a copy was made: the content may be there under another name.
    file = find_content(stream.path, stream.roots, _proof(position), keep_open=stream.keeps_open)
    if file is None:
        raise Lost("the file was truncated or deleted before this was read", left)
    try:
        return _read_leg(file, leg, max_bytes, max_line_bytes, raw)
    except (OSError, NotALog) as error:
        raise Lost(f"the file cannot be read: {error}", left) from error
    finally:
        file.release()


def _proof(position: Position) -> Mark:
    """A mark that a file with the content of the position's generation matches, as strong as can be."""
    head = position.generation.head
    if position.offset < len(head):
        position = Position(position.generation, len(head), head[-MARKER_BYTES:])
    return Mark.of(position)


def _read_leg(file: LogFile, leg: Leg, max_bytes: int, max_line_bytes: int, raw: bool) -> list[Entry]:
    position = leg.position
    before = position.marker
    if not before and position.offset:
        size = min(position.offset, MARKER_BYTES)
        before = file.read(position.offset - size, size).data
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


def tail_start(stream: Stream, lines: int, chosen: LineFilter, end: Positions) -> Positions:
    """Where the last `lines` lines (that pass) before `end` begin, in the current file; `end` where there is none any
    more. Raises NotNow."""
    if not end and stream.state.status in NO_ANSWER:
        raise NotNow(
            stream.state.detail or "the file was not looked at yet"
        )  # there may be a file, and who begins at nothing would get all of it
    if not end or lines <= 0:
        return end
    last = end[-1]
    wanted = lines - (1 if stream.state.pending and last.offset == stream.state.offset else 0)
    if not wanted or last.offset == 0:
        return end
    file = stream.file_of(last.generation)
    if file is None:
        return end
    try:
        offset = _filtered_start(file, last.offset, wanted, chosen) if chosen else find_lines(file, last.offset, wanted)
        size = min(offset, MARKER_BYTES)
        marker = file.read(offset - size, size).data if size else b""
    except NotALog:
        return end
    except OSError as error:
        if error.errno in GONE_ERRNOS:
            return end
        raise NotNow(error.strerror or str(error)) from error
    finally:
        file.release()
    return (*end[:-1], Position(last.generation, offset, marker))


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


# -- cursors -----------------------------------------------------------------------------------------------------------


def from_start(head: Positions) -> Positions:
    """A reader who wants the current file from its first byte, and of the rotated ones only what is still to come."""
    if not head or head[-1].generation.retired_seq is not None:
        return head
    current = head[-1].generation
    return (*head[:-1], Position(current, 0))


def resume(stream: Stream, cursor: Cursor, *, tail: int | None = None) -> Resumed:
    """Where the reader of `cursor` goes on.

    Raises NotNow. What cannot be proven is not guessed: then `recovered` is False, and the reader gets the last `tail`
    lines, or, where it did not ask for a number, the current file from its start.
    """
    head = stream.ring.head()[1]
    if cursor.stream != stream.name:
        return _fallback(stream, head, tail, f"the cursor belongs to the stream {cursor.stream!r}")
    found: dict[Generation, Position] = {}
    missing: list[Mark] = []
    for mark in cursor.marks:
        position = _locate(stream, mark)
        if position is None:
            missing.append(mark)
        elif position.generation not in found or found[position.generation].offset < position.offset:
            found[position.generation] = position  # an empty file's mark may fit its successor of the same inode
    if cursor.marks and not found:
        return _fallback(stream, head, tail, _why_lost(missing[-1]))
    # A file that was empty, and is known by nothing: what came after those that were found is read from its start.
    lost = [_why_lost(mark) for mark in missing if mark.offset or mark.inode is not None]
    positions = _add_missed(stream, list(found.values()), head)
    positions.sort(key=lambda p: p.generation.id)
    return Resumed(tuple(positions), not lost, lost[-1] if lost else None)


def _fallback(stream: Stream, head: Positions, tail: int | None, reason: str) -> Resumed:
    if tail is not None:
        return Resumed(tail_start(stream, tail, LineFilter(), head), False, reason)
    return Resumed(from_start(head), False, reason)


def _why_lost(mark: Mark) -> str:
    if mark.offset == 0:
        return "the cursor was taken at the start of a file that is not here any more"
    return "the file was truncated, replaced or deleted, and no rotated file beside it holds what the cursor has seen"


def _locate(stream: Stream, mark: Mark) -> Position | None:
    """The generation of the stream, or the file beside it, that holds what the reader at `mark` has read."""
    newest = stream.newest_of(mark.inode) if mark.inode is not None and not mark.offset else None
    if newest is not None and newest.end == 0:
        return Position(newest, 0)  # it was empty when the cursor was taken, and stayed so
    others: list[Position] = []
    for generation, _ in reversed(stream.generations()):
        suits = _may_be(generation, mark) and (newest is None or generation is newest)
        position = _hold_in(stream, generation, mark) if suits else None
        if position is None:
            continue
        if mark.inode in (None, generation.inode):
            return position
        others.append(position)
    # Of several files that say the same, the one with the inode that the cursor names.
    file = find_content(stream.path, stream.roots, mark, keep_open=stream.keeps_open, copies=not others)
    if file is None:
        return others[0] if others else _end_of_deleted(stream, mark)
    try:
        marker = _marker(file, mark.offset)  # before the file is given away
    except (OSError, NotALog):
        file.release()
        return None
    adopted = _adopt(stream, file)
    return None if adopted is None else Position(adopted, mark.offset, marker)


def _hold_in(stream: Stream, generation: Generation, mark: Mark) -> Position | None:
    """The place of the reader at `mark` in a file of the stream, if it holds what he has read. Raises NotNow."""
    file = stream.file_of(generation)
    if file is None:
        return None
    try:
        return Position(generation, mark.offset, _marker(file, mark.offset)) if holds(file, mark) else None
    except NotALog:
        return None
    except OSError as error:
        if error.errno in GONE_ERRNOS:
            return None
        raise NotNow(str(error)) from error  # nothing can be proven now, and nothing is disproven
    finally:
        file.release()


def _end_of_deleted(stream: Stream, mark: Mark) -> Position | None:
    """The stream has no file now, and the last one it had was read to its end by the reader at `mark`."""
    last = next(reversed(stream.ring.head()[1]), None)
    if last is None or last.generation.retired_seq is None:
        return None
    return last if Mark.of(last) == mark else None


def _may_be(generation: Generation, mark: Mark) -> bool:
    """Few bytes prove nothing by themselves: then the inode must be the same, or unknown to one side. Of a file whose
    end was cut off, what followed an older offset is not what follows it now."""
    if mark.offset < generation.begin:
        return False
    if mark.inode is not None and generation.inode is not None and mark.inode != generation.inode:
        return mark.offset >= HEAD_BYTES
    return mark.offset > 0 or mark.inode is not None


def _marker(file: LogFile, offset: int) -> bytes:
    size = min(offset, MARKER_BYTES)
    return file.read(offset - size, size).data if size else b""


def _adopt(stream: Stream, file: LogFile) -> Generation | None:
    """The generation of a rotated file: the one the stream knew it by, or a new one that ended before the ring began.

    The stream takes the reference to the file over. None when it cannot be read.
    """
    try:
        stat = file.stat()
        head = file.read(0, min(HEAD_BYTES, stat.size)).data
    except (OSError, NotALog):
        file.release()
        return None
    known = stream.remembered(stat.identity.inode, head, stat.size)
    kept = stream.file_of(known) if known is not None else None
    if known is not None and _is_another(known, kept, file, stat.size):
        if kept is not None:
            kept.release()
        known = kept = None
    if kept is not None:  # it is being read: its reader's file stays
        kept.release()
        file.release()
        return known
    generation = known or Generation(OLDER, stat.identity.inode, head, 0, stat.size, OLDER)
    stream.keep_for_a_while(generation, file, stat.identity.inode)
    return generation


def _is_another(known: Generation, kept: LogFile | None, file: LogFile, size: int) -> bool:
    """Whether `file` merely begins like the known generation: as many do that begin with the same banner.

    It is a copy when the original (`kept`) has been emptied since, or ended with as many bytes.
    """
    if kept is None:
        return known.inode not in (None, file.identity.inode) and known.end not in (None, size)
    if kept.identity == file.identity:
        return False
    try:
        return kept.read(0, len(known.head)).data == known.head
    except (OSError, NotALog):
        return False


def _add_missed(stream: Stream, positions: list[Position], head: Positions) -> list[Position]:
    """Between a rotated file and the current one others may have come and gone: they are read, too, from their
    start."""
    live = {p.generation for p in head}
    if not positions or any(p.generation in live for p in positions):
        return positions  # what came after a file that is still being read is in the ring
    file = stream.file_of(positions[-1].generation)
    if file is None:
        return positions
    try:
        identity = file.stat().identity
    except (OSError, NotALog):
        return positions
    finally:
        file.release()
    siblings = list_siblings(stream.path, rotated_only=True)
    newer = list(takewhile(lambda sibling: sibling.stat.identity != identity, siblings))
    if len(newer) == len(siblings):
        return positions  # it is not under a rotated name: nothing tells what came after it
    out = list(positions)
    for sibling in reversed(newer):
        opened = open_sibling(sibling, stream.roots, keep_open=stream.keeps_open) if sibling.stat.size else None
        generation = _adopt(stream, opened) if opened is not None else None
        if (
            generation is not None
            and generation.retired_seq is not None
            and all(generation is not p.generation for p in out)
        ):
            out.append(Position(generation, generation.begin))
    return out
