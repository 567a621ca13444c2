"""tailer: the monitor follows what its sources bring, and tells whoever has subscribed; real files and threads."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inotify_simple import INotify

from logstream_server.lines.ring import Ring
from logstream_server.tailing.discovery import parse_source
from logstream_server.tailing.files import LOCAL_FILE_SYSTEMS, file_system, stat_path
from logstream_server.tailing.follow import Identity
from logstream_server.tailing.scheduler import MAX_WORKERS, WORKERS_PER_MOUNT
from logstream_server.tailing.stream import Stream, StreamStatus
from logstream_server.tailing.succession import FollowOptions
from logstream_server.tailing.tailer import LogMonitor, _Scan

from ..process import eventually
from ..scenarios.harness import mounted, why_no_mount

PATIENCE_S = 20.0
OPTIONS = FollowOptions(poll_interval_s=0.02, partial_after_s=0.1, rotate_wait_s=0.2)


class Told:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.streams: list[str] = []
        self.lists = 0

    def stream_changed(self, stream: Stream) -> None:
        with self._changed:
            self.streams.append(stream.name)
            self._changed.notify_all()

    def streams_changed(self) -> None:
        with self._changed:
            self.lists += 1
            self._changed.notify_all()

    def wait_for(self, check: Callable[[], Any], within_s: float = PATIENCE_S) -> bool:
        """Wait until something is true, looking whenever it was told something."""
        with self._changed:
            return bool(self._changed.wait_for(check, within_s))


class Monitors:
    """Makes monitors that end with the test."""

    def __init__(self) -> None:
        self._made: list[LogMonitor] = []

    def __call__(self, *paths: str | Path, **options: Any) -> LogMonitor:
        """A monitor of these paths; `name=PATH` names one."""
        named = [str(path).rpartition("=") for path in paths]
        sources = [parse_source(path, name=name or None) for name, _, path in named]
        monitor = LogMonitor(sources, OPTIONS, **options)
        monitor.start()
        self._made.append(monitor)
        return monitor

    def stop(self) -> None:
        for monitor in self._made:
            monitor.stop()
            eventually(lambda m=monitor: m.scheduler._workers == 0)  # type: ignore[misc]


@pytest.fixture
def monitors() -> Iterator[Monitors]:
    made = Monitors()
    yield made
    made.stop()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_bytes(b"old\n")
    return path


@pytest.fixture
def local_log(tmp_path: Path) -> Iterator[Path]:
    """A log on a file system whose inode numbers prove something."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path
        if file_system(str(folder)) not in LOCAL_FILE_SYSTEMS:
            if file_system("/dev/shm") not in LOCAL_FILE_SYSTEMS:
                pytest.skip("there is no local file system here")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        path = folder / "a.log"
        path.write_bytes(b"old\n")
        yield path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def lines(stream: Stream) -> list[bytes]:
    """All lines that the ring has."""
    return b"".join(entry.data for entry in stream.ring.entries()).splitlines()


def told_of(monitor: LogMonitor) -> Told:
    """An observer of it."""
    told = Told()
    monitor.subscribe(told)
    return told


# -- following --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", ["auto", "notify", "poll"])
def test_observers_are_told_of_new_lines(monitors: Monitors, log: Path, watch: str) -> None:
    """What was there at the start is history, not news."""
    monitor = monitors(log, watch=watch)
    stream = monitor.streams["a.log"]
    assert stream.state.status is StreamStatus.FOLLOWING
    assert lines(stream) == []
    told = told_of(monitor)
    append(log, "one\ntwo\n")
    assert told.wait_for(lambda: lines(stream) == [b"one", b"two"])
    assert set(told.streams) == {"a.log"}
    local = file_system(str(log)) in LOCAL_FILE_SYSTEMS
    wanted = {"auto": "notify" if local else "poll", "notify": "notify", "poll": "poll"}
    eventually(lambda: stream.state.watch == wanted[watch])


def test_what_was_there_before_can_be_read_into_the_ring(monitors: Monitors, log: Path) -> None:
    stream = monitors(log, from_start=True).streams["a.log"]
    eventually(lambda: lines(stream) == [b"old"])


def test_a_file_that_comes_later_is_news_from_its_first_line(monitors: Monitors, log: Path) -> None:
    later = log.with_name("later.log")
    monitor = monitors(later)
    stream = monitor.streams["later.log"]
    assert stream.state.status is StreamStatus.WAITING
    told = told_of(monitor)
    later.write_text("first\n")
    assert told.wait_for(lambda: lines(stream) == [b"first"])


def test_the_start_waits_until_every_file_was_looked_at(monitors: Monitors, tmp_path: Path) -> None:
    """So that a line that is written after it is news."""
    for number in range(50):
        (tmp_path / f"{number}.log").write_text("old\n")
    monitor = monitors(tmp_path)
    assert len(monitor.streams) == 50
    assert {stream.state.status for stream in monitor.streams.values()} == {StreamStatus.FOLLOWING}


def test_the_start_waits_no_longer_than_it_may(log: Path) -> None:
    """A file system that hangs keeps its worker; here all of them are kept."""
    monitor = LogMonitor([parse_source(str(log)), parse_source(str(log.parent))], OPTIONS, watch="poll")
    let_go = threading.Event()
    calls = [monitor.scheduler.submit(lambda: let_go.wait(PATIENCE_S)) for _ in range(10)]
    monitor.start(wait_s=0.05)
    assert monitor.streams["a.log"].state.status is StreamStatus.STARTING
    let_go.set()
    eventually(lambda: monitor.streams["a.log"].state.status is StreamStatus.FOLLOWING)
    assert all(call.result(PATIENCE_S) for call in calls)
    monitor.stop()


def test_a_reader_who_has_caught_up_wakes_the_source(monitors: Monitors, log: Path) -> None:
    monitor = monitors(log, watch="poll")
    stream = monitor.streams["a.log"]
    stream.ring.consumed(-stream.ring.capacity_bytes)
    append(log, "one\n")
    eventually(lambda: stream.ring.throttled)
    stream.ring.consumed(None)
    monitor.wake(stream)
    eventually(lambda: lines(stream) == [b"one"])
    monitor.wake(Stream("unknown", "/nowhere", (), Ring(1)))


# -- names ------------------------------------------------------------------------------------------------------------


def test_streams_are_named_and_in_the_order_of_their_sources(monitors: Monitors, log: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/b.log", "sub/a.log"):
        (tmp_path / name).touch()
    monitor = monitors(f"mine={log}", tmp_path / "sub" / "b.log", f"all={tmp_path}/**/*.log")
    assert list(monitor.streams) == ["mine", "b.log", "all~a.log", "all~sub~a.log", "all~sub~b.log"]
    assert monitor.stream("mine") is monitor.streams["mine"]
    assert monitor.stream("nobody") is None


def test_two_files_of_one_name_are_two_streams(monitors: Monitors, log: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    other = tmp_path / "sub" / "a.log"
    other.touch()
    first, second = monitors(log, other).streams
    assert first == "a.log"
    assert second == str(other).strip("/").replace("/", "~")


# -- folders and globs ------------------------------------------------------------------------------------------------


def test_a_new_file_of_a_glob_is_a_new_stream_and_news(monitors: Monitors, log: Path) -> None:
    monitor = monitors(log.parent / "*.log")
    told = told_of(monitor)
    log.with_name("b.log").write_text("first\n")
    assert told.wait_for(lambda: told.lists)
    assert list(monitor.streams) == ["a.log", "b.log"]
    assert told.wait_for(lambda: lines(monitor.streams["b.log"]) == [b"first"])


@pytest.mark.parametrize("pattern", ["", "*.txt"])
def test_where_there_is_no_file_yet_that_is_in_the_log(
    monitors: Monitors, tmp_path: Path, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, as of a file that does not exist."""
    caplog.set_level(logging.INFO)
    path = tmp_path / pattern
    monitor = monitors(path)
    monitor.scan(monitor._sources[0])
    assert [record.getMessage() for record in caplog.records] == [
        f"{str(path)!r}: there is no log file yet, waiting for one"
    ]


def test_what_is_to_be_ignored_is_no_stream(monitors: Monitors, log: Path) -> None:
    log.with_name("b.bak").touch()
    assert list(monitors(log.parent, ignore=("*.bak",)).streams) == ["a.log"]


def test_a_file_that_is_renamed_within_a_folder_is_not_told_twice(monitors: Monitors, local_log: Path) -> None:
    """Its new name is a new stream, which begins where the old one had got to."""
    log = local_log
    monitor = monitors(log.parent)
    told = told_of(monitor)
    append(log, "one\n")
    assert told.wait_for(lambda: lines(monitor.streams["a.log"]) == [b"one"])
    log.rename(log.with_name("b.log"))
    assert told.wait_for(lambda: told.lists)
    stream = monitor.streams["b.log"]
    assert told.wait_for(lambda: stream.state.status is StreamStatus.FOLLOWING)
    append(log.with_name("b.log"), "two\n")
    assert told.wait_for(lambda: lines(stream) == [b"two"])


def test_another_stream_has_read_an_inode_so_far(monitors: Monitors, local_log: Path) -> None:
    """Where it is shorter than that it was emptied since, and is read anew."""
    log = local_log
    monitor = monitors(log, log.with_name("b.log"))
    asking, stat = monitor.streams["b.log"], stat_path(str(log))
    assert stat is not None
    assert monitor._known_offset(asking, stat) == 4
    assert monitor._known_offset(asking, replace(stat, size=3)) == 0
    assert monitor._known_offset(asking, replace(stat, identity=Identity(0, 0))) == 0
    assert monitor._known_offset(monitor.streams["a.log"], stat) == 0


def test_a_copy_in_a_folder_is_told_from_its_start(monitors: Monitors, log: Path) -> None:
    """It is another file; nobody has read it."""
    monitor = monitors(log.parent)
    told = told_of(monitor)
    log.with_name("b.log").write_bytes(log.read_bytes())
    assert told.wait_for(lambda: "b.log" in monitor.streams and lines(monitor.streams["b.log"]) == [b"old"])


def test_a_file_that_never_was_more_than_a_name_is_forgotten_with_it(monitors: Monitors, log: Path) -> None:
    link = log.with_name("b.log")
    link.symlink_to("missing")
    monitor = monitors(log.parent)
    stream = monitor.streams["b.log"]
    eventually(lambda: stream.state.status is StreamStatus.WAITING)
    stream.ring.consumed(0)  # while somebody looks at it, it stays
    link.unlink()
    source = monitor._sources[0]
    monitor.scan(source)
    assert "b.log" in monitor.streams
    told = told_of(monitor)
    stream.ring.consumed(None)
    monitor.scan(source)
    assert "b.log" not in monitor.streams
    assert told.lists == 1
    assert "a.log" in monitor.streams


def test_a_file_of_a_glob_that_is_deleted_stays_a_stream_for_a_while(monitors: Monitors, log: Path) -> None:
    """It may come again, as with every rotation."""
    monitor = monitors(log.parent)
    stream = monitor.streams["a.log"]
    log.unlink()
    eventually(lambda: stream.state.status is StreamStatus.WAITING)
    monitor.scan(monitor._sources[0])
    assert monitor.streams["a.log"] is stream


# -- observers --------------------------------------------------------------------------------------------------------


def test_observers_come_and_go_from_any_thread(monitors: Monitors, log: Path) -> None:
    """While lines come, a hundred subscribe and unsubscribe; those that stay miss nothing."""
    monitor = monitors(log, watch="poll")
    stream = monitor.streams["a.log"]
    before, failures = told_of(monitor), list[BaseException]()
    done = threading.Event()

    def come_and_go() -> None:
        try:
            while not done.is_set():
                told = told_of(monitor)
                assert told.wait_for(lambda told=told: told.streams)
                monitor.unsubscribe(told)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(50):
        append(log, f"{number}\n")
        assert before.wait_for(lambda n=number: len(lines(stream)) == n + 1)  # type: ignore[misc]
    done.set()
    while any(thread.is_alive() for thread in threads):
        monitor.notify(stream)
    assert not failures, failures[0]
    assert monitor._observers == (before,)


def test_who_has_unsubscribed_is_told_no_more(monitors: Monitors, log: Path) -> None:
    monitor = monitors(log)
    stream = monitor.streams["a.log"]
    gone, there = told_of(monitor), told_of(monitor)
    monitor.unsubscribe(gone)
    monitor.unsubscribe(gone)
    monitor.notify(stream)
    assert (gone.streams, there.streams) == ([], ["a.log"])


def test_an_observer_may_unsubscribe_when_it_is_told(monitors: Monitors, log: Path) -> None:
    monitor = monitors(log)

    class Once(Told):
        def stream_changed(self, stream: Stream) -> None:
            monitor.unsubscribe(self)
            super().stream_changed(stream)

    once, other = Once(), Told()
    monitor.subscribe(once)
    monitor.subscribe(other)
    for _ in range(2):
        monitor.notify(monitor.streams["a.log"])
    assert (once.streams, other.streams) == (["a.log"], ["a.log", "a.log"])


# -- what fails -------------------------------------------------------------------------------------------------------


def test_without_inotify_files_are_polled(
    monitors: Monitors, log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: object, **_keywords: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(INotify, "__init__", full)
    monkeypatch.setattr(INotify, "__del__", lambda _self: None, raising=False)
    monitor = monitors(log)
    assert "inotify cannot be used (fs.inotify.max_user_instances); polling instead" in caplog.text
    stream = monitor.streams["a.log"]
    append(log, "one\n")
    eventually(lambda: lines(stream) == [b"one"])
    assert stream.state.watch == "poll"


def test_a_folder_that_hangs_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monitor = LogMonitor([parse_source(str(tmp_path))], OPTIONS)
    _Scan(monitor, monitor._sources[0]).stuck(3.2)
    assert f"{str(tmp_path)!r}: no answer from the file system for 3 s" in caplog.text


def test_hundreds_of_files_on_a_mount_that_hangs_leave_the_others_alone(monitors: Monitors, tmp_path: Path) -> None:
    """More than there are threads; each of them says that it hangs, and each goes on when the mount answers."""
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(reason)
    source, target, local = tmp_path / "source", tmp_path / "target", tmp_path / "local"
    for folder in (source, local):
        folder.mkdir()
    for number in range(MAX_WORKERS + 44):
        (source / f"{number}.log").write_text("old\n")
    (local / "well.log").write_text("old\n")
    with mounted(source, target) as mount:
        monitor = monitors(target, local)
        well = monitor.streams["well.log"]
        remote = [stream for stream in monitor.streams.values() if stream is not well]
        assert len(remote) == MAX_WORKERS + 44
        eventually(lambda: all(stream.state.status == "following" for stream in remote))
        mount.hang()
        try:
            eventually(lambda: all(stream.state.status == "hung" for stream in remote))
            append(local / "well.log", "one\n")
            eventually(lambda: lines(well) == [b"one"])
            append(local / "new.log", "first\n")
            eventually(lambda: "new.log" in monitor.streams and lines(monitor.streams["new.log"]) == [b"first"])
            assert monitor.scheduler._workers < 3 * WORKERS_PER_MOUNT
        finally:
            mount.go_on()
        append(source / "7.log", "again\n")
        eventually(lambda: all(stream.state.status == "following" for stream in remote))
        eventually(lambda: lines(monitor.streams["7.log"]) == [b"again"])


def test_the_end_gives_everything_back(log: Path) -> None:
    threads, descriptors = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    monitor = LogMonitor([parse_source(str(log)), parse_source(str(log.parent))], OPTIONS)
    monitor.start()
    append(log, "one\n")
    monitor.stop()
    eventually(lambda: threads.issuperset(threading.enumerate()), "the end of all threads")
    assert len(os.listdir("/proc/self/fd")) <= descriptors
