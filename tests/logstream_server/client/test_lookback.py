"""lookback: enough lines, and few that are too many, however long the file is, and from rotated files where need be."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from logstream_server.client import lookback
from logstream_server.client.lookback import begin_since
from logstream_server.history.history import NotNow

from ..followed import Follow, Followed, Told

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEGIN = NOW.timestamp() - 100_000
BANNER = b"my program, version 1.0 " + b"=" * 300 + b"\n"


def log(first: int, count: int, every: int = 1) -> bytes:
    """One line a second; only each `every`-th says when."""
    return b"".join(
        b"%s line %d\n" % (datetime.fromtimestamp(BEGIN + second, UTC).isoformat().encode(), second)
        if second % every == 0
        else b"    at frame %d\n" % second
        for second in range(first, first + count)
    )


def numbers(followed: Followed, since: float) -> tuple[list[int], float | None]:
    """The numbers of the lines that a reader gets, and what `begin_since` says of the first."""
    found = begin_since(followed.stream, BEGIN + since, NOW)
    told = Told(followed.reader(found.begin.positions, chunk_bytes=1 << 18))
    assert not told.lost
    first = None if found.first is None else found.first - BEGIN
    return [int(line.rpartition(" ")[2]) for line in told.lines if line[-1:].isdigit()], first


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize("second", [1, 41_234, 79_999, 90_000])
def test_at_least_all_lines_that_are_new_enough(follow: Follow, second: int, every: int) -> None:
    followed = follow(log(0, 80_000, every))
    found, first = numbers(followed, second)
    wanted = max(0, 80_000 - second)
    assert found == list(range(80_000 - len(found), 80_000))
    assert wanted <= len(found) <= wanted + 5_000
    assert first is None


def test_little_of_a_long_file_is_read(follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = follow(log(0, 80_000))
    read = 0
    real = os.pread

    def counting(file: int, size: int, place: int) -> bytes:
        nonlocal read
        data = real(file, size, place)
        read += len(data)
        return data

    monkeypatch.setattr(lookback.os, "pread", counting)
    monkeypatch.setattr(lookback, "_BLOCK_BYTES", 4096)
    begin_since(followed.stream, BEGIN + 79_990, NOW)
    assert 0 < read < followed.path.stat().st_size / 10


def test_lines_without_any_time_are_all_wanted_and_no_older_files(follow: Follow) -> None:
    """None of them is known to be too old, and nothing says how old the others are."""
    followed = follow(b"hello 1\n" * 5_000)
    followed.path.with_name("app.log.1").write_bytes(b"hello 0\n")
    assert numbers(followed, 0) == ([1] * 5_000, None)


@pytest.mark.parametrize("content", [b"", b"no newline"])
def test_a_short_file(follow: Follow, content: bytes) -> None:
    followed = follow(content)
    assert numbers(followed, 0) == ([], None)
    followed.add(b" 7\n")
    assert numbers(followed, 0) == ([7], None)


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    ("since", "wanted", "first"),
    [
        pytest.param(250, range(200, 350), None, id="in the present file"),
        pytest.param(200, range(100, 350), None, id="at its first line"),
        pytest.param(150, range(100, 350), None, id="in the last one"),
        pytest.param(50, range(350), None, id="in one before that"),
        pytest.param(-50, range(350), 0, id="before all of them"),
    ],
)
def test_rotated_files_are_begun_with_where_the_present_one_begins_too_late(
    follow: Follow, since: float, wanted: range, first: float | None, remote: bool
) -> None:
    followed = follow(there=False, remote=remote)
    for begin, end in pairwise((0, 100, 200, 300)):
        if followed.path.exists():
            followed.rotate()
        followed.write(log(begin, end - begin))
    followed.restart()
    followed.add(log(300, 50))
    assert numbers(followed, since) == (list(wanted), first)


def test_a_present_file_that_is_empty_or_missing_is_gone_past(follow: Follow) -> None:
    followed = follow(log(0, 100))
    followed.rotate()
    followed.restart()
    assert numbers(followed, 50)[0] == list(range(100))
    followed.add(b"")
    assert numbers(followed, 50)[0] == list(range(100))


def test_a_long_rotated_file_is_not_read_whole(follow: Follow) -> None:
    followed = follow(log(0, 80_000))
    followed.rotate()
    followed.write(log(80_000, 10))
    followed.restart()
    found, _ = numbers(followed, 79_000)
    assert found == list(range(found[0], 80_010))
    assert 74_000 < found[0] <= 79_000


def test_files_that_begin_with_the_same_banner_are_told_apart(follow: Follow) -> None:
    """But a copy of the present file is nothing older."""
    followed = follow(BANNER + log(0, 100))
    followed.rotate()
    followed.write(BANNER + log(100, 100))
    followed.restart()
    assert numbers(followed, 50) == (list(range(200)), None)
    followed.path.with_name("app.log.1").unlink()
    followed.path.with_name("app.log-20261123").write_bytes(followed.path.read_bytes())
    assert numbers(followed, 50) == (list(range(100, 200)), 100)


def test_a_file_without_times_is_told_from_an_empty_one(follow: Follow) -> None:
    followed = follow(b"")
    assert not begin_since(followed.stream, BEGIN, NOW).timeless
    followed.add(b"no time\n" * 1000)
    assert begin_since(followed.stream, BEGIN, NOW).timeless
    followed.add(log(0, 1))
    assert not begin_since(followed.stream, BEGIN - 50, NOW).timeless


def test_what_is_compressed_or_has_no_times_ends_the_way_back(follow: Follow) -> None:
    followed = follow(log(200, 100))
    followed.path.with_name("app.log.1").write_bytes(log(100, 100))
    followed.path.with_name("app.log.2").write_bytes(b"hello\n")
    followed.path.with_name("app.log.3").write_bytes(log(0, 100))
    followed.path.with_name("app.log.4.gz").write_bytes(b"...")
    followed.restart()
    assert numbers(followed, 50) == (list(range(100, 300)), 100)


def test_a_file_that_cannot_be_read_at_the_moment_is_tried_again(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = follow(log(0, 10))

    def refuse(_file: int, _size: int, _place: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lookback.os, "pread", refuse)
    with pytest.raises(NotNow, match="Input/output error"):
        begin_since(followed.stream, BEGIN, NOW)
