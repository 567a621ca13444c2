"""Following a path through everything that is done to log files, against a model of what was written.

The machine drives the follower by hand, so every interleaving of writer, rotation and look can happen, also those
that a timer would hit once a year. Real files, no threads; time is a number.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from logstream_server.history import resume
from logstream_server.history.history import Lost
from logstream_server.history.reader import Reader
from logstream_server.lines.cursor import Generation, Positions, cursor_at, encode_cursor, parse_cursor
from logstream_server.lines.framing import Flag
from logstream_server.lines.ring import Entry, EventKind, Ring
from logstream_server.tailing.follower import Follower
from logstream_server.tailing.reading import Reading
from logstream_server.tailing.stream import Stream
from logstream_server.tailing.succession import FollowOptions, Succession
from logstream_server.tailing.watch import Watch

from ..followed import ByName, Follow, Held, Told, as_bytes, numbered
from ..process import few_descriptors
from ..scenarios.faulty import FaultyFiles
from ..scenarios.harness import why_no_mount

OPTIONS = FollowOptions(partial_after_s=5.0, rotate_wait_s=5.0, max_line_bytes=1 << 16)
POLL = Watch("poll", None, lambda: None)


class Text:
    """Puts delivered entries together: a PARTIAL line and its CONTINUED rest are one line."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.events: list[EventKind] = []
        self._open: dict[object, bytes] = {}

    def add(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.event is not None or entry.generation is None:
                self.events.append(entry.event.kind if entry.event else EventKind.APPEARED)
                continue
            data = entry.data
            if entry.flags & Flag.CONTINUED:
                data = self._beginning(entry.generation) + data
            if entry.flags & Flag.PARTIAL:
                self._open[entry.generation.inode] = data
            else:
                self.lines += data.split(b"\n")[:-1]

    def _beginning(self, generation: Generation) -> bytes:
        """Of the line that goes on; the last one, in a copy of the file, when the file itself was emptied."""
        known = generation.inode in self._open or not self._open
        return self._open.pop(generation.inode, b"") if known else self._open.popitem()[1]

    def all(self) -> list[bytes]:
        """Also the lines that were never ended."""
        return self.lines + list(self._open.values())


class Following(RuleBasedStateMachine):
    """Writers, rotations and a follower."""

    @initialize(ring_bytes=st.sampled_from([2000, 1 << 20]))
    def begin(self, ring_bytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.open_files = contextlib.ExitStack()
        self.path = self.folder / "app.log"
        self.ring_bytes = ring_bytes
        self.now = 1000.0
        self.numbers = itertools.count(1)
        self.ids = itertools.count(1)
        self.written: list[bytes] = []
        self.may_miss: set[bytes] = set()
        self.files: list[Path] = []
        self.writer = self.open()
        self.old_writer = None
        self.unfinished = b""
        self.emptied = False
        self.start_follower()

    def open(self) -> io.FileIO:
        """A writer of the path; all are closed in the end."""
        self.is_seen = False
        return self.open_files.enter_context(self.path.open("ab", buffering=0))

    def start_follower(self, *, first: bool = True) -> None:
        self.stream = Stream("app.log", str(self.path), (), Ring(self.ring_bytes))
        self.follower = Follower(
            self.stream, OPTIONS, POLL, lambda _stream: None, from_start=False, next_id=self.ids.__next__
        )
        self.follower.run(self.now)
        if first:
            self.text = Text()
            self.readers: list[tuple[str, list[bytes]]] = []
        self.reader = self.read_from(self.stream.ring.head()[1])

    def read_from(self, positions: Positions) -> Reader:
        """A reader who has everything before `positions`; its small chunks end in the middle of things."""
        head_seq = self.stream.ring.head()[0]
        return Reader(self.stream, positions, head_seq, max_line_bytes=OPTIONS.max_line_bytes, chunk_bytes=100)

    def unread(self) -> set[bytes]:
        self.collect()
        return set(self.written) - set(self.text.all())

    def collect(self) -> None:
        """A client that is live as long as the ring holds what it needs, and reads the file where it does not."""
        for chunk in self.reader.to_head():
            self.note_loss(chunk.lost)
            self.text.add(chunk.entries)

    def note_loss(self, lost: Lost | None) -> None:
        """A reader who fell behind the ring, and whose file was emptied without a copy, is told so."""
        if lost is not None:
            assert self.emptied, "a gap, but every line is still there"
            self.may_miss |= set(self.written) - set(self.text.all())

    # -- what writers and rotations do

    def line(self) -> bytes:
        return b"%06d" % next(self.numbers)

    @rule(count=st.integers(1, 5), filler=st.sampled_from([b"", b" x", b" " + b"y" * 300]))
    def write(self, count: int, filler: bytes) -> None:
        lines = [self.line() + filler for _ in range(count)]
        if self.unfinished:
            whole = self.unfinished + lines[0]
            self.written[self.written.index(self.unfinished)] = whole
            if self.unfinished in self.may_miss:
                self.may_miss.add(whole)
            self.writer.write(b"\n".join(lines) + b"\n")
            self.written += lines[1:]
            self.unfinished = b""
        else:
            self.writer.write(b"\n".join(lines) + b"\n")
            self.written += lines

    @rule()
    def write_beginning(self) -> None:
        if not self.unfinished:
            self.unfinished = self.line()
            self.written.append(self.unfinished)
            self.writer.write(self.unfinished)

    @rule(filler=st.sampled_from([b"", b" " + b"z" * 300]))
    def write_late(self, filler: bytes) -> None:
        """A process that has not noticed the rotation yet."""
        if self.old_writer is not None and self.now - self.rotated_at < OPTIONS.rotate_wait_s:
            line = self.line() + filler
            self.old_writer.write(line + b"\n")
            self.written.append(line)

    def end_line(self) -> None:
        """Rotation in the middle of a line is for tests of its own: here the model would need two writers' lines."""
        if self.unfinished:
            self.write(1, b"")

    @rule()
    def rotate(self) -> None:
        self.end_line()
        self.shift()
        # One that is still empty, and came and went between two looks, looks like a copy that is only being made.
        is_known = self.is_seen or self.path.stat().st_size > 0
        self.path.rename(self.folder / "app.log.1")
        self.old_writer, self.writer = self.writer if is_known else None, self.open()
        self.rotated_at = self.now

    def shift(self) -> None:
        for number in range(99, 0, -1):
            old = self.folder / f"app.log.{number}"
            if old.exists():
                old.rename(self.folder / f"app.log.{number + 1}")

    @rule()
    def copy_and_truncate(self) -> None:
        self.end_line()
        self.shift()
        shutil.copy(self.path, self.folder / "app.log.1")
        os.truncate(self.path, 0)

    @rule()
    def truncate(self) -> None:
        self.end_line()
        self.may_miss |= self.unread()
        self.emptied = True
        os.truncate(self.path, 0)

    @rule()
    def delete(self) -> None:
        self.end_line()
        self.may_miss |= self.unread()
        self.emptied = True
        self.path.unlink()
        self.writer = self.open()

    # -- what the follower and readers do

    @rule(steps=st.integers(1, 4))
    def look(self, steps: int) -> None:
        for _ in range(steps):
            self.now += 0.25
            self.follower.run(self.now)
            self.is_seen = True
            self.collect()

    @rule()
    def wait(self) -> None:
        self.settle_down()
        self.now += 6
        self.settle_down()
        self.old_writer = None

    @rule()
    def take_cursor(self) -> None:
        """A reader who has everything so far goes away."""
        self.collect()
        self.readers.append((encode_cursor(cursor_at("app.log", self.reader.positions)), self.text.all()))

    @rule()
    def restart(self) -> None:
        """The server is killed; its own reader comes back to the next one with a cursor."""
        self.collect()
        cursor = parse_cursor(encode_cursor(cursor_at("app.log", self.reader.positions)))
        self.follower.close()
        if any(position.offset == 0 for position in self.reader.positions):
            # What came and went between two looks at an empty file left no trace in the cursor.
            self.may_miss |= self.unread()
        self.old_writer = None  # a file that is rotated away is not followed by a server that starts later
        self.start_follower(first=False)
        self.resume_own(cursor)

    def resume_own(self, cursor: object) -> None:
        resumed = resume.resume(self.stream, cursor)  # type: ignore[arg-type]
        if not resumed.recovered:
            self.may_miss |= set(self.written) - set(self.text.all())
            return  # from here on only what is new
        self.reader = self.read_from(resumed.positions)
        self.collect()

    def settle_down(self) -> None:
        for _ in range(40):
            before = self.stream.ring.head()[0]
            if self.follower.run(self.now) != 0.0 and self.stream.ring.head()[0] == before:
                break
        self.collect()

    @invariant()
    def nothing_twice(self) -> None:
        if hasattr(self, "text"):
            lines = self.text.all()
            assert len(lines) == len(set(lines)), "a line came twice"

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        try:
            self.end_line()
            self.now += 1
            self.settle_down()
            got = self.text.all()
            missing = [line for line in self.written if line not in set(got)]
            assert not set(missing) - self.may_miss, f"lost {missing}"
            strange = {line for line in set(got) - set(self.written) if not self.is_beginning(line)}
            assert not strange, f"lines that nobody wrote: {strange}"
            self.readers_get_the_rest(got)
        finally:
            self.open_files.close()
            self.follower.close()
            shutil.rmtree(self.folder)

    def is_beginning(self, line: bytes) -> bool:
        """Of a line that went out in its silence, before the file was truncated and the rest was lost."""
        return any(whole.startswith(line) for whole in self.may_miss)

    def readers_get_the_rest(self, got: list[bytes]) -> None:
        for token, had in self.readers[-3:]:
            resumed = resume.resume(self.stream, parse_cursor(token))
            if not resumed.recovered:
                continue
            text = Text()
            for chunk in self.read_from(resumed.positions).to_head():
                assert chunk.lost is None or self.emptied, "a gap, but every line is still there"
                text.add(chunk.entries)
            rest = [line for line in text.all() if line]
            assert len(rest) == len(set(rest)), "a line came twice to a reader who resumed"
            begun = {line for line in had if line not in set(got)}
            repeated = {line for line in rest if line in set(had)} - begun
            assert not repeated, f"a reader got what it had: {repeated} of {had}, {resumed}"


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# -- one path, by hand -------------------------------------------------------------------------------------------------


class Followed:
    """A follower of one path and the text that came, driven by hand."""

    def __init__(self, path: Path, watch: Watch) -> None:
        self.stream = Stream("app.log", str(path), (), Ring(1 << 20))
        ids = itertools.count(1).__next__
        self.follower = Follower(self.stream, OPTIONS, watch, lambda _stream: None, from_start=True, next_id=ids)
        self.now = 1000.0

    def look(self, seconds: float = 0.25) -> list[bytes]:
        """After so many seconds, until there is nothing more to do; all lines so far."""
        self.now += seconds
        for _ in range(100):
            if self.follower.run(self.now) != 0.0:
                break
        text = Text()
        text.add(self.stream.ring.entries())
        return text.lines


@pytest.fixture(params=["held open", "by name"])
def followed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Followed]:
    """The path "app.log" in the test's folder, held open or opened for each look."""
    watch = ByName("poll", None, lambda: None) if request.param == "by name" else Watch("poll", None, lambda: None)
    followed = Followed(tmp_path / "app.log", watch)
    yield followed
    followed.follower.close()


def test_a_file_that_was_gone_for_long_and_is_there_again_goes_on_where_it_was(
    followed: Followed, tmp_path: Path
) -> None:
    """As when a mount was lost and came back: its inode, too, is another."""
    lines = [b"line %d of a file" % number for number in range(50)]
    log, kept = tmp_path / "app.log", tmp_path / "elsewhere"
    log.write_bytes(b"\n".join(lines) + b"\n")
    assert followed.look() == lines
    shutil.copy(log, kept)
    log.unlink()
    for _ in range(3):
        assert followed.look(61) == lines
    with kept.open("ab") as file:
        file.write(b"meanwhile\n")
    kept.rename(log)
    assert followed.look() == [*lines, b"meanwhile"]
    with log.open("ab") as file:
        file.write(b"after\n")
    assert followed.look() == [*lines, b"meanwhile", b"after"]


def test_a_file_that_gets_another_name_in_two_steps_is_read_on(followed: Followed, tmp_path: Path) -> None:
    """Where it is read by name, it has none that is known between them; and it had been quiet for long."""
    log, away, moved = tmp_path / "app.log", tmp_path / "away", tmp_path / "app.moved"
    log.write_bytes(b"one\n")
    assert followed.look() == [b"one"]
    log.rename(away)
    followed.look(60)
    assert followed.stream.state.status == "waiting"
    away.rename(moved)
    with moved.open("ab") as file:
        file.write(b"two\n")
        file.flush()
        assert followed.look() == [b"one", b"two"]
        followed.look(60)
        file.write(b"three\n")
    assert followed.look() == [b"one", b"two", b"three"]
    log.write_bytes(b"new\n")
    assert followed.look() == [b"one", b"two", b"three", b"new"]


@pytest.mark.skipif(bool(why_no_mount()), reason=why_no_mount() or "")
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO], ids=errno.errorcode.get)
def test_a_file_whose_server_has_lost_it_for_a_while_goes_on_where_it_was(
    tmp_path: Path, by_name: bool, error: int
) -> None:
    watch = (ByName if by_name else Held)("poll", None, lambda: None)
    with FaultyFiles(tmp_path / "mount", "app.log").mounted() as files:
        followed = Followed(files.path, watch)
        counters = followed.stream.counters
        files.append(b"one\n")
        assert followed.look() == [b"one"]
        files.error = error
        for _ in range(3):
            followed.look()
        assert files.refused
        assert (followed.stream.state.status, followed.stream.state.detail) == ("unreadable", os.strerror(error))
        assert counters.mount_error_since == 1000.5  # since the first look that failed
        files.append(b"two\n")
        files.error = 0
        assert followed.look() == [b"one", b"two"]
        assert (followed.stream.state.status, counters.mount_error_since) == ("following", None)
        events = [entry.event.kind for entry in followed.stream.ring.entries() if entry.event]
        assert events == [EventKind.APPEARED, EventKind.UNREADABLE, EventKind.APPEARED]
        followed.follower.close()


def test_a_file_that_can_be_opened_and_not_read_takes_no_descriptor_at_each_look(
    follow: Follow, tmp_path: Path
) -> None:
    """As on a disk with a bad sector."""
    unreadable = Path("/sys/class/net/lo/speed")
    try:
        unreadable.read_bytes()
        pytest.skip(f"{unreadable} can be read here")
    except FileNotFoundError:
        pytest.skip(f"there is no {unreadable} here")
    except OSError:
        (tmp_path / "app.log").symlink_to(unreadable)
    followed = follow(there=False)
    assert followed.stream.state.status == "unreadable"
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        followed.look(2.0)
    assert os.listdir("/proc/self/fd") == before


def test_a_copy_that_had_just_been_begun_when_it_was_found_is_no_news(
    followed: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies and truncations over the one copy there is: what the next one will hold is being read already."""
    first, second = ([b"%d: line %d of a file" % (part, n) for n in range(50)] for part in (1, 2))
    log, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    log.write_bytes(as_lines(first))
    assert followed.look() == first
    shutil.copy(log, copy)
    log.write_bytes(as_lines(second))
    go_on = Succession.to_draining

    def begin_another_copy(files: Succession, reading: Reading, now: float | None) -> None:
        go_on(files, reading, now)
        copy.write_bytes(b"")

    monkeypatch.setattr(Succession, "to_draining", begin_another_copy)
    assert followed.look() == [*first, *second]
    copy.write_bytes(as_lines(second))
    log.write_bytes(b"and on\n")
    assert followed.look() == [*first, *second, b"and on"]


def test_a_file_that_was_empty_when_it_was_found_is_told_when_it_has_lines(followed: Followed, tmp_path: Path) -> None:
    """It came and went between two looks, and its writer goes on."""
    log = tmp_path / "app.log"
    log.write_bytes(b"one\n")
    assert followed.look() == [b"one"]
    log.rename(tmp_path / "app.log.2")
    (tmp_path / "app.log.1").touch()
    log.write_bytes(b"three\n")
    assert followed.look() == [b"one", b"three"]
    (tmp_path / "app.log.1").write_bytes(b"two, late\n")
    assert followed.look() == [b"one", b"three", b"two, late"]


def as_lines(lines: list[bytes]) -> bytes:
    """Each with its newline."""
    return b"".join(line + b"\n" for line in lines)


def test_another_file_after_one_that_was_gone_for_long_is_told_from_its_start(
    followed: Followed, tmp_path: Path
) -> None:
    log = tmp_path / "app.log"
    lines = [b"line %d of a file" % number for number in range(50)]
    log.write_bytes(b"\n".join(lines) + b"\n")
    assert followed.look() == lines
    log.unlink()
    for _ in range(3):
        followed.look(61)
    others = [b"line %d of another file" % number for number in range(80)]
    log.write_bytes(b"\n".join(others) + b"\n")
    assert followed.look() == lines + others


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("is_back", [False, True])
def test_a_copy_comes_before_what_was_written_to_the_file_afterwards(
    follow: Follow, remote: bool, is_back: bool
) -> None:
    """Also where the file was empty when it was last seen, and has another name now."""
    followed = follow(as_bytes(numbered(1, 100)), remote=remote)
    had = followed.head()
    followed.rotate()
    followed.add(b"")
    followed.path.with_name("app.log.1").rename(followed.path.with_name("app.log.2"))
    followed.write(as_bytes(numbered(101, 200)))
    followed.copy_and_truncate()
    followed.write(as_bytes(numbered(201, 203)))
    followed.rotate()
    if is_back:
        followed.write(as_bytes(numbered(204, 205)))
    followed.look()
    if not is_back:
        followed.write(as_bytes(numbered(204, 205)))
        followed.look()
    assert Told(followed.reader(had)).lines == numbered(101, 205)


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_next_copy_has_been_begun_when_it_is_seen_that_the_file_was_copied_and_emptied(
    follow: Follow, remote: bool, share: float
) -> None:
    """It is no file that came between."""
    followed = follow(as_bytes(numbered(1, 100)), remote=remote)
    had = followed.head()
    followed.copy_and_truncate()
    followed.path.with_name("app.log.1").rename(followed.path.with_name("app.log-20261123"))
    second = as_bytes(numbered(101, 200))
    followed.write(second)
    copy = followed.path.with_name("app.log-20261124")
    copy.write_bytes(second[: int(share * len(second))])
    followed.look()
    copy.write_bytes(second)
    os.truncate(followed.path, 0)
    followed.add(as_bytes(numbered(201, 203)))
    assert Told(followed.reader(had)).lines == numbered(101, 203)


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_that_was_copied_and_emptied_and_begins_as_before_was_not_cut_off(follow: Follow, remote: bool) -> None:
    """As many logs do: with the year."""
    followed = follow(b"2026-11-23 one\n", remote=remote)
    had = followed.head()
    lines = [f"2026-11-23 {line}" for line in numbered(1, 50)]
    followed.write(as_bytes(lines))
    followed.copy_and_truncate()
    followed.add(b"2026-11")
    followed.add(b"-24 new\n")
    assert Told(followed.reader(had)).lines == [*lines, "2026-11-24 new"]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("left", range(8))
def test_without_descriptors_to_look_with_nothing_is_lost_or_repeated(follow: Follow, remote: bool, left: int) -> None:
    """A look that ends in the middle for want of one says nothing of the files, and the next one begins anew."""
    old = numbered(1, 100)
    followed = follow(as_bytes(old), remote=remote)
    for number in (3, 2):  # these are no news
        followed.path.with_name(f"app.log.{number}").write_bytes(as_bytes(numbered(number * 1000, number * 1000 + 99)))
    followed.restart()
    had = followed.head()
    wanted = []
    for turn in range(4):
        lines = [f"turn {turn}: {line}" for line in numbered(1, 100)]
        wanted += lines
        followed.rotate()
        if turn == 2:  # as copytruncate does
            followed.path.with_name("app.log.1").rename(followed.path)
            followed.copy_and_truncate()
        followed.write(as_bytes(lines))
        if turn != 1:  # two rotations between two good looks
            with few_descriptors(left):
                followed.look()
                followed.look()
        if turn == 2:
            followed.look()
    followed.settle()
    told = Told(followed.reader(had))
    assert (told.lines, told.lost) == (wanted, [])
