"""How many of a file's last lines are not older than a time, without reading what is older.

By halving: the lines' own times (`times`) are taken to rise. Then the newlines from there on are counted; `tail` begins
with so many lines and leaves out what is too old all the same. Called by `tail`.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final

from .framing import count_newlines
from .times import parse_time

_BLOCK_BYTES: Final = 256 << 10
_ENOUGH_BYTES: Final = 64 << 10
"""Below this, halving takes longer than reading."""
_TIMELESS_BYTES: Final = 4 << 20
"""So long a run of lines without a time, such as a stack trace, is read for the next that has one."""


def lines_since(path: str, since: float, now: datetime) -> int | None:
    """So many lines at most; None when the file cannot be read (which is for others to say)."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        end = os.fstat(file).st_size
        return _count_lines(file, _find(file, end, since, now), end)
    except OSError:
        return None
    finally:
        os.close(file)


def _find(file: int, end: int, since: float, now: datetime) -> int:
    """A place that no line before is new enough, up to some bytes: all lines that are lie behind it."""
    low, high = 0, end
    while high - low > _ENOUGH_BYTES:
        middle = (low + high) // 2
        when = _time_after(file, middle, high, now)
        if when is not None and when < since:
            low = middle
        else:
            high = middle
    return low


def _time_after(file: int, place: int, end: int, now: datetime) -> float | None:
    """The time of the first line behind a place that has one."""
    rest = b""
    for begin in range(place, min(end, place + _TIMELESS_BYTES), _BLOCK_BYTES):
        *lines, rest = (rest + os.pread(file, _BLOCK_BYTES, begin)).split(b"\n")
        for line in lines[1 if begin == place else 0 :]:  # the first may be half a line
            when = parse_time(line[:256].decode("utf-8", "replace"), now)
            if when is not None:
                return when
    return None


def _count_lines(file: int, begin: int, end: int) -> int:
    count = 1
    while begin < end and (data := os.pread(file, _BLOCK_BYTES, begin)):
        count += count_newlines(data)
        begin += len(data)
    return count
