"""condition: each trouble is told once, and so is its end."""

from __future__ import annotations

import itertools

import pytest

from logstream_server.lines.ring import EventKind, Ring
from logstream_server.tailing.condition import Condition
from logstream_server.tailing.ledger import Ledger
from logstream_server.tailing.patience import LEAST_S
from logstream_server.tailing.stream import Stream, StreamStatus

from ..followed import Follow


@pytest.fixture
def stream() -> Stream:
    return Stream("app.log", "/nowhere/app.log", (), Ring(1 << 20))


@pytest.fixture
def condition(stream: Stream) -> Condition:
    return Condition(stream, Ledger(stream, itertools.count(1).__next__))


def told(stream: Stream) -> list[tuple[EventKind, str]]:
    return [(entry.event.kind, entry.event.detail) for entry in stream.ring.entries() if entry.event]


def test_the_same_complaint_is_told_once(condition: Condition, stream: Stream) -> None:
    for detail in ("Permission denied", "Permission denied", "Input/output error"):
        condition.complain(StreamStatus.UNREADABLE, detail)
        assert (stream.state.status, stream.state.detail) == (StreamStatus.UNREADABLE, detail)
    assert condition.opened()
    assert not condition.opened()
    assert told(stream) == [
        (EventKind.UNREADABLE, "Permission denied"),
        (EventKind.UNREADABLE, "Input/output error"),
    ]


def test_a_file_that_has_no_lines_is_in_the_log(follow: Follow, caplog: pytest.LogCaptureFixture) -> None:
    """Once; who only looks there would wait for lines."""
    followed = follow("one\n".encode("utf-16"))
    followed.look()
    assert followed.stream.state.status is StreamStatus.UNSUPPORTED
    said = [record.getMessage() for record in caplog.records]
    assert [words.partition(";")[0] for words in said] == ["app.log: the file is UTF-16"]


def test_a_file_that_never_was_is_no_trouble(condition: Condition, stream: Stream) -> None:
    condition.wait()
    condition.miss(1000.0)
    assert (stream.state.status, stream.state.detail) == (StreamStatus.WAITING, "the file does not exist yet")
    assert told(stream) == []


def test_a_file_that_is_gone_is_told_once(condition: Condition, stream: Stream) -> None:
    condition.miss(1000.0)
    condition.miss(1000.0)
    assert (stream.state.status, stream.state.detail) == (StreamStatus.WAITING, "the file is missing")
    assert told(stream) == [(EventKind.DELETED, "the path leads nowhere; waiting for it")]


def test_a_slow_file_system_is_told_once_and_not_at_every_look(follow: Follow) -> None:
    """The watchdog asks how long it may take."""
    followed = follow(b"one\n")
    follower = followed.follower
    now = followed.now
    for took_s in (4.0, 5.0, 7.0):
        if took_s > follower.patience_s:
            follower.stuck(follower.patience_s)
            assert followed.stream.state.status is StreamStatus.HUNG
        follower._condition.end(now := now + took_s, took_s)
        follower.run(now)
        assert followed.stream.state.status is StreamStatus.FOLLOWING
    assert told(followed.stream) == [
        (EventKind.UNREADABLE, "no answer from the file system for 3 s"),
        (EventKind.APPEARED, "the file system answers again"),
    ]


def test_one_that_had_to_wait_behind_others_is_given_more_time_too(condition: Condition) -> None:
    condition.stuck(LEAST_S + 0.1)
    condition.begin(1000.0)
    condition.end(1000.0, 0.001)
    assert condition.patience.limit_s == 2 * (LEAST_S + 0.1)


def test_a_state_is_whole_after_each_step(follow: Follow) -> None:
    """What answers meanwhile, in another thread, tells of a followed file how large it is."""
    followed = follow(there=False)
    stream, follower = followed.stream, followed.follower
    for content in (b"one\n", b"three\nfour\nfive"):  # created, then replaced
        if followed.path.exists():
            followed.rotate()
        followed.path.write_bytes(content)
        seen = []
        for _ in range(10):
            follower.run(followed.now)
            seen.append((stream.state.status, stream.state.size, stream.state.watch))
        assert seen[-1] == (StreamStatus.FOLLOWING, len(content), "poll")
        assert all(size is not None and watch for status, size, watch in seen if status is StreamStatus.FOLLOWING), seen
