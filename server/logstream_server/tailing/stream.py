"""A stream as its source and its readers share it: name, state, ring, and the files that its generations are read
from."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from logstream_server.lines.cursor import HEAD_BYTES, Generation
from logstream_server.lines.ring import Ring

from .files import LogFile

MEMORY: Final = 128
"""Of so many files it is remembered which they are; a cursor names 100 at most."""
LOOKS: Final = 2
"""The first may have begun before there was something to see."""
KEPT: Final = 8
KEPT_S: Final = 60.0
"""A file that was read to its end stays open for readers that are still behind; a stalled client lives 40 s."""


class StreamStatus(StrEnum):
    """Whether lines can come; the words are part of the REST API."""

    STARTING = "starting"
    FOLLOWING = "following"
    WAITING = "waiting"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class StreamState:
    """A snapshot: sizes in bytes, `mtime_ns` in nanoseconds since the epoch, `watch` "notify" or "poll"; `pending`: an
    unfinished last line is held back."""

    status: StreamStatus = StreamStatus.STARTING
    detail: str = ""
    size: int | None = None
    mtime_ns: int | None = None
    offset: int = 0
    watch: str = ""
    binary: bool = False
    pending: bool = False


@dataclass(slots=True)
class StreamCounters:
    """What has happened since the start; only the stream's own follower writes."""

    lines: int = 0
    bytes: int = 0
    cut_lines: int = 0
    rotations: int = 0
    truncations: int = 0
    reopen_errors: int = 0
    mount_error_since: float | None = None


@dataclass(eq=False)
class Stream:
    """`path` is what the administrator named, symlinks not resolved; `roots` are resolved folders, empty for
    anywhere."""

    name: str
    path: str
    roots: tuple[str, ...]
    ring: Ring
    state: StreamState = field(default_factory=StreamState)
    counters: StreamCounters = field(default_factory=StreamCounters)
    mount: str = ""
    """The file system that it hangs with, as far as that can be told without touching it; see scheduler.Placed."""
    keeps_open: bool = True
    """Whether its file system is one where a file may be held open; elsewhere each read opens it by name."""
    looks: int = 0
    """How often the follower has looked at the path, after all that it had to read before."""
    _behind: tuple[int, int, int] | None = None
    """The ring's generation, and `looks`, when it was first known that the follower must look again; and `looks` when
    that was last asked."""
    _files: dict[Generation, LogFile] = field(default_factory=dict)
    _followed: deque[tuple[int, Generation]] = field(default_factory=lambda: deque(maxlen=MEMORY))
    _found: deque[tuple[int, Generation]] = field(default_factory=lambda: deque(maxlen=MEMORY))
    """For readers, beside the path: however many they are, those that were followed stay known."""
    _guests: deque[tuple[float, Generation]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def describe(self) -> dict[str, Any]:
        """The stream as clients are told of it."""
        state = self.state
        return {
            "name": self.name,
            "state": state.status.value,
            "detail": state.detail or None,
            "size": state.size,
            "mtime": None if state.mtime_ns is None else state.mtime_ns / 1e9,
            "watch": state.watch or None,
            "binary": state.binary,
        }

    def is_seen_soon(self) -> bool:
        """Whether to wait for the follower, for somebody who knows that another file is at the path than was followed.
        Not for ever: what two looks did not see is not to be seen."""
        place = self.ring.newest()
        newest = -1 if place is None else place.generation.id
        known, first, last = self._behind or (newest, self.looks, self.looks)
        if known != newest or self.looks > last + LOOKS:  # the same file, and perhaps another rotation after it
            first = self.looks
        self._behind = newest, first, self.looks
        return self.looks < first + LOOKS

    def keep(self, generation: Generation, file: LogFile) -> None:
        """`generation` is read from `file` from now on; the stream takes the reference over."""
        with self._lock:
            old, self._files[generation] = self._files.get(generation), file
        if old is not None:
            old.release()  # the same file again: one of the two references

    def forget(self, generation: Generation) -> None:
        """No new reader of `generation` gets its file."""
        with self._lock:
            file = self._files.pop(generation, None)
        if file is not None:
            file.release()

    def file_of(self, generation: Generation) -> LogFile | None:
        """The file of a generation, with a reference that the caller releases; None when it is gone."""
        with self._lock:
            file = self._files.get(generation)
            return file if file is not None and file.acquire() else None

    def remember(self, generation: Generation, inode: int) -> None:
        """So that a rotated file that is found again is known by the generation that the ring knows."""
        with self._lock:
            self._followed.append((inode, generation))

    def newest_of(self, inode: int) -> Generation | None:
        """The last generation that began in this inode: an empty one proves itself by nothing else."""
        with self._lock:
            return next((generation for known, generation in self._remembered() if known == inode), None)

    def inode_of(self, generation: Generation) -> int | None:
        """The inode in which it was read, also where inodes prove nothing; None: it is not remembered."""
        with self._lock:
            return next((inode for inode, known in self._remembered() if known is generation), None)

    def signed(self, sign: bytes) -> Generation | None:
        """The generation with that sign."""
        with self._lock:
            return next((generation for _, generation in self._followed if sign and generation.sign == sign), None)

    def remembered(self, inode: int, head: bytes, size: int) -> Generation | None:
        """The generation that a file with this inode, these first bytes and this size is, or is a copy of."""
        with self._lock:
            memory = list(self._remembered())
        for known_inode, generation in memory:
            shared = min(len(head), len(generation.head))
            if shared and known_inode == inode and generation.head[:shared] == head[:shared]:
                return generation
        for _, generation in memory:  # only then: many files may begin with the same banner
            if head == generation.head and head and (len(head) == HEAD_BYTES or generation.end == size):
                return generation
        return None

    def _remembered(self) -> Iterator[tuple[int, Generation]]:
        """The newest first. To be called with the lock."""
        yield from reversed(self._followed)
        yield from reversed(self._found)

    def keep_for_a_while(self, generation: Generation, file: LogFile, inode: int) -> None:
        """`generation` may be read from `file` for the next minute at least; the stream takes the reference over."""
        self.keep(generation, file)
        if self.remembered(inode, generation.head, generation.end or 0) is not generation:
            with self._lock:
                self._found.append((inode, generation))
        with self._lock:
            self._guests.append((time.monotonic(), generation))

    def expire(self, now: float) -> None:
        """Close what was kept for a while and is not needed any more."""
        while self._guests and (len(self._guests) > KEPT or now - self._guests[0][0] > KEPT_S):
            with self._lock:
                generation = self._guests.popleft()[1]
                again = any(other is generation for _, other in self._guests)
            if not again:
                self.forget(generation)

    def generations(self) -> list[tuple[Generation, LogFile]]:
        """The generations that have a file, oldest first. No references are taken."""
        with self._lock:
            return list(self._files.items())
