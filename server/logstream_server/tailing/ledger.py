"""What the ring is told of a stream's files: generations that begin and end, the lines between, and what happened.

It writes and decides nothing: when a file begins, ends or is lost is the follower's to say. One per follower, on its
thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from logstream_server.lines.cursor import HEAD_BYTES, Generation
from logstream_server.lines.framing import Flag, Segment, count_newlines
from logstream_server.lines.ring import EventKind, StreamEvent

from .files import LogFile
from .follow import HOLE_PROBE_BYTES
from .reading import Reading
from .stream import Stream

SIGN_BYTES = 8
"""As long as the digest in whose place a cursor has it."""


class Ledger:
    """Of one stream; `next_id` numbers generations."""

    def __init__(self, stream: Stream, next_id: Callable[[], int]) -> None:
        self._stream, self._next_id = stream, next_id
        self._newest: Generation | None = None

    def begin(self, file: LogFile, *, begin: int, head: bytes) -> Generation:
        """A generation that is read from `file`; the stream takes the reference to that over."""
        inode = file.identity.inode if file.keeps_open else None
        generation = Generation(self._next_id(), inode, head[:HEAD_BYTES], begin, sign=os.urandom(SIGN_BYTES))
        generation.comes_after(self._newest)
        self._newest = generation
        self._stream.remember(generation, file.identity.inode)
        self._stream.keep(generation, file)
        return generation

    def comes_after(self, past: Generation | None) -> None:
        """The first that begins, yet to come."""
        self._newest = past
        if past is not None and past.inode is not None:
            self._stream.remember(past, past.inode)

    def renew(self, reading: Reading) -> None:
        """A file of which nothing was read comes after others that began later: generations are in order."""
        old, file = reading.generation, reading.file
        if not file.acquire():  # by name: readers have been given a newer one
            file = reading.file = LogFile(file.path, self._stream.roots, keep_open=False)
        old.end = 0
        reading.generation = self.begin(file, begin=0, head=b"")
        self._stream.forget(old)
        self._stream.ring.append(reading.generation, 0, 0, retires=old)

    def take(self, reading: Reading, data: bytes) -> None:
        """The next bytes of its file; what follows them of a hole is jumped over."""
        framer = reading.framer
        self._stream.counters.bytes += len(data)
        reading.flushed = False
        self.append(reading, framer.feed(data))
        if data[0] == 0 and len(data) >= HOLE_PROBE_BYTES and not data.strip(b"\0"):
            end = reading.file.next_data(framer.offset)
            if end > framer.offset:
                self.append(reading, framer.skip_nuls(end - framer.offset))

    def append(self, reading: Reading, segments: list[Segment]) -> None:
        """What was read."""
        ring, counters = self._stream.ring, self._stream.counters
        for segment in segments:
            lines = count_newlines(segment.data) if not segment.flags else int(not segment.flags & Flag.HOLE)
            ring.append(
                reading.generation,
                segment.start,
                segment.end,
                segment.data,
                segment.marker,
                segment.flags,
                lines=lines,
            )
            counters.lines += lines
            if segment.flags & Flag.CUT:
                counters.cut_lines += 1

    def flush(self, reading: Reading) -> None:
        """What was read of a line that is not finished."""
        self.append(reading, reading.framer.flush_partial())

    def flush_if_silent(self, reading: Reading, now: float, wait_s: float) -> None:
        """The same when nothing has come for so long; 0: however long."""
        if wait_s and reading.framer.pending and not reading.flushed and now - reading.grew_at >= wait_s:
            self.flush(reading)
            reading.flushed = True

    def event(
        self,
        kind: EventKind,
        detail: str,
        generation: Generation | None = None,
        offset: int = 0,
        marker: bytes = b"",
        retires: Generation | None = None,
    ) -> None:
        """Something that happened, where it has a place at that offset of a generation."""
        event = StreamEvent(kind, detail)
        self._stream.ring.append(generation, offset, offset, marker=marker, event=event, retires=retires)

    def end(self, reading: Reading, lost: str | None = None) -> None:
        """Nothing more will come from this generation. `lost`: why its end could not be read."""
        self.append(reading, reading.framer.finish())
        generation, start = reading.generation, reading.framer.start
        if lost is None:
            generation.end, generation.marker = start, reading.framer.marker
            self._stream.ring.append(None, 0, 0, event=StreamEvent(EventKind.RETIRED), retires=generation)
        else:  # the loss has its place in the file, as long as the file was, or at least one byte
            size = reading.seen.size if reading.seen else 0
            generation.end = max(size, start + 1)
            event = StreamEvent(EventKind.GAP, lost, size - start if size > start else None)
            self._stream.ring.append(generation, start, generation.end, event=event, retires=generation)
        file = self._stream.file_of(generation)
        if file is not None:
            self._stream.keep_for_a_while(generation, file, file.identity.inode)
