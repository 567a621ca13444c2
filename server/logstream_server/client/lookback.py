"""Where the lines of a file begin that are not older than a time, without reading what is older. Called by `tail`.

By halving: the lines' own times (`times`) are taken to rise. Where the file itself begins too late, a rotated one
beside it is begun with, and all that came after it follows, as for a reader who comes back with an old cursor
(`resume`). It begins some lines too early; `times.Since` leaves those out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from logstream_server.history.history import NotNow
from logstream_server.history.resume import Resumed, begin_in, from_start
from logstream_server.lines.cursor import HEAD_BYTES, Generation, Mark, Position
from logstream_server.tailing.files import LogFile, NotALog
from logstream_server.tailing.siblings import Sibling, holds, marker_at, open_sibling, settled_siblings
from logstream_server.tailing.stream import Stream

from .times import parse_time

_BLOCK_BYTES: Final = 256 << 10
_ENOUGH_BYTES: Final = 64 << 10
"""Below this, halving takes longer than reading."""
_TIMELESS_BYTES: Final = 4 << 20
"""So long a run of lines without a time, such as a stack trace, is read for the next that has one."""


@dataclass(frozen=True, slots=True)
class Found:
    """`begin`: where a reader begins; `first`: the time of the first line there is, where that is later than asked;
    `timeless`: there are lines, and none of the first ones has a time."""

    begin: Resumed
    first: float | None = None
    timeless: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    """At one file. `first`: the time of its first line that has one; `offset`: the start of a line, before which none
    is new enough."""

    size: int
    first: float | None
    offset: int

    def reaches(self, since: float) -> bool:
        """Whether nothing older than this file is needed."""
        return self.first is not None and self.first < since


_NOTHING: Final = _Look(0, None, 0)


def begin_since(stream: Stream, since: float, now: datetime) -> Found:
    """Where a reader of a stream begins that is followed already. Raises NotNow."""
    head = stream.ring.head()[1]
    current = head[-1].generation if head and head[-1].generation.retired_seq is None else None
    present = stream.file_of(current) if current is not None else None
    look = _NOTHING
    try:
        if current is not None and present is not None:
            look = _look_into(present, since, now)
            if look.reaches(since):
                offset = max(look.offset, current.begin)
                return Found(Resumed((*head[:-1], Position(current, offset, marker_at(present, offset)))))
        begin, first = _begin_in_older(stream, since, now, present)
    except (OSError, NotALog) as error:
        raise NotNow(str(error)) from error
    finally:
        if present is not None:
            present.release()
    if begin is None:
        begin, first = Resumed(from_start(head)), look.first
        if first is None and look.size:
            return Found(begin, timeless=True)
    return Found(begin, first if first is not None and first > since else None)


def _begin_in_older(
    stream: Stream, since: float, now: datetime, present: LogFile | None
) -> tuple[Resumed | None, float | None]:
    """In the youngest rotated file that reaches far enough, or in the oldest there is, without a hole behind it; and
    the time of its first line."""
    chosen: tuple[Sibling, _Look] | None = None
    for sibling in settled_siblings(stream.path, rotated_only=True).siblings:
        look = _look_beside(stream, sibling, since, now, present)
        if look is None:
            break
        if look.size:
            chosen = sibling, look
        if look.reaches(since):
            break
    file = open_sibling(chosen[0], stream.roots, keep_open=stream.keeps_open) if chosen else None
    if chosen is None or file is None:
        return None, None
    return begin_in(stream, file, chosen[1].offset), chosen[1].first


def _look_beside(
    stream: Stream, sibling: Sibling, since: float, now: datetime, present: LogFile | None
) -> _Look | None:
    """At a rotated file: as at an empty one where it is a copy of the present file, which is nothing older. None where
    it cannot be read, or has no times: what is older than that would come with a hole behind it, or out of order."""
    file = open_sibling(sibling, stream.roots, keep_open=stream.keeps_open)
    if file is None:
        return None
    try:
        if not sibling.stat.size or (present is not None and _is_copy(file, present)):
            return _NOTHING
        look = _look_into(file, since, now)
    except (OSError, NotALog):
        return None
    finally:
        file.release()
    return look if look.first is not None else None


def _is_copy(file: LogFile, present: LogFile) -> bool:
    """Whether the file has nothing but what the present one begins with."""
    size = file.stat().size
    generation = Generation(0, head=file.read(0, min(HEAD_BYTES, size)).data)
    return holds(present, Mark.of(Position(generation, size, marker_at(file, size))))


def _look_into(log: LogFile, since: float, now: datetime) -> _Look:
    with log.watchable() as path:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        first = _time_after(file, 0, size, now)
        old = first is not None and first < since
        return _Look(size, first, _line_start(file, _find(file, size, since, now)) if old else 0)
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
        for line in lines[1 if 0 < begin == place else 0 :]:  # the first may be half a line
            when = parse_time(line[:256].decode("utf-8", "replace"), now)
            if when is not None:
                return when
    return None


def _line_start(file: int, place: int) -> int:
    """Where the next line begins; the file's start is one. A last line without an end begins nothing."""
    while place and (data := os.pread(file, _BLOCK_BYTES, place)):
        newline = data.find(b"\n")
        if newline >= 0:
            return place + newline + 1
        place += len(data)
    return place
