"""Following one file without a server: the events that a client of one would get (`events`), in this process.

The same LogMonitor, the same views, and so the same lines, remarks and cursors as over the wire. `tail` prints them.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, Self

from logstream_server import __version__
from logstream_server.encoding import messages
from logstream_server.encoding.events import ClientEvent, Event, Gap, Hello, parse_server_message
from logstream_server.encoding.frames import parse_server_frames
from logstream_server.encoding.view import Format, View, encode
from logstream_server.errors import CannotFollow
from logstream_server.fanout.query import Wish
from logstream_server.history import history
from logstream_server.history.history import NO_ANSWER, NotNow
from logstream_server.history.reader import Chunk, Reader
from logstream_server.history.resume import Resumed, from_start, resume
from logstream_server.lines.cursor import Positions
from logstream_server.tailing.discovery import parse_source
from logstream_server.tailing.stream import Stream, StreamStatus
from logstream_server.tailing.succession import FollowOptions
from logstream_server.tailing.tailer import LogMonitor

MAX_LINE_BYTES: Final = 64 << 20
"""As much as a server can be set to: one reader has the memory, and its lines are to be whole."""
RETRY_S: Final = 1.0
"""How long to wait for a file system that refuses."""
REST_S: Final = 0.05
"""Who does not wait for new lines waits so long for the rest of a last line that has no newline."""
LAST_S: Final = 1.0
"""And no longer than that where it grows and grows."""
_NO_LOG: Final = frozenset({StreamStatus.REFUSED, StreamStatus.UNSUPPORTED})
_NO_FILE: Final = _NO_LOG | {StreamStatus.WAITING}


class Bell:
    """An observer of the LogMonitor whom one thread can wait for, together with the end of whoever reads our output."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def stream_changed(self, _stream: Stream) -> None:
        """See tailer.Observer."""
        with self._lock:
            if self._event is not None:
                os.eventfd_write(self._event, 1)

    def streams_changed(self) -> None:
        """There is one stream, and it stays."""

    def wait(self, out: int | None = None, timeout_s: float | None = None) -> None:
        """Until there is news since the last call, at most `timeout_s` seconds. Raises BrokenPipeError as soon as
        nobody reads the pipe `out` any more, which a write would tell too, but perhaps not for hours."""
        assert self._event is not None
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        if out is not None:
            poll.register(out, 0)
        for descriptor, _ in poll.poll(None if timeout_s is None else timeout_s * 1000):
            if descriptor == out:
                raise BrokenPipeError
            os.eventfd_read(self._event)

    def close(self) -> None:
        """Ring no more."""
        with self._lock:
            event, self._event = self._event, None
        if event is not None:
            os.close(event)


class LocalFile:
    """Follows the file at `path` as long as the context lasts, from where `wish` says, or `start` in its place, which
    is called on a thread and may raise NotNow. Unless it `follows`, to its end as it is now. Raises CannotFollow."""

    def __init__(
        self, path: str, wish: Wish, start: Callable[[Stream], Resumed] | None = None, *, follows: bool = True
    ) -> None:
        source = parse_source(path)
        if not source.is_file:
            raise CannotFollow(path, None, "that may be several files; name one, or serve them (logstream serve)")
        self._path = path
        self._start = partial(begin, wish=wish) if start is None else start
        self._view = View(Format.JSON, wish.filter)
        self._follows = follows
        options = FollowOptions(max_line_bytes=MAX_LINE_BYTES)
        self._monitor = LogMonitor([source], options if follows else replace(options, partial_after_s=REST_S))
        self._bell = Bell()

    def __enter__(self) -> Self:
        self._monitor.subscribe(self._bell)
        self._monitor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._monitor.unsubscribe(self._bell)
        self._monitor.stop()
        self._bell.close()

    def events(self, out: int | None = None) -> Iterator[ClientEvent]:
        """A Hello, what is there, and then what comes, without end where it `follows`. Raises BrokenPipeError when
        nobody reads the pipe `out` any more."""
        stream = next(iter(self._monitor.streams.values()))
        while _is_unknown(stream):
            if stream.state.detail:
                if not self._follows:
                    raise CannotFollow(self._path, None, stream.state.detail)
                yield Event(stream.name, "unreadable", stream.state.detail)
            self._bell.wait(out)
        if stream.state.status in (_NO_LOG if self._follows else _NO_FILE):
            raise CannotFollow(self._path, None, stream.state.detail)
        if not self._follows:
            self._await_rest(stream, out)
        news, end = stream.ring.head()
        begun = self._begin(stream, out)
        cursor = messages.token(stream.name, begun.positions)
        server = f"logstream/{__version__}"
        yield Hello(stream.name, cursor, begun.recovered, begun.reason, server=server, streams=[stream.describe()])
        reader = Reader(stream, begun.positions, news, max_line_bytes=MAX_LINE_BYTES)
        while True:
            chunk = self._next(reader, out)
            if chunk is not None:
                yield from self._events(stream.name, chunk)
            if not self._follows and (chunk is None or _is_behind(reader.positions, end)):
                return
            if chunk is None:
                self._bell.wait(out)

    def _await_rest(self, stream: Stream, out: int | None) -> None:
        """A last line without a newline is held back until nothing has come for a moment."""
        deadline = time.monotonic() + LAST_S
        while stream.state.pending and time.monotonic() < deadline:
            self._bell.wait(out, REST_S)

    def _begin(self, stream: Stream, out: int | None) -> Resumed:
        while True:
            try:
                return self._monitor.scheduler.submit(partial(self._start, stream), stream).result()
            except NotNow:
                self._bell.wait(out, RETRY_S)

    def _next(self, reader: Reader, out: int | None) -> Chunk | None:
        """The next chunk, read on a thread: whoever waits for a file system that hangs can still be interrupted."""
        while True:
            try:
                return self._monitor.scheduler.submit(reader.next).result()
            except NotNow:
                self._bell.wait(out, RETRY_S)

    def _events(self, name: str, chunk: Chunk) -> Iterator[ClientEvent]:
        if chunk.lost is not None:
            token = messages.token(name, chunk.end)
            yield Gap(name, "lost", chunk.lost.reason, chunk.lost.lost_bytes, token)
            return
        for _, message in parse_server_frames(encode(self._view, name, chunk.entries, chunk.begin).frames):
            event = parse_server_message(message)
            assert event is not None
            yield event


def _is_unknown(stream: Stream) -> bool:
    """Whether nothing can be said yet of where a reader begins."""
    status = stream.state.status
    return status is StreamStatus.HUNG or (status in NO_ANSWER and not stream.ring.head()[1])


def _is_behind(positions: Positions, end: Positions) -> bool:
    """Whether a reader has all that there was when the stream's head was at `end`, however it grows meanwhile."""
    newest = end[-1] if end else None
    return newest is None or not any(p.generation is newest.generation and p.offset < newest.offset for p in positions)


def begin(stream: Stream, wish: Wish) -> Resumed:
    """Where the reader of `wish` begins; reads the file. Raises NotNow."""
    if wish.cursor is not None:
        return resume(stream, wish.cursor, tail=wish.tail)
    head = stream.ring.head()[1]
    if wish.from_start:
        return Resumed(from_start(head))
    return Resumed(history.tail_start(stream, wish.tail or 0, wish.filter, head))
