"""Wake-ups by inotify: which inode or folder may have changed. Never the truth, only a reason to look now.

One inotify instance for the process and one thread that reads it. When the kernel's queue overflows everybody is woken.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from inotify_simple import INotify, flags

log = logging.getLogger(__name__)

FILE_MASK: Final = flags.MODIFY | flags.ATTRIB | flags.MOVE_SELF | flags.DELETE_SELF
FOLDER_MASK: Final = flags.CREATE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.ATTRIB | flags.ONLYDIR
PAUSE_S: Final = 0.001
"""The reader rests this long after each batch: a file written without pause wakes its follower at most 1000 times a
second, which is plenty, and the thread does not compete with the event loop for the interpreter."""

Wake = Callable[[], None]


class WatchLimit(OSError):
    """The kernel's limit on watches or instances is reached: poll instead."""


class Inotify:
    """Thread-safe. `watch` returns a handle for `unwatch`; the same inode may be watched by many."""

    def __init__(self) -> None:
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            raise WatchLimit(error.errno, "inotify cannot be used (fs.inotify.max_user_instances)") from error
        self._lock = threading.Lock()
        self._wakes: dict[int, list[Wake]] = {}
        self._quit_read, self._quit_write = os.pipe()
        self._thread = threading.Thread(target=self._read, name="logstream-inotify", daemon=True)
        self.overflows = 0

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering and give the descriptors back."""
        os.write(self._quit_write, b"x")
        self._thread.join()
        self._inotify.close()
        os.close(self._quit_read)
        os.close(self._quit_write)

    def watch(self, path: str, mask: int, wake: Wake) -> int:
        """Call `wake` (from the reading thread) when what `path` leads to changes. Raises WatchLimit, OSError.

        Look at the file after this call, not before: a change in between would be missed.
        """
        try:
            handle: int = self._inotify.add_watch(path, mask)  # may hang with its file system: not under the lock
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise WatchLimit(error.errno, "no inotify watch left (fs.inotify.max_user_watches)") from error
            raise
        except ValueError as error:  # stopped: a look at a file that is on its way is not waited for
            raise OSError(errno.EBADF, "inotify was stopped", path) from error
        with self._lock:
            self._wakes.setdefault(handle, []).append(wake)
        return handle

    def unwatch(self, handle: int, wake: Wake) -> None:
        """Take one `watch` back."""
        with self._lock:
            wakes = self._wakes.get(handle)
            if wakes is None or wake not in wakes:
                return  # the kernel took the watch away with its inode
            wakes.remove(wake)
            if not wakes:
                del self._wakes[handle]
                with contextlib.suppress(OSError, ValueError):  # gone with its inode, or stopped
                    self._inotify.rm_watch(handle)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        poll.register(self._quit_read, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._quit_read in ready:
                return
            for wake in self._changed():
                wake()
            time.sleep(PAUSE_S)

    def _changed(self) -> set[Wake]:
        due: set[Wake] = set()
        events = self._inotify.read(timeout=0)
        with self._lock:
            for handle, mask, _, _ in events:
                if mask & flags.Q_OVERFLOW:
                    self.overflows += 1
                    log.warning("inotify events were lost (fs.inotify.max_queued_events); looking at every file")
                    for wakes in self._wakes.values():
                        due.update(wakes)
                elif mask & flags.IGNORED:
                    due.update(self._wakes.pop(handle, ()))
                else:
                    due.update(self._wakes.get(handle, ()))
        return due
