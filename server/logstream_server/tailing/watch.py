"""How one stream learns that it should look: inotify where it can be trusted, time elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from .files import LOCAL_FILE_SYSTEMS, LogFile, file_system
from .inotify import FILE_MASK, FOLDER_MASK, Inotify, WatchLimit

log = logging.getLogger(__name__)


class Watch:
    """The watches of one stream. Used by one thread at a time; `wake` is called from inotify's thread."""

    def __init__(self, mode: str, inotify: Inotify | None, wake: Callable[[], None]) -> None:
        """`mode`: "auto", "notify" or "poll"; `inotify`: None where the kernel gives none."""
        self._mode = mode
        self._inotify = inotify
        self._wake = wake
        self._folders: dict[str, int] = {}
        self._file: int | None = None
        self._limit_reached = False
        self.keeps_open = True
        self.notifies = False

    def prepare(self, path: str) -> None:
        """The path is about to be opened: learn its file system, watch its folder (and the one a symlink leads to)."""
        folder = os.path.dirname(path) or "."
        kind = file_system(path) or file_system(folder)
        self.keeps_open = kind in LOCAL_FILE_SYSTEMS
        self.notifies = (
            self._inotify is not None
            and not self._limit_reached
            and (self._mode == "notify" or (self._mode == "auto" and self.keeps_open))
        )
        if not self.notifies:
            return
        wanted = {folder, os.path.dirname(os.path.realpath(path))}
        for gone in set(self._folders) - wanted:
            self._unwatch(self._folders.pop(gone))
        for name in wanted:
            handle = self._watch(name, FOLDER_MASK)
            if handle is None:
                return
            if self._folders.get(name) == handle:
                self._unwatch(handle)  # it was watched already: one call a change is enough
            self._folders[name] = handle

    def follow(self, file: LogFile) -> None:
        """Watch this inode, by whatever name; the one watched before is rotated away and looked at by time."""
        if not self.notifies:
            return
        if self._file is not None:
            self._unwatch(self._file)
        with file.watchable() as path:
            self._file = self._watch(path, FILE_MASK)

    def close(self) -> None:
        """Take all watches back."""
        for handle in self._folders.values():
            self._unwatch(handle)
        if self._file is not None:
            self._unwatch(self._file)
        self._folders, self._file = {}, None

    def _watch(self, path: str, mask: int) -> int | None:
        assert self._inotify is not None
        try:
            return self._inotify.watch(path, mask, self._wake)
        except WatchLimit as error:
            self._limit_reached = True
            self.notifies = False
            log.warning("%s; polling instead", error.strerror)
        except OSError:  # the folder is missing or closed to us: opening the file will say so
            self.notifies = False
        return None

    def _unwatch(self, handle: int) -> None:
        assert self._inotify is not None
        self._inotify.unwatch(handle, self._wake)
