"""The last lines of a stream, in order, bounded by bytes: what the live view and readers close behind it are served
from.

A source (the tailer) appends; the hub reads from another thread. Nothing here knows a file: a generation is a name, an
offset a number. The ring keeps the positions at both its ends, so that a reader who fell behind it knows exactly how
far to read elsewhere before the ring takes over. Appending never waits for a reader; `backlog` lets a polite source
slow down by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Final

from .cursor import Generation, Position, Positions
from .framing import Flag

ENTRY_OVERHEAD_BYTES: Final = 400
"""What an entry costs besides its data (measured: object, positions, list slot); counted so that tiny entries are
bounded."""


class EventKind(StrEnum):
    """What happened to a stream's file, as clients see it; RETIRED is for readers only."""

    APPEARED = "appeared"
    ROTATED = "rotated"
    TRUNCATED = "truncated"
    DELETED = "deleted"
    UNREADABLE = "unreadable"
    GAP = "gap"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One occurrence: `detail` is a sentence for people, `lost_bytes` (None: unknown) counts only for GAP."""

    kind: EventKind
    detail: str = ""
    lost_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Bytes `start` to `end` of a generation (a framing segment), or an event at `start == end`.

    A GAP takes up the room of the bytes that are lost, so that a position says whether its reader was told of them.

    `retires` names a generation that no reader will see again after this entry. `total` counts the bytes of data up to
    and including this entry since the stream began, `lines` its lines; `seq` numbers the entries without holes.
    """

    seq: int
    generation: Generation | None
    start: int
    end: int
    data: bytes
    marker: bytes
    flags: Flag
    event: StreamEvent | None
    retires: Generation | None
    total: int
    lines: int = 0


def advance(positions: Positions, entry: Entry) -> Positions:
    """Where a reader at `positions` is after `entry`.

    Generations that are over are left out, but for the newest: it says that all before it is over, too.
    """
    generation = entry.generation
    if generation is not None:
        new = Position(generation, entry.end, entry.marker)
        if len(positions) == 1 and positions[0].generation is generation:
            return (new,)
        if all(p.generation is not generation for p in positions):
            positions = (*(p for p in positions if not p.generation.is_over(entry.seq + 1)), new)
        else:
            positions = tuple(new if p.generation is generation else p for p in positions)
    if entry.retires is not None:
        newest = max((p.generation.id for p in positions), default=0)
        positions = tuple(p for p in positions if p.generation is not entry.retires or p.generation.id == newest)
    return positions


ENDED_KEPT: Final = 64
"""How many generations that were over before the ring's base are remembered: so many rotations a reader may be behind.
One that is behind more is told that it is (Generation.forgotten). A cursor that lists them all is below the length that
is accepted (cursor.MAX_TOKEN)."""


@dataclass(frozen=True, slots=True)
class Base:
    """The old end of a ring: its first entry, a reader's positions just before it, and the generations that were over
    by then, in their order, the first of them perhaps a forgotten one; `total`: bytes of data before it."""

    seq: int
    positions: Positions
    ended: tuple[Generation, ...]
    total: int = 0


class Ring:
    """Bounded, thread-safe; see the module."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._entries: list[Entry | None] = []  # a slot let go of is None until the list is made shorter
        self._gone = 0
        self._lock = Lock()
        self._bytes = 0
        self._total = 0
        self._next_seq = 0
        self._positions: Positions = ()
        self._base: Positions = ()
        self._base_total = 0
        self._ended: deque[Generation] = deque()
        self._forgotten: tuple[Generation, ...] = ()  # none or one
        self._consumed: int | None = None
        self.throttled = False
        """Set by a source that waits because of `backlog_bytes`; the reader wakes it and clears this."""

    def append(  # noqa: PLR0913 - an entry, field by field: the ring adds the numbers
        self,
        generation: Generation | None,
        start: int,
        end: int,
        data: bytes = b"",
        marker: bytes = b"",
        flags: Flag = Flag.LINES,
        event: StreamEvent | None = None,
        retires: Generation | None = None,
        lines: int = 0,
    ) -> Entry:
        """Add one entry at the head, letting go of the oldest beyond the capacity."""
        with self._lock:
            self._total += len(data)
            entry = Entry(
                self._next_seq, generation, start, end, data, marker, flags, event, retires, self._total, lines
            )
            if retires is not None:
                retires.retired_seq = self._next_seq
            self._next_seq += 1
            self._entries.append(entry)
            self._bytes += len(data) + ENTRY_OVERHEAD_BYTES
            if generation is not None and start > generation.begin and not self._knows(generation):
                # What lies before the first entry of a generation is to be had elsewhere, like what was let go of.
                self._base = (*self._base, Position(generation, start, marker))
            self._positions = advance(self._positions, entry)
            self._evict()
            return entry

    def _knows(self, generation: Generation) -> bool:
        return any(position.generation is generation for position in self._positions)

    def _evict(self) -> None:
        entries = self._entries
        while self._bytes > self.capacity_bytes and self._gone < len(entries) - 1:
            oldest = entries[self._gone]
            assert oldest is not None
            entries[self._gone] = None
            self._gone += 1
            self._bytes -= len(oldest.data) + ENTRY_OVERHEAD_BYTES
            self._base = advance(self._base, oldest)
            self._base_total = oldest.total
            if oldest.retires is not None:
                self._ended.append(oldest.retires)
                if len(self._ended) > ENDED_KEPT:
                    self._forget(self._ended.popleft())
        if self._gone > 64 and self._gone * 2 > len(entries):
            del entries[: self._gone]
            self._gone = 0

    def _forget(self, generation: Generation) -> None:
        if generation.end is None or generation.end > generation.begin:  # of an empty one nothing is lost
            gone = Generation(generation.id, end=1, retired_seq=generation.retired_seq, forgotten=True)
            self._forgotten = (gone,)

    def since(self, seq: int, max_bytes: int) -> list[Entry] | None:
        """The entries from `seq` on, at most about `max_bytes` of data but at least one; None when `seq` is gone."""
        with self._lock:
            at = len(self._entries) - (self._next_seq - seq)
            if at < self._gone:
                return None
            out: list[Entry] = []
            size = 0
            while at < len(self._entries):
                entry = self._entries[at]
                assert entry is not None
                if out and size + len(entry.data) > max_bytes:
                    break
                out.append(entry)
                size += len(entry.data)
                at += 1
            return out

    def head(self) -> tuple[int, Positions]:
        """The number of the next entry, and the positions of a reader that has everything."""
        with self._lock:
            return self._next_seq, self._positions

    def newest(self) -> Position | None:
        """The place in the newest file of a reader that has everything; None: there was none yet."""
        return next(reversed(self.head()[1]), None)

    def base(self) -> Base:
        """What a reader must have before the ring can serve it."""
        with self._lock:
            seq = self._next_seq - (len(self._entries) - self._gone)
            return Base(seq, self._base, (*self._forgotten, *self._ended), self._base_total)

    def goal(self) -> Base:
        """The head as a base: what a reader has who has everything there is now."""
        with self._lock:
            late = (e.retires for e in self._entries[self._gone :] if e is not None and e.retires is not None)
            return Base(self._next_seq, self._positions, (*self._forgotten, *self._ended, *late), self._total)

    def newest_first(self, end_seq: int) -> Iterator[Entry]:
        """The entries before `end_seq`, from there back, as far as the ring reaches when each is asked for."""
        seq = end_seq
        while True:
            with self._lock:
                first = self._next_seq - (len(self._entries) - self._gone)
                chunk = self._entries[
                    len(self._entries) - (self._next_seq - max(first, seq - 64)) : len(self._entries)
                    - (self._next_seq - seq)
                ]
            if not chunk or seq <= first:
                return
            for entry in reversed(chunk):
                assert entry is not None
                yield entry
            seq -= len(chunk)

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._lock:
            return [entry for entry in self._entries if entry is not None]

    def consumed(self, total: int | None) -> None:
        """The slowest live view has everything up to `total` (of its last entry); None: nobody is looking."""
        with self._lock:
            self._consumed = total

    @property
    def backlog_bytes(self) -> int:
        """How much the slowest live view has still to take."""
        with self._lock:
            return 0 if self._consumed is None else self._total - self._consumed

    @property
    def is_watched(self) -> bool:
        """Whether a live view takes from here."""
        with self._lock:
            return self._consumed is not None

    @property
    def total_bytes(self) -> int:
        """Bytes of data appended since the stream began."""
        with self._lock:
            return self._total
