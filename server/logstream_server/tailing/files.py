"""Opening and reading log files: the only module of the server that opens them.

A local file is held open by one descriptor; on remote file systems every read opens the path anew, so that the server's
idea of size and content is fresh (close-to-open consistency), and nothing past the size just seen is read. Every call
can hang with the file system under it: only the scheduler's threads may come here.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final

from logstream_server.descriptors import current_shares
from logstream_server.errors import LogstreamError

from .follow import Identity

LOCAL_FILE_SYSTEMS: Final = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "nilfs2"),
        *("tmpfs", "ramfs", "rootfs"),
    }
)
"""File systems whose changes inotify reports whoever makes them. Everything else is polled: 9p, NFS, FUSE, overlay
deliver no or not all events, and an unknown one is not to be trusted."""

GONE_ERRNOS: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
MOUNT_ERRNOS: Final = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN})
"""What a file system says that has lost its server: reopening may help, a new mount will."""

EXHAUSTED_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""There is no descriptor left to look with."""


class NotALog(LogstreamError):
    """The path leads to something that is not followed: not a regular file, or outside the allowed roots."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path!r} is not followed: {self.reason}"


@dataclass(frozen=True, slots=True)
class FileStat:
    """The part of stat that tailing looks at; times in nanoseconds."""

    identity: Identity
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int


@dataclass(frozen=True, slots=True)
class Read:
    """`data` from the asked offset, `stat` just before reading, `intact`: the bytes before the offset are as
    expected."""

    data: bytes
    stat: FileStat
    intact: bool


def raise_if_exhausted(error: Exception) -> None:
    """Raise anew what says nothing about a file, only that there was no descriptor to look at it with: such a file is
    not to be taken for one that is missing, or another."""
    if isinstance(error, OSError) and error.errno in EXHAUSTED_ERRNOS:
        raise error


def stat_path(path: str) -> FileStat | None:
    """What the path leads to, symlinks followed; None when nothing is there. Raises OSError for all else."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in GONE_ERRNOS:
            return None
        raise
    return _file_stat(found)


def stat_or_none(path: str) -> FileStat | None:
    """What is at the path, None when that cannot be told."""
    try:
        return stat_path(path)
    except OSError:
        return None


def open_log(path: str, roots: tuple[str, ...]) -> int:
    """A read descriptor of the regular file at `path`. Raises NotALog, OSError.

    The file is looked at before it is opened for reading, through a descriptor that cannot block or disturb it
    (O_PATH): a FIFO is never opened, and no symlink can be swapped in between. `roots`: where it must lie after all
    symlinks; empty: anywhere.
    """
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat_module.S_ISREG(mode):
            raise NotALog(path, f"it is {_KINDS.get(stat_module.S_IFMT(mode), 'not a regular file')}")
        if roots:
            _check_inside(path, os.readlink(f"/proc/self/fd/{handle}"), roots)
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    finally:
        os.close(handle)
    if descriptor >= current_shares().files:  # connections must be taken to be refused
        os.close(descriptor)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
    return descriptor


def is_inside(real: str, roots: tuple[str, ...]) -> bool:
    """Whether the resolved path lies in one of the resolved roots (or is one)."""
    return any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots)


def _check_inside(path: str, real: str, roots: tuple[str, ...]) -> None:
    if not is_inside(real, roots):
        raise NotALog(path, f"it leads to {real!r}, outside {', '.join(map(repr, roots))} (--root allows more)")


_KINDS: Final = {
    stat_module.S_IFDIR: "a folder",
    stat_module.S_IFIFO: "a FIFO",
    stat_module.S_IFSOCK: "a socket",
    stat_module.S_IFCHR: "a character device",
    stat_module.S_IFBLK: "a block device",
}


def file_system(path: str) -> str:
    """The type of the file system that `path` lies on, as the kernel names it ("ext4", "9p", "fuse.sshfs"); "" if
    unknown. Raises OSError where there is no descriptor left."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise_if_exhausted(error)
        return ""
    try:
        with open(f"/proc/self/fdinfo/{handle}") as info:
            mount = next((line.split()[1] for line in info if line.startswith("mnt_id:")), "")
        with open("/proc/self/mountinfo", errors="surrogateescape") as table:
            for line in table:
                left, _, right = line.partition(" - ")
                if left.split(" ", 1)[0] == mount:
                    return right.split(" ", 1)[0]
    except OSError as error:
        raise_if_exhausted(error)
    finally:
        os.close(handle)
    return ""


class LogFile:
    """One file that is read at offsets, by several threads. Counted references: the last `release` closes it."""

    def __init__(self, path: str, roots: tuple[str, ...], *, keep_open: bool) -> None:
        """Opens it once in any case. Raises NotALog, OSError."""
        self.path = path
        self._roots = roots
        self._lock = Lock()
        self._references = 1
        descriptor = open_log(path, roots)
        try:
            self.identity = _file_stat(os.fstat(descriptor)).identity
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor: int | None = descriptor
        self.keeps_open = keep_open
        if not keep_open:
            self.path = os.readlink(f"/proc/self/fd/{descriptor}")  # a link may lead elsewhere at the next read
            os.close(descriptor)
            self._descriptor = None

    def acquire(self) -> bool:
        """One more user; False when it was closed already."""
        with self._lock:
            if self._references == 0:
                return False
            self._references += 1
            return True

    def release(self) -> None:
        """One user less."""
        with self._lock:
            self._references -= 1
            if self._references == 0 and self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    @contextmanager
    def _open(self) -> Iterator[int]:
        if self.keeps_open:
            if not self.acquire() or self._descriptor is None:
                raise OSError(errno.EBADF, "closed", self.path)
            try:
                yield self._descriptor
            finally:
                self.release()
            return
        descriptor = open_log(self.path, self._roots)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def watchable(self) -> Iterator[str]:
        """A path that leads to this very inode, whatever its name is now, for as long as the context lasts."""
        with self._open() as descriptor:
            yield f"/proc/self/fd/{descriptor}"

    def stat(self) -> FileStat:
        """Fstat. Raises OSError, NotALog."""
        with self._open() as descriptor:
            return _file_stat(os.fstat(descriptor))

    def read(
        self, offset: int, count: int, marker: bytes = b"", seen: FileStat | None = None, head: bytes = b""
    ) -> Read:
        """At most `count` bytes from `offset`, and whether `marker` still stands before it, and `head` at the start.

        They are checked after the data was read: a truncation before that shows in them, a later one does not matter.
        `seen`: an earlier stat; where nothing changed since, nothing is read. Raises OSError, NotALog.
        """
        with self._open() as descriptor:
            stat = _file_stat(os.fstat(descriptor))
            if stat.size < offset or (stat == seen and stat.size == offset):
                return Read(b"", stat, True)
            wanted = min(count, stat.size - offset)
            data = os.pread(descriptor, wanted, offset) if wanted else b""
            intact = not marker or os.pread(descriptor, len(marker), offset - len(marker)) == marker
            intact = intact and (not head or os.pread(descriptor, len(head), 0) == head)
            return Read(data, stat, intact)

    def next_data(self, offset: int) -> int:
        """The first offset from `offset` on that is not in a hole (the file's size when only a hole follows)."""
        with self._open() as descriptor:
            try:
                return os.lseek(descriptor, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return os.fstat(descriptor).st_size
                return offset


@contextmanager
def given_back_on_error(*files: LogFile) -> Iterator[None]:
    """Files of which nobody else knows yet are released when what is done with them fails."""
    try:
        yield
    except BaseException:
        for file in files:
            file.release()
        raise


def _file_stat(found: os.stat_result) -> FileStat:
    return FileStat(
        Identity(found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_nlink
    )
