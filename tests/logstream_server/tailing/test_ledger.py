"""ledger: what the ring is told of generations, lines and losses."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from logstream_server.lines.cursor import CHAIN, Generation
from logstream_server.lines.framing import Flag, LineFramer
from logstream_server.lines.ring import EventKind, Ring
from logstream_server.tailing.files import FileStat, LogFile
from logstream_server.tailing.ledger import Ledger
from logstream_server.tailing.reading import Reading
from logstream_server.tailing.stream import Stream


class Book:
    """A ledger, its stream, and one file that is read."""

    def __init__(self, path: Path, *, keep_open: bool) -> None:
        path.touch()
        self.stream = Stream("app.log", str(path), (), Ring(1 << 20))
        self.ledger = Ledger(self.stream, itertools.count(1).__next__)
        file = LogFile(str(path), (), keep_open=keep_open)
        generation = self.ledger.begin(file, begin=0, head=b"")
        self.reading = Reading(generation, file, LineFramer(1 << 16), 1000.0)

    def close(self) -> None:
        """Give the files back."""
        for generation, _ in self.stream.generations():
            self.stream.forget(generation)

    def told(self) -> list[tuple[bytes, Flag]]:
        return [(entry.data, entry.flags) for entry in self.stream.ring.entries() if entry.data]


@pytest.fixture
def keep_open() -> bool:
    """Whether the file is held open; a test may say."""
    return True


@pytest.fixture
def book(tmp_path: Path, keep_open: bool) -> Iterator[Book]:
    book = Book(tmp_path / "app.log", keep_open=keep_open)
    yield book
    book.close()


def test_lines_are_counted_and_told_as_they_are_framed(book: Book) -> None:
    book.ledger.take(book.reading, b"one\ntwo\nth")
    assert book.told() == [(b"one\ntwo\n", Flag.LINES)]
    assert (book.stream.counters.lines, book.stream.counters.bytes) == (2, 10)


@pytest.mark.parametrize(("wait_s", "silent_s", "flushed"), [(5.0, 4.9, False), (5.0, 5.0, True), (0.0, 1e6, False)])
def test_an_unfinished_line_goes_out_after_a_silence(book: Book, wait_s: float, silent_s: float, flushed: bool) -> None:
    book.ledger.take(book.reading, b"th")
    for _ in range(2):
        book.ledger.flush_if_silent(book.reading, book.reading.grew_at + silent_s, wait_s)
    assert book.told() == ([(b"th", Flag.PARTIAL)] if flushed else [])


def test_what_was_held_goes_out_at_the_end(book: Book) -> None:
    book.ledger.take(book.reading, b"one\nth")
    book.ledger.end(book.reading)
    assert book.told()[-1][0] == b"th"
    last = book.stream.ring.entries()[-1]
    assert (last.event and last.event.kind, last.retires) == (EventKind.RETIRED, book.reading.generation)
    assert book.reading.generation.end == 6


@pytest.mark.parametrize(("size", "lost"), [(100, 96), (4, None)])
def test_a_loss_has_its_place_in_the_file(book: Book, size: int, lost: int | None) -> None:
    """At least a byte, so that a position says whether its reader was told."""
    book.ledger.take(book.reading, b"one\n")
    book.reading.seen = FileStat(book.reading.file.identity, size, 0, 0, 1)
    book.ledger.end(book.reading, "it was rewritten")
    last = book.stream.ring.entries()[-1]
    assert last.event is not None
    assert (last.start, last.end, last.event.lost_bytes) == (4, max(size, 5), lost)
    assert book.reading.generation.end == max(size, 5)


def test_a_hole_is_jumped_over(book: Book, tmp_path: Path) -> None:
    with (tmp_path / "app.log").open("wb") as file:
        os.truncate(file.fileno(), 1 << 24)
    book.ledger.take(book.reading, bytes(1 << 16))
    at = book.reading.framer.offset
    assert at in (1 << 16, 1 << 24)  # where the file system knows holes
    assert sum(len(data) for data, _ in book.told()) < 1 << 17


def test_a_few_files_are_remembered_one_behind_another(book: Book) -> None:
    begun = [book.reading.generation]
    for _ in range(2 * CHAIN):
        assert book.reading.file.acquire()
        begun.append(book.ledger.begin(book.reading.file, begin=0, head=b""))
    chain = []
    last: Generation | None = begun[-1]
    while last is not None:
        chain.append(last)
        last = last.before
    assert chain == begun[: -CHAIN - 2 : -1]


@pytest.mark.parametrize("keep_open", [False, True])
def test_an_inode_counts_only_where_a_file_is_held_open_and_a_sign_everywhere(book: Book, keep_open: bool) -> None:
    generation = book.reading.generation
    assert (generation.inode is not None, len(generation.sign)) == (keep_open, 8)


@pytest.mark.parametrize("keep_open", [False, True])
def test_a_generation_is_begun_anew_behind_others(book: Book, tmp_path: Path, keep_open: bool) -> None:
    old = book.reading.generation
    if not keep_open:  # a reader who came back was given the file by the name that it has now
        book.stream.keep(old, LogFile(str(tmp_path / "app.log"), (), keep_open=False))
    book.ledger.renew(book.reading)
    assert old.end == 0
    assert book.reading.generation.id > old.id
    assert book.stream.file_of(old) is None
    file = book.stream.file_of(book.reading.generation)
    assert file is not None
    assert file is book.reading.file
    file.release()
