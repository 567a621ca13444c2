"""One reader of a stream, on a thread of its own: from where it begins to the head, and on as the stream grows.

The same steps as a client of the hub takes: what the ring does not have is read from the file, then the ring, exact to
the byte (`catchup`). What is not here: waiting for more (an observer of the LogMonitor is told), and what becomes of
the entries. `localfile` reads so; many readers at once are the hub's business, an answer with an end is `retrieve`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from logstream_server.lines.catchup import Leg, after_loss, first_needed, moved, plan, undelivered, walk
from logstream_server.lines.cursor import Positions
from logstream_server.lines.ring import Base, Entry
from logstream_server.tailing.stream import Stream

from .history import Lost, read_leg

CHUNK_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries for a reader at `begin`, who then is at `end`; with `lost` there are none: what lies between is gone."""

    begin: Positions
    end: Positions
    entries: list[Entry]
    lost: Lost | None = None


class Reader:
    """Gives each line behind `positions` once and in order. Used by one thread at a time.

    `news`: the ring's entry from which on events are told, too; what happened before it is no news.
    """

    def __init__(
        self,
        stream: Stream,
        positions: Positions,
        news: int,
        *,
        max_line_bytes: int,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.positions = positions
        """Where it is after the chunks that were given out."""
        self._stream, self._ring = stream, stream.ring
        self._max_line_bytes, self._chunk_bytes = max_line_bytes, chunk_bytes
        self._news = news
        self._seq: int | None = None  # the ring's entry that comes next; None while that is not known

    def to_head(self) -> Iterator[Chunk]:
        """All there is now. Raises NotNow, and can be called again after it."""
        while (chunk := self.next()) is not None:
            yield chunk

    def next(self) -> Chunk | None:
        """About `chunk_bytes` more; None at the head. Raises NotNow when the file cannot be read at the moment."""
        while True:
            if self._seq is None:
                base = self._ring.base()
                self.positions, leg = plan(self.positions, base)
                if leg is not None:
                    return self._from_file(leg, base)
                self._seq = self._first_needed(base)
            entries = self._ring.since(self._seq, self._chunk_bytes)
            if entries is None:  # let go of meanwhile: the file has it
                self._seq = None
                continue
            if not entries:
                return None
            self._seq = entries[-1].seq + 1
            self._news = max(self._news, self._seq)
            wanted = undelivered(entries, self.positions)
            if wanted:
                return self._given(walk(wanted, self.positions), wanted)

    def _first_needed(self, base: Base) -> int:
        head_seq, head = self._ring.head()
        seq = first_needed(self._ring.newest_first(head_seq), self.positions, head_seq, head)
        return max(min(seq, self._news), base.seq)

    def _from_file(self, leg: Leg, base: Base) -> Chunk:
        try:
            entries = read_leg(self._stream, leg, self._chunk_bytes, self._max_line_bytes)
        except Lost as lost:
            return self._given(after_loss(self.positions, leg, base.positions), [], lost)
        return self._given(walk(entries, moved(self.positions, leg.position)), entries)

    def _given(self, end: Positions, entries: list[Entry], lost: Lost | None = None) -> Chunk:
        begin, self.positions = self.positions, end
        return Chunk(begin, end, entries, lost)
