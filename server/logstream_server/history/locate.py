"""Where the reader of a cursor is: the files of its marks, found among those of the stream and beside it, and proven.

A server knows its own cursors by their sign; those of others by content, and by the inode where that proves something.
What cannot be proven is not found. Runs on the scheduler's threads.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile, zip_longest
from typing import Final

from logstream_server.lines.cursor import HEAD_BYTES, OLDER, Cursor, Generation, Mark, Position
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.tailing.files import GONE_ERRNOS, LogFile, NotALog, raise_if_exhausted
from logstream_server.tailing.follow import RESAVE_BYTES, Identity
from logstream_server.tailing.siblings import (
    Sibling,
    find_content,
    holds,
    leads_to_itself,
    marker_at,
    open_sibling,
    past_generation,
    settled_siblings,
    surely_holds,
)
from logstream_server.tailing.stream import Stream

from .history import NotNow, proof

LIKELY: Final = 16
"""So many of the newest rotated files are asked whether they begin like another: each costs a look at a file."""


def find(stream: Stream, cursor: Cursor) -> tuple[list[Position], list[Mark]]:
    """Where the cursor's reader is, one position a file, and the marks of files that are not to be found."""
    found: dict[Generation, tuple[Position, Mark]] = {}
    missing: list[Mark] = []
    read: Position | None = None
    for mark in _needed(stream, cursor.marks):
        position = _locate_after(stream, read, mark) if read is not None and mark.follows else None
        position = position or _locate(stream, mark)
        if position is None:
            if not mark.is_over:
                missing.append(mark)
        elif read is not None and _says_nothing(mark, position.generation):
            continue  # what came after the file before it is read from its start
        elif position.generation not in found or _says_more(mark, found[position.generation][1]):
            found[position.generation] = position, mark
        if mark.offset:
            read = position
    return [position for position, _ in found.values()], missing


def _says_more(mark: Mark, other: Mark) -> bool:
    """Of two in one file. An empty file's mark may fit its successor of the same inode; that a file is over is said of
    files that are not listed."""
    return (not mark.is_over, mark.offset) > (not other.is_over, other.offset)


def _needed(stream: Stream, marks: tuple[Mark, ...]) -> list[Mark]:
    """Where this server knows a file by its sign, nothing else must say where that begins."""
    return [
        mark
        for mark, after in zip_longest(marks, marks[1:])
        if not (mark.is_over and after is not None and stream.signed(after.marker) is not None)
    ]


def _says_nothing(mark: Mark, generation: Generation) -> bool:
    """Whether only the inode says that `mark` is in a file that is followed: that stays when a file is copied and
    emptied."""
    return not mark.offset and generation.id != OLDER and generation.sign != mark.marker


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
    found = _hold_in_any(stream, mark, newest)
    if mark.is_over and mark.offset < RESAVE_BYTES and not (found and found.generation.inode == mark.inode is not None):
        return _find_whole(stream, mark)
    return found


def _find_whole(stream: Stream, mark: Mark) -> Position | None:
    """The only rotated file that ends at `mark`: where other files begin alike, these few bytes still say which it is
    when they are all of it."""
    siblings = settled_siblings(stream.path, rotated_only=True).siblings
    alike = [each for each in siblings if each.stat.size == mark.offset and _begins_alike(stream, each, mark)]
    return _position_in(stream, alike[0], mark) if len(alike) == 1 else None


def _locate_after(stream: Stream, before: Position, mark: Mark) -> Position | None:
    """The same where few bytes, or the inode of a file that is copied and emptied, prove nothing by themselves: in the
    file that came next after `before`."""
    followed = dict(stream.generations()).get(before.generation)
    newer = newer_than(stream, {followed.identity}) if followed is not None else None
    if newer is None:
        return None
    for sibling in newer:
        if sibling.stat.size:
            return _position_in(stream, sibling, mark) if _begins_alike(stream, sibling, mark) else None
    last = stream.ring.newest()
    return _hold_in(stream, last.generation, mark) if last is not None else None


def newer_than(stream: Stream, identities: set[Identity]) -> list[Sibling] | None:
    """The rotated files that are newer than all of those, oldest first. None where none of them has a rotated name:
    nothing tells then what came after them."""
    siblings = settled_siblings(stream.path, rotated_only=True).siblings
    newer = list(takewhile(lambda sibling: sibling.stat.identity not in identities, siblings))
    return newer[::-1] if len(newer) < len(siblings) else None


def _position_in(stream: Stream, sibling: Sibling, mark: Mark) -> Position | None:
    file = open_sibling(sibling, stream.roots, keep_open=stream.keeps_open)
    return _position_at(stream, file, mark.offset) if file is not None else None


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
    return _position_at(stream, file, offset) if file is not None else None


def _position_at(stream: Stream, file: LogFile, offset: int) -> Position | None:
    """A place in a file that the stream takes over. None when it cannot be read."""
    try:
        marker = marker_at(file, offset)  # before the file is given away
    except (OSError, NotALog) as error:
        file.release()
        raise_if_exhausted(error)
        return None
    adopted = adopt(stream, file)
    return None if adopted is None else Position(adopted, offset, marker)


def _locate_signed(stream: Stream, signed: Generation, mark: Mark) -> Position | None:
    """The same where this very server gave the cursor: it knows which file that was, however others begin."""
    seen = signed.head[: mark.offset]
    position = Position(signed, mark.offset, seen[-MARKER_BYTES:])
    if not mark.matches(seen, position.marker):
        return None
    if not mark.offset or (signed.end == mark.offset and signed in dict(stream.generations())):
        return position  # nothing of it is needed to go on, and it was not emptied
    return (
        _hold_in(stream, signed, mark)
        or _find_beside(stream, replace(proof(position), inode=mark.inode), mark.offset)
        or _end_of_deleted(stream, mark)
    )


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
    try:
        return surely_holds(file, mark)
    finally:
        file.release()


def _hold_in(stream: Stream, generation: Generation, mark: Mark) -> Position | None:
    """The place of the reader at `mark` in a file of the stream, if it holds what he has read. Raises NotNow."""
    file = stream.file_of(generation)
    if file is None:
        return None
    try:
        if len(generation.head) < mark.head_bytes and not leads_to_itself(file):
            return None  # its name leads to another file, of which what is known of this one says too little
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
    last = stream.ring.newest()
    if last is None or last.generation.retired_seq is None:
        return None
    generation = last.generation
    is_there = (mark.inode, mark.offset) == (generation.inode, last.offset)
    return last if is_there and mark.matches(generation.head[: mark.head_bytes], last.marker) else None


def _may_be(generation: Generation, mark: Mark) -> bool:
    """Few bytes prove nothing by themselves: then the inode must be the same, or unknown to one side. Of a file whose
    end was cut off, what followed an older offset is not what follows it now; and what is behind the end of one, as
    late lines are, is looked for by its name."""
    if mark.offset < generation.begin or (generation.end is not None and mark.offset > generation.end):
        return False
    if mark.inode is not None and generation.inode is not None and mark.inode != generation.inode:
        return mark.offset >= HEAD_BYTES
    return mark.offset > 0 or mark.inode is not None


def adopt(stream: Stream, file: LogFile) -> Generation | None:
    """The generation of a rotated file: the one the stream knew it by, or a new one that ended before the ring began.

    The stream takes the reference to the file over. None when it cannot be read.
    """
    try:
        past = past_generation(file)
        known, is_read = _known_as(stream, file, past)
    except (OSError, NotALog) as error:
        file.release()
        raise_if_exhausted(error)
        return None
    if known is not None and is_read is not None:
        if is_read:  # its reader's file stays
            file.release()
        else:  # by the name that it had, another one would be read
            stream.keep(known, file)
        return known
    size, inode = past.end or 0, file.identity.inode
    generation = known or past
    if generation.id == OLDER and size > (generation.end or 0):  # late lines
        generation.end, generation.marker = size, past.marker
    stream.keep_for_a_while(generation, file, inode)
    return generation


def _known_as(stream: Stream, file: LogFile, past: Generation) -> tuple[Generation | None, bool | None]:
    """The generation that the stream knows the file by, which looks like `past` now, and whether what is kept for it
    leads to its file still; None: nothing is."""
    size = past.end or 0
    known = stream.remembered(file.identity.inode, past.head, size)
    kept = stream.file_of(known) if known is not None else None
    try:
        if known is None or _is_another(stream, known, kept, file, size):
            return None, None
        if known.end is not None and past.head.startswith(known.head):  # late lines
            known.head = past.head
        return known, None if kept is None else leads_to_itself(kept)
    finally:
        if kept is not None:
            kept.release()


def _is_another(stream: Stream, known: Generation, kept: LogFile | None, file: LogFile, size: int) -> bool:
    """Whether `file` merely begins like the known generation, or is equal to it: as many are that hold a banner.

    It is a copy when the original (`kept`) has been emptied since, or ended with as many bytes and is gone.
    """
    if kept is None or not leads_to_itself(kept):
        inode = stream.inode_of(known)
        return inode != file.identity.inode and (known.end not in (None, size) or _is_there(stream, known, inode))
    if kept.identity == file.identity:
        return False
    try:
        return kept.read(0, len(known.head)).data == known.head
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return False


def _is_there(stream: Stream, known: Generation, inode: int | None) -> bool:
    """Whether a rotated file is the known generation itself."""
    siblings = settled_siblings(stream.path, rotated_only=True).siblings
    own = [each for each in siblings if each.stat.identity.inode == inode and known.end in (None, each.stat.size)]
    return any(_begins_alike(stream, each, Mark.of(Position(known, len(known.head)))) for each in own)
