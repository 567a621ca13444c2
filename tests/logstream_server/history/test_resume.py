"""resume: where a cursor's reader goes on, on real files; what cannot be proven is said."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from logstream_server.history import locate, resume
from logstream_server.history.history import NotNow, NotYet
from logstream_server.lines.cursor import (
    Cursor,
    Generation,
    Mark,
    Position,
    Positions,
)
from logstream_server.lines.ring import Ring
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.stream import KEPT_S, MEMORY, Stream, StreamState, StreamStatus

from ..followed import Follow, Followed, Told, as_bytes, numbered
from ..process import few_descriptors
from ..scenarios.harness import mounted, why_no_mount
from .returning import LINES, come_back, rest, rotated


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
class TestResume:
    """A reader who has the first hundred lines comes back, to the same server or to another one."""

    def test_nothing_has_happened(self, follow: Follow, restarted: bool, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        had = followed.head()
        if restarted:
            followed.restart()
        assert rest(followed, come_back(followed, had)) == []
        followed.add(b"and on\n")
        assert rest(followed, come_back(followed, had)) == ["and on"]

    def test_it_was_rotated(self, follow: Follow, restarted: bool, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        had = followed.head()
        followed.write(b"old\n")
        followed.rotate()
        followed.add(b"new\n")
        if restarted:
            followed.restart()
        assert rest(followed, come_back(followed, had)) == ["old", "new"]

    def test_it_was_rotated_three_times(self, follow: Follow, restarted: bool, remote: bool) -> None:
        """Each file with lines enough to tell it apart."""
        followed = follow(as_bytes(LINES), remote=remote)
        had = followed.head()
        wanted = rotated(followed, 0, 1, 2)
        if restarted:
            followed.restart()
        assert rest(followed, come_back(followed, had)) == wanted

    def test_others_came_back_between_the_rotations(self, follow: Follow, restarted: bool, remote: bool) -> None:
        """The server knows the old file by a name that leads to another one by now; its ring is full of other lines."""
        followed = follow(as_bytes(LINES), remote=remote, ring_bytes=2000)
        had = followed.head()
        wanted = rotated(followed, 0, 1, seen=False)  # where the old file is found is not where it will be
        followed.settle()
        if restarted:
            followed.restart()
        for number in range(2, 5):
            assert rest(followed, come_back(followed, had)) == wanted
            wanted += rotated(followed, number)
        assert rest(followed, come_back(followed, had)) == wanted

    def test_a_rotation_was_not_seen_yet(self, follow: Follow, restarted: bool, remote: bool) -> None:
        """What the follower finds later comes once all the same."""
        followed = follow(as_bytes(LINES), remote=remote)
        had = followed.head()
        wanted = rotated(followed, 0, 1)
        if restarted:
            followed.restart()
        wanted += rotated(followed, 2, 3, seen=False)
        reader = followed.reader(come_back(followed, had).positions)
        told = Told(reader)
        followed.settle()
        assert told.read(reader).lines == wanted

    def test_a_name_leads_to_the_next_file_than_when_another_came_back(
        self, follow: Follow, restarted: bool, remote: bool
    ) -> None:
        """What is read by name is not taken for the file that had the name before."""
        followed = follow(as_bytes(LINES), remote=remote)
        older = followed.head()
        wanted = rotated(followed, 0)
        if restarted:
            followed.restart()
        assert rest(followed, come_back(followed, older)) == wanted
        had = followed.head()
        wanted = rotated(followed, 1)
        assert rest(followed, come_back(followed, had)) == wanted

    def test_names_have_moved_on_since_others_came_back(self, follow: Follow, restarted: bool, remote: bool) -> None:
        """Where the server found the oldest file, there is the next one, which holds what the cursor has seen."""
        followed = follow(as_bytes(LINES), remote=remote)
        first = followed.head()
        rotated(followed, 0)
        had = followed.head()
        if restarted:
            followed.restart()
        rest(followed, come_back(followed, first))
        wanted = rotated(followed, 1, seen=False)
        reader = followed.reader(come_back(followed, had).positions)
        told = Told(reader)
        followed.settle()
        assert told.read(reader).lines == wanted

    def test_it_was_copied_and_emptied(self, follow: Follow, restarted: bool, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        had = followed.head()
        followed.write(b"old\n")
        followed.copy_and_truncate()
        followed.look()
        followed.add(b"new\n")
        if restarted:
            followed.restart()
        resumed = come_back(followed, had)
        assert rest(followed, resumed)[:1] == ["old"]
        assert rest(followed, resumed)[-1:] == ["new"]

    def test_it_was_emptied(self, follow: Follow, restarted: bool, remote: bool) -> None:
        """What cannot be proven is said, and then everything that is there, or the last lines if that was asked."""
        followed = follow(as_bytes(LINES), remote=remote)
        had = followed.head()
        followed.path.write_bytes(as_bytes([f"new {line}" for line in LINES]))
        followed.look()
        if restarted:
            followed.restart()
        for options, count in (({}, 100), ({"tail": 3}, 3), ({"tail": 0}, 0)):
            resumed = come_back(followed, had, **options)
            assert resumed.recovered is False
            assert resumed.reason
            assert Told(followed.reader(resumed.positions)).lines == [f"new {line}" for line in LINES][100 - count :]

    def test_no_file_stays_open_that_is_read_by_name(self, follow: Follow, restarted: bool, remote: bool) -> None:
        """A remote file system is asked anew at each read; a local one keeps the file for those who catch up."""
        followed = follow(as_bytes(LINES), remote=remote)
        had = followed.head()
        followed.rotate()
        followed.add(as_bytes(LINES))
        if restarted:
            followed.restart()
        resumed = come_back(followed, had)
        assert resumed.recovered
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        held = [os.readlink(link) for link in links if os.path.lexists(link)]
        assert sum(str(followed.path.parent) in path for path in held) == (0 if remote else 2)


def test_a_file_between_that_cannot_be_read_is_said(follow: Follow, tmp_path_factory: pytest.TempPathFactory) -> None:
    followed = follow(as_bytes(LINES))
    had = followed.head()
    rotated(followed, 0, 1, 2)
    outside = tmp_path_factory.mktemp("outside") / "file"
    between = followed.path.with_name("app.log.2")
    between.rename(outside)
    between.symlink_to(outside)
    followed.restart()
    followed.stream.roots = (str(followed.path.parent),)
    resumed = come_back(followed, had)
    assert (resumed.recovered, resumed.reason) == (
        False,
        "app.log.2, which came after what the cursor has seen, cannot be read",
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_equal_bytes_are_no_proof_where_the_file_that_had_them_is_there_too(follow: Follow, restarted: bool) -> None:
    """The new file says the same as the rotated one, so that only the inode tells them apart."""
    followed = follow(as_bytes(LINES))
    had = followed.head()
    followed.write(b"old\n")
    followed.rotate()
    followed.add(as_bytes(LINES))
    if restarted:
        followed.restart()
    assert rest(followed, come_back(followed, had)) == ["old", *LINES]


@pytest.mark.parametrize("remote", [False, True])
class TestAnotherServerHasSeenMore:
    """It follows the same file, and looked after the last rotation; this one did not yet."""

    def waits_for_a_look(self, followed: Followed, had: Positions) -> None:
        """Nothing is told now that the look will tell."""
        with pytest.raises(NotYet):
            come_back(followed, had)
        followed.look()

    def test_the_cursor_is_in_a_file_that_was_not_seen_yet(self, follow: Follow, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        other = follow(there=False, remote=remote)
        rotated(other, 0)
        had = other.head()
        self.waits_for_a_look(followed, had)
        followed.add(b"and on\n")
        assert rest(followed, come_back(followed, had)) == ["and on"]

    @pytest.mark.parametrize("begun", [["banner"], numbered(1000, 1100)])
    def test_the_file_before_it_may_still_grow(self, follow: Follow, remote: bool, begun: list[str]) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        other = follow(there=False, remote=remote)
        other.rotate()
        other.add(as_bytes(begun))
        had = other.head()
        assert len(had) == 2
        other.write(b"and on\n")
        other.rotate()
        other.write(b"new\n")
        self.waits_for_a_look(followed, had)
        assert rest(followed, come_back(followed, had)) == ["and on", "new"]

    def test_that_file_was_rotated_away_again(self, follow: Follow, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        other = follow(there=False, remote=remote)
        rotated(other, 0)
        had = other.head()
        wanted = rotated(other, 1, 2)
        self.waits_for_a_look(followed, had)
        assert rest(followed, come_back(followed, had)) == wanted

    def test_the_file_was_emptied(self, follow: Follow, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        other = follow(there=False, remote=remote)
        other.copy_and_truncate()
        other.look()
        other.add(as_bytes([f"new {line}" for line in LINES]))
        had = other.head()
        self.waits_for_a_look(followed, had)
        followed.add(b"and on\n")
        assert rest(followed, come_back(followed, had)) == ["and on"]

    def test_a_line_that_is_held_is_no_sign_of_it(self, follow: Follow, remote: bool) -> None:
        other = follow(as_bytes(LINES), remote=remote)
        had = other.head()
        other.path.unlink()
        followed = follow(b"", remote=remote)
        followed.add(b"begun")
        assert come_back(followed, had).recovered is False

    def test_what_is_no_file_is_not_waited_for(self, follow: Follow, remote: bool) -> None:
        other = follow(as_bytes(LINES), remote=remote)
        had = other.head()
        followed = follow(as_bytes(["another"]), remote=remote)
        followed.path.unlink()
        followed.path.mkdir()
        assert come_back(followed, had).recovered is False


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("remote", [False, True])
def test_files_with_the_same_banner_are_told_apart(follow: Follow, restarted: bool, remote: bool) -> None:
    """Their first bytes are equal, more of them than a cursor looks at."""
    banner = "#" * 300
    followed = follow(as_bytes([banner, *LINES]), remote=remote)
    had = followed.head()
    followed.write(b"old\n")
    followed.rotate()
    followed.add(as_bytes([banner, "new"]))
    if restarted:
        followed.restart()
    assert rest(followed, come_back(followed, had)) == ["old", banner, "new"]


def test_a_reader_who_is_many_files_behind_gets_each_of_them_once(follow: Follow) -> None:
    """Of a server that follows only the last ones, and remembers not all that it finds."""
    followed = follow(as_bytes(["first", *LINES]))
    had = followed.reader(followed.head()).positions
    wanted: list[str] = []
    for number in range(MEMORY + 10):
        if number == MEMORY:
            followed.restart()
        added = [f"file {number}: {line}" for line in LINES[:30]]
        followed.rotate()
        followed.write(as_bytes(added))
        if number >= MEMORY:
            followed.settle()
        wanted += added
    assert rest(followed, come_back(followed, had)) == wanted


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_that_equals_one_that_was_followed_is_no_copy_of_it(follow: Follow, remote: bool) -> None:
    """What came after it would be left out, too."""
    followed = follow(as_bytes(LINES), remote=remote)
    had = followed.head()
    followed.rotate()
    followed.write(b"== start ==\n")
    wanted = ["== start ==", *rotated(followed, 1)]
    followed.rotate()
    followed.write(b"== start ==\n")
    followed.restart()
    wanted += ["== start ==", *rotated(followed, 2, 3)]
    followed.stream.expire(time.monotonic() + 2 * KEPT_S)
    assert rest(followed, come_back(followed, had)) == wanted


@pytest.mark.parametrize("status", [StreamStatus.STARTING, StreamStatus.HUNG, StreamStatus.UNREADABLE])
def test_nothing_is_lost_before_the_file_was_looked_at(follow: Follow, status: StreamStatus) -> None:
    """A client that comes back to a server that has just begun."""
    followed = follow(as_bytes(LINES))
    had = followed.head()
    followed.stream = Stream("app.log", str(followed.path), (), Ring(1 << 20), StreamState(status, "why"))
    with pytest.raises(NotNow, match="why"):
        come_back(followed, had)


def test_a_cursor_of_nothing_but_files_that_are_over_and_gone_is_lost(follow: Follow) -> None:
    """No server gives one; anybody may send it."""
    followed = follow(as_bytes(LINES))
    mark = replace(Mark.of(Position(Generation(1, 7, b"x" * 256), 300, b"y" * 32)), is_over=True)
    back = resume.resume(followed.stream, Cursor("app.log", (mark,)))
    assert back.recovered is False
    assert Told(followed.reader(back.positions)).lines == LINES


def test_a_cursor_of_another_stream_is_not_ours(follow: Follow) -> None:
    followed = follow(b"one\n")
    resumed = resume.resume(followed.stream, Cursor("other.log"))
    assert (resumed.recovered, resumed.reason) == (False, "the cursor belongs to the stream 'other.log'")


def test_a_cursor_from_before_the_first_file_gets_all_of_it(follow: Follow) -> None:
    followed = follow(there=False)
    had = followed.head()
    assert had == ()
    followed.write(b"one\n")
    followed.look()
    assert rest(followed, come_back(followed, had)) == ["one"]


def test_a_file_system_that_refuses_disproves_nothing(tmp_path: Path) -> None:
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "source").mkdir()
    with mounted(tmp_path / "source", tmp_path / "target") as mount:
        followed = Followed(tmp_path / "target", as_bytes(LINES), remote=True)
        try:
            mount.die()
            with pytest.raises(NotNow):
                come_back(followed, followed.head())
        finally:
            followed.close()


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("left", range(4))
def test_without_descriptors_nothing_is_proven_and_nothing_disproven(follow: Follow, remote: bool, left: int) -> None:
    """The reader waits, or is honoured in full."""
    followed = follow(as_bytes(LINES), remote=remote)
    had = followed.head()
    wanted = rotated(followed, 1, 2)
    followed.restart()
    with few_descriptors(left), contextlib.suppress(NotNow):
        assert come_back(followed, had).recovered
    assert rest(followed, come_back(followed, had)) == wanted


def test_who_wants_the_start_gets_the_current_file_and_the_end_of_a_rotated_one(follow: Follow) -> None:
    followed = follow(as_bytes(LINES))
    followed.rotate()
    followed.add(b"new\n")
    begin = resume.from_start(followed.head())
    with followed.path.with_name("app.log.1").open("ab") as file:
        file.write(b"late\n")
    followed.look()
    assert sorted(Told(followed.reader(begin)).lines) == ["late", "new"]


def test_rotated_files_may_change_their_order(follow: Follow) -> None:
    """As when one is restored: where nothing but times says it, that is another one each time."""
    followed = follow(b"now\n")
    first, second = (followed.path.with_name(f"app.log-{date:06}") for date in (1, 2))
    for path in (first, second):
        path.write_bytes(as_bytes([path.name, *LINES]))
    for order in ((first, second), (second, first)):
        for at, path in enumerate(order):
            os.utime(path, (at, at))
        begun = resume.begin_in(followed.stream, LogFile(str(order[0]), (), keep_open=True), 0)
        assert begun is not None
        assert rest(followed, come_back(followed, begun.positions)) == [
            *(line for path in order for line in (path.name, *LINES)),
            "now",
        ]


@pytest.mark.parametrize("remote", [False, True])
def test_late_lines_make_no_file_newer_than_the_next_one(follow: Follow, remote: bool) -> None:
    """Where dates say which is: the one between was left out."""
    followed = follow(as_bytes(LINES), remote=remote)
    had = followed.head()
    first, second = (followed.path.with_name(f"app.log-202611{day}") for day in (22, 23))
    followed.path.rename(first)
    followed.write(as_bytes(["between", *LINES]))
    followed.path.rename(second)
    followed.write(b"new\n")
    with first.open("ab") as file:
        file.write(b"late\n")
    os.utime(second, (1, 1))
    followed.restart()
    assert rest(followed, come_back(followed, had)) == ["late", "between", *LINES, "new"]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
def test_files_that_come_to_be_followed_while_they_are_looked_for_are_told_once(
    follow: Follow, monkeypatch: pytest.MonkeyPatch, remote: bool, ahead: bool
) -> None:
    """To a reader who had been with a server that looked earlier. `ahead`: who has also one that is followed here."""
    followed = follow(as_bytes(LINES), remote=remote)
    other = follow(as_bytes(LINES), remote=remote)
    first = other.head()
    wanted = rotated(other, 1, seen=True)
    had = (*first, *other.head()) if ahead else other.head()
    rotated(other, 2, seen=False)
    looked_for: list[Cursor] = []

    def find(stream: Stream, cursor: Cursor) -> tuple[list[Position], list[Mark]]:
        found = locate.find(stream, cursor)
        if not looked_for:
            followed.settle()
        looked_for.append(cursor)
        return found

    monkeypatch.setattr(resume, "find", find)
    with pytest.raises(NotYet):
        come_back(followed, had)
    added = ["file 2: " + line for line in LINES]
    assert rest(followed, come_back(followed, had)) == added
    assert rest(followed, come_back(followed, first)) == [*wanted, *added]


@pytest.mark.parametrize("remote", [False, True])
def test_a_reader_who_has_more_of_a_file_than_is_followed_gets_a_cursor_that_others_know(
    follow: Follow, remote: bool
) -> None:
    """What the file begins with is not known to this server before it has read so far."""
    followed = follow(b"one\n", remote=remote)
    followed.write(as_bytes(LINES))
    other = follow(followed.path.read_bytes(), remote=remote)
    with pytest.raises(NotYet):
        come_back(followed, other.head())
    followed.look()
    back = come_back(followed, other.head())
    assert rest(followed, back) == []
    assert rest(other, come_back(other, back.positions)) == []


@pytest.mark.parametrize("remote", [False, True])
def test_a_reader_of_late_lines_of_a_short_file_gets_a_cursor_that_others_know(follow: Follow, remote: bool) -> None:
    followed = follow(b"one\n", remote=remote)
    followed.rotate()
    followed.write(b"new\n")
    followed.restart()
    old = followed.path.with_name("app.log.1")
    for added in ([], LINES):  # found when it is short, and again
        with old.open("ab") as file:
            file.write(as_bytes(added))
        begun = resume.begin_in(followed.stream, LogFile(str(old), (), keep_open=not remote), old.stat().st_size)
        assert begun is not None
    followed.restart()
    assert rest(followed, come_back(followed, begun.positions)) == ["new"]


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_that_is_equal_to_one_that_was_followed_is_no_copy_of_it(follow: Follow, remote: bool) -> None:
    """Also where that one is known by a name that leads to another file by now: what came behind was left out."""
    followed = follow(as_bytes(LINES), remote=remote)
    had = followed.head()
    wanted: list[str] = []
    for content in (["== start =="], ["between", *LINES], ["== start =="]):
        followed.rotate()
        followed.write(as_bytes(content))
        wanted += content
    followed.restart()
    wanted += rotated(followed, 1, 2)
    assert rest(followed, come_back(followed, had)) == wanted
