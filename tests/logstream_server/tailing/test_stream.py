"""stream: which file a generation is read from, for how long, and by what a file is known again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from logstream_server.lines.cursor import HEAD_BYTES, Generation
from logstream_server.lines.ring import Ring
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.stream import KEPT, KEPT_S, MEMORY, Stream, StreamState, StreamStatus


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream("a.log", str(tmp_path / "a.log"), (), Ring(4096))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    return path


def open_file(path: Path) -> LogFile:
    return LogFile(str(path), (), keep_open=True)


def is_open(file: LogFile) -> bool:
    """Whether anybody still holds it."""
    if not file.acquire():
        return False
    file.release()
    return True


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_reader_gets_the_file_of_a_generation_with_a_reference_of_its_own(stream: Stream, log: Path) -> None:
    generation, file = Generation(1), open_file(log)
    assert stream.file_of(generation) is None
    stream.keep(generation, file)
    assert stream.file_of(generation) is file
    stream.forget(generation)
    assert stream.file_of(generation) is None
    assert file.read(0, 10).data == b"one\n"
    file.release()
    assert not is_open(file)
    stream.forget(generation)


def test_a_generation_may_go_on_in_another_file(stream: Stream, log: Path) -> None:
    """As after a copy was made and the original emptied."""
    generation, old, new = Generation(1), open_file(log), open_file(log)
    stream.keep(generation, old)
    stream.keep(generation, new)
    assert not is_open(old)
    assert stream.generations() == [(generation, new)]
    stream.forget(generation)
    assert not is_open(new)


def test_the_same_file_again_is_one_reference(stream: Stream, log: Path) -> None:
    generation, file = Generation(1), open_file(log)
    stream.keep(generation, file)
    assert file.acquire()
    stream.keep(generation, file)
    assert is_open(file)
    stream.forget(generation)
    assert not is_open(file)


def test_a_file_that_somebody_closed_is_no_file(stream: Stream, log: Path) -> None:
    generation, file = Generation(1), open_file(log)
    stream.keep(generation, file)
    file.release()
    assert stream.file_of(generation) is None


# -- files that are kept for a while ----------------------------------------------------------------------------------


def test_a_file_that_was_read_to_its_end_stays_for_a_while(stream: Stream, log: Path) -> None:
    generation, file = Generation(1), open_file(log)
    stream.keep_for_a_while(generation, file, 7)
    now = time.monotonic()
    stream.expire(now + KEPT_S - 1)
    assert is_open(file)
    stream.expire(now + KEPT_S + 1)
    assert not is_open(file)
    assert stream.file_of(generation) is None


def test_only_so_many_are_kept(stream: Stream, log: Path) -> None:
    files = [open_file(log) for _ in range(KEPT + 3)]
    for number, file in enumerate(files):
        stream.keep_for_a_while(Generation(number), file, number)
    stream.expire(time.monotonic())
    assert [is_open(file) for file in files] == [False] * 3 + [True] * KEPT
    stream.expire(time.monotonic() + 2 * KEPT_S)
    assert not any(is_open(file) for file in files)


def test_who_asks_again_meanwhile_makes_it_stay_longer(stream: Stream, log: Path) -> None:
    generation, file = Generation(1), open_file(log)
    stream.keep_for_a_while(generation, file, 7)
    assert file.acquire()
    stream.keep_for_a_while(generation, file, 7)
    stream._guests[0] = (stream._guests[0][0] - 2 * KEPT_S, generation)
    stream.expire(time.monotonic())
    assert is_open(file)
    stream.expire(time.monotonic() + 2 * KEPT_S)
    assert not is_open(file)


def test_what_is_kept_for_a_while_is_known_again(stream: Stream, log: Path) -> None:
    generation = Generation(-1, 7, b"one\n", 0, 4, -1)
    stream.keep_for_a_while(generation, open_file(log), 7)
    assert stream.remembered(7, b"one\n", 4) is generation
    stream.keep_for_a_while(generation, open_file(log), 7)
    assert len(stream._found) == 1
    stream.forget(generation)


# -- by what a file is known ------------------------------------------------------------------------------------------

LONG = bytes(range(256))


@pytest.mark.parametrize(
    ("inode", "head", "size", "known"),
    [
        pytest.param(7, b"one\n", 4, True, id="the same inode and bytes"),
        pytest.param(7, b"one\ntwo\n", 8, True, id="the same inode, and it has grown"),
        pytest.param(7, b"o", 1, True, id="the same inode, of which less was read"),
        pytest.param(7, b"two\n", 4, False, id="the same inode with other bytes"),
        pytest.param(7, b"", 0, False, id="the same inode, and nothing in it"),
        pytest.param(8, b"one\n", 4, True, id="a copy of the whole"),
        pytest.param(8, b"one\n", 9, False, id="another file that begins alike"),
        pytest.param(8, b"one\ntwo\n", 8, False, id="another file, and it is longer"),
    ],
)
def test_a_file_is_known_by_its_inode_and_its_bytes(
    stream: Stream, inode: int, head: bytes, size: int, known: bool
) -> None:
    generation = Generation(1, 7, b"one\n", 0, 4)
    stream.remember(generation, 7)
    assert stream.remembered(inode, head, size) is (generation if known else None)


@pytest.mark.parametrize("size", [256, 1000])
def test_a_copy_with_a_long_equal_beginning_is_known_whatever_its_size(stream: Stream, size: int) -> None:
    assert len(LONG) == HEAD_BYTES
    generation = Generation(1, 7, LONG)
    stream.remember(generation, 7)
    assert stream.remembered(8, LONG, size) is generation
    assert stream.remembered(8, LONG[:-1], size) is None


def test_the_newest_that_fits_counts(stream: Stream) -> None:
    """An inode's number is given again to another file."""
    old, new = Generation(1, 7, b"a\n"), Generation(2, 7, b"a\nb\n")
    stream.remember(old, 7)
    stream.remember(new, 7)
    assert stream.remembered(7, b"a\nb\n", 4) is new
    assert stream.newest_of(7) is new
    assert stream.newest_of(8) is None


def test_one_with_a_sign_is_known_by_that_alone(stream: Stream) -> None:
    signed = Generation(2, sign=b"12345678")
    stream.remember(Generation(1), 7)
    stream.remember(signed, 7)
    assert stream.signed(b"12345678") is signed
    assert stream.signed(b"87654321") is None
    assert stream.signed(b"") is None


def test_so_many_are_remembered(stream: Stream) -> None:
    for number in range(MEMORY + 1):
        stream.remember(Generation(number, number, b"%d" % number, 0, 2), number)
    assert stream.newest_of(0) is None
    assert stream.newest_of(1) is not None


def test_those_that_were_followed_stay_known_however_many_are_found_beside_them(stream: Stream, log: Path) -> None:
    followed = Generation(1, 7, b"followed", 0, 8, sign=b"12345678")
    stream.remember(followed, 7)
    for number in range(MEMORY + 1):
        stream.keep_for_a_while(Generation(-1, 100 + number, b"%d" % number, 0, 2), open_file(log), 100 + number)
    assert stream.newest_of(7) is followed
    assert stream.remembered(7, b"followed", 8) is followed
    assert stream.signed(b"12345678") is followed
    stream.expire(time.monotonic() + 2 * KEPT_S)


# -- how it is described ----------------------------------------------------------------------------------------------


def test_a_stream_is_described_in_words_that_clients_know(stream: Stream) -> None:
    unknown = {"size": None, "mtime": None, "watch": None, "detail": None, "binary": False}
    assert stream.describe() == {"name": "a.log", "state": "starting", **unknown}
    stream.state = StreamState(StreamStatus.REFUSED, "it is a FIFO", 5, 1_500_000_000, 5, "poll", True)
    assert stream.describe() == {
        "name": "a.log",
        "state": "refused",
        "detail": "it is a FIFO",
        "size": 5,
        "mtime": 1.5,
        "watch": "poll",
        "binary": True,
    }


def test_no_descriptor_is_left(stream: Stream, log: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        generation = Generation(number)
        stream.keep(generation, open_file(log))
        file = stream.file_of(generation)
        assert file is not None
        stream.keep_for_a_while(generation, file, number)
    stream.expire(time.monotonic() + 2 * KEPT_S)
    assert len(os.listdir("/proc/self/fd")) == before
