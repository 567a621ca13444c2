"""Where a reader begins: the place of a cursor, found and proven by content, or the start.

Whoever comes back may have been with another server, long ago: the file has been rotated since, perhaps several times.
Runs on the scheduler's threads. What lies before the head is then read as by any reader that is behind (history).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from logstream_server.lines.cursor import HEAD_BYTES, Cursor, Generation, Mark, Position, Positions
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.tailing.files import GONE_ERRNOS, LogFile, NotALog, raise_if_exhausted
from logstream_server.tailing.follow import Identity
from logstream_server.tailing.siblings import (
    SETTLE_TRIES,
    Sibling,
    find_content,
    holds,
    leads_to_itself,
    open_sibling,
    settled_siblings,
)
from logstream_server.tailing.stream import Stream

from .history import NotNow, tail_start

OLDER: Final = -1
"""The id and the last ring entry of files that were rotated away before the ring began."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a reader begins. `recovered`: whether the cursor was honoured in full, None without one; `reason`: why
    not."""

    positions: Positions
    recovered: bool | None = None
    reason: str | None = None


def from_start(head: Positions) -> Positions:
    """A reader who wants the current file from its first byte, and of the rotated ones only what is still to come."""
    if not head or head[-1].generation.retired_seq is not None:
        return head
    current = head[-1].generation
    return (*head[:-1], Position(current, 0))


def begin_in(stream: Stream, file: LogFile, offset: int) -> Resumed | None:
    """A reader who wants a rotated file from an offset on, and all that came after it. The stream takes the reference
    over; None when it cannot be read."""
    try:
        marker = marker_at(file, offset)
    except (OSError, NotALog):
        file.release()
        return None
    adopted = _adopt(stream, file)
    if adopted is None:
        return None
    positions, unread = _with_missed(stream, [Position(adopted, offset, marker)])
    return Resumed(_in_order(positions), None if unread is None else False, unread)


def resume(stream: Stream, cursor: Cursor, *, tail: int | None = None) -> Resumed:
    """Where the reader of `cursor` goes on.

    Raises NotNow, also where there is no descriptor to look with. What cannot be proven is not guessed: then
    `recovered` is False, and the reader gets the last `tail` lines, or, where it did not ask for a number, the current
    file from its start.
    """
    try:
        return _resume(stream, cursor, tail)
    except OSError as error:
        raise NotNow(error.strerror or str(error)) from error


def _resume(stream: Stream, cursor: Cursor, tail: int | None) -> Resumed:
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
    positions, unread = _with_missed(stream, list(found.values()))
    lost += [unread] if unread is not None else []
    return Resumed(_in_order(positions), not lost, lost[-1] if lost else None)


def _in_order(positions: list[Position]) -> Positions:
    return tuple(sorted(positions, key=lambda position: position.generation.id))


def _fallback(stream: Stream, head: Positions, tail: int | None, reason: str) -> Resumed:
    if tail is not None:
        return Resumed(tail_start(stream, tail, LineFilter(), head), False, reason)
    return Resumed(from_start(head), False, reason)


def _why_lost(mark: Mark) -> str:
    if mark.offset == 0 and mark.inode is None:
        return "the cursor was taken at the start of a file; which one that was only the server knows that gave it"
    if mark.offset == 0:
        return "the cursor was taken at the start of a file that is not here any more"
    return "the file was truncated, replaced or deleted, and no rotated file beside it holds what the cursor has seen"


def _locate(stream: Stream, mark: Mark) -> Position | None:
    """The generation of the stream, or the file beside it, that holds what the reader at `mark` has read."""
    signed = _signed(stream, mark)
    if signed is not None or (mark.inode is None and not mark.offset):  # no content says which file it was
        return signed
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
        marker = marker_at(file, mark.offset)  # before the file is given away
    except (OSError, NotALog) as error:
        file.release()
        raise_if_exhausted(error)
        return None
    adopted = _adopt(stream, file)
    return None if adopted is None else Position(adopted, mark.offset, marker)


def _signed(stream: Stream, mark: Mark) -> Position | None:
    """The place in a generation that the cursor names because this very server gave it. Of the first bytes it is known
    what they are, wherever the file is by now."""
    generation = stream.signed(mark.marker) if mark.offset <= HEAD_BYTES else None
    if generation is None:
        return None
    seen = generation.head[: mark.offset]
    marker = seen[-MARKER_BYTES:]
    return Position(generation, mark.offset, marker) if mark.matches(seen, marker) else None


def _hold_in(stream: Stream, generation: Generation, mark: Mark) -> Position | None:
    """The place of the reader at `mark` in a file of the stream, if it holds what he has read. Raises NotNow."""
    file = stream.file_of(generation)
    if file is None:
        return None
    try:
        if not holds(file, mark):
            return None
        size = min(mark.offset, MARKER_BYTES)
        read = file.read(mark.offset - size, size, head=generation.head)  # its name may lead to another file by now
        return Position(generation, mark.offset, read.data) if read.intact and len(read.data) == size else None
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
    generation = last.generation
    is_there = (mark.inode, mark.offset) == (generation.inode, last.offset)
    return last if is_there and mark.matches(generation.head[: mark.head_bytes], last.marker) else None


def _may_be(generation: Generation, mark: Mark) -> bool:
    """Few bytes prove nothing by themselves: then the inode must be the same, or unknown to one side. Of a file whose
    end was cut off, what followed an older offset is not what follows it now."""
    if mark.offset < generation.begin:
        return False
    if mark.inode is not None and generation.inode is not None and mark.inode != generation.inode:
        return mark.offset >= HEAD_BYTES
    return mark.offset > 0 or mark.inode is not None


def marker_at(file: LogFile, offset: int) -> bytes:
    """The bytes before an offset that prove it. Raises OSError, NotALog."""
    size = min(offset, MARKER_BYTES)
    return file.read(offset - size, size).data if size else b""


def _adopt(stream: Stream, file: LogFile) -> Generation | None:
    """The generation of a rotated file: the one the stream knew it by, or a new one that ended before the ring began.

    The stream takes the reference to the file over. None when it cannot be read.
    """
    try:
        stat = file.stat()
        head = file.read(0, min(HEAD_BYTES, stat.size)).data
    except (OSError, NotALog) as error:
        file.release()
        raise_if_exhausted(error)
        return None
    known = stream.remembered(stat.identity.inode, head, stat.size)
    kept = stream.file_of(known) if known is not None else None
    if known is not None and _is_another(known, kept, file, stat.size):
        if kept is not None:
            kept.release()
        known = kept = None
    if known is not None and kept is not None:
        if leads_to_itself(kept):  # it is being read: its reader's file stays
            file.release()
        else:  # by the name that it had, another one would be read
            stream.keep(known, file)
        kept.release()
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
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return False


def _with_missed(stream: Stream, found: list[Position]) -> tuple[list[Position], str | None]:
    """`found`, and the files between the newest of them and the first that this server followed, which are read from
    their start; and why one of those is left out."""
    if not found or found[-1].generation.id != OLDER:
        return found, None  # what came after a file that was followed is in the ring
    file = stream.file_of(found[-1].generation)
    if file is None:
        return found, None
    identity = file.identity
    file.release()
    missed: list[Generation] = []
    unread: str | None = None
    for _ in range(SETTLE_TRIES):  # names may change while they are opened
        missed, unread = _read_between(stream, _newer(stream, identity))
        if unread is None:
            break
    return [*found, *(Position(generation, generation.begin) for generation in missed)], unread


def _newer(stream: Stream, identity: Identity) -> list[Sibling]:
    """The rotated files that are newer than that one, oldest first. None where it has no rotated name: nothing tells
    then what came after it."""
    siblings = settled_siblings(stream.path, rotated_only=True).siblings
    newer = list(takewhile(lambda sibling: sibling.stat.identity != identity, siblings))
    return [] if len(newer) == len(siblings) else newer[::-1]


def _read_between(stream: Stream, siblings: list[Sibling]) -> tuple[list[Generation], str | None]:
    """Those of `siblings` that come before all that this server followed, and why one of them cannot be read."""
    missed: list[Generation] = []
    for sibling in siblings:
        begun = stream.newest_of(sibling.stat.identity.inode)
        if begun is not None and begun.id != OLDER:
            break
        if not sibling.stat.size:
            continue
        file = open_sibling(sibling, stream.roots, keep_open=stream.keeps_open)
        generation = _adopt(stream, file) if file is not None else None
        if generation is None:
            return missed, f"{sibling.name}, which came after what the cursor has seen, cannot be read"
        if generation.id != OLDER:  # a copy of what was followed
            break
        missed.append(generation)
    return missed, None
