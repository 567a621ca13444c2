"""succession: which files of a path are read, and that a generation begins and ends where it is said so; real files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from logstream_server.lines.ring import EventKind, Ring
from logstream_server.tailing.condition import Condition
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.ledger import Ledger
from logstream_server.tailing.stream import Stream, StreamStatus
from logstream_server.tailing.succession import MAX_DRAINING, FollowOptions, Succession
from logstream_server.tailing.watch import Watch

OPTIONS = FollowOptions(rotate_wait_s=5.0)
NOW = 1000.0


class Succeeding:
    """The succession of a path, and what its ring was told; `known`: bytes that another stream has read."""

    def __init__(self, path: Path, *, from_start: bool = False, known: int = 0) -> None:
        self.path = path
        self.stream = Stream("app.log", str(path), (), Ring(1 << 20))
        ledger = Ledger(self.stream, itertools.count(1).__next__)
        watch = Watch("poll", None, lambda: None)
        condition = Condition(self.stream, ledger)
        self.files = Succession(
            self.stream,
            OPTIONS,
            watch,
            ledger,
            condition,
            from_start=from_start,
            skip_known=lambda _stream, _stat: known,
        )

    def open(self, kind: EventKind = EventKind.APPEARED) -> None:
        self.files.open(NOW, kind)

    def replace(self) -> None:
        """Another file is there by now, and is found."""
        current = self.files.current
        assert current is not None
        self.path.rename(self.path.with_name(f"app.log.{self.path.stat().st_ino}"))
        self.path.write_bytes(b"another\n")
        self.files.replace(current, LogFile(str(self.path), (), keep_open=True), NOW, EventKind.ROTATED)

    def events(self) -> list[EventKind]:
        return [entry.event.kind for entry in self.stream.ring.entries() if entry.event]

    def close(self) -> None:
        for generation, _ in self.stream.generations():
            self.stream.forget(generation)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(b"one\ntwo\nbegun")
    return path


@pytest.fixture
def succeeding(log: Path) -> Iterator[Succeeding]:
    found = Succeeding(log)
    yield found
    found.close()


@pytest.mark.parametrize(("from_start", "known", "offset"), [(False, 0, 13), (True, 0, 0), (True, 4, 4)])
def test_the_first_file_is_read_from_where_its_news_begin(log: Path, from_start: bool, known: int, offset: int) -> None:
    """An unfinished line is read at once: more of it may be news."""
    found = Succeeding(log, from_start=from_start, known=known)
    found.open()
    assert found.files.current is not None
    assert found.files.current.framer.offset == offset
    assert found.files.all == (found.files.current,)
    assert found.events() == ([EventKind.APPEARED] if from_start else [])
    found.close()


def test_where_there_is_none_the_next_one_is_news(succeeding: Succeeding, log: Path) -> None:
    content = log.read_bytes()
    log.unlink()
    succeeding.open()
    assert (succeeding.files.current, succeeding.files.all) == (None, ())
    assert succeeding.stream.state.status is StreamStatus.WAITING
    log.write_bytes(content)
    succeeding.open()
    assert succeeding.files.current is not None
    assert succeeding.files.current.framer.offset == 0


def test_a_file_that_was_replaced_is_read_until_its_writer_has_gone(succeeding: Succeeding) -> None:
    succeeding.open()
    old = succeeding.files.current
    assert old is not None
    succeeding.replace()
    new = succeeding.files.current
    assert new is not None
    assert succeeding.files.all == (old, new)
    assert (succeeding.files.before(old), succeeding.files.before(new)) == ([], [old])
    assert succeeding.stream.counters.rotations == 1
    old.seen = old.file.stat()
    succeeding.files.retire_if_spent(old, NOW + OPTIONS.rotate_wait_s - 0.1)
    assert succeeding.files.all == (old, new)
    succeeding.files.retire_if_spent(old, NOW + OPTIONS.rotate_wait_s)
    assert succeeding.files.all == (new,)
    assert old.generation.end == 13


def test_only_so_many_old_files_are_read(succeeding: Succeeding) -> None:
    succeeding.open()
    first = succeeding.files.current
    assert first is not None
    first.seen = first.file.stat()
    for _ in range(MAX_DRAINING):
        succeeding.replace()
    assert first in succeeding.files.draining
    succeeding.replace()
    assert first not in succeeding.files.draining
    assert len(succeeding.files.draining) == MAX_DRAINING


def test_a_file_that_is_begun_anew_ends_what_it_was(succeeding: Succeeding) -> None:
    succeeding.open()
    old = succeeding.files.current
    assert old is not None
    succeeding.files.restart(old, NOW, offset=4, before=b"one\n", head=b"one\n", detail="its end was cut off at 4")
    new = succeeding.files.current
    assert new is not None
    assert (old.generation.end, new.generation.begin, new.framer.offset) == (13, 4, 4)
    assert succeeding.files.all == (new,)
    assert succeeding.events() == [EventKind.TRUNCATED]


def test_a_file_that_was_given_up_and_is_there_again_is_no_news(succeeding: Succeeding, log: Path) -> None:
    log.write_bytes(b"x" * 300 + b"\n")
    succeeding.open()
    current = succeeding.files.current
    assert current is not None
    succeeding.files.give_up(current)
    assert succeeding.files.all == ()
    succeeding.open()
    assert succeeding.files.current is not None
    assert succeeding.files.current.framer.offset == 301


def test_a_file_that_has_no_lines_is_marked(succeeding: Succeeding, log: Path) -> None:
    log.write_bytes("one\n".encode("utf-16"))
    succeeding.open()
    assert succeeding.files.current is not None
    assert succeeding.files.current.unsupported == "UTF-16"
    assert succeeding.stream.state.status is StreamStatus.UNSUPPORTED
