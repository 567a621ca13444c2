"""Those who are behind: each is served by itself from the channel's window, the ring or the file, until it has
everything.

One bounded chunk is in flight at a time, and the next follows when the socket has taken it. What the ring does not have
is read on threads (`chunks`). Where nobody is live, whoever comes to the channel's end takes it on (`roster`). Runs on
the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final

from logstream_server.encoding import messages
from logstream_server.encoding.frames import Opcode, encode_frame
from logstream_server.encoding.view import Encoded, Format, encode
from logstream_server.errors import INTERNAL_ERROR, CloseCode
from logstream_server.history.chunks import Chunk, ChunkReader
from logstream_server.history.history import Lost, NotNow
from logstream_server.lines import catchup
from logstream_server.lines.catchup import Leg
from logstream_server.lines.cursor import Position

from .channel import Batch, Channel, Lag, Place, Subscription
from .roster import Roster
from .tally import Tally

log = logging.getLogger(__name__)

FIRST_CHUNK_BYTES: Final = 64 << 10
LAST_CHUNK_BYTES: Final = 256 << 10
"""A client that catches up gets chunks that grow while it takes them at once: what it holds when it stalls is
bounded."""
RETRY_S: Final = 1.0
"""How long a reader waits for a file system that refuses."""


class Pump:
    """Brings subscriptions on. `go_on`: told of a channel that has a live client again, and lines that none had."""

    def __init__(self, roster: Roster, chunks: ChunkReader, tally: Tally, go_on: Callable[[Channel], None]) -> None:
        self._roster = roster
        self._chunks = chunks
        self._tally = tally
        self._go_on = go_on

    def pump(self, subscription: Subscription) -> None:
        """Bring a subscription on as far as its socket takes it: window, ring, file, until it is live."""
        channel, sink = subscription.channel, subscription.sink
        while subscription.place is Place.BEHIND and not sink.blocked:
            if subscription.seq is None and not self._find_place(subscription):
                return
            assert subscription.seq is not None
            if subscription.seq >= channel.next_seq:
                if self._lead(subscription):
                    continue
                channel.join_or_wait(subscription)
                if channel.live and channel.ring.head()[0] > channel.next_seq:
                    self._go_on(channel)
                return
            batch = channel.window.get(subscription.seq)
            if batch is not None and catchup.same_place(batch.begin, subscription.positions):
                self._send_batch(subscription, batch)
            else:
                self._send_from_ring(subscription)

    def advanced(self, channel: Channel, batch: Batch) -> None:
        """The channel stands behind one more batch."""
        strays, channel.strays = channel.strays, []
        for subscription in strays:
            channel.return_stray(subscription)
            self.pump(subscription)
        channel.note_quiet(batch, time.monotonic())
        self._roster.moved(channel)

    def _lead(self, subscription: Subscription) -> bool:
        """Nobody is live: who comes to the channel's end takes it one batch on. False: there is nothing more."""
        channel = subscription.channel
        if channel.live or channel.flushing is not None or channel.strays:
            return False
        batch = channel.next_batch()
        if batch is None:
            return False
        channel.led_at = time.monotonic()
        subscription.was_live = True
        self._tally.told(batch.losses)
        self.advanced(channel, batch)
        return True

    def _find_place(self, subscription: Subscription) -> bool:
        """Learn which ring entry comes next; False when the file has to be read first (that goes on by itself)."""
        channel = subscription.channel
        if catchup.same_place(subscription.positions, channel.positions):
            subscription.seq = channel.next_seq
            return True
        ring = channel.ring
        base = ring.base()
        subscription.positions, leg = catchup.plan(subscription.positions, base)
        if leg is not None:
            self._fell_out(subscription, leg)
            return False
        head_seq, head = ring.head()
        seq = catchup.first_needed(ring.newest_first(head_seq), subscription.positions, head_seq, head)
        if base.seq > channel.next_seq and not channel.live and channel.flushing is None:
            channel.move(base)
            self._roster.moved(channel)
        subscription.seq = max(min(seq, channel.next_seq), base.seq)
        return True

    # -- from memory ---------------------------------------------------------------------------------------------------

    def _send_batch(self, subscription: Subscription, batch: Batch) -> None:
        subscription.seq, subscription.positions = batch.next_seq, batch.end
        if batch.frames:
            subscription.sink.write(batch.frames, batch.body)
            self._tally.sent(batch.lines, batch.size)
        if batch.gap is not None:
            subscription.sink.finish(CloseCode.GAP, batch.gap.detail)

    def _send_from_ring(self, subscription: Subscription) -> None:
        channel = subscription.channel
        assert subscription.seq is not None
        entries = channel.ring.since(subscription.seq, self._chunk_bytes(subscription))
        if entries is None:
            subscription.seq = None
            return
        # Not beyond the live view: from there on its batches serve.
        entries = [entry for entry in entries if entry.seq < channel.next_seq]
        wanted = catchup.undelivered(entries, subscription.positions)
        encoded = encode(channel.view, channel.stream, wanted, subscription.positions)
        if encoded.needs_file is None:
            self._deliver(subscription, encoded, entries[-1].seq + 1)
            return
        entry = encoded.needs_file
        assert entry.generation is not None
        self._deliver(subscription, encoded, None)
        if subscription.place is Place.BEHIND and not subscription.sink.blocked:
            at = next((p for p in encoded.end if p.generation is entry.generation), None)
            self._read(subscription, Leg(at or Position(entry.generation, entry.start), entry.end))

    def _chunk_bytes(self, subscription: Subscription) -> int:
        size = subscription.chunk_bytes or FIRST_CHUNK_BYTES
        subscription.chunk_bytes = min(size * 2, LAST_CHUNK_BYTES)
        return size

    def _deliver(self, subscription: Subscription, encoded: Encoded, next_seq: int | None) -> None:
        subscription.positions, subscription.seq = encoded.end, next_seq
        if encoded.frames:
            if not subscription.sink.write(encoded.frames, encoded.body):
                subscription.chunk_bytes = FIRST_CHUNK_BYTES
            self._tally.sent(encoded.lines, encoded.size)
        self._tally.told(encoded.losses)
        if encoded.gap is not None:
            subscription.sink.finish(CloseCode.GAP, encoded.gap.detail)

    # -- from the file -------------------------------------------------------------------------------------------------

    def _fell_out(self, subscription: Subscription, leg: Leg) -> None:
        """The ring does not have the next bytes."""
        if self._apply_lag(subscription):
            self._read(subscription, leg)
        elif subscription.place is Place.BEHIND:
            self.pump(subscription)

    def _apply_lag(self, subscription: Subscription) -> bool:
        """What the client chose for when it falls behind memory; True: read the file. A client that has not been live
        yet (it asked for old lines), or not again, reads it in any case."""
        if not subscription.was_live:
            return True
        if subscription.lag is Lag.CATCHUP:
            subscription.was_live = False
            self._tally.catchups += 1
            return True
        if subscription.lag is Lag.CLOSE:
            self._tally.slow_disconnects += 1
            subscription.sink.finish(CloseCode.SLOW, "too slow: the lines came faster than they were taken")
            return False
        self._skip(subscription)
        return False

    def _skip(self, subscription: Subscription) -> None:
        """Go on at the head, and say what was left out."""
        channel = subscription.channel
        if not channel.live and channel.flushing is None:
            channel.move(channel.ring.goal())  # nobody has led it there
            self._roster.moved(channel)
        positions = channel.positions
        size, is_all = catchup.distance_bytes(subscription.positions, positions)
        lost = size if is_all else None
        self._tally.lost("slow", lost)
        subscription.seq, subscription.positions = channel.next_seq, positions
        token = messages.token(channel.stream, positions)
        frame = messages.gap_message(channel.stream, token, "slow", "the client was too slow for all lines", lost)
        subscription.sink.write(encode_frame(Opcode.TEXT, frame))

    def _read(self, subscription: Subscription, leg: Leg) -> None:
        """Read the next chunk on a thread; equal reads of several clients are one."""
        channel = subscription.channel
        stream = self._roster.stream_of(channel)
        subscription.place = Place.READING
        chunk = Chunk(stream, channel.view, leg, subscription.positions, self._chunk_bytes(subscription))
        self._chunks.read(chunk, partial(self._chunk_read, subscription, leg))

    def _chunk_read(self, subscription: Subscription, leg: Leg, future: Future[Encoded]) -> None:
        if subscription.place is not Place.READING:
            return
        subscription.place = Place.BEHIND
        error = future.exception()
        if isinstance(error, Lost):
            self._lost(subscription, leg, error)
        elif isinstance(error, NotNow):
            asyncio.get_running_loop().call_later(RETRY_S, self.pump, subscription)
            return
        elif error is not None:
            log.error("%s: a client could not be served", subscription.channel.stream, exc_info=error)
            subscription.sink.finish(1011, INTERNAL_ERROR)
            return
        else:
            self._deliver(subscription, future.result(), None)
        self.pump(subscription)

    def _lost(self, subscription: Subscription, leg: Leg, error: Lost) -> None:
        """The bytes are gone: say so, and go on behind them."""
        self._tally.lost("lost", error.lost_bytes)
        channel = subscription.channel
        subscription.positions = catchup.after_loss(subscription.positions, leg, channel.ring.base().positions)
        if channel.view.format is not Format.JSON:
            subscription.sink.finish(CloseCode.GAP, error.reason)
            return
        token = messages.token(channel.stream, subscription.positions)
        frame = messages.gap_message(channel.stream, token, "lost", error.reason, error.lost_bytes)
        subscription.sink.write(encode_frame(Opcode.TEXT, frame))
