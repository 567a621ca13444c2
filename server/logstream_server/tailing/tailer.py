"""LogMonitor: follows files and tells its observers.

The Observer pattern, thread-safe: `subscribe` and `unsubscribe` from any thread; observers are called from the threads
that read the files and must be quick. Which files: discovery. What a look at a file means: follow, follower. Not here:
clients.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from logstream_server.lines.ring import Ring

from .discovery import Source, scan
from .files import FileStat
from .follower import Follower
from .inotify import Inotify, WatchLimit
from .mounts import Mounts, mount_of, read_mounts
from .names import stream_name, unique_name
from .patience import LEAST_S
from .scheduler import Scheduler
from .stream import Stream, StreamStatus
from .succession import FollowOptions
from .watch import Watch

log = logging.getLogger(__name__)

SCAN_S: Final = 1.0
FORGET_S: Final = 60.0
"""A file of a glob that is gone this long, and that nobody looks at, is no stream any more."""


class Observer(Protocol):
    """Whoever wants to know. Called from reading threads."""

    def stream_changed(self, stream: Stream) -> None:
        """The stream's ring has new entries, or its state is another."""

    def streams_changed(self) -> None:
        """A stream was added or removed."""


class LogMonitor:
    """Follows `sources` until `stop`. `streams` is a snapshot in the order of the sources."""

    def __init__(
        self,
        sources: list[Source],
        options: FollowOptions,
        *,
        watch: str = "auto",
        ring_bytes: int = 4 << 20,
        ignore: tuple[str, ...] = (),
        from_start: bool = False,
    ) -> None:
        """`watch`: "auto", "notify" or "poll"; `from_start`: also lines that were there before are read into the
        ring."""
        self._sources = sources
        self._options = options
        self._watch_mode = watch
        self._ring_bytes = ring_bytes
        self._ignore = ignore
        self._from_start = from_start
        self._lock = threading.Lock()
        self._observers: tuple[Observer, ...] = ()
        self._streams: dict[str, Stream] = {}
        self._followers: dict[Stream, Follower] = {}
        self._origins: dict[Stream, Source] = {}
        self._next_id = itertools.count(1).__next__
        self._inotify: Inotify | None = None
        self.scheduler = Scheduler()
        self._scanned = {source: threading.Event() for source in sources}

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, wait_s: float = 5.0) -> None:
        """Begin. Waits up to `wait_s` seconds for the first look at each folder and file, so that their lines from now
        on are news; a file system that hangs is waited for no longer than that."""
        if self._watch_mode != "poll":
            try:
                self._inotify = Inotify()
                self._inotify.start()
            except WatchLimit as error:
                log.warning("%s; polling instead", error.strerror)
        self.scheduler.start()
        mounts = read_mounts()
        for source in self._sources:
            if source.is_file:
                self._add(source, source.path, mounts, first=True)
                self._scanned[source].set()
            else:
                job = _Scan(self, source)
                self.scheduler.add(job, job)
        end = time.monotonic() + wait_s
        for scanned in self._scanned.values():
            scanned.wait(max(0.0, end - time.monotonic()))
        while time.monotonic() < end and any(s.state.status is StreamStatus.STARTING for s in self.streams.values()):
            time.sleep(0.002)

    def stop(self) -> None:
        """End. Does not wait for a file system that hangs."""
        self.scheduler.stop()
        for follower in list(self._followers.values()):
            follower.close()
        if self._inotify is not None:
            self._inotify.stop()

    # -- observers -----------------------------------------------------------------------------------------------------

    def subscribe(self, observer: Observer) -> None:
        """Tell `observer` from now on."""
        with self._lock:
            self._observers = (*self._observers, observer)

    def unsubscribe(self, observer: Observer) -> None:
        """Tell `observer` no more; a call under way may still arrive."""
        with self._lock:
            self._observers = tuple(o for o in self._observers if o is not observer)

    def notify(self, stream: Stream) -> None:
        """Tell the observers that `stream` has changed."""
        for observer in self._observers:
            observer.stream_changed(stream)

    # -- streams -------------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> dict[str, Stream]:
        """By name, in the order of the sources."""
        with self._lock:
            return dict(self._streams)

    def stream(self, name: str) -> Stream | None:
        """The stream of that name, None when there is none."""
        return self._streams.get(name)

    def wake(self, stream: Stream) -> None:
        """Look at the stream's file now: its readers have caught up."""
        follower = self._followers.get(stream)
        if follower is not None:
            self.scheduler.wake(follower)

    def _add(self, source: Source, path: str, mounts: Mounts, *, first: bool) -> None:
        name = source.name if source.name and source.is_file else stream_name(path, source.base)
        if source.name and not source.is_file:
            name = f"{source.name}~{name}"
        with self._lock:
            stream = Stream(unique_name(name, path, self._streams), path, source.roots, Ring(self._ring_bytes))
            self._streams[stream.name] = stream
            self._origins[stream] = source
        wake: Callable[[], None] = lambda: self.scheduler.wake(follower)  # noqa: E731 - a name for it would say less
        follower = Follower(
            stream,
            self._options,
            Watch(self._watch_mode, self._inotify, wake),
            self.notify,
            from_start=self._from_start or not first,
            next_id=self._next_id,
            skip_known=self._known_offset,
        )
        self._followers[stream] = follower
        stream.mount = mount_of(path, mounts)
        self.scheduler.add(follower, stream)
        for observer in self._observers:
            observer.streams_changed()

    def _known_offset(self, asking: Stream, stat: FileStat) -> int:
        """How far another stream has read this inode: a file that is renamed within a glob is not told twice."""
        for stream in self.streams.values():
            if stream is asking:
                continue
            for generation, file in stream.generations():
                if file.identity != stat.identity or not file.keeps_open:
                    continue
                for position in stream.ring.head()[1]:
                    if position.generation is generation and position.offset <= stat.size:
                        return position.offset
        return 0

    def scan(self, source: Source) -> None:
        """Look which files the source has now."""
        first = not self._scanned[source].is_set()
        found = set(scan(source, self._ignore))
        if first and not found:
            log.info("%r: there is no log file yet, waiting for one", source.path)
        streams = self.streams.values()
        new = sorted(found - {s.path for s in streams if s.roots == source.roots})
        mounts = read_mounts() if new else {}
        for path in new:
            self._add(source, path, mounts, first=first)
        for stream in streams:
            if self._origins.get(stream) is source and stream.path not in found:
                self._forget_if_gone(stream)
        self._scanned[source].set()

    def _forget_if_gone(self, stream: Stream) -> None:
        follower = self._followers[stream]
        if stream.state.status is not StreamStatus.WAITING or stream.ring.is_watched or not follower.is_idle(FORGET_S):
            return
        with self._lock:
            self._streams.pop(stream.name, None)
            self._followers.pop(stream, None)
            self._origins.pop(stream, None)
        self.scheduler.remove(follower)
        follower.close()
        for observer in self._observers:
            observer.streams_changed()


class _Scan:
    """The job that looks at one source; a slow folder is looked at less often."""

    patience_s = LEAST_S

    def __init__(self, monitor: LogMonitor, source: Source) -> None:
        self._monitor, self._source = monitor, source
        self.mount = mount_of(source.base or source.path, read_mounts())

    def run(self, _now: float) -> float:
        begun = time.monotonic()
        self._monitor.scan(self._source)
        return max(SCAN_S, 10 * (time.monotonic() - begun))

    def stuck(self, seconds: float) -> None:
        self.mount = mount_of(self._source.base or self._source.path, read_mounts())
        log.warning("%r: no answer from the file system for %.0f s", self._source.path, seconds)
