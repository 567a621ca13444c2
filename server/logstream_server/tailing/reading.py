"""One file that is being followed: how far it is read, and whether another file is it, by content.

What is done with it is the follower's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from logstream_server.lines.cursor import HEAD_BYTES, Generation, Mark, Position
from logstream_server.lines.framing import MARKER_BYTES, LineFramer

from . import follow
from .files import FileStat, LogFile, NotALog, given_back_on_error, raise_if_exhausted
from .siblings import find_content, read_head, surely_holds


@dataclass(eq=False, slots=True)
class Reading:
    """One generation that is being read. Times: monotonic seconds. `first`: of a file that was found beside the path,
    what it began with then, before it is read; by name, its inode may soon be another file's. It is empty where there
    was nothing in it yet, as in a copy that has just been begun."""

    generation: Generation
    file: LogFile
    framer: LineFramer
    grew_at: float
    seen: FileStat | None = None
    replaced_at: float | None = None
    is_copy: bool = False
    unsupported: str | None = None
    flushed: bool = True
    first: bytes | None = None

    @property
    def identity(self) -> follow.Identity:
        """Of the file that was seen last; by name it may be another one now."""
        return self.seen.identity if self.seen else self.file.identity


def mark_of(reading: Reading) -> Mark:
    """What a file must hold to be the one that was read so far."""
    return Mark.of(Position(reading.generation, reading.framer.offset, reading.framer.tail))


def is_read_by(file: LogFile, reading: Reading) -> bool:
    """Whether it is the file of that reading, with what it has read, or begins as it did when nothing was read yet: a
    copy may have been written over, and the inode of a deleted file is soon another's."""
    if file.identity != reading.identity or not surely_holds(file, mark_of(reading)):
        return False
    return reading.framer.offset > 0 or begins_as_found(reading, read_head(file))


def begins_as_found(reading: Reading, head: bytes) -> bool:
    """Whether a file that begins with `head` may be the one that was found."""
    return head.startswith(reading.first or b"")


def is_copy(file: LogFile, readings: Iterable[Reading], current: Reading | None) -> bool:
    """Whether the file has what one of them reads, or the beginning of that. A copy that is complete when its original
    is emptied shows no beginning any more, but all that was read of it."""
    return any(
        is_begun_copy(file, r, 0 if r is current else follow.RESAVE_BYTES)
        or (r.framer.offset >= follow.RESAVE_BYTES and surely_holds(file, mark_of(r)))
        for r in readings
    )


def is_begun_copy(file: LogFile, reading: Reading, least_bytes: int) -> bool:
    """Whether the file is a copy of what is read, as `is_begun_copy_of` tells."""
    return is_begun_copy_of(file, reading.file, reading.identity, least_bytes)


def is_begun_copy_of(file: LogFile, original: LogFile, identity: follow.Identity, least_bytes: int) -> bool:
    """Whether the file has nothing but what another one begins with, and at least so much: a copy, perhaps not complete
    yet. By name either may be another file by now, and not the one of that `identity`: then nothing is proven."""
    try:
        size = file.stat().size
        head, end = min(size, HEAD_BYTES), max(0, size - MARKER_BYTES)
        if size < least_bytes:
            return False
        for at, count in ((0, head), (end, size - end)):
            copied, there = file.read(at, count), original.read(at, count)
            if copied.stat.identity != file.identity or there.stat.identity != identity:
                return False
            if copied.data != there.data:
                return False
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return False
    return True


def was_read(reading: Reading) -> bool:
    """Whether everything was read that was there at the last look."""
    return reading.seen is not None and reading.seen.size <= reading.framer.offset


def is_resaved(reading: Reading, file: LogFile) -> bool:
    """Whether `file`, another inode at the path, is a copy of the whole file, whose name is gone: then its content goes
    on."""
    framer = reading.framer
    if framer.offset < follow.RESAVE_BYTES or (reading.file.keeps_open and reading.file.stat().links > 0):
        return False
    read = file.read(framer.offset, 0, framer.tail)
    same_head = file.read(0, len(reading.generation.head)).data == reading.generation.head
    return read.stat.size >= framer.offset and read.intact and same_head


def find_rest(reading: Reading, path: str, roots: tuple[str, ...], others: Iterable[Reading]) -> LogFile | None:
    """Where the content that is no longer in the file has gone to, if it is beside `path` under another name, and is
    none of the `others`."""
    mark = replace(mark_of(reading), inode=reading.identity.inode)
    since = reading.seen.mtime_ns if reading.seen else None
    found = find_content(path, roots, mark, keep_open=reading.file.keeps_open, since_ns=since)
    if found is None:
        return None
    with given_back_on_error(found):
        is_another = reading.framer.offset == 0 and not begins_as_found(reading, read_head(found))
        is_another = is_another or any(is_read_by(found, other) for other in others)
    if is_another:
        found.release()
        return None
    return found


def last_line_start(file: LogFile, size: int, max_line_bytes: int) -> int:
    """The offset after the last newline; `size` itself when the last line is longer than we would hold."""
    low = max(0, size - max_line_bytes - 1)
    end = size
    while end > low:
        start = max(low, end - (1 << 16))
        block = file.read(start, end - start).data
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0 if low == 0 else size
