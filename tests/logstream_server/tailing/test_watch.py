"""watch: inotify where it can be trusted, time elsewhere; real folders, and a kernel that runs out of watches."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import INotify

from logstream_server.tailing.files import LOCAL_FILE_SYSTEMS, LogFile, file_system
from logstream_server.tailing.inotify import Inotify
from logstream_server.tailing.watch import Watch

PATIENCE_S = 20.0


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    inotify = Inotify()
    inotify.start()
    yield inotify
    assert inotify._wakes == {}, "a watch was not given back"
    inotify.stop()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.touch()
    return path


class Watching:
    """A watch of one path, and whether it was woken."""

    def __init__(self, inotify: Inotify | None, mode: str = "notify") -> None:
        self._woken = threading.Event()
        self.watch = Watch(mode, inotify, self._woken.set)
        self._files: list[LogFile] = []

    def look(self, path: Path) -> None:
        """As a follower: prepare, open, follow."""
        self.watch.prepare(str(path))
        if path.exists():
            self._files.append(LogFile(str(path), (), keep_open=True))
            self.watch.follow(self._files[-1])
        self._woken.clear()

    def woken(self, within_s: float = PATIENCE_S) -> bool:
        """Whether it is woken, now or soon."""
        woken = self._woken.wait(within_s)
        self._woken.clear()
        return woken

    def settle(self) -> None:
        """What happened before has been told; on a busy machine that takes its time."""
        while self.woken(0.5):
            pass

    def close(self) -> None:
        self.watch.close()
        for file in self._files:
            file.release()


@pytest.fixture
def watching(inotify: Inotify) -> Iterator[Watching]:
    watching = Watching(inotify)
    yield watching
    watching.close()


# -- whether it can be trusted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "path", "local", "notifies"),
    [
        pytest.param("auto", "/dev/shm/x", True, True, id="a local file system"),
        pytest.param("auto", "/proc/version", False, False, id="another one"),
        pytest.param("notify", "/proc/version", False, True, id="another one, and the administrator knows better"),
        pytest.param("poll", "/dev/shm/x", True, False, id="a local one, and the administrator wants none"),
        pytest.param("poll", "/proc/version", False, False, id="neither"),
    ],
)
def test_local_file_systems_are_watched(inotify: Inotify, mode: str, path: str, local: bool, notifies: bool) -> None:
    """A file is kept open where its file system is local, whatever was chosen."""
    if path.startswith("/dev/shm") and file_system("/dev/shm") != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    watching = Watching(inotify, mode)
    watching.watch.prepare(path)
    assert (watching.watch.keeps_open, watching.watch.notifies) == (local, notifies)
    watching.close()


def test_without_inotify_there_is_only_time(log: Path) -> None:
    watching = Watching(None)
    watching.look(log)
    assert not watching.watch.notifies
    watching.close()


# -- what wakes -------------------------------------------------------------------------------------------------------


def test_a_write_wakes(watching: Watching, log: Path) -> None:
    watching.look(log)
    log.write_text("line\n")
    assert watching.woken()


def test_a_file_that_is_missing_wakes_when_it_comes(watching: Watching, log: Path) -> None:
    log.unlink()
    watching.look(log)
    log.touch()
    assert watching.woken()


def test_a_rotation_wakes_and_then_the_new_file_does(watching: Watching, log: Path) -> None:
    watching.look(log)
    log.rename(log.with_name("a.log.1"))
    log.touch()
    assert watching.woken()
    watching.look(log)
    log.write_text("line\n")
    assert watching.woken()


def test_the_file_that_was_rotated_away_is_looked_at_by_time(watching: Watching, log: Path) -> None:
    """Else a writer that never notices would wake for ever."""
    watching.look(log)
    log.rename(log.with_name("a.log.1"))
    log.touch()
    watching.look(log)
    watching.settle()
    with log.with_name("a.log.1").open("a") as file:
        file.write("late\n")
    assert not watching.woken(0.1)


def test_behind_a_link_both_folders_are_watched(watching: Watching, tmp_path: Path) -> None:
    """The link may be changed, and so may what it leads to."""
    (tmp_path / "links").mkdir()
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.log", tmp_path / "links" / "a.log"
    target.touch()
    link.symlink_to(target)
    watching.look(link)
    target.rename(tmp_path / "real" / "a.log.1")
    assert watching.woken()
    watching.look(link)
    (tmp_path / "real" / "b.log").touch()
    assert watching.woken()
    watching.look(link)
    link.unlink()
    assert watching.woken()


def test_a_folder_that_a_link_no_longer_leads_to_is_not_watched_any_more(
    watching: Watching, inotify: Inotify, tmp_path: Path
) -> None:
    for name in ("one", "two", "links"):
        (tmp_path / name).mkdir()
    link = tmp_path / "links" / "a.log"
    link.symlink_to(tmp_path / "one" / "a.log")
    watching.look(link)
    link.unlink()
    link.symlink_to(tmp_path / "two" / "a.log")
    watching.look(link)
    watching.settle()
    (tmp_path / "one" / "a.log").touch()
    assert not watching.woken(0.05)
    (tmp_path / "two" / "a.log").touch()
    assert watching.woken()
    assert len(inotify._wakes) == 2


def test_looking_again_does_not_watch_twice(watching: Watching, inotify: Inotify, log: Path) -> None:
    for _ in range(5):
        watching.look(log)
    assert [len(wakes) for wakes in inotify._wakes.values()] == [1, 1]


def test_two_streams_may_share_a_folder(inotify: Inotify, log: Path) -> None:
    first, second = Watching(inotify), Watching(inotify)
    first.look(log)
    second.look(log.with_name("b.log"))
    first.close()
    log.with_name("b.log").touch()
    assert second.woken()
    assert not first.woken(0)
    second.close()


# -- when it cannot be had --------------------------------------------------------------------------------------------


def test_when_the_kernel_has_no_watch_left_the_stream_is_polled_from_then_on(
    inotify: Inotify, log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once."""
    with monkeypatch.context() as context:

        def full(*_arguments: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        context.setattr(INotify, "add_watch", full)
        watching = Watching(inotify)
        watching.look(log)
    assert not watching.watch.notifies
    assert watching.watch.keeps_open is (file_system(str(log)) in LOCAL_FILE_SYSTEMS)
    watching.look(log)
    assert not watching.watch.notifies
    assert caplog.text.count("fs.inotify.max_user_watches); polling instead") == 1
    watching.close()


def test_a_folder_that_is_missing_is_polled_until_it_is_there(inotify: Inotify, tmp_path: Path) -> None:
    watching = Watching(inotify)
    path = tmp_path / "later" / "a.log"
    watching.look(path)
    assert not watching.watch.notifies
    path.parent.mkdir()
    watching.look(path)
    assert watching.watch.notifies
    path.touch()
    assert watching.woken()
    watching.close()


def test_a_file_that_cannot_be_watched_is_polled(inotify: Inotify, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Watching(inotify)
    watching.watch.prepare(str(log))
    file = LogFile(str(log), (), keep_open=True)

    def refuse(*_arguments: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as context:
        context.setattr(INotify, "add_watch", refuse)
        watching.watch.follow(file)
    assert not watching.watch.notifies
    watching.close()
    file.release()
