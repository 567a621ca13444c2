"""snapshot: so many bytes of a file, which are the same ones later or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logstream_server.endpoints.retrieve import Unavailable
from logstream_server.endpoints.snapshot import Changed, NoFile, Snapshot, Tag, parse_tag
from logstream_server.history.resume import resume
from logstream_server.lines.cursor import cursor_at, encode_cursor, parse_cursor
from logstream_server.lines.ring import Ring
from logstream_server.tailing.stream import Stream

from ..followed import Follow, numbered
from ..process import few_descriptors

LINES = "".join(f"line {number}\n" for number in range(2000)).encode()


@pytest.fixture(params=[True, False], ids=["held", "by name"])
def stream(tmp_path: Path, request: pytest.FixtureRequest) -> Stream:
    path = tmp_path / "app.log"
    path.write_bytes(LINES)
    stream = Stream("app.log", str(path), (), Ring(1 << 20))
    stream.keeps_open = request.param
    return stream


def path_of(stream: Stream) -> Path:
    return Path(stream.path)


def whole(snapshot: Snapshot) -> bytes:
    return snapshot.read(0, snapshot.size)


def test_a_file_that_grows_is_what_it_was(stream: Stream) -> None:
    snapshot = Snapshot.take(stream)
    with path_of(stream).open("ab") as file:
        file.write(b"more\n")
    assert whole(snapshot) == LINES
    assert snapshot.read(10, 5) == LINES[10:15]
    assert snapshot.read(snapshot.size, 0) == b""
    snapshot.release()


def test_a_file_that_is_renamed_is_what_it_was(stream: Stream) -> None:
    """Also where each read opens it by its name, which leads to another file by now."""
    snapshot = Snapshot.take(stream)
    path_of(stream).rename(path_of(stream).with_name("app.log.1"))
    assert whole(snapshot) == LINES
    path_of(stream).write_bytes(b"new\n" * 10_000)
    assert whole(snapshot) == LINES
    snapshot.release()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, len(LINES) - 1),
        lambda path: path.write_bytes(b"other\n" * 10_000),
        lambda path: path.write_bytes(LINES[:300] + b"other\n" * 10_000),
        lambda path: path.write_bytes(b"other" + LINES[5:]),
    ],
    ids=["emptied", "shorter", "another", "begins alike", "ends alike"],
)
def test_bytes_that_are_gone_are_never_others(stream: Stream, change: object) -> None:
    snapshot = Snapshot.take(stream)
    assert callable(change)
    change(path_of(stream))
    with pytest.raises(Changed):
        snapshot.read(0, 10)
    snapshot.release()


def test_a_file_that_is_deleted_is_there_as_long_as_it_is_held(stream: Stream) -> None:
    snapshot = Snapshot.take(stream)
    path_of(stream).unlink()
    if stream.keeps_open:
        assert whole(snapshot) == LINES
    else:
        with pytest.raises(Changed):
            whole(snapshot)
    snapshot.release()
    with pytest.raises(NoFile):
        Snapshot.take(stream)


def test_an_empty_file_is_nothing(stream: Stream) -> None:
    path_of(stream).write_bytes(b"")
    snapshot = Snapshot.take(stream)
    assert (snapshot.size, whole(snapshot)) == (0, b"")
    snapshot.release()


def test_a_tag_names_the_bytes_that_there_were(stream: Stream) -> None:
    first = Snapshot.take(stream)
    tag = parse_tag(first.tag.text)
    assert tag == first.tag
    assert tag is not None
    first.release()
    with path_of(stream).open("ab") as file:
        file.write(b"more\n")
    grown = Snapshot.take(stream)
    assert grown.tag != tag
    version = grown.version(tag)
    assert version is not None
    assert (version.tag, whole(version)) == (tag, LINES)
    assert version.version(grown.tag) is None
    version.release()


@pytest.mark.parametrize("content", [b"other\n" * 10_000, LINES[:-5], LINES[:-5] + b"other\n" * 10], ids=len)
def test_a_tag_of_other_bytes_names_nothing(stream: Stream, content: bytes) -> None:
    first = Snapshot.take(stream)
    first.release()
    path_of(stream).write_bytes(content)
    other = Snapshot.take(stream)
    assert other.version(first.tag) is None
    other.release()


def test_a_file_that_was_touched_is_not_surely_the_same(stream: Stream) -> None:
    first = Snapshot.take(stream)
    first.release()
    os.utime(stream.path, (1, 1))
    touched = Snapshot.take(stream)
    assert touched.tag != first.tag
    assert touched.version(first.tag) is None
    touched.release()


@pytest.mark.parametrize("text", ["", '"', '""', 'W/"AQ"', '"AQ"', '"*"', '"\xff"', "AQ", '"' + "A" * 55 + '"'])
def test_a_tag_that_is_not_ours_says_nothing(text: str) -> None:
    assert parse_tag(text) is None


def test_a_tag_is_read_as_it_was_written() -> None:
    tag = Tag(1, 2, 3, b"12345678", b"abcdefgh")
    assert parse_tag(tag.text) == tag
    assert parse_tag("W/" + tag.text) is None


def test_the_cursor_is_the_place_behind_the_bytes(follow: Follow) -> None:
    """Also in the middle of a line: what was added to it goes on."""
    followed = follow(b"line 1\nline 2\nli")
    snapshot = Snapshot.take(followed.stream)
    followed.add(b"ne 3\nline 4\n")
    resumed = resume(followed.stream, parse_cursor(snapshot.cursor))
    assert resumed.recovered
    taken = b"".join(entry.data for chunk in followed.reader(resumed.positions).to_head() for entry in chunk.entries)
    assert taken == b"ne 3\nline 4\n"
    start = resume(followed.stream, parse_cursor(snapshot.token(7, b"line 1\n")))
    taken = b"".join(entry.data for chunk in followed.reader(start.positions).to_head() for entry in chunk.entries)
    assert taken.decode().splitlines() == numbered(2, 4)
    snapshot.release()


def test_for_want_of_a_descriptor_it_is_not_taken_for_another_file(follow: Follow) -> None:
    followed = follow(LINES)
    token = encode_cursor(cursor_at("app.log", followed.head()))
    (mark,) = parse_cursor(token).marks
    with few_descriptors(), pytest.raises(Unavailable, match="Too many open files"):
        Snapshot.take_with(followed.stream, mark)
    Snapshot.take_with(followed.stream, mark).release()
