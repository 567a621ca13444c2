"""One distinct view of a stream and everybody who looks at it.

A channel encodes each batch of ring entries once and keeps the last few batches, so that clients who are a moment
behind get the same bytes. Pure bookkeeping: the hub does the writing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, Protocol

from logstream_server.encoding.view import Encoded, Format, View, encode
from logstream_server.lines.catchup import is_ahead
from logstream_server.lines.cursor import Positions
from logstream_server.lines.ring import Base, Entry, Ring, StreamEvent, advance

from .pace import Pacer

WINDOW_BYTES: Final = 2 << 20
"""How many bytes of encoded batches a channel keeps for clients that are slightly behind."""
BATCH_BYTES: Final = 256 << 10
"""How much of the ring one batch takes: what a client that stalls in the middle of a batch holds on to."""


class Lag(StrEnum):
    """What becomes of a client that falls behind what is in memory."""

    CATCHUP = "catchup"
    SKIP = "skip"
    CLOSE = "close"


class Sink(Protocol):
    """A connection as channels see it."""

    blocked: bool
    """The peer does not take what was written: write nothing more until the hub is told that it does."""

    def write(self, frames: bytes, body: bytes = b"") -> bool:
        """Send frames, as they are, and `body` behind them; False when the peer did not take all of it at once (the
        rest is on its way)."""

    def finish(self, code: int, reason: str) -> None:
        """Close with a code and a reason."""


class Place(Enum):
    """Where a subscription gets its next line from."""

    LIVE = auto()
    """The channel's next batch."""
    BEHIND = auto()
    """Window, ring or file."""
    READING = auto()
    """A file read that is under way."""
    AHEAD = auto()
    """It has more than the channel has read yet (another replica gave it that): it waits."""
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded entries `seq` up to `next_seq`; `begin`, `end`: positions of a reader before and after them. `frames`,
    `body`, `gap` and `losses`: see Encoded."""

    seq: int
    next_seq: int
    frames: bytes
    body: bytes
    begin: Positions
    end: Positions
    lines: int
    gap: StreamEvent | None
    losses: tuple[StreamEvent, ...]

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.frames) + len(self.body)


class Subscription:
    """One client of one channel. `seq`: the next ring entry it needs, None while that is not known; then `positions`
    say what it has. While it is LIVE the channel knows both. `was_live`: it had everything once, and since
    then the file was not read for it."""

    __slots__ = ("channel", "chunk_bytes", "lag", "place", "positions", "seq", "sink", "was_live")

    def __init__(self, sink: Sink, channel: Channel, positions: Positions, lag: Lag) -> None:
        self.sink = sink
        self.channel = channel
        self.positions = positions
        self.seq: int | None = None
        self.place = Place.BEHIND
        self.lag = lag
        self.chunk_bytes = 0
        self.was_live = False


class Channel:
    """All subscriptions of one (stream, view)."""

    def __init__(self, stream: str, view: View, ring: Ring) -> None:
        self.stream = stream
        self.view = view
        self.ring = ring
        self.next_seq, self.positions = ring.head()
        self.total = ring.total_bytes
        self.live: dict[Subscription, None] = {}
        self.members: set[Subscription] = set()
        self.window: OrderedDict[int, Batch] = OrderedDict()
        self._window_bytes = 0
        self.pacer = Pacer()
        self.flushing: Batch | None = None
        """The batch that is being written; live subscriptions whose `seq` is not beyond it have not got it yet."""
        self.strays: list[Subscription] = []
        """Those that left all together and have yet to be sent on their way."""
        self.is_scheduled = False
        self.led_at = -1.0
        """When a client last came to the end, or was live."""
        self.quiet_since: float | None = None
        """Since when lines were filtered away without a word to the clients; None: they know where they are."""

    def next_batch(self) -> Batch | None:
        """Encode what has come since the last batch; None when there is nothing. Afterwards the channel stands behind
        it."""
        entries = self.ring.since(self.next_seq, BATCH_BYTES)
        if entries is None:
            return self._jump()
        if not entries:
            return None
        encoded = encode(self.view, self.stream, entries, self.positions)
        count = encoded.count
        if encoded.needs_file is not None and count == 0:
            return self._step_over(entries[0])
        return self._add(encoded, self.next_seq + count, entries[count - 1].total)

    def _add(self, encoded: Encoded, next_seq: int, total: int) -> Batch:
        batch = self._advance(encoded, next_seq, total)
        self.window[batch.seq] = batch
        self._window_bytes += batch.size
        while self._window_bytes > WINDOW_BYTES and len(self.window) > 1:
            _, oldest = self.window.popitem(last=False)
            self._window_bytes -= oldest.size
        return batch

    def _advance(self, encoded: Encoded, next_seq: int, total: int) -> Batch:
        """Stand behind a batch. One that is not in the window is no way on for those behind: it leaves lines out."""
        frames, losses = (encoded.frames, encoded.body), (encoded.gap, encoded.losses)
        batch = Batch(self.next_seq, next_seq, *frames, self.positions, encoded.end, encoded.lines, *losses)
        self.next_seq, self.positions, self.total = next_seq, encoded.end, total
        return batch

    def _jump(self) -> Batch:
        """The ring has let go of what comes next: everybody reads it from the file, and the channel goes on at the
        head."""
        goal = self.ring.goal()
        self.leave_all()
        return self._advance(Encoded(b"", goal.positions, 0), goal.seq, goal.total)

    def move(self, base: Base) -> None:
        """Nobody is live: go on at one end of the ring; whoever lacks something finds its own way."""
        self.next_seq, self.positions, self.total = base.seq, base.positions, base.total

    def _step_over(self, entry: Entry) -> Batch:
        """The next entry is only in the file as these clients want it: they read it there."""
        self.leave_all()
        return self._advance(Encoded(b"", advance(self.positions, entry), 1), self.next_seq + 1, entry.total)

    def note_quiet(self, batch: Batch, now: float) -> None:
        """Remember since when a filter has let nothing pass, for views that can be told how far it was searched."""
        if self.view.format is Format.JSON and self.view.filter:
            if batch.frames:
                self.quiet_since = None
            elif self.quiet_since is None:
                self.quiet_since = now

    def leave_all(self) -> None:
        """Nobody is live any more: each finds its own way on from where it is."""
        for subscription in list(self.live):
            self.leave(subscription)
            subscription.seq = None
            self.strays.append(subscription)

    def return_stray(self, subscription: Subscription) -> None:
        """A subscription that waited may look for its place again."""
        if subscription.place is Place.AHEAD:
            subscription.place, subscription.seq = Place.BEHIND, None

    def join_or_wait(self, subscription: Subscription) -> None:
        """The subscription has all that the channel has: it is live. If it has even more, it waits for the channel."""
        if is_ahead(subscription.positions, self.positions):
            subscription.place = Place.AHEAD
            self.strays.append(subscription)
            return
        subscription.place = Place.LIVE
        subscription.was_live = True
        subscription.seq = self.next_seq
        self.live[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """A live subscription falls behind: note where it is, also in the middle of a flush."""
        subscription.seq, subscription.positions = self.place_of(subscription)
        subscription.place = Place.BEHIND
        del self.live[subscription]

    def place_of(self, subscription: Subscription) -> tuple[int | None, Positions]:
        """The next entry and the positions of a subscription."""
        if subscription.place is not Place.LIVE:
            return subscription.seq, subscription.positions
        batch = self.flushing
        if batch is not None and subscription.seq is not None and subscription.seq <= batch.seq:
            return batch.seq, batch.begin
        return self.next_seq, self.positions
