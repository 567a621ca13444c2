"""inotify: whoever watches is woken, nobody twice for one reason, and a lost event wakes everybody; the real kernel."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import INotify

from logstream_server.tailing.inotify import FILE_MASK, FOLDER_MASK, Inotify, WatchLimit

from ..process import eventually

PATIENCE_S = 20.0


class Wakes:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.count += 1
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def wait_for(self, count: int, within_s: float = PATIENCE_S) -> bool:
        """Wait until it was called so often."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, within_s)


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    inotify = Inotify()
    inotify.start()
    yield inotify
    inotify.stop()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.touch()
    return path


def settled(inotify: Inotify, folder: Path) -> None:
    """Everything that happened before has been told: a wake of our own comes after it."""
    mark, wakes = folder / "settled", Wakes()
    mark.mkdir()
    handle = inotify.watch(str(mark), FOLDER_MASK, wakes)
    (mark / "x").touch()
    assert wakes.wait_for(1)
    inotify.unwatch(handle, wakes)
    (mark / "x").unlink()
    mark.rmdir()


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"line\n")


def test_a_write_wakes(inotify: Inotify, log: Path) -> None:
    wakes = Wakes()
    inotify.watch(str(log), FILE_MASK, wakes)
    append(log)
    assert wakes.wait_for(1)
    assert wakes.threads == {"logstream-inotify"}


@pytest.mark.parametrize("what", ["truncate", "rename", "delete", "touch"])
def test_so_does_whatever_else_becomes_of_the_file(inotify: Inotify, log: Path, what: str) -> None:
    append(log)
    wakes = Wakes()
    inotify.watch(str(log), FILE_MASK, wakes)
    if what == "truncate":
        os.truncate(log, 0)
    elif what == "rename":
        log.rename(log.with_name("a.log.1"))
    elif what == "delete":
        log.unlink()
    else:
        os.utime(log)
    assert wakes.wait_for(1)


@pytest.mark.parametrize("what", ["create", "move in", "move out", "delete"])
def test_a_folder_wakes_when_names_come_and_go(inotify: Inotify, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("outside", "folder/inside"):
        (tmp_path / name).touch()
    wakes = Wakes()
    inotify.watch(str(folder), FOLDER_MASK, wakes)
    if what == "create":
        (folder / "new").touch()
    elif what == "move in":
        (tmp_path / "outside").rename(folder / "new")
    elif what == "move out":
        (folder / "inside").rename(tmp_path / "new")
    else:
        (folder / "inside").unlink()
    assert wakes.wait_for(1)


def test_writing_to_a_file_does_not_wake_who_watches_its_folder(inotify: Inotify, log: Path, tmp_path: Path) -> None:
    """With a thousand files in it, that would be everybody all the time."""
    wakes = Wakes()
    inotify.watch(str(tmp_path), FOLDER_MASK, wakes)
    append(log)
    (tmp_path / "unrelated").touch()
    assert wakes.wait_for(1)
    assert wakes.count <= 2


def test_one_inode_may_have_many_watchers(inotify: Inotify, log: Path, tmp_path: Path) -> None:
    first, second = Wakes(), Wakes()
    one = inotify.watch(str(log), FILE_MASK, first)
    two = inotify.watch(str(log), FILE_MASK, second)
    assert one == two
    append(log)
    assert first.wait_for(1)
    assert second.wait_for(1)
    inotify.unwatch(one, first)
    settled(inotify, tmp_path)
    told = first.count
    append(log)
    assert second.wait_for(2)
    settled(inotify, tmp_path)
    assert first.count == told


def test_a_watch_that_was_taken_back_wakes_nobody(inotify: Inotify, log: Path, tmp_path: Path) -> None:
    wakes = Wakes()
    handle = inotify.watch(str(log), FILE_MASK, wakes)
    inotify.unwatch(handle, wakes)
    append(log)
    settled(inotify, tmp_path)
    assert wakes.count == 0
    inotify.unwatch(handle, wakes)


def test_the_kernel_takes_a_watch_away_with_its_inode(inotify: Inotify, log: Path, tmp_path: Path) -> None:
    wakes = Wakes()
    handle = inotify.watch(str(log), FILE_MASK, wakes)
    log.unlink()
    eventually(lambda: handle not in inotify._wakes)
    assert wakes.wait_for(1)
    settled(inotify, tmp_path)
    inotify.unwatch(handle, wakes)
    log.touch()
    again = inotify.watch(str(log), FILE_MASK, wakes)
    told = wakes.count
    append(log)
    assert wakes.wait_for(told + 1)
    inotify.unwatch(again, wakes)


def test_a_watch_can_be_taken_back_while_its_inode_goes(log: Path) -> None:
    """Before we were told: the kernel then knows nothing of it any more."""
    inotify, wakes = Inotify(), Wakes()
    handle = inotify.watch(str(log), FILE_MASK, wakes)
    log.unlink()
    inotify.unwatch(handle, wakes)
    assert inotify._wakes == {}
    inotify.start()
    inotify.stop()
    assert wakes.count == 0


def test_a_busy_writer_wakes_seldom(inotify: Inotify, log: Path, tmp_path: Path) -> None:
    """Ten thousand writes are some looks, not as many."""
    wakes = Wakes()
    inotify.watch(str(log), FILE_MASK, wakes)
    with log.open("ab", buffering=0) as file:
        for _ in range(10_000):
            file.write(b"x")
    settled(inotify, tmp_path)
    assert 1 <= wakes.count < 5000


def test_when_the_kernel_lost_events_everybody_is_woken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows who would have been told."""
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if queue > 1 << 17:
        pytest.skip(f"fs.inotify.max_queued_events is {queue}: overflowing it takes too long")
    inotify = Inotify()
    names = [tmp_path / "a.log", tmp_path / "b.log", tmp_path / "silent.log"]
    wakes = [Wakes() for _ in names]
    for path, wake in zip(names, wakes, strict=True):
        path.touch()
        inotify.watch(str(path), FILE_MASK, wake)
    with names[0].open("ab", buffering=0) as a, names[1].open("ab", buffering=0) as b:
        for _ in range(queue // 2 + 10):  # by turns: equal events that follow each other are one
            a.write(b"x")
            b.write(b"x")
    inotify.start()
    assert wakes[2].wait_for(1)
    inotify.stop()
    assert inotify.overflows == 1
    assert "fs.inotify.max_queued_events" in caplog.text


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_the_limit_on_watches_says_which_it_is(
    inotify: Inotify, log: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(INotify, "add_watch", full)
    with pytest.raises(WatchLimit, match=r"fs\.inotify\.max_user_watches") as caught:
        inotify.watch(str(log), FILE_MASK, Wakes())
    assert caught.value.errno == code


def test_what_cannot_be_watched_raises_what_the_system_says(inotify: Inotify, log: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inotify.watch(str(tmp_path / "missing"), FILE_MASK, Wakes())
    with pytest.raises(NotADirectoryError):
        inotify.watch(str(log), FOLDER_MASK, Wakes())
    assert inotify._wakes == {}


def test_the_limit_on_instances_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_keywords: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(INotify, "__init__", full)
    monkeypatch.setattr(INotify, "__del__", lambda _self: None, raising=False)
    with pytest.raises(WatchLimit, match=r"fs\.inotify\.max_user_instances") as caught:
        Inotify()
    assert caught.value.errno == errno.EMFILE


def test_the_end_gives_all_descriptors_back(log: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    inotify = Inotify()
    inotify.start()
    inotify.watch(str(log), FILE_MASK, Wakes())
    inotify.stop()
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_comes_after_its_end_is_refused_as_by_the_system(log: Path) -> None:
    """A look at a file may be on its way then; it is not waited for, since its file system may hang."""
    stopped, wakes = Inotify(), Wakes()
    stopped.start()
    handle = stopped.watch(str(log), FILE_MASK, wakes)
    stopped.stop()
    with pytest.raises(OSError, match="inotify was stopped"):
        stopped.watch(str(log), FILE_MASK, wakes)
    stopped.unwatch(handle, wakes)
