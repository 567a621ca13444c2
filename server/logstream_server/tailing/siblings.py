"""Finding where a file's content went: under another name beside it, proven by the content.

Used by the tailer (what was unread when a file was replaced or truncated) and by resume (a cursor into a file that has
been rotated since). Runs on the scheduler's threads only. What cannot be looked at is as good as not there, except for
want of a descriptor: then everything here raises OSError.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from logstream_server.lines.cursor import HEAD_BYTES, OLDER, Generation, Mark
from logstream_server.lines.framing import MARKER_BYTES

from . import follow
from .files import FileStat, LogFile, NotALog, given_back_on_error, raise_if_exhausted, stat_path
from .follow import RESAVE_BYTES, Identity, is_rotated_name, shares_stem

MAX_CANDIDATES: Final = 1000
"""How many neighbours are looked at: a folder with more rotated files than this is beyond what a cursor can ask for."""
SETTLE_TRIES: Final = 5
"""How often a folder is listed anew because names change meanwhile: a rotation renames one file after another."""
SETTLE_PAUSES_S: Final = (0.0, 0.001, 0.002, 0.004, 0.008)
"""Renaming a hundred files takes a few milliseconds."""
HEADS_KEPT: Final = 8
"""Of so many rotated files, the newest, the first bytes are kept: into older ones nobody writes late lines."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """A file beside the followed one; `number`: how often it was rotated, `date`: when, where its name says so."""

    name: str
    path: str
    stat: FileStat
    number: int | None
    date: str = ""


def list_siblings(path: str, *, rotated_only: bool) -> list[Sibling]:
    """The neighbours of `path` that a rotation may have made, the newest first; where it is a link, also those of what
    it leads to. Unreadable folders give none."""
    folder, base = os.path.split(path)
    places = dict.fromkeys(((os.path.realpath(folder or "."), base), os.path.split(os.path.realpath(path))))
    found = [sibling for place in places for sibling in _list_folder(*place, rotated_only=rotated_only)]
    if all(s.number is not None for s in found):  # surer than times: an old file may have been written to since
        found.sort(key=lambda s: s.number or 0)
    else:
        found.sort(key=lambda s: s.name, reverse=True)
        found.sort(key=lambda s: (-s.stat.mtime_ns, s.number or 0))  # several may be of one tick of the clock
        if all(s.date for s in found):
            found.sort(key=lambda s: s.date, reverse=True)
    return found[:MAX_CANDIDATES]


def _list_folder(folder: str, base: str, *, rotated_only: bool) -> Iterator[Sibling]:
    accepts: Callable[[str, str], bool] = is_rotated_name if rotated_only else shares_stem
    try:
        names = [name for name in os.listdir(folder) if accepts(base, name)]
    except OSError as error:
        raise_if_exhausted(error)
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            stat = stat_path(path)
        except OSError:
            continue
        if stat is not None:
            yield Sibling(name, path, stat, follow.rotation_number(base, name), follow.rotation_date(base, name))


@dataclass(frozen=True, slots=True)
class Listing:
    """Neighbours, the newest first. Not `is_settled`: names changed all the time, so that one may be there twice, and
    another not at all."""

    siblings: list[Sibling]
    is_settled: bool = True


def settled_siblings(path: str, *, rotated_only: bool) -> Listing:
    """The neighbours as they were at one moment, if names stay as they are for a few milliseconds."""
    before = list_siblings(path, rotated_only=rotated_only)
    for pause_s in SETTLE_PAUSES_S:
        after = list_siblings(path, rotated_only=rotated_only)
        if [(s.path, s.stat.identity) for s in after] == [(s.path, s.stat.identity) for s in before]:
            return Listing(after)
        before = after
        time.sleep(pause_s)
    return Listing(before, is_settled=False)


class Neighbours:
    """The rotated files that were beside a file already when it was last looked for new ones.

    An inode alone does not tell: that of a deleted file is soon another's. The file is the same while it was not
    written to, or begins as it did.
    """

    def __init__(self) -> None:
        self._known: dict[Identity, tuple[int, bytes]] = {}

    def learn(self, listing: Listing, roots: tuple[str, ...]) -> None:
        """These are no news from now on; others are forgotten, where it is sure that they are not there."""
        old = self._known
        known = {} if listing.is_settled else dict(old)
        for at, sibling in enumerate(listing.siblings):
            mtime_ns, head = old.get(sibling.stat.identity, (None, b""))
            if mtime_ns != sibling.stat.mtime_ns:
                head = _read_head(sibling, roots) if at < HEADS_KEPT else b""
            known[sibling.stat.identity] = (sibling.stat.mtime_ns, head)
        self._known = known

    def read(self, identity: Identity, head: bytes) -> None:
        """This file, which begins with `head`, was read to its end: by whatever name it is found, it is no news."""
        self._known[identity] = (-1, head)

    def knows(self, sibling: Sibling, roots: tuple[str, ...]) -> bool:
        """Whether it was there already."""
        mtime_ns, head = self._known.get(sibling.stat.identity, (None, b""))
        if mtime_ns == sibling.stat.mtime_ns:
            return True
        return bool(head) and _read_head(sibling, roots)[: len(head)] == head


def _read_head(sibling: Sibling, roots: tuple[str, ...]) -> bytes:
    file = open_sibling(sibling, roots, keep_open=True)
    if file is None:
        return b""
    try:
        return read_head(file)
    finally:
        file.release()


def read_head(file: LogFile) -> bytes:
    """Its first bytes; none of a file that cannot be read, or that its name does not lead to any more."""
    try:
        read = file.read(0, HEAD_BYTES)
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return b""
    return read.data if read.stat.identity == file.identity else b""


def marker_at(file: LogFile, offset: int) -> bytes:
    """The bytes before an offset that prove it. Raises OSError, NotALog."""
    size = min(offset, MARKER_BYTES)
    return file.read(offset - size, size).data if size else b""


def past_generation(file: LogFile) -> Generation:
    """A rotated file as one that ended before the ring began. Raises OSError, NotALog."""
    stat = file.stat()
    head = file.read(0, min(HEAD_BYTES, stat.size)).data
    marker = marker_at(file, stat.size)
    return Generation(OLDER, stat.identity.inode, head, 0, stat.size, OLDER, marker=marker)


def newest_past(siblings: Sequence[Sibling], roots: tuple[str, ...]) -> Generation | None:
    """The same of the first of them that has any bytes; None where that cannot be read."""
    sibling = next((each for each in siblings if each.stat.size), None)
    file = open_sibling(sibling, roots, keep_open=True) if sibling is not None else None
    if file is None:
        return None
    try:
        return past_generation(file)
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return None
    finally:
        file.release()


def holds(file: LogFile, mark: Mark) -> bool:
    """Whether the file holds what a reader at `mark` has read (inode not looked at). Raises OSError, NotALog."""
    if file.stat().size < mark.offset:
        return False
    head = file.read(0, mark.head_bytes).data if mark.head_bytes else b""
    marker = file.read(mark.offset - mark.marker_bytes, mark.marker_bytes).data if mark.marker_bytes else b""
    return mark.matches(head, marker)


def open_sibling(sibling: Sibling, roots: tuple[str, ...], *, keep_open: bool) -> LogFile | None:
    """Open a neighbour; None when that is not possible, or when its name leads to another file by now."""
    try:
        file = LogFile(sibling.path, roots, keep_open=keep_open)
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return None
    if file.identity == sibling.stat.identity:
        return file
    file.release()
    return None


def find_content(
    path: str, roots: tuple[str, ...], mark: Mark, *, keep_open: bool, since_ns: int | None = None, copies: bool = True
) -> LogFile | None:
    """The neighbour that holds what a reader at `mark` has read: the same inode if there is one, else (with `copies`)
    a copy.

    Below RESAVE_BYTES a copy proves little, as many files begin alike; then it counts only if it was made after
    `since_ns` (nanoseconds since the epoch), when the reader last saw the original. Nothing is found for offset 0
    without an inode.
    """
    for _ in range(SETTLE_TRIES):
        candidates = settled_siblings(path, rotated_only=False).siblings
        same = [s for s in candidates if mark.inode is not None and s.stat.identity.inode == mark.inode]
        others = [s for s in candidates if copies and s not in same and _may_be_copy(s, mark, since_ns)]
        wanted = [s for s in same + others if s.stat.size >= mark.offset]
        moved = False
        for sibling in wanted:
            file = open_sibling(sibling, roots, keep_open=keep_open)
            if file is None:
                moved = True
                continue
            with given_back_on_error(file):
                if surely_holds(file, mark):
                    return file
                moved = moved or not leads_to_itself(file)
            file.release()
        if not moved:
            break
    return None


def surely_holds(file: LogFile, mark: Mark) -> bool:
    """As `holds`; of many neighbours one may be closed to us, or gone by now."""
    try:
        return holds(file, mark)
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return False


def leads_to_itself(file: LogFile) -> bool:
    """Whether its name, where it is read by name, leads to the file that was opened. If not, what is read there proves
    and disproves nothing."""
    try:
        return file.stat().identity == file.identity
    except (OSError, NotALog) as error:
        raise_if_exhausted(error)
        return False


def _may_be_copy(sibling: Sibling, mark: Mark, since_ns: int | None) -> bool:
    if mark.offset >= RESAVE_BYTES:
        return True
    return mark.offset > 0 and since_ns is not None and sibling.stat.ctime_ns >= since_ns
