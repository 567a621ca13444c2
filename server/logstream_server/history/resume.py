"""Where a reader begins: the place of a cursor, found and proven by content, or the start.

Whoever comes back may have been with another server, long ago: the file has been rotated since, perhaps several times.
Runs on the scheduler's threads. What lies before the head is then read as by any reader that is behind (history).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from logstream_server.lines.cursor import HEAD_BYTES, Cursor, Generation, Mark, Position, Positions
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.tailing.files import GONE_ERRNOS, LogFile, NotALog, given_back_on_error, raise_if_exhausted
from logstream_server.tailing.follow import RESAVE_BYTES, Identity
from logstream_server.tailing.siblings import (
    SETTLE_TRIES,
    Sibling,
    find_content,
    holds,
    leads_to_itself,
    open_sibling,
    settled_siblings,
    surely_holds,
)
from logstream_server.tailing.stream import Stream, StreamStatus

from .history import BEHIND, NO_ANSWER, NotNow, NotYet, proof, tail_start

LIKELY: Final = 16
"""So many of the newest rotated files are asked whether they begin like another: each costs a look at a file."""
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
    if not head and stream.state.status in NO_ANSWER:
        raise NotNow(stream.state.detail or "the file was not looked at yet")  # it may be the one of the cursor
    found, missing = _find(stream, cursor)
    if missing:
        _wait_if_behind(stream)
    if cursor.marks and not found:
        return _fallback(stream, head, tail, _why_lost((missing or cursor.marks)[-1]))
    # A file that was empty, and is known by nothing: what came after those that were found is read from its start.
    lost = [_why_lost(mark) for mark in missing if mark.offset or mark.inode is not None]
    positions, unread = _with_missed(stream, found)
    lost += [unread] if unread is not None else []
    return Resumed(_in_order(positions), not lost, lost[-1] if lost else None)


def _find(stream: Stream, cursor: Cursor) -> tuple[list[Position], list[Mark]]:
    """Where the cursor's reader is, one position a file, and the marks of files that are not to be found."""
    found: dict[Generation, Position] = {}
    missing: list[Mark] = []
    follows_found = False
    for mark in _needed(stream, cursor.marks):
        position = _locate(stream, mark)
        if position is None:
            if not mark.is_over:
                missing.append(mark)
        elif follows_found and _says_nothing(mark, position.generation):
            continue  # what came after the file before it is read from its start
        elif position.generation not in found or found[position.generation].offset < position.offset:
            found[position.generation] = position  # an empty file's mark may fit its successor of the same inode
        if mark.offset:
            follows_found = position is not None
    return list(found.values()), missing


def _needed(stream: Stream, marks: tuple[Mark, ...]) -> list[Mark]:
    """Where this server knows the newest file by its sign, nothing else must say where that begins."""
    is_known = bool(marks) and stream.signed(marks[-1].marker) is not None
    return [mark for mark in marks if not (mark.is_over and is_known)]


def _says_nothing(mark: Mark, generation: Generation) -> bool:
    """Whether only the inode says that `mark` is in a file that is followed: that stays when a file is copied and
    emptied."""
    return not mark.offset and generation.id != OLDER and generation.sign != mark.marker


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
    signed = stream.signed(mark.marker) if mark.offset <= HEAD_BYTES else None
    if signed is not None:
        return _locate_signed(stream, signed, mark)
    if mark.inode is None and not mark.offset:  # no content says which file it was
        return None
    newest = stream.newest_of(mark.inode) if mark.inode is not None and not mark.offset else None
    if newest is not None and newest.end == 0:
        return Position(newest, 0)  # it was empty when the cursor was taken, and stayed so
    return _hold_in_any(stream, mark, newest)


def _hold_in_any(stream: Stream, mark: Mark, newest: Generation | None) -> Position | None:
    """The same by content; `newest`: the only generation of the stream that may be it."""
    others: list[Position] = []
    for generation, _ in reversed(stream.generations()):
        suits = _may_be(generation, mark) and (newest is None or generation is newest)
        position = _hold_in(stream, generation, mark) if suits else None
        if position is None:
            continue
        if mark.inode is None and _is_one_of_many(stream, generation, mark):
            return None
        if mark.inode in (None, generation.inode):
            return position
        others.append(position)
    # Of several files that say the same, the one with the inode that the cursor names.
    found = _find_beside(stream, mark, mark.offset, copies=not others)
    if found is not None:
        return found
    return others[0] if others else _end_of_deleted(stream, mark)


def _find_beside(stream: Stream, proof: Mark, offset: int, *, copies: bool = True) -> Position | None:
    """The place at `offset` in the file that `proof` fits, which the stream has not open."""
    file = find_content(stream.path, stream.roots, proof, keep_open=stream.keeps_open, copies=copies)
    if file is None:
        return None
    try:
        marker = marker_at(file, offset)  # before the file is given away
    except (OSError, NotALog) as error:
        file.release()
        raise_if_exhausted(error)
        return None
    adopted = _adopt(stream, file)
    return None if adopted is None else Position(adopted, offset, marker)


def _locate_signed(stream: Stream, signed: Generation, mark: Mark) -> Position | None:
    """The same where this very server gave the cursor: it knows which file that was, however others begin."""
    seen = signed.head[: mark.offset]
    position = Position(signed, mark.offset, seen[-MARKER_BYTES:])
    if not mark.matches(seen, position.marker):
        return None
    if not mark.offset or (signed.end == mark.offset and _is_kept(stream, signed)):
        return position  # nothing of it is needed to go on
    return (
        _hold_in(stream, signed, mark)
        or _find_beside(stream, replace(proof(position), inode=mark.inode), mark.offset)
        or _end_of_deleted(stream, mark)
    )


def _is_kept(stream: Stream, generation: Generation) -> bool:
    """Whether it was rotated away, a moment ago, and not emptied."""
    file = stream.file_of(generation)
    if file is not None:
        file.release()
    return file is not None


def _is_one_of_many(stream: Stream, found: Generation, mark: Mark) -> bool:
    """Whether another file begins like `found` up to `mark`: few bytes say nothing then."""
    if mark.offset >= RESAVE_BYTES:
        return False
    kept = stream.generations()
    others = [generation for generation, _ in kept if generation is not found and _may_be(generation, mark)]
    if any(_hold_in(stream, other, mark) is not None for other in others):
        return True
    known = {file.identity for _, file in kept}
    siblings = settled_siblings(stream.path, rotated_only=True).siblings[:LIKELY]
    return any(_begins_alike(stream, sibling, mark) for sibling in siblings if sibling.stat.identity not in known)


def _begins_alike(stream: Stream, sibling: Sibling, mark: Mark) -> bool:
    file = open_sibling(sibling, stream.roots, keep_open=True) if sibling.stat.size >= mark.offset else None
    if file is None:
        return False
    with given_back_on_error(file):
        alike = surely_holds(file, mark)
    file.release()
    return alike


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
    if any(position.generation.id != OLDER for position in found):
        return found, None  # what came after a file that was followed is in the ring
    identities = _identities(stream, found)
    if not identities:
        return found, None
    missed: list[Generation] = []
    unread: str | None = None
    meets = False
    for _ in range(SETTLE_TRIES):  # names may change while they are opened
        missed, unread, meets = _read_between(stream, _newer(stream, identities))
        if unread is None:
            break
    if not meets:
        _wait_if_behind(stream)
    return [*found, *(Position(generation, generation.begin) for generation in missed)], unread


def _identities(stream: Stream, found: list[Position]) -> set[Identity]:
    files = [file for position in found if (file := stream.file_of(position.generation)) is not None]
    for file in files:
        file.release()
    return {file.identity for file in files}


def _newer(stream: Stream, found: set[Identity]) -> list[Sibling]:
    """The rotated files that are newer than those, oldest first. None where they have no rotated names: nothing tells
    then what came after them."""
    siblings = settled_siblings(stream.path, rotated_only=True).siblings
    newer = list(takewhile(lambda sibling: sibling.stat.identity not in found, siblings))
    return [] if len(newer) == len(siblings) else newer[::-1]


def _read_between(stream: Stream, siblings: list[Sibling]) -> tuple[list[Generation], str | None, bool]:
    """Those of `siblings` that come before all that this server followed, why one of them cannot be read, and whether
    the next of them is one that it followed."""
    missed: list[Generation] = []
    for sibling in siblings:
        begun = stream.newest_of(sibling.stat.identity.inode)
        if begun is not None and begun.id != OLDER:
            return missed, None, True
        if not sibling.stat.size:
            continue
        file = open_sibling(sibling, stream.roots, keep_open=stream.keeps_open)
        generation = _adopt(stream, file) if file is not None else None
        if generation is None:
            return missed, f"{sibling.name}, which came after what the cursor has seen, cannot be read", False
        if generation.id != OLDER:  # a copy of what was followed
            return missed, None, True
        missed.append(generation)
    return missed, None, False


def _wait_if_behind(stream: Stream) -> None:
    """Raises NotYet while the next look tells what nothing else does."""
    if _is_behind(stream) and stream.is_seen_soon():
        raise NotYet(BEHIND)


def _is_behind(stream: Stream) -> bool:
    """Whether the next look of the follower will find another file at the path than it has followed. Whoever has been
    with a server that looked later may have some of that already."""
    if stream.state.status not in (StreamStatus.FOLLOWING, StreamStatus.WAITING):
        return False  # it cannot be followed, however often it is looked at
    try:
        file = LogFile(stream.path, stream.roots, keep_open=True)
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return False
    try:
        last = next(reversed(stream.ring.head()[1]), None)
        return last is None or last.generation.retired_seq is not None or _is_other(stream, file, last)
    except OSError as error:
        raise_if_exhausted(error)
        return False
    finally:
        file.release()


def _is_other(stream: Stream, file: LogFile, last: Position) -> bool:
    """Whether the file does not hold what was read of the current one, or, where inodes tell, is not that."""
    followed = stream.file_of(last.generation)
    if followed is not None:
        followed.release()
        if followed.keeps_open and followed.identity != file.identity:
            return True
    head = last.generation.head
    read = file.read(last.offset, 0, last.marker, head=head)
    return read.stat.size < last.offset or not read.intact or (not head and read.stat.size > 0)
