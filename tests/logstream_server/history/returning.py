"""A reader that comes back with its cursor: what the tests of resume share."""

from __future__ import annotations

from logstream_server.history import resume
from logstream_server.history.resume import Resumed
from logstream_server.lines.cursor import Positions, cursor_at, encode_cursor, parse_cursor

from ..followed import Followed, Told, as_bytes, numbered


def come_back(followed: Followed, positions: Positions, **options: int) -> Resumed:
    """With the cursor of `positions`, over the wire."""
    token = encode_cursor(cursor_at("app.log", positions))
    return resume.resume(followed.stream, parse_cursor(token), **options)


def rest(followed: Followed, resumed: Resumed) -> list[str]:
    """What is left for a reader who came back."""
    assert (resumed.recovered, resumed.reason) == (True, None)
    told = Told(followed.reader(resumed.positions))
    assert told.lost == []
    return told.lines


LINES = numbered(1, 100)
"""More than the bytes that prove a file."""


def rotated(followed: Followed, *numbers: int, seen: bool = True) -> list[str]:
    """Rotate and write the next file, so often; the lines of all. Not `seen`: between two looks."""
    wanted: list[str] = []
    for number in numbers:
        added = [f"file {number}: {line}" for line in LINES]
        followed.rotate()
        followed.write(as_bytes(added))
        if seen:
            followed.settle()
        wanted += added
    return wanted
