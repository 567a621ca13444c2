"""missed: which files came and went between two looks, and which only look like it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from logstream_server.lines.cursor import HEAD_BYTES
from logstream_server.lines.framing import LineFramer
from logstream_server.lines.ring import Ring
from logstream_server.tailing import missed, siblings
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.ledger import Ledger
from logstream_server.tailing.missed import SETTLE_S, Missed, Unsettled
from logstream_server.tailing.reading import Reading, is_begun_copy
from logstream_server.tailing.siblings import Sibling, list_siblings
from logstream_server.tailing.stream import Stream

from ..followed import as_bytes, numbered

LINES = as_bytes(numbered(1, 100))
OTHERS = as_bytes(numbered(501, 600))


class Beside:
    """A path, its current file that was read to its end, and what `Missed` finds."""

    def __init__(self, folder: Path, content: bytes = LINES) -> None:
        self.path = folder / "app.log"
        self.stream = Stream("app.log", str(self.path), (), Ring(1 << 20))
        self._ledger = Ledger(self.stream, itertools.count(1).__next__)
        self.missed = Missed(self.stream)
        self.path.write_bytes(content)
        self.current = self.read(self.path)
        self.missed.begin(self.current.identity)

    def close(self) -> None:
        """Give the files back."""
        for generation, _ in self.stream.generations():
            self.stream.forget(generation)

    def read(self, path: Path, *, keep_open: bool = True) -> Reading:
        """A file that is followed, and read so far."""
        file = LogFile(str(path), (), keep_open=keep_open)
        data = path.read_bytes()
        generation = self._ledger.begin(file, begin=0, head=data)
        reading = Reading(generation, file, LineFramer(1 << 16), 1000.0, seen=file.stat())
        self._ledger.take(reading, data or b"\n")
        return reading

    def found(self) -> list[str]:
        """The names of what is to be read before what is at the path now."""
        newest = LogFile(str(self.path), (), keep_open=False).identity
        found = self.missed.find(0.0, newest, [self.current], self.current, keep_open=True)
        for each in found:
            each.file.release()
        return [Path(each.file.path).name for each in found]


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Beside]:
    beside = Beside(tmp_path)
    yield beside
    beside.close()


def test_files_that_came_and_went_are_found_oldest_first_and_once(beside: Beside, tmp_path: Path) -> None:
    beside.path.rename(tmp_path / "app.log.3")
    (tmp_path / "app.log.2").write_bytes(OTHERS)
    (tmp_path / "app.log.1").write_bytes(OTHERS[:500])
    beside.path.write_bytes(b"new\n")
    assert beside.found() == ["app.log.2", "app.log.1"]
    assert beside.found() == []


def test_what_was_there_at_the_beginning_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "app.log.1").write_bytes(OTHERS)
    beside = Beside(tmp_path)
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    beside.path.rename(tmp_path / "app.log.1")
    beside.path.write_bytes(b"new\n")
    assert beside.found() == []
    beside.close()


def test_a_copy_of_what_is_read_is_no_news(beside: Beside, tmp_path: Path) -> None:
    """Neither of the whole nor of its beginning, as it may be just under way."""
    shutil.copy(beside.path, tmp_path / "app.log.2")
    (tmp_path / "app.log.1").write_bytes(LINES[:400])
    assert beside.found() == []


def test_a_copy_of_what_was_read_to_its_end_is_no_news(beside: Beside, tmp_path: Path) -> None:
    shutil.copy(beside.path, tmp_path / "app.log.1")
    beside.missed.note_end(beside.current)
    beside.missed.note_read(beside.current)
    beside.path.write_bytes(b"")
    beside.current = beside.read(beside.path)
    assert beside.found() == []


def test_a_new_file_may_have_the_inode_of_one_that_was_read_and_deleted(beside: Beside, tmp_path: Path) -> None:
    """Nothing keeps the inode of a file that is read by name; without content to compare, the new one was told late."""
    old, new = tmp_path / "app.log.2", tmp_path / "app.log.1"
    old.write_bytes(OTHERS)
    gone = beside.read(old, keep_open=False)
    assert gone.seen is not None
    old.unlink()
    new.write_bytes(as_bytes(numbered(601, 700)))
    gone.seen = replace(gone.seen, identity=LogFile(str(new), (), keep_open=False).identity)
    found = beside.missed.find(0.0, beside.current.identity, [gone, beside.current], beside.current, keep_open=False)
    assert [each.file.path for each in found] == [str(new)]


@pytest.mark.parametrize("is_read", [True, False])
def test_a_file_that_is_read_by_name_is_no_news_under_another_one(
    beside: Beside, tmp_path: Path, is_read: bool
) -> None:
    old = tmp_path / "app.log.1"
    old.write_bytes(OTHERS)
    reading = beside.read(old, keep_open=False)
    if not is_read:
        reading.framer, reading.first = LineFramer(1 << 16), OTHERS[:100]
    old.rename(tmp_path / "app.log.2")
    found = beside.missed.find(0.0, beside.current.identity, [reading, beside.current], beside.current, keep_open=False)
    assert found == []


def test_what_a_file_began_with_is_from_before_it_was_compared(
    beside: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one copy that there is may be written over at any moment, by what is read elsewhere; that was told twice."""
    copy = tmp_path / "app.log.1"
    copy.write_bytes(OTHERS)

    def compared_then_written_over(file: LogFile, reading: Reading, least_bytes: int) -> bool:
        verdict = is_begun_copy(file, reading, least_bytes)
        copy.write_bytes(b"")
        return verdict

    monkeypatch.setattr(missed, "is_begun_copy", compared_then_written_over)
    (found,) = beside.missed.find(0.0, beside.current.identity, [beside.current], beside.current, keep_open=False)
    assert (found.file.path, found.first) == (str(copy), OTHERS[:HEAD_BYTES])


def test_what_came_after_the_newest_is_for_the_next_look(beside: Beside, tmp_path: Path) -> None:
    newest = beside.current.identity
    beside.path.rename(tmp_path / "app.log.2")
    (tmp_path / "app.log.1").write_bytes(OTHERS)
    beside.path.write_bytes(b"new\n")
    assert beside.missed.find(0.0, newest, [beside.current], beside.current, keep_open=True) == []
    assert beside.found() == ["app.log.1"]


def test_a_change_in_the_folder_is_seen_once(beside: Beside, tmp_path: Path) -> None:
    beside.missed.may_be_more()
    assert not beside.missed.may_be_more()
    (tmp_path / "app.log.1").write_bytes(OTHERS)
    assert beside.missed.may_be_more()
    assert not beside.missed.may_be_more()


def test_names_that_change_all_the_time_are_waited_for_but_not_for_ever(
    beside: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before what cannot be said meanwhile. Names change after each listing: a program that renames beside
    this one would do so when the machine has time for it."""
    beside.path.rename(tmp_path / "app.log.2")
    (tmp_path / "app.log.1").write_bytes(OTHERS)
    beside.path.write_bytes(b"new\n")
    newest = LogFile(str(beside.path), (), keep_open=False).identity
    others = (tmp_path / f"app.log.{number}" for number in itertools.count(7))
    other = next(others)
    other.write_bytes(b"")

    def listed_then_renamed(path: str, *, rotated_only: bool) -> list[Sibling]:
        nonlocal other
        found = list_siblings(path, rotated_only=rotated_only)
        other = other.rename(next(others))
        return found

    names: list[str] = []

    def find(now: float) -> None:
        found = beside.missed.find(now, newest, [beside.current], beside.current, keep_open=True)
        for each in found:
            each.file.release()
        names.extend(Path(each.file.path).name for each in found)

    monkeypatch.setattr(siblings, "list_siblings", listed_then_renamed)
    for now in (1000.0, 1000.0 + SETTLE_S / 2):
        with pytest.raises(Unsettled):
            find(now)
    find(1000.0 + SETTLE_S)
    monkeypatch.undo()
    find(2000.0)
    assert names == ["app.log.1"]
