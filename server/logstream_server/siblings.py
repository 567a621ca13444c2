"""Finding where a file's content went: under another name beside it, proven by the content.

Used by the tailer (what was unread when a file was replaced or truncated) and by resume (a cursor into a file that has
been rotated since). Runs on the scheduler's threads only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from . import follow
from .cursor import Mark
from .files import FileStat, LogFile, NotALog, stat_path
from .follow import RESAVE_BYTES, is_rotated_name, shares_stem

MAX_CANDIDATES: Final = 1000
"""How many neighbours are looked at: a folder with more rotated files than this is beyond what a cursor can ask for."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """A file beside the followed one."""

    name: str
    path: str
    stat: FileStat


def list_siblings(path: str, *, rotated_only: bool) -> list[Sibling]:
    """The neighbours of `path` that a rotation may have made, the newest first. Unreadable folders give none."""
    folder, base = os.path.split(path)
    accepts: Callable[[str, str], bool] = is_rotated_name if rotated_only else shares_stem
    found = []
    try:
        names = [name for name in os.listdir(folder or ".") if accepts(base, name)]
    except OSError:
        return []
    for name in names:
        full = os.path.join(folder, name)
        try:
            stat = stat_path(full)
        except OSError:
            continue
        if stat is not None:
            found.append(Sibling(name, full, stat))
    numbers = {s.name: follow.rotation_number(base, s.name) for s in found}
    if None not in numbers.values():  # surer than times: an old file may have been written to since
        found.sort(key=lambda s: numbers[s.name] or 0)
    else:
        found.sort(key=lambda s: (s.stat.mtime_ns, s.name), reverse=True)
    return found[:MAX_CANDIDATES]


def holds(file: LogFile, mark: Mark) -> bool:
    """Whether the file holds what a reader at `mark` has read (inode not looked at). False when it cannot be read."""
    try:
        if file.stat().size < mark.offset:
            return False
        head = file.read(0, mark.head_bytes).data if mark.head_bytes else b""
        marker = file.read(mark.offset - mark.marker_bytes, mark.marker_bytes).data if mark.marker_bytes else b""
    except (OSError, NotALog):
        return False
    return mark.matches(head, marker)


def open_sibling(sibling: Sibling, roots: tuple[str, ...], *, keep_open: bool) -> LogFile | None:
    """Open a neighbour; None when that is not possible."""
    try:
        return LogFile(sibling.path, roots, keep_open=keep_open)
    except (OSError, NotALog):
        return None


def find_content(
    path: str, roots: tuple[str, ...], mark: Mark, *, keep_open: bool, since_ns: int | None = None
) -> LogFile | None:
    """The neighbour that holds what a reader at `mark` has read: the same inode if there is one, else a copy.

    Below RESAVE_BYTES a copy proves little, as many files begin alike; then it counts only if it was made after
    `since_ns` (nanoseconds since the epoch), when the reader last saw the original. Nothing is found for offset 0
    without an inode.
    """
    candidates = list_siblings(path, rotated_only=False)
    same = [s for s in candidates if mark.inode is not None and s.stat.identity.inode == mark.inode]
    others = [s for s in candidates if s not in same and _may_be_copy(s, mark, since_ns)]
    for sibling in same + others:
        file = open_sibling(sibling, roots, keep_open=keep_open) if sibling.stat.size >= mark.offset else None
        if file is None:
            continue
        if holds(file, mark):
            return file
        file.release()
    return None


def _may_be_copy(sibling: Sibling, mark: Mark, since_ns: int | None) -> bool:
    if mark.offset >= RESAVE_BYTES:
        return True
    return mark.offset > 0 and since_ns is not None and sibling.stat.ctime_ns >= since_ns
