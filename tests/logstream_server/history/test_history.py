"""history: where the last lines begin, what a leg of a file holds, and where a cursor's reader goes on; real files."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.history import history
from logstream_server.history.history import Lost, NotNow, NotYet
from logstream_server.lines.catchup import Leg
from logstream_server.lines.cursor import Position
from logstream_server.lines.filters import EVERY_LINE, LineFilter
from logstream_server.lines.framing import Flag
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.stream import KEPT_S, LOOKS, StreamState, StreamStatus

from ..followed import OPTIONS, Follow, Followed, Told, as_bytes, numbered
from ..process import few_descriptors
from ..scenarios.harness import mounted, why_no_mount

LONG = 1 << 20


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], LogFile]:
    """A file with this content."""

    def make(content: bytes) -> LogFile:
        path = tmp_path / "some.log"
        path.write_bytes(content)
        return LogFile(str(path), (), keep_open=False)

    return make


# -- the last N lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines", "rest"),
    [
        pytest.param(b"", 3, b"", id="an empty file"),
        pytest.param(b"a\nb\nc\n", 1, b"c\n", id="the last one"),
        pytest.param(b"a\nb\nc\n", 3, b"a\nb\nc\n", id="all of them"),
        pytest.param(b"a\nb\nc\n", 9, b"a\nb\nc\n", id="more than there are"),
        pytest.param(b"a\nb\nc", 2, b"b\nc", id="an unfinished line counts"),
        pytest.param(b"\n\n\n", 2, b"\n\n", id="empty lines count"),
        pytest.param(b"a\n" * 100_000, 70_000, b"a\n" * 70_000, id="over several blocks"),
        pytest.param(b"a\n" + b"x" * LONG + b"\nb\n", 2, b"x" * LONG + b"\nb\n", id="a line longer than a block"),
    ],
)
def test_lines_are_counted_from_the_end(
    opened: Callable[[bytes], LogFile], content: bytes, lines: int, rest: bytes
) -> None:
    assert content[history.find_lines(opened(content), len(content), lines) :] == rest


@given(
    st.lists(st.sampled_from([b"", b"a", b"x" * 200, b"y" * 70_000]), max_size=12), st.integers(1, 14), st.booleans()
)
def test_the_last_lines_are_those_of_splitlines(lines: list[bytes], wanted: int, finished: bool) -> None:
    content = b"".join(line + b"\n" for line in lines)
    if not finished and content:
        content = content[:-1]
    path = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") / f"last-lines-{os.getpid()}"
    path.write_bytes(content)
    try:
        found = history.find_lines(LogFile(str(path), (), keep_open=False), len(content), wanted)
    finally:
        path.unlink()
    kept = content[found:]
    count = kept.count(b"\n") + (not kept.endswith(b"\n") and bool(kept))
    there = content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
    assert count == min(wanted, there)
    assert found == 0 or content[found - 1 : found] == b"\n"


def test_a_hole_is_jumped_over(tmp_path: Path) -> None:
    """Four gigabytes of nothing before the last lines are not read."""
    path = tmp_path / "sparse.log"
    with path.open("wb") as file:
        file.write(b"first\n")
        file.seek(4 << 30)
        file.write(b"a\nb\n")
    file_ = LogFile(str(path), (), keep_open=True)
    size = path.stat().st_size
    try:
        assert history.find_lines(file_, size, 1) == size - 2
        assert history.find_lines(file_, size, 3) == 6 or history.find_lines(file_, size, 3) < 6 + (1 << 20)
    finally:
        file_.release()


def tail(followed: Followed, lines: int, chosen: LineFilter = EVERY_LINE) -> list[str]:
    """The last lines, as a reader who begins there gets them."""
    return Told(followed.reader(history.tail_start(followed.stream, lines, chosen, followed.head()))).lines


def test_the_last_lines_come_from_the_file_and_the_ring(follow: Follow) -> None:
    lines = numbered(1, 200)
    followed = follow(as_bytes(lines[:100]), ring_bytes=3000)
    followed.add(as_bytes(lines[100:]))
    for count in (0, 1, 10, 100, 150, 200, 500):
        assert tail(followed, count) == lines[200 - min(count, 200) :]


def test_only_lines_that_pass_are_counted(follow: Follow) -> None:
    """However far back they are, and however long the lines between them."""
    lines = [*numbered(1, 30), "x" * (3 << 20), *numbered(31, 40)]
    followed = follow(as_bytes(lines))
    start = history.tail_start(followed.stream, 3, LineFilter(("line .5",)), followed.head())
    shown = [line for line in Told(followed.reader(start, chunk_bytes=8 << 20)).lines if line.endswith("5")]
    assert shown == ["line 15", "line 25", "line 35"]
    assert start[-1].offset == len(as_bytes(lines[:14]))


def test_an_unfinished_line_is_one_of_the_last(follow: Follow) -> None:
    followed = follow(as_bytes(numbered(1, 5)))
    followed.add(b"line 6")
    assert followed.stream.state.pending
    start = history.tail_start(followed.stream, 2, EVERY_LINE, followed.head())
    followed.add(b"\n")
    assert Told(followed.reader(start)).lines == ["line 5", "line 6"]


def test_the_last_lines_of_a_file_that_lost_its_name_a_moment_ago(follow: Follow) -> None:
    """Another file is read by the name; nobody has seen that yet."""
    lines = numbered(1, 1000)
    followed = follow(as_bytes(lines), remote=True)
    followed.rotate()
    followed.write(as_bytes(numbered(1001, 1900)))
    begin = history.tail_start(followed.stream, 3, EVERY_LINE, followed.head())
    assert Told(followed.reader(begin)).lines == lines[-3:]
    followed.path.with_name("app.log.1").unlink()
    with pytest.raises(NotYet):
        history.tail_start(followed.stream, 3, EVERY_LINE, followed.head())
    followed.look()
    begin = history.tail_start(followed.stream, 3, EVERY_LINE, followed.head())
    assert Told(followed.reader(begin)).lines == numbered(1898, 1900)


@pytest.mark.parametrize("remote", [False, True])
def test_the_last_lines_of_a_file_that_was_emptied_a_moment_ago(follow: Follow, remote: bool) -> None:
    followed = follow(as_bytes(numbered(1, 1000)), remote=remote)
    followed.path.write_bytes(as_bytes(numbered(1001, 1900)))
    with pytest.raises(NotYet):
        history.tail_start(followed.stream, 3, EVERY_LINE, followed.head())
    followed.look()
    begin = history.tail_start(followed.stream, 3, EVERY_LINE, followed.head())
    assert Told(followed.reader(begin)).lines == numbered(1898, 1900)


def test_what_two_looks_have_not_seen_is_not_waited_for(follow: Follow) -> None:
    """A reader may be mistaken; it does not hang for that."""
    followed = follow(as_bytes(numbered(1, 5)))
    assert followed.stream.is_seen_soon()
    followed.look()
    followed.look()
    assert not followed.stream.is_seen_soon()
    for _ in range(LOOKS):
        followed.look()
        assert not followed.stream.is_seen_soon(), "asked at each look"
    for _ in range(LOOKS + 1):
        followed.look()
    assert followed.stream.is_seen_soon(), "there may have been another rotation since"
    followed.rotate()
    followed.add(b"new\n")
    assert followed.stream.is_seen_soon()


def test_a_file_with_the_same_bytes_has_the_same_last_lines_whatever_its_inode_is(follow: Follow) -> None:
    """As when its file system was mounted anew."""
    followed = follow(as_bytes(numbered(1, 5)), remote=True)
    followed.path.unlink()
    followed.path.write_bytes(as_bytes(numbered(1, 5)))
    begin = history.tail_start(followed.stream, 2, EVERY_LINE, followed.head())
    assert Told(followed.reader(begin)).lines == numbered(4, 5)


def test_of_a_file_that_is_gone_there_are_no_last_lines(follow: Follow) -> None:
    followed = follow(as_bytes(numbered(1, 5)), remote=True)
    followed.path.unlink()
    assert history.tail_start(followed.stream, 3, EVERY_LINE, followed.head()) == followed.head()


def test_the_last_lines_are_waited_for_while_the_file_system_refuses(tmp_path: Path) -> None:
    """None would look like an empty file."""
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "source").mkdir()
    with mounted(tmp_path / "source", tmp_path / "target") as mount:
        followed = Followed(tmp_path / "target", as_bytes(numbered(1, 5)), remote=True)
        try:
            mount.die()
            with pytest.raises(NotNow, match=os.strerror(errno.ENOTCONN)):
                history.tail_start(followed.stream, 3, EVERY_LINE, followed.head())
        finally:
            followed.close()


@pytest.mark.parametrize("status", [StreamStatus.STARTING, StreamStatus.HUNG, StreamStatus.UNREADABLE])
def test_nobody_begins_in_a_file_of_which_nothing_is_known_yet(follow: Follow, status: StreamStatus) -> None:
    """Who begins at nothing gets everything; that is right only where there was no file."""
    followed = follow(there=False)
    assert history.tail_start(followed.stream, 3, EVERY_LINE, ()) == ()
    followed.stream.state = StreamState(status, "why")
    with pytest.raises(NotNow, match="why"):
        history.tail_start(followed.stream, 3, EVERY_LINE, ())


# -- legs -------------------------------------------------------------------------------------------------------------


def leg(followed: Followed, start: int, until: int) -> Leg:
    """So many bytes of the current file."""
    content = followed.path.read_bytes()
    return Leg(Position(followed.head()[-1].generation, start, content[max(0, start - 32) : start]), until)


def test_a_leg_is_read_in_chunks_of_whole_lines(follow: Follow) -> None:
    content = as_bytes(numbered(1, 100))
    followed = follow(content)
    first = leg(followed, 7, 700)
    (entry,) = history.read_leg(followed.stream, first, 50, OPTIONS.max_line_bytes)
    assert (entry.start, entry.data) == (7, content[7:56])
    assert entry.marker == content[56 - 32 : 56]
    assert entry.end == 56


def test_a_line_longer_than_a_chunk_is_one_entry(follow: Follow) -> None:
    followed = follow(b"x" * 5000 + b"\nb\n")
    (entry, *_) = history.read_leg(followed.stream, leg(followed, 0, 5003), 100, OPTIONS.max_line_bytes)
    assert entry.data.startswith(b"x" * 5000 + b"\n")


def test_a_line_that_ends_with_the_leg_is_given_as_far_as_it_goes(follow: Follow) -> None:
    """The ring has the rest."""
    followed = follow(b"one\ntwo\nthree\n")
    entries = history.read_leg(followed.stream, leg(followed, 4, 11), 1000, OPTIONS.max_line_bytes)
    assert b"".join(entry.data for entry in entries) == b"two\nthr"
    assert entries[-1].end == 11


def test_raw_bytes_are_not_looked_at(follow: Follow) -> None:
    followed = follow(b"a\0b\xff\n" * 10 + b"x" * 500)
    (entry,) = history.read_leg(followed.stream, leg(followed, 2, 550), 20, OPTIONS.max_line_bytes, raw=True)
    assert (entry.start, entry.data, entry.flags) == (2, b"b\xff\n" + b"a\0b\xff\n" * 3, Flag.LINES)
    (entry,) = history.read_leg(followed.stream, leg(followed, 60, 550), 20, OPTIONS.max_line_bytes, raw=True)
    assert entry.data == b"x" * 20


def test_bytes_that_were_rewritten_are_lost(follow: Follow) -> None:
    """The size is enough, but what stands before the offset is not what was there."""
    followed = follow(as_bytes(numbered(1, 100)))
    wanted = leg(followed, 70, 700)
    followed.path.write_bytes(as_bytes(numbered(501, 600)))
    with pytest.raises(Lost) as caught:
        history.read_leg(followed.stream, wanted, 100, OPTIONS.max_line_bytes)
    assert caught.value.lost_bytes == 630


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("remote", [False, True])
def test_the_first_bytes_of_a_file_are_told_though_it_is_gone(follow: Follow, remote: bool, raw: bool) -> None:
    """They are remembered. Behind them, nothing is."""
    content = as_bytes(numbered(1, 100))
    followed = follow(content, remote=remote)
    wanted, more = leg(followed, 5, 251), leg(followed, 5, 257)
    followed.path.unlink()
    followed.path.write_bytes(b"another\n")
    followed.settle()
    followed.stream.expire(time.monotonic() + 2 * KEPT_S)
    entries = history.read_leg(followed.stream, wanted, 1000, OPTIONS.max_line_bytes, raw=raw)
    assert b"".join(entry.data for entry in entries) == content[5:251]
    assert (entries[0].start, entries[-1].end, entries[-1].marker) == (5, 251, content[251 - 32 : 251])
    with pytest.raises(Lost):
        history.read_leg(followed.stream, more, 1000, OPTIONS.max_line_bytes, raw=raw)


@pytest.mark.parametrize("remote", [False, True])
def test_bytes_that_have_moved_are_read_where_they_are(follow: Follow, remote: bool) -> None:
    """By name, the name leads to another file by now, which may even have the same bytes before the offset."""
    content = as_bytes(numbered(1, 100))
    followed = follow(content, remote=remote)
    wanted = leg(followed, 700, 791)
    followed.rotate()
    followed.path.write_bytes(b"-" * 300 + content[300:700] + b"of another file\n" * 20)
    entries = history.read_leg(followed.stream, wanted, 1000, OPTIONS.max_line_bytes)
    assert b"".join(entry.data for entry in entries) == content[700:791]


@pytest.mark.parametrize("remote", [False, True])
def test_bytes_that_have_moved_are_not_lost_for_want_of_a_descriptor(follow: Follow, remote: bool) -> None:
    followed = follow(as_bytes(numbered(1, 100)), remote=remote)
    position = Position(followed.head()[-1].generation, 0)
    leg = Leg(position, followed.head()[-1].offset)
    followed.copy_and_truncate()
    with few_descriptors(), pytest.raises(NotNow, match="Too many open files"):
        history.read_leg(followed.stream, leg, 10_000, OPTIONS.max_line_bytes)
    assert history.read_leg(followed.stream, leg, 10_000, OPTIONS.max_line_bytes)
