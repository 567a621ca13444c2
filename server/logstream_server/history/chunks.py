"""Reading files for clients that are behind: on the scheduler's threads, few reads of one stream at a time, equal ones
shared.

A thousand clients that ask for the same lines, or that come back with the same cursor, cost one read. Used by the hub,
on its event loop; what becomes of a chunk is its business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from logstream_server.encoding.view import Encoded, Format, View, encode
from logstream_server.lines import catchup
from logstream_server.lines.catchup import Leg
from logstream_server.lines.cursor import Positions
from logstream_server.tailing.scheduler import Scheduler
from logstream_server.tailing.stream import Stream

from .history import read_leg

READS_PER_STREAM: Final = 4
CACHED_CHUNKS: Final = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is wanted: about `max_bytes` of a leg, as `view` shows it to a reader at `positions`."""

    stream: Stream
    view: View
    leg: Leg
    positions: Positions
    max_bytes: int

    @property
    def key(self) -> object:
        """Equal for chunks that are the same bytes; markers of positions are the file's own."""
        position = self.leg.position
        places = tuple((p.generation, p.offset) for p in self.positions)
        return self.view, position.generation, position.offset, self.leg.until, self.max_bytes, places


@dataclass(slots=True)
class _Reads:
    """Of one stream."""

    running: int = 0
    waiting: deque[Callable[[], None]] = field(default_factory=deque)
    chunks: dict[object, Future[Encoded]] = field(default_factory=dict)


class ChunkReader:
    """Must be used on one event loop."""

    def __init__(self, scheduler: Scheduler, max_line_bytes: int) -> None:
        self._scheduler = scheduler
        self._max_line_bytes = max_line_bytes
        self._streams: dict[Stream, _Reads] = {}

    def read(self, chunk: Chunk, done: Callable[[Future[Encoded]], None]) -> None:
        """Call `done` on the loop, never before this returns, with frames, or Lost or NotNow."""
        loop = asyncio.get_running_loop()
        reads = self._streams.setdefault(chunk.stream, _Reads())
        future = reads.chunks.get(chunk.key)
        if future is None:
            future = self._start(reads, chunk, loop)
        if future.done():
            loop.call_soon(done, future)
        else:
            future.add_done_callback(done)

    def forget_idle(self) -> None:
        """Let go of chunks of streams of which nothing is being read: they were for clients that asked at about the
        same time."""
        for stream, reads in list(self._streams.items()):
            if not reads.running:
                del self._streams[stream]

    def _start(self, reads: _Reads, chunk: Chunk, loop: asyncio.AbstractEventLoop) -> Future[Encoded]:
        future: Future[Encoded] = Future()
        if len(reads.chunks) >= CACHED_CHUNKS:
            del reads.chunks[next(iter(reads.chunks))]
        reads.chunks[chunk.key] = future
        begin = partial(self._begin, reads, chunk, future, loop)
        if reads.running < READS_PER_STREAM:
            begin()
        else:
            reads.waiting.append(begin)
        return future

    def _begin(self, reads: _Reads, chunk: Chunk, future: Future[Encoded], loop: asyncio.AbstractEventLoop) -> None:
        def ended(result: Future[Encoded]) -> None:  # on a reading thread
            with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits any more
                loop.call_soon_threadsafe(self._publish, reads, chunk, future, result)

        reads.running += 1
        work = partial(read_chunk, chunk, self._max_line_bytes)
        self._scheduler.submit(work, chunk.stream).add_done_callback(ended)

    def _publish(self, reads: _Reads, chunk: Chunk, future: Future[Encoded], result: Future[Encoded]) -> None:
        reads.running -= 1
        error = result.exception()
        if error is not None:
            reads.chunks.pop(chunk.key, None)  # the next one tries again
            future.set_exception(error)
        else:
            future.set_result(result.result())
        while reads.waiting and reads.running < READS_PER_STREAM:
            reads.waiting.popleft()()


def read_chunk(chunk: Chunk, max_line_bytes: int) -> Encoded:
    """Read and encode, in the calling thread. Raises Lost, NotNow."""
    raw = chunk.view.format is Format.RAW and not chunk.view.filter
    positions = catchup.moved(chunk.positions, chunk.leg.position)
    entries = read_leg(chunk.stream, chunk.leg, chunk.max_bytes, max_line_bytes, raw=raw)
    return encode(chunk.view, chunk.stream.name, entries, positions)
