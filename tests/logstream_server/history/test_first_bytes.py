"""resume where few bytes of a file have been read, or none: many files begin alike, and something else must tell which
it is - the sign that the server gave it, or the end of the file before it."""

from __future__ import annotations

import contextlib
import time

import pytest

from logstream_server.history.history import NotYet
from logstream_server.history.reader import Reader
from logstream_server.lines.cursor import Position, cursor_at
from logstream_server.tailing.stream import KEPT_S

from ..followed import Follow, Followed, Told, as_bytes
from .returning import LINES, come_back, rest


def rotate(followed: Followed, number: int, *, copied: bool) -> None:
    """To a name that a higher number makes a newer one."""
    if copied:
        followed.copy_and_truncate()
    else:
        followed.rotate()
    followed.path.with_name("app.log.1").rename(followed.path.with_name(f"app.log-2026112{number}"))


def next_lines(reader: Reader) -> list[str]:
    """Of the next part of a file that has some."""
    told = Told()
    while not told.lines:
        chunk = reader.next()
        assert chunk is not None
        for entry in chunk.entries:
            told.add(entry)
    return told.lines


def test_a_short_file_that_was_rotated_is_known_to_the_server_that_gave_the_cursor(follow: Follow) -> None:
    """By so few bytes no other one knows it."""
    followed = follow(b"short\n", remote=True)
    first = followed.head()
    followed.rotate()
    followed.add(b"new\n")
    second = followed.head()
    followed.rotate()
    followed.write(b"newer\n")  # unseen: where the server knows these files, there are others
    for had in (first, second):
        with pytest.raises(NotYet):
            come_back(followed, had)
    followed.settle()
    assert rest(followed, come_back(followed, first)) == ["new", "newer"]
    assert rest(followed, come_back(followed, second)) == ["newer"]
    followed.restart()
    assert come_back(followed, first).recovered is False


@pytest.mark.parametrize("remote", [False, True])
def test_a_short_file_that_was_copied_and_emptied_is_known_to_the_server_that_gave_the_cursor(
    follow: Follow, remote: bool
) -> None:
    """Whatever the file begins with now."""
    followed = follow(b"== start ==\n", remote=remote)
    had = followed.head()
    followed.write(b"rest\n")
    followed.copy_and_truncate()
    followed.look()
    followed.add(b"== start ==\nnew\n")
    assert rest(followed, come_back(followed, had)) == ["rest", "== start ==", "new"]


@pytest.mark.parametrize("remote", [False, True])
def test_the_first_lines_of_a_file_that_was_rotated_long_ago_are_followed_by_the_next(
    follow: Follow, remote: bool
) -> None:
    """The server knows its cursor, and has let go of the file."""
    followed = follow(b"first\n", remote=remote)
    had = followed.head()
    followed.add(as_bytes(LINES))
    followed.rotate()
    followed.write(b"new\n")
    followed.settle()
    followed.stream.expire(time.monotonic() + 2 * KEPT_S)
    assert len(followed.stream.generations()) == 1
    assert rest(followed, come_back(followed, had)) == [*LINES, "new"]


@pytest.mark.parametrize("remote", [False, True])
def test_a_short_file_that_was_emptied_is_told_as_lost(follow: Follow, remote: bool) -> None:
    """Also by the server that gave the cursor: what may have come between is not known."""
    followed = follow(b"short\n", remote=remote)
    had = followed.head()
    followed.path.write_bytes(b"other\n")
    followed.look()
    back = come_back(followed, had)
    assert back.recovered is False
    assert back.reason is not None
    assert "truncated" in back.reason
    assert Told(followed.reader(back.positions)).lines == ["other"]


@pytest.mark.parametrize("seen", [False, True])
def test_a_few_bytes_that_several_files_begin_with_prove_nothing_to_another_server(follow: Follow, seen: bool) -> None:
    """`seen`: whether it has followed both of them."""
    followed = follow(b"== start ==\n", remote=True)
    had = follow(there=False, remote=True).head()
    assert rest(followed, come_back(followed, had)) == []
    followed.rotate()
    followed.write(b"== start ==\nnew\n")
    if seen:
        followed.look()
    else:
        followed.restart()
    back = come_back(followed, had)
    assert back.recovered is False
    assert Told(followed.reader(back.positions)).lines == ["== start ==", "new"]


def test_the_start_of_an_empty_file_is_not_that_of_what_came_into_it_after_it_was_copied_and_emptied(
    follow: Follow,
) -> None:
    """To another server, which knows the file by nothing but its inode."""
    other = follow()
    begin = other.head()
    wanted: list[str] = []
    for number in (1, 2, 3):
        added = [f"{number}: {line}" for line in LINES]
        other.write(as_bytes(added))
        rotate(other, number, copied=True)
        wanted += added
        if number == 1:
            other.look()
            reader = other.reader(begin)
            told = next_lines(reader)
    assert [mark.offset > 0 for mark in cursor_at("app.log", reader.positions).marks] == [True, False]
    followed = follow(there=False)
    followed.add(b"new\n")
    assert [*told, *rest(followed, come_back(followed, reader.positions))] == [*wanted, "new"]


def wander(followed: Followed, before: list[str], *, copied: bool) -> list[str]:
    """Read a line of a file, and come back to another server when there are two more; what that one tells."""
    followed.write(as_bytes(before))
    followed.settle()
    rotate(followed, 1, copied=copied)
    followed.write(b"== start ==\n")
    followed.settle()
    had = followed.head()
    followed.write(b"second\n")
    rotate(followed, 2, copied=copied)
    followed.write(b"== start ==\nthird\n")
    rotate(followed, 3, copied=copied)
    followed.write(b"== start ==\nfourth\n")
    followed.restart()
    return rest(followed, come_back(followed, had))


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("remote", [False, True])
class TestAFileThatHasBegun:
    """And so do others, in the same way; to a server that has followed none of them."""

    wanted = ("second", "== start ==", "third", "== start ==", "fourth")

    def test_the_end_of_the_one_before_it_says_which(self, follow: Follow, remote: bool, copied: bool) -> None:
        assert wander(follow(), LINES, copied=copied) == [*self.wanted]
        assert wander(follow(remote=remote), LINES, copied=copied) == [*self.wanted]

    def test_the_one_before_it_is_as_short(self, follow: Follow, remote: bool, copied: bool) -> None:
        """All of it is known, if not by its first bytes."""
        followed = follow(remote=remote)
        assert wander(followed, ["== start ==", "first"], copied=copied) == [*self.wanted]

    def test_it_is_the_current_one_still(self, follow: Follow, remote: bool, copied: bool) -> None:
        followed = follow(as_bytes(["== start ==", *LINES]), remote=remote)
        rotate(followed, 1, copied=copied)
        followed.write(b"== start ==\n")
        followed.settle()
        had = followed.head()
        followed.write(b"new\n")
        followed.restart()
        assert rest(followed, come_back(followed, had)) == ["new"]

    def test_its_server_began_with_it(self, follow: Follow, remote: bool, copied: bool) -> None:
        """And found what was rotated before beside it."""
        followed = follow(as_bytes(["== start ==", *LINES]), remote=remote)
        rotate(followed, 1, copied=copied)
        followed.write(b"== start ==\n")
        followed.restart()
        had = followed.head()
        followed.write(b"second\n")
        rotate(followed, 2, copied=copied)
        followed.write(b"== start ==\n")
        followed.restart()
        assert rest(followed, come_back(followed, had)) == ["second", "== start =="]

    def test_it_is_one_of_many_that_a_server_found(self, follow: Follow, remote: bool, copied: bool) -> None:
        """And never followed."""
        followed = follow(as_bytes(["== start ==", *LINES]), remote=remote)
        had = followed.head()
        for number in range(1, 5):
            rotate(followed, number, copied=copied)
            followed.write(as_bytes(["== start ==", f"file {number}"]))
        followed.restart()
        lines: list[str] = []
        while len(lines) < 8:
            back = come_back(followed, had)
            assert (back.recovered, back.reason) == (True, None)
            reader = followed.reader(back.positions, chunk_bytes=1)
            lines += next_lines(reader)
            had = reader.positions
            followed.restart()
        assert lines == [line for number in range(1, 5) for line in ("== start ==", f"file {number}")]


@pytest.mark.parametrize("copied", [False, True])
def test_equal_files_do_not_say_which_came_next(follow: Follow, copied: bool) -> None:
    followed = follow(remote=True)
    for number in (1, 2):
        followed.write(b"== start ==\n")
        followed.settle()
        rotate(followed, number, copied=copied)
    followed.write(b"== start ==\n")
    followed.settle()
    had = followed.head()
    followed.restart()
    assert come_back(followed, had).recovered is False


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_that_comes_between_is_not_taken_for_it(follow: Follow, remote: bool) -> None:
    """It begins alike, and nothing was read of it yet."""
    followed = follow(as_bytes(LINES), remote=remote)
    followed.rotate()
    followed.write(b"== start ==\nsecond\n")
    followed.look()
    followed.path.rename(followed.path.with_name("app.log.0"))
    followed.write(b"== start ==\n")
    followed.settle()
    current = followed.head()[-1]
    second = current.generation.before
    assert second is not None
    begun = (Position(second, 0), current)
    followed.write(b"third\n")
    followed.restart()
    if remote:  # nothing tells where the one between begins
        assert come_back(followed, begun).recovered is False
    else:
        assert rest(followed, come_back(followed, begun)) == ["== start ==", "second", "third"]


@pytest.mark.parametrize("begun", [b"", b"== start ==\n"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_name_that_leads_to_another_file_by_now_proves_nothing_of_the_one_that_had_it(
    follow: Follow, begun: bytes, ended: bool
) -> None:
    """Of a short one, which the other begins like; what came after it would be told again."""
    followed = follow(as_bytes(LINES), remote=True)
    followed.rotate()
    followed.write(begun)
    followed.look()
    followed.rotate()
    followed.add(begun + as_bytes([f"second {line}" for line in LINES]))
    if ended:
        followed.settle()
    had = followed.head()
    followed.write(b"and on\n")
    followed.rotate()  # unseen
    followed.write(b"new\n")
    back = None
    with contextlib.suppress(NotYet):
        back = come_back(followed, had)
    followed.look()
    assert rest(followed, back or come_back(followed, had)) == ["and on", "new"]


@pytest.mark.parametrize("remote", [False, True])
class TestAFileThatIsEmptyYet:
    """No bytes say where its start lies; the end of the file that was read before it does, to any server."""

    def test_it_was_copied_and_emptied_since(self, follow: Follow, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        wanted: list[str] = []
        for number in (1, 2, 3):
            rotate(followed, number, copied=True)
            if number == 1:
                followed.settle()
                had = followed.head()
            added = [f"{number}: {line}" for line in LINES]
            followed.write(as_bytes(added))
            wanted += added
        followed.restart()
        assert rest(followed, come_back(followed, had)) == wanted

    def test_it_was_rotated_since(self, follow: Follow, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        followed.rotate()
        followed.write(b"")
        followed.settle()
        had = followed.head()
        wanted = [*(f"2: {line}" for line in LINES), "new"]
        followed.write(as_bytes(wanted[:50]))
        followed.restart()
        followed.add(as_bytes(wanted[50:-1]))
        followed.rotate()
        followed.add(b"new\n")
        assert rest(followed, come_back(followed, had)) == wanted

    def test_another_that_is_empty_came_before_it(self, follow: Follow, remote: bool) -> None:
        followed = follow(as_bytes(LINES), remote=remote)
        for _ in range(2):
            followed.rotate()
            followed.write(b"")
            followed.settle()
        had = followed.head()
        followed.write(b"new\n")
        followed.restart()
        assert rest(followed, come_back(followed, had)) == ["new"]

    def test_an_older_one_was_found_late(self, follow: Follow, remote: bool) -> None:
        """It is listed after the file that came before the newest, and is older than that by its name."""
        followed = follow(b"", remote=remote)
        followed.copy_and_truncate()
        followed.path.unlink()
        followed.write(as_bytes(LINES))
        followed.settle()
        followed.rotate()
        followed.write(b"")
        followed.look()
        had = followed.head()
        followed.restart()
        followed.add(b"new\n")
        assert rest(followed, come_back(followed, had)) == ["new"]

    def test_the_file_before_it_was_deleted(self, follow: Follow, remote: bool) -> None:
        """By then the inode says what it can."""
        followed = follow(as_bytes(LINES), remote=remote)
        followed.rotate()
        followed.write(b"")
        followed.settle()
        had = followed.head()
        followed.path.with_name("app.log.1").unlink()
        followed.write(b"new\n")
        followed.restart()
        back = come_back(followed, had)
        assert back.recovered is not remote
        assert Told(followed.reader(back.positions)).lines == ["new"]


class TestStartOfAFile:
    """Where inodes prove nothing, a cursor from before the first line is only good for the server that gave it."""

    def test_nothing_was_rotated(self, follow: Follow) -> None:
        followed = follow(remote=True)
        had = followed.head()
        assert rest(followed, come_back(followed, had)) == []
        followed.add(as_bytes(LINES))
        assert rest(followed, come_back(followed, had)) == LINES

    def test_rotated_before_and_after(self, follow: Follow) -> None:
        followed = follow(b"before\n", remote=True, ring_bytes=2000)
        followed.rotate()
        followed.add(b"")
        followed.settle()
        had = followed.head()
        wanted: list[str] = []
        for number in range(3):
            wanted += (added := [f"file {number}: {line}" for line in LINES])
            followed.add(as_bytes(added))
            followed.rotate()
            followed.write(b"")
            followed.settle()
        assert rest(followed, come_back(followed, had)) == wanted

    def test_files_came_and_went_before_it_had_a_line(self, follow: Follow) -> None:
        followed = follow(remote=True)
        had = followed.head()
        followed.write(as_bytes(LINES))
        followed.rotate()
        followed.add(b"new\n")
        assert rest(followed, come_back(followed, had)) == [*LINES, "new"]

    @pytest.mark.parametrize("remote", [False, True])
    def test_a_copy_was_made_and_it_is_empty_as_before(self, follow: Follow, remote: bool) -> None:
        """The file comes after the copy from now on, and had the same inode before."""
        followed = follow(b"before\n", remote=remote)
        followed.copy_and_truncate()
        followed.look()
        had = followed.head()
        followed.path.with_name("app.log.1").unlink()
        followed.write(as_bytes(LINES))
        followed.copy_and_truncate()
        followed.look()
        assert rest(followed, come_back(followed, had)) == LINES
        now = followed.head()
        followed.add(b"new\n")
        assert rest(followed, come_back(followed, had)) == [*LINES, "new"]
        assert rest(followed, come_back(followed, now)) == ["new"]

    def test_another_server_says_that_it_cannot_tell(self, follow: Follow) -> None:
        followed = follow(remote=True)
        had = followed.head()
        followed.add(as_bytes(LINES))
        followed.restart()
        resumed = come_back(followed, had)
        assert resumed.recovered is False
        assert resumed.reason is not None
        assert "only the server knows that gave it" in resumed.reason
        assert Told(followed.reader(resumed.positions)).lines == LINES
