"""Where a reader begins: the place of a cursor, found and proven by content, or the start.

Whoever comes back may have been with another server, long ago: the file has been rotated since, perhaps several times.
Runs on the scheduler's threads. What lies before the head is then read as by any reader that is behind (history).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from logstream_server.lines.cursor import HEAD_BYTES, OLDER, Cursor, Generation, Mark, Position, Positions
from logstream_server.lines.filters import LineFilter
from logstream_server.tailing.files import LogFile, NotALog, raise_if_exhausted
from logstream_server.tailing.follow import Identity
from logstream_server.tailing.siblings import (
    SETTLE_TRIES,
    Sibling,
    marker_at,
    open_sibling,
)
from logstream_server.tailing.stream import Stream, StreamStatus

from .history import ROTATED, NotNow, NotYet, still_holds, tail_start, wait_for_first_look, wait_for_look
from .locate import adopt, find, newer_than


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
    over; None when it cannot be read. Raises NotYet."""
    head = stream.ring.head()[1]
    try:
        marker = marker_at(file, offset)
    except (OSError, NotALog):
        file.release()
        return None
    adopted = adopt(stream, file)
    if adopted is None:
        return None
    positions, unread = _with_missed(stream, [Position(adopted, offset, marker)])
    _raise_if_followed_since(stream, head, positions)
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
    wait_for_first_look(stream, head)
    found, missing = find(stream, cursor)
    _raise_if_followed_since(stream, head, found, missing)
    if any(_is_unread(position) for position in found):
        raise NotYet("the file grew a moment ago")
    if (missing or _is_ahead(found)) and _is_behind(stream):
        wait_for_look(stream)
    if cursor.marks and not found:
        return _fallback(stream, head, tail, _why_lost((missing or cursor.marks)[-1]))
    # A file that was empty, and is known by nothing: what came after those that were found is read from its start.
    lost = [_why_lost(mark) for mark in missing if mark.offset or mark.inode is not None]
    positions, unread = _with_missed(stream, found)
    _raise_if_followed_since(stream, head, positions)
    lost += [unread] if unread is not None else []
    return Resumed(_in_order(positions), not lost, lost[-1] if lost else None)


def _raise_if_followed_since(
    stream: Stream, head: Positions, found: list[Position], missing: Sequence[Mark] = ()
) -> None:
    """Raises NotYet where another file came to be followed since `head` was there: what was found beside those that are
    followed, or was not, may be that."""
    newest = [position.generation for position in stream.ring.head()[1][-1:]]
    if newest == [position.generation for position in head[-1:]]:
        return
    if missing or any(position.generation.id == OLDER for position in found):
        raise NotYet(ROTATED)


def _is_ahead(found: list[Position]) -> bool:
    """Whether a file that was not followed comes after one that was: the next look will find it, too, as a new one."""
    return any(before.generation.id != OLDER and after.generation.id == OLDER for before, after in pairwise(found))


def _is_unread(position: Position) -> bool:
    """Whether the follower has yet to read first bytes of the file, which a cursor of the position is to name."""
    generation = position.generation
    return generation.end is None and len(generation.head) < min(HEAD_BYTES, position.offset)


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
        missed, unread, meets = _read_between(stream, newer_than(stream, identities) or [])
        if unread is None:
            break
    if not meets and _is_behind(stream):
        wait_for_look(stream)
    for before, after in pairwise([found[-1].generation, *missed]):
        after.comes_after(before)
    return [*found, *(Position(generation, generation.begin) for generation in missed)], unread


def _identities(stream: Stream, found: list[Position]) -> set[Identity]:
    wanted = {position.generation for position in found}
    return {file.identity for generation, file in stream.generations() if generation in wanted}


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
        generation = adopt(stream, file) if file is not None else None
        if generation is None:
            return missed, f"{sibling.name}, which came after what the cursor has seen, cannot be read", False
        if generation.id != OLDER:  # a copy of what was followed
            return missed, None, True
        missed.append(generation)
    return missed, None, False


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
        last = stream.ring.newest()
        return last is None or last.generation.retired_seq is not None or _is_other(stream, file, last)
    except OSError as error:
        raise_if_exhausted(error)
        return False
    finally:
        file.release()


def _is_other(stream: Stream, file: LogFile, last: Position) -> bool:
    """Whether the file does not hold what was read of the current one, or, where inodes tell, is not that."""
    followed = dict(stream.generations()).get(last.generation)
    if followed is not None and followed.keeps_open and followed.identity != file.identity:
        return True
    return not still_holds(file, last) or (not last.generation.head and file.stat().size > 0)
