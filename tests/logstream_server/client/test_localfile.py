"""localfile: the events that a client of a server would get, from a file and without one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from logstream_server.client import localfile
from logstream_server.client.localfile import Bell, LocalFile
from logstream_server.encoding.events import ClientEvent, Event, Gap, Hello, Lines
from logstream_server.errors import CannotFollow
from logstream_server.fanout.query import Wish
from logstream_server.lines.cursor import parse_cursor
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.ring import Ring
from logstream_server.tailing.stream import Stream

from ..process import eventually
from ..scenarios.harness import mounted, why_no_mount

Follow = Callable[..., Iterator[ClientEvent]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n")
    return path


@pytest.fixture
def follow() -> Iterator[Follow]:
    """The events of a file; `follow(path, tail=3)`."""
    with ExitStack() as files:

        def start(path: Path, **wish: object) -> Iterator[ClientEvent]:
            file = files.enter_context(LocalFile(str(path), Wish(**wish)))  # type: ignore[arg-type]
            return file.events()

        yield start


def hello(events: Iterator[ClientEvent]) -> Hello:
    """The first event."""
    found = next(events)
    assert isinstance(found, Hello), found
    return found


def lines(events: Iterator[ClientEvent], count: int) -> list[str]:
    """The next lines, events of other kinds left out; no loss may be among them."""
    found: list[str] = []
    while len(found) < count:
        event = next(events)
        assert not isinstance(event, Gap)
        if isinstance(event, Lines):
            found += event.lines
    return found


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def read(path: Path, **wish: object) -> list[str]:
    """What there is, without following."""
    with LocalFile(str(path), Wish(**wish), follows=False) as file:  # type: ignore[arg-type]
        events = list(file.events())
    assert isinstance(events[0], Hello)
    return [line for event in events if isinstance(event, Lines) for line in event.lines]


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({"tail": 0}, []),
        ({"tail": 2}, ["two", "three"]),
        ({"from_start": True}, ["one", "two", "three"]),
        ({"tail": 1, "filter": LineFilter(("o",))}, ["two"]),
        ({"tail": 1, "filter": LineFilter(("x",))}, []),
    ],
)
def test_what_is_there_ends(log: Path, wish: dict[str, object], wanted: list[str]) -> None:
    assert read(log, **wish) == wanted


@pytest.mark.parametrize("tail", [1, 2])
def test_a_last_line_without_a_newline_is_there(log: Path, tail: int) -> None:
    """However new it is; it is one of the last."""
    append(log, "half")
    assert read(log, tail=tail) == ["three", "half"][-tail:]


def test_an_empty_file_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.log").touch()
    assert read(tmp_path / "a.log", tail=10) == []


def test_a_file_that_grows_as_fast_as_it_is_read_has_an_end(log: Path) -> None:
    """That of the moment in which it was begun with."""
    log.write_text("x" * 100_000 + "\n")
    size = log.stat().st_size
    with LocalFile(str(log), Wish(from_start=True), follows=False) as file:
        read_bytes = 0
        for event in file.events():
            append(log, "y" * 300_000 + "\n")
            read_bytes += sum(len(line) + 1 for line in event.lines) if isinstance(event, Lines) else 0
    assert size <= read_bytes < log.stat().st_size


def test_a_line_that_grows_without_end_is_not_waited_for(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localfile, "REST_S", 3600.0)
    monkeypatch.setattr(localfile, "LAST_S", 0.0)
    append(log, "half")
    assert read(log, tail=2) == ["three"]


@pytest.mark.parametrize("content", [None, b"\xff\xfeo\0n\0e\0\n\0"], ids=["missing", "UTF-16"])
def test_what_cannot_be_read_is_not_waited_for(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.log").write_bytes(content)
    with pytest.raises(CannotFollow, match="UTF-16" if content else "the file does not exist yet"):
        read(tmp_path / "a.log", tail=10)


def test_the_last_lines_and_then_each_new_one(follow: Follow, log: Path) -> None:
    events = follow(log, tail=2)
    greeting = hello(events)
    assert (greeting.stream, greeting.recovered) == ("a.log", None)
    assert [stream["state"] for stream in greeting.streams] == ["following"]
    assert lines(events, 2) == ["two", "three"]
    append(log, "four\n")
    assert lines(events, 1) == ["four"]


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({"tail": 0}, []),
        ({"from_start": True}, ["one", "two", "three"]),
        ({"tail": 1, "filter": LineFilter(("o",))}, ["two"]),
    ],
    ids=["nothing old", "all of it", "only what passes"],
)
def test_it_begins_where_it_is_told(follow: Follow, log: Path, wish: dict[str, object], wanted: list[str]) -> None:
    events = follow(log, **wish)
    hello(events)
    append(log, "otto\n")
    assert lines(events, len(wanted) + 1) == [*wanted, "otto"]


def test_a_cursor_goes_on_in_another_process_run(follow: Follow, log: Path) -> None:
    events = follow(log, tail=3)
    hello(events)
    batch = next(events)
    assert isinstance(batch, Lines)
    append(log, "four\n")
    log.rename(log.with_name("a.log.1"))
    log.write_text("five\n")
    again = follow(log, cursor=parse_cursor(batch.cursor))
    assert hello(again).recovered is True
    assert lines(again, 2) == ["four", "five"]


def test_a_cursor_that_cannot_be_honoured_says_so(follow: Follow, log: Path) -> None:
    events = follow(log, tail=3)
    cursor = hello(events).cursor
    assert cursor is not None
    (log.parent / "b.log").write_text("other\n")
    greeting = hello(follow(log.parent / "b.log", cursor=parse_cursor(cursor)))
    assert greeting.recovered is False
    assert greeting.reason == "the cursor belongs to the stream 'a.log'"


def test_a_file_that_is_not_there_yet_is_waited_for(follow: Follow, tmp_path: Path) -> None:
    events = follow(tmp_path / "later.log", tail=3)
    assert hello(events).streams[0]["state"] == "waiting"
    (tmp_path / "later.log").write_text("one\n")
    assert lines(events, 1) == ["one"]


def test_what_is_no_log_is_refused(follow: Follow, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CannotFollow, match="it is a FIFO"):
        next(follow(tmp_path / "fifo"))
    (tmp_path / "wide.log").write_bytes("zwölf\n".encode("utf-16"))
    with pytest.raises(CannotFollow, match="UTF-16"):
        next(follow(tmp_path / "wide.log"))


@pytest.mark.parametrize("name", ["", "*.log"])
def test_several_files_are_a_servers_business(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotFollow, match="that may be several files"):
        LocalFile(f"{tmp_path}/{name}", Wish())


def test_a_file_system_that_is_dead_is_named_and_waited_for(follow: Follow, tmp_path: Path) -> None:
    """Nothing is said of where it begins before that is known: it would be none of the last lines."""
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(reason)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "a.log").write_text("one\ntwo\n")
    with mounted(source, target) as mount:
        mount.die()
        events = follow(target / "a.log", tail=1)
        trouble = next(events)
        assert isinstance(trouble, Event)
        assert (trouble.kind, trouble.detail) == ("unreadable", "Transport endpoint is not connected")
    with mounted(source, target):
        begun = next(event for event in events if not isinstance(event, Event))
        assert isinstance(begun, Hello)
        assert lines(events, 1) == ["two"]


# -- the bell ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bell() -> Iterator[Bell]:
    bell = Bell()
    yield bell
    bell.close()


STREAM = Stream("a.log", "/a.log", (), Ring(4096))


def test_a_bell_that_rang_before_the_wait_is_heard(bell: Bell) -> None:
    for _ in range(3):
        bell.stream_changed(STREAM)
    bell.wait()
    bell.wait(timeout_s=0)  # all three were one


def test_a_bell_wakes_who_waits(bell: Bell) -> None:
    woken = threading.Event()
    waiting = threading.Thread(target=lambda: (bell.wait(), woken.set()))
    waiting.start()
    bell.stream_changed(STREAM)
    assert woken.wait(20)
    waiting.join()


def test_who_waits_hears_that_nobody_reads_its_output_any_more(bell: Bell) -> None:
    reader, writer = os.pipe()
    try:
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            bell.wait(writer)
    finally:
        os.close(writer)


def test_a_bell_that_was_closed_does_not_ring() -> None:
    bell = Bell()
    descriptors = len(os.listdir("/proc/self/fd"))
    bell.close()
    bell.close()
    bell.stream_changed(STREAM)
    eventually(lambda: len(os.listdir("/proc/self/fd")) == descriptors - 1)
