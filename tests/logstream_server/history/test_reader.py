"""reader: each line once and in order, from file and ring, however far behind; every loss told once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from logstream_server.history.history import NotNow
from logstream_server.lines.catchup import walk
from logstream_server.lines.ring import ENDED_KEPT, EventKind

from ..followed import Follow, Followed, Told, as_bytes, numbered
from ..scenarios.harness import mounted, why_no_mount

SMALL = 3000
"""A ring that holds a few entries."""


def from_start(followed: Followed) -> Told:
    """What a reader gets who has nothing of any file."""
    return Told(followed.reader(()))


@pytest.mark.parametrize("ring_bytes", [SMALL, 1 << 20])
def test_the_file_and_then_the_ring_are_every_line_once(follow: Follow, ring_bytes: int) -> None:
    """What was there before the server came, what the ring has let go of, and what it still has."""
    lines = numbered(1, 300)
    followed = follow(as_bytes(lines[:100]), ring_bytes=ring_bytes)
    for number in range(100, 300, 10):
        followed.add(as_bytes(lines[number : number + 10]))
    told = from_start(followed)
    assert (told.lines, told.lost) == (lines, [])


def test_it_goes_on_where_it_was_as_the_stream_grows(follow: Follow) -> None:
    followed = follow(as_bytes(numbered(1, 3)))
    reader = followed.reader(followed.head())
    told = Told(reader)
    assert told.lines == []
    followed.add(b"line 4\nline")
    assert told.read(reader).lines == ["line 4"]
    followed.add(b" 5\n")
    assert told.read(reader).lines == ["line 4", "line 5"]
    assert reader.next() is None


def test_chunks_are_as_large_as_was_asked_and_join_without_a_seam(follow: Follow) -> None:
    lines = numbered(1, 400)
    followed = follow(as_bytes(lines[:200]), ring_bytes=SMALL)
    followed.add(as_bytes(lines[200:]))
    reader = followed.reader((), chunk_bytes=50)
    read: list[str] = []
    for chunk in reader.to_head():
        assert chunk.end == reader.positions == walk(chunk.entries, chunk.begin)
        assert sum(len(entry.data) for entry in chunk.entries) <= 50 or len(chunk.entries) == 1
        for entry in chunk.entries:
            read += entry.data.decode().splitlines()
    assert read == lines


def test_a_reader_that_is_a_rotation_behind_reads_the_old_file_first(follow: Follow) -> None:
    lines = numbered(1, 60)
    followed = follow(ring_bytes=SMALL)
    reader = followed.reader(followed.head())
    followed.add(as_bytes(lines[:20]))
    followed.rotate()
    followed.add(as_bytes(lines[20:40]))
    followed.settle()
    for number in range(40, 60):
        followed.add(as_bytes(lines[number : number + 1]))
    told = Told(reader)
    assert (told.lines, told.lost) == (lines, [])


def test_events_are_told_where_they_belong(follow: Follow) -> None:
    """Between the lines for who reads those; what happened before it came is no news to one who has the lines."""
    followed = follow(b"line 1\n")
    followed.rotate()
    followed.add(b"line 2\n")
    old, new = followed.reader(()), followed.reader(followed.head())
    followed.rotate()
    followed.add(b"line 3\n")
    told = Told(old)
    assert (told.lines, told.events) == (numbered(1, 3), [EventKind.ROTATED] * 2)
    told = Told(new)
    assert (told.lines, told.events) == (["line 3"], [EventKind.ROTATED])


def test_a_file_system_that_has_died_is_asked_again_and_nothing_is_lost(tmp_path: Path) -> None:
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(reason)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    lines = numbered(1, 50)
    with contextlib.ExitStack() as stack:
        with mounted(source, target) as mount:
            followed = Followed(target, as_bytes(lines), remote=True)
            stack.callback(followed.close)
            reader = followed.reader(())
            mount.die()
            for _ in range(2):
                with pytest.raises(NotNow):
                    reader.next()
        with mounted(source, target):
            assert Told(reader).lines == lines


# -- losses -----------------------------------------------------------------------------------------------------------


def test_what_was_emptied_before_it_was_read_is_a_gap_of_so_many_bytes(follow: Follow) -> None:
    content = as_bytes(numbered(1, 50))
    followed = follow(content)
    os.truncate(followed.path, 0)
    followed.look()
    followed.add(b"new\n")
    told = from_start(followed)
    assert told.lost == [("the file was truncated or deleted before this was read", len(content))]
    assert told.lines == ["new"]


def test_a_reader_behind_more_rotations_than_are_remembered_is_told_so(follow: Follow) -> None:
    """It gets what is remembered, and one gap before it; one that is behind by fewer gets everything."""
    followed = follow(b"first\n", ring_bytes=SMALL)
    far, near = followed.reader(followed.head()), None
    count = ENDED_KEPT + 30
    for number in range(count):
        if number == 40:
            near = followed.reader(followed.head())
        followed.rotate()
        followed.add(b"file %d\n" % number)
        followed.settle()
    for number in range(20):  # so that the rotations leave the ring
        followed.add(b"last %d\n" % number)
    assert near is not None
    told = Told(near)
    assert told.lost == []
    assert told.lines == [f"file {n}" for n in range(40, count)] + [f"last {n}" for n in range(20)]
    told = Told(far)
    assert told.lost == [("more files were rotated away meanwhile than are remembered", None)]
    assert told.lines[-20:] == [f"last {n}" for n in range(20)]
    files = [int(line.removeprefix("file ")) for line in told.lines[:-20]]
    assert files == list(range(files[0], count))
    assert ENDED_KEPT - 2 <= len(files) <= ENDED_KEPT + 1
    followed.add(b"and on\n")
    assert told.read(far).lines[-1] == "and on"
    assert len(told.lost) == 1


def test_forgotten_files_that_were_empty_are_no_loss(follow: Follow) -> None:
    followed = follow(b"first\n", ring_bytes=SMALL)
    reader = followed.reader(followed.head())
    for _ in range(ENDED_KEPT + 10):
        os.unlink(followed.path)
        followed.look()
        followed.write(b"")
        followed.settle()
    for number in range(20):
        followed.add(b"last %d\n" % number)
    told = Told(reader)
    assert told.lost == []
    assert told.lines == [f"last {n}" for n in range(20)]


def deleted_unread(followed: Followed) -> int:
    """A rotated file of a remote file system is deleted with this many bytes that were not read."""
    followed.rotate()
    followed.add(b"new 1\n")
    unread = as_bytes(numbered(100, 120))
    old = followed.path.with_name("app.log.1")
    with old.open("ab") as file:
        file.write(unread)
    # The look sees how far it has grown, but its bytes are gone when they are read.
    reading = followed.follower._files.draining[0]
    reading.seen = reading.file.stat()
    old.unlink()
    followed.look()
    return len(unread)


@pytest.mark.parametrize("ring_bytes", [SMALL, 1 << 20])
def test_a_loss_is_told_once_to_each_reader_whom_it_concerns(follow: Follow, ring_bytes: int) -> None:
    """To one who was there, to one who comes by its positions afterwards, and to one who is far behind; not to one who
    begins after it, nor a second time."""
    followed = follow(as_bytes(numbered(1, 50)), remote=True, ring_bytes=ring_bytes)
    before = followed.head()
    live = followed.reader(before)
    followed.add(b"line 51\n")
    near = followed.head()
    lost = [("it was deleted before it was read", deleted_unread(followed))]
    after = followed.head()
    followed.add(b"new 2\n")

    told = Told(live)
    assert (told.lines, told.lost) == (["line 51", "new 1", "new 2"], lost)
    assert told.read(live).lost == lost

    by_positions = Told(followed.reader(near))
    assert (by_positions.lines, by_positions.lost) == (["new 1", "new 2"], lost)
    again = followed.reader(live.positions)
    assert Told(again).lost == []
    assert Told(followed.reader(after)).lost == []
    assert Told(followed.reader(after)).lines == ["new 2"]

    for number in range(40):  # so that it leaves a small ring
        followed.add(b"more %d\n" % number)
    behind = Told(followed.reader(near))
    assert [size for _, size in behind.lost] == [size for _, size in lost]
    assert behind.lines[:2] == ["new 1", "new 2"]
    assert Told(again).lost == []


def test_files_that_are_read_by_name_are_never_held_open(follow: Follow) -> None:
    """Neither the followed one nor the rotated ones that a reader is sent to."""

    def held() -> list[str]:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in links if os.path.lexists(link) and "app.log" in os.readlink(link)]

    lines = numbered(1, 400)
    followed = follow(as_bytes(lines[:100]), remote=True, ring_bytes=SMALL)
    reader = followed.reader(())
    for number in range(100, 400, 100):
        followed.rotate()
        followed.add(as_bytes(lines[number : number + 100]))
        followed.settle()
        assert held() == []
    told = Told()
    for chunk in reader.to_head():
        assert held() == []
        for entry in chunk.entries:
            told.add(entry)
    assert told.lines == lines
