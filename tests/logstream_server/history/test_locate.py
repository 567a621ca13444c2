"""locate: where the marks of a cursor are, on real files; what proves nothing is not found."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from logstream_server.history.locate import OLDER, adopt, find
from logstream_server.lines.cursor import Cursor, Position, cursor_at
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.tailing.files import LogFile

from ..followed import Follow, Followed, as_bytes, numbered
from ..process import few_descriptors

LINES = numbered(1, 100)
BANNER = b"== start ==\n"


def cursor_of(followed: Followed) -> Cursor:
    """Of a reader who has everything."""
    return cursor_at("app.log", followed.head())


def by_content(cursor: Cursor) -> Cursor:
    """As another server would give it."""
    return replace(cursor, marks=tuple(replace(mark, marker=bytes(8)) for mark in cursor.marks))


@pytest.mark.parametrize("remote", [False, True])
def test_a_place_in_the_file_that_is_followed(follow: Follow, remote: bool) -> None:
    followed = follow(as_bytes(LINES), remote=remote)
    (position,), missing = find(followed.stream, cursor_of(followed))
    assert position == followed.head()[-1]
    assert missing == []


@pytest.mark.parametrize("remote", [False, True])
def test_a_place_in_a_file_that_was_rotated_before_this_server_began(follow: Follow, remote: bool) -> None:
    followed = follow(as_bytes(LINES), remote=remote)
    cursor = cursor_of(followed)
    followed.rotate()
    followed.write(b"new\n")
    followed.restart()
    (position,), missing = find(followed.stream, cursor)
    assert (position.generation.id, position.offset) == (OLDER, len(as_bytes(LINES)))
    assert position.marker == as_bytes(LINES)[-MARKER_BYTES:]
    assert missing == []


@pytest.mark.parametrize("remote", [False, True])
def test_of_a_file_that_is_gone_the_mark_is_given_back(follow: Follow, remote: bool) -> None:
    followed = follow(as_bytes(LINES), remote=remote)
    cursor = cursor_of(followed)
    followed.path.write_bytes(b"another\n")
    followed.look()
    assert find(followed.stream, cursor) == ([], list(cursor.marks))


def test_a_few_bytes_are_known_by_their_sign_to_the_server_that_gave_it_and_to_no_other(follow: Follow) -> None:
    """Both files begin alike, and no inode counts."""
    followed = follow(BANNER, remote=True)
    cursor = cursor_of(followed)
    first = followed.head()[-1].generation
    followed.rotate()
    followed.add(BANNER + b"new\n")
    assert find(followed.stream, cursor) == ([Position(first, len(BANNER), BANNER)], [])
    other = by_content(cursor)
    assert find(followed.stream, other) == ([], list(other.marks))


def test_few_bytes_that_one_file_begins_with_are_proof_enough(follow: Follow) -> None:
    followed = follow(BANNER, remote=True)
    (position,), _ = find(followed.stream, by_content(cursor_of(followed)))
    assert position == followed.head()[-1]


def test_without_descriptors_a_copy_is_given_back(follow: Follow) -> None:
    """Whether it is the original cannot be told then: that would have to be looked for."""
    followed = follow(as_bytes(LINES))
    followed.rotate()
    followed.write(b"new\n")
    followed.restart()
    copy = followed.path.with_name("app.log.2")
    shutil.copy(followed.path.with_name("app.log.1"), copy)
    file = LogFile(str(copy), (), keep_open=True)
    with few_descriptors(), pytest.raises(OSError, match="Too many open files"):
        adopt(followed.stream, file)
    assert file.acquire() is False
