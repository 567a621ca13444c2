"""The hub: gets every line from the rings to every client, on the event loop.

For each channel: wait until the pacer says so, encode the next batch once, write the same bytes to each live client. A
client whose socket is full leaves the live view and is served by itself (pump) from the channel's window, the ring or
the file, one bounded chunk in flight, until it is at the head again. No client has a queue or a task. The clock pings
and aborts.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final

from . import catchup, messages
from .catchup import Leg
from .channel import Batch, Channel, Lag, Place, Sink, Subscription
from .chunks import Chunk, ChunkReader
from .connection import Connection
from .cursor import Position, Positions
from .errors import CloseCode
from .frames import Opcode, encode_frame
from .history import Lost, NotNow
from .ring import StreamEvent
from .stream import Stream
from .tailer import LogMonitor
from .view import Encoded, Format, View, encode

log = logging.getLogger(__name__)

SLICE_S: Final = 0.01
"""How long a fan-out may go on before other work of the loop gets its turn."""
CLOCK_S: Final = 0.5
FIRST_CHUNK_BYTES: Final = 64 << 10
LAST_CHUNK_BYTES: Final = 256 << 10
"""A client that catches up gets chunks that grow while it takes them at once: what it holds when it stalls is
bounded."""
RETRY_S: Final = 1.0
"""How long a reader waits for a file system that refuses."""
LEAD_S: Final = 0.01
"""How long a channel without live clients waits for the next to come to its end. A batch in this time are some 25 MB/s:
clients that are so fast share the processor with the source; for a slower one the source does not wait."""


@dataclass(slots=True)
class HubCounters:
    """What has happened since the start."""

    lines_sent: int = 0
    bytes_sent: int = 0
    slow_disconnects: int = 0
    aborted: int = 0
    flushes: int = 0
    flush_seconds: float = 0.0
    catchups: int = 0


LAG_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""From what a fan-out's slice takes to what people notice, and beyond."""


class LagHistogram:
    """How late the clock's ticks came, all of them since the start: however seldom and by however many it is asked
    for, no stall is missed. `counts[i]`: ticks at most LAG_BOUNDS_S[i] late, the last one all later ones."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LAG_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, late_s: float) -> None:
        """One more tick."""
        self.counts[bisect_left(LAG_BOUNDS_S, late_s)] += 1
        self.sum_s += late_s


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Times in seconds."""

    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    lead_s: float = LEAD_S
    max_line_bytes: int = 1 << 20


class Hub:
    """Implements tailer.Observer (called from reading threads) and connection.Owner."""

    def __init__(self, monitor: LogMonitor, options: HubOptions) -> None:
        self.monitor = monitor
        self.options = options
        self.counters = HubCounters()
        self.now = 0.0
        self.lag = LagHistogram()
        """How long the event loop was busy with something else."""
        self.connections: set[Connection] = set()
        self.on_message: Callable[[Connection, Opcode, bytes], None] = lambda _connection, _opcode, _payload: None
        self.gaps: dict[str, list[int]] = {}
        self._channels: dict[Stream, dict[View, Channel]] = {}
        self._streams: dict[Channel, Stream] = {}
        self._chunks = ChunkReader(monitor.scheduler, options.max_line_bytes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: set[Stream] = set()
        self._changed_lock = threading.Lock()
        self._tick: asyncio.TimerHandle | None = None
        self._time: Callable[[], float] = lambda: 0.0

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self.now = self._time()
        self._tick = self._loop.call_later(CLOCK_S, self._clock)
        self.monitor.subscribe(self)

    def stop(self) -> None:
        """End: connections are aborted."""
        self.monitor.unsubscribe(self)
        if self._tick is not None:
            self._tick.cancel()
        for connection in list(self.connections):
            connection.abort()
        self._loop = None

    # -- Observer, on the reading threads ------------------------------------------------------------------------------

    def stream_changed(self, stream: Stream) -> None:
        """Look at the stream's channels soon."""
        with self._changed_lock:
            first = not self._changed
            self._changed.add(stream)
        loop = self._loop
        if first and loop is not None:
            try:
                loop.call_soon_threadsafe(self._look)
            except RuntimeError:  # the loop has ended; nobody is left to be told
                log.debug("change of %s after the end", stream.name)

    def streams_changed(self) -> None:
        """The list is asked for when it is needed."""

    def _look(self) -> None:
        with self._changed_lock:
            changed, self._changed = self._changed, set()
        if self._loop is None:  # called before the end, and run after it
            return
        for stream in changed:
            for channel in list(self._channels.get(stream, {}).values()):  # one without members goes on the way
                self._schedule(channel)

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def head(self, stream: Stream, view: View) -> Positions:
        """Where the live view of a stream is: what a client that wants only new lines begins behind."""
        channel = self._channels.get(stream, {}).get(view)
        return stream.ring.head()[1] if channel is None else channel.positions

    def prepare(self, sink: Sink, stream: Stream, view: View, positions: Positions, lag: Lag) -> Subscription:
        """A subscription that has everything before `positions`; `pump` sends it the rest and keeps it going."""
        channel = self._channel(stream, view)
        subscription = Subscription(sink, channel, positions, lag)
        channel.members.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Send nothing more."""
        if subscription.place is Place.OVER:
            return
        channel = subscription.channel
        channel.live.pop(subscription, None)
        channel.members.discard(subscription)
        subscription.place = Place.OVER
        if not channel.members and channel.flushing is None:
            self._drop(channel)

    def place_of(self, subscription: Subscription) -> Positions:
        """What the client has of the stream by now."""
        return subscription.channel.place_of(subscription)[1]

    def _channel(self, stream: Stream, view: View) -> Channel:
        channels = self._channels.setdefault(stream, {})
        channel = channels.get(view)
        if channel is None:
            channel = channels[view] = Channel(stream.name, view, stream.ring)
            self._streams[channel] = stream
            self._report(stream)
        return channel

    def _drop(self, channel: Channel) -> None:
        stream = self._streams.pop(channel, None)
        if stream is None:
            return
        channels = self._channels[stream]
        del channels[channel.view]
        if not channels:
            del self._channels[stream]
        self._report(stream)

    def _report(self, stream: Stream) -> None:
        """Tell the ring how far the live views are, and a source that waited for them to go on.

        A channel that is led counts only where there is no other: the source must not run ahead of everybody, but
        nobody waits for one slow client.
        """
        channels = self._channels.get(stream, {}).values()
        live = [channel.total for channel in channels if not self._is_led(channel)]
        led = max((channel.total for channel in channels), default=None)
        stream.ring.consumed(min(live) if live else led)
        if stream.ring.throttled and stream.ring.backlog_bytes <= stream.ring.capacity_bytes // 4:
            stream.ring.throttled = False
            self.monitor.wake(stream)

    # -- the live view -------------------------------------------------------------------------------------------------

    def _schedule(self, channel: Channel, *, at_once: bool = True) -> None:
        """Flush when it is time; `at_once` False: not before other work of the loop had its turn."""
        if channel.flushing is not None or channel.is_scheduled or self._loop is None or self._is_led(channel):
            return
        due = channel.pacer.due()
        is_due = due <= self._time()
        if is_due and at_once:
            self._flush(channel)
            return
        channel.is_scheduled = True
        if is_due:
            self._loop.call_soon(self._flush_scheduled, channel)
        else:
            self._loop.call_at(due, self._flush_scheduled, channel)

    def _flush_scheduled(self, channel: Channel) -> None:
        channel.is_scheduled = False
        if channel.flushing is None and channel in self._streams and not self._is_led(channel):
            self._flush(channel)

    def _flush(self, channel: Channel) -> None:
        began = self._time()
        batch = channel.next_batch()
        if batch is None:
            if not channel.members:
                self._drop(channel)
            return
        channel.flushing = batch
        self._fan_out(channel, batch, iter(list(channel.live)) if batch.frames else iter(()), began)

    def _fan_out(self, channel: Channel, batch: Batch, targets: Iterator[Subscription], began: float) -> None:
        """Write the batch to all who are live; go on later when it takes long."""
        frames, seq, next_seq, end = batch.frames, batch.seq, batch.next_seq, batch.end
        time, live, count = self._time, channel.live, 0
        slice_end = time() + SLICE_S
        for subscription in targets:
            if subscription.place is not Place.LIVE or subscription.seq > seq:  # type: ignore[operator]
                continue
            sink = subscription.sink
            if sink.blocked:
                channel.leave(subscription)
                continue
            count += 1
            if sink.write(frames):
                subscription.seq = next_seq
            else:
                del live[subscription]
                channel.led_at = time()
                subscription.place, subscription.seq, subscription.positions = Place.BEHIND, next_seq, end
            if not count & 63 and time() > slice_end:
                break
        else:
            self._count(batch.lines, len(frames), count)
            self._flushed(channel, batch, began)
            return
        self._count(batch.lines, len(frames), count)
        if self._loop is not None:
            self._loop.call_soon(self._fan_out, channel, batch, targets, began)

    def _count(self, lines: int, size: int, clients: int) -> None:
        self.counters.lines_sent += lines * clients
        self.counters.bytes_sent += size * clients

    def _flushed(self, channel: Channel, batch: Batch, began: float) -> None:
        channel.flushing = None
        ended = self._time()
        self.counters.flushes += 1
        self.counters.flush_seconds += ended - began
        channel.pacer.flushed(began, ended)
        if batch.gap is not None:
            self._close_all(channel, batch.gap)
        self._advanced(channel, batch)
        if channel.ring.head()[0] > channel.next_seq:
            self._schedule(channel, at_once=False)
        elif not channel.members:
            self._drop(channel)

    def _advanced(self, channel: Channel, batch: Batch) -> None:
        """The channel stands behind one more batch."""
        strays, channel.strays = channel.strays, []
        for subscription in strays:
            channel.return_stray(subscription)
            self.pump(subscription)
        self._note_quiet(channel, batch)
        stream = self._streams.get(channel)
        if stream is not None:
            self._report(stream)

    def _close_all(self, channel: Channel, gap: StreamEvent) -> None:
        """A loss that plain clients can only be told by closing."""
        self._count_gap(gap.kind.value, gap.lost_bytes)
        for subscription in list(channel.live):
            subscription.sink.finish(CloseCode.GAP, gap.detail)

    def _note_quiet(self, channel: Channel, batch: Batch) -> None:
        if channel.view.format is Format.JSON and channel.view.filter:
            if batch.frames:
                channel.quiet_since = None
            elif channel.quiet_since is None:
                channel.quiet_since = self.now

    # -- those who are behind ------------------------------------------------------------------------------------------

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
                    self._schedule(channel, at_once=False)  # what came while nobody was live
                return
            batch = channel.window.get(subscription.seq)
            if batch is not None and catchup.same_place(batch.begin, subscription.positions):
                self._send_batch(subscription, batch)
            else:
                self._send_from_ring(subscription)

    def _is_led(self, channel: Channel) -> bool:
        """Whether the channel goes at the pace of the fastest of its clients, as nobody is live: batches for nobody
        would be encoded in vain, and the source would run away from them all."""
        if channel.live or self._time() - channel.led_at > self.options.lead_s:
            return False
        return any(member.place in (Place.BEHIND, Place.READING) for member in channel.members)

    def _lead(self, subscription: Subscription) -> bool:
        """Nobody is live: who comes to the channel's end takes it one batch on. False: there is nothing more."""
        channel = subscription.channel
        if channel.live or channel.flushing is not None or channel.strays:
            return False
        batch = channel.next_batch()
        if batch is None:
            return False
        channel.led_at = self._time()
        subscription.was_live = True
        if batch.gap is not None:
            self._count_gap(batch.gap.kind.value, batch.gap.lost_bytes)
        self._advanced(channel, batch)
        return True

    def _send_batch(self, subscription: Subscription, batch: Batch) -> None:
        subscription.seq, subscription.positions = batch.next_seq, batch.end
        if batch.frames:
            subscription.sink.write(batch.frames)
            self._count(batch.lines, len(batch.frames), 1)
        if batch.gap is not None:
            subscription.sink.finish(CloseCode.GAP, batch.gap.detail)

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
            self._report(self._streams[channel])
        subscription.seq = max(min(seq, channel.next_seq), base.seq)
        return True

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
            if not subscription.sink.write(encoded.frames):
                subscription.chunk_bytes = FIRST_CHUNK_BYTES
            self._count(encoded.lines, len(encoded.frames), 1)
        if encoded.gap is not None:
            self._count_gap(encoded.gap.kind.value, encoded.gap.lost_bytes)
            subscription.sink.finish(CloseCode.GAP, encoded.gap.detail)

    # -- reading the file ----------------------------------------------------------------------------------------------

    def _fell_out(self, subscription: Subscription, leg: Leg) -> None:
        """The ring does not have the next bytes."""
        if self._apply_lag(subscription):
            self._read(subscription, leg)
        elif subscription.place is Place.BEHIND:
            self.pump(subscription)

    def _apply_lag(self, subscription: Subscription) -> bool:
        """What the client chose for when it falls behind memory; True: read the file. A client that has not been live
        yet (it asked for old lines) reads it in any case."""
        if not subscription.was_live or subscription.lag is Lag.CATCHUP:
            return True
        if subscription.lag is Lag.CLOSE:
            self.counters.slow_disconnects += 1
            subscription.sink.finish(CloseCode.SLOW, "too slow: the lines came faster than they were taken")
            return False
        self._skip(subscription)
        return False

    def _skip(self, subscription: Subscription) -> None:
        """Go on at the head, and say what was left out."""
        channel = subscription.channel
        if not channel.live and channel.flushing is None:
            channel.move(channel.ring.goal())  # nobody has led it there
            self._report(self._streams[channel])
        positions = channel.positions
        lost = _distance(subscription.positions, positions)
        self._count_gap("skipped", lost)
        subscription.seq, subscription.positions = channel.next_seq, positions
        token = messages.token(channel.stream, positions)
        frame = messages.gap_message(channel.stream, token, "slow", "the client was too slow for all lines", lost)
        subscription.sink.write(encode_frame(Opcode.TEXT, frame))

    def _read(self, subscription: Subscription, leg: Leg) -> None:
        """Read the next chunk on a thread; equal reads of several clients are one."""
        channel = subscription.channel
        stream = self._streams[channel]
        subscription.place = Place.READING
        if subscription.was_live:
            self.counters.catchups += 1
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
            if self._loop is not None:
                self._loop.call_later(RETRY_S, self.pump, subscription)
            return
        elif error is not None:
            log.error("%s: a client could not be served", subscription.channel.stream, exc_info=error)
            subscription.sink.finish(1011, "an error inside the server")
            return
        else:
            self._deliver(subscription, future.result(), None)
        self.pump(subscription)

    def _lost(self, subscription: Subscription, leg: Leg, error: Lost) -> None:
        """The bytes are gone: say so, and go on behind them."""
        self._count_gap("lost", error.lost_bytes)
        channel = subscription.channel
        subscription.positions = catchup.after_loss(subscription.positions, leg, channel.ring.base().positions)
        if channel.view.format is not Format.JSON:
            subscription.sink.finish(CloseCode.GAP, error.reason)
            return
        token = messages.token(channel.stream, subscription.positions)
        frame = messages.gap_message(channel.stream, token, "lost", error.reason, error.lost_bytes)
        subscription.sink.write(encode_frame(Opcode.TEXT, frame))

    def _count_gap(self, reason: str, lost_bytes: int | None) -> None:
        entry = self.gaps.setdefault(reason, [0, 0])
        entry[0] += 1
        entry[1] += lost_bytes or 0

    # -- Owner: what connections tell ----------------------------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        """Look after the connection from now on."""
        connection.next_check = self.now + self.options.ping_interval_s
        self.connections.add(connection)

    def connection_ready(self, connection: Connection) -> None:
        """The peer has taken everything: go on."""
        for subscription in list(connection.subscriptions.values()):
            self.pump(subscription)

    def connection_message(self, connection: Connection, opcode: Opcode, payload: bytes) -> None:
        """A message from a client."""
        self.on_message(connection, opcode, payload)

    def connection_gone(self, connection: Connection) -> None:
        """No line goes there any more."""
        for subscription in connection.subscriptions.values():
            self.unsubscribe(subscription)
        connection.subscriptions = {}
        if connection.is_gone:
            self.connections.discard(connection)

    # -- the clock -----------------------------------------------------------------------------------------------------

    def _clock(self) -> None:
        assert self._loop is not None
        late = self._time() - self.now - CLOCK_S
        self.now = now = self._time()
        self.lag.add(max(0.0, late))
        self._tick = self._loop.call_later(CLOCK_S, self._clock)
        interval, timeout = self.options.ping_interval_s, self.options.ping_timeout_s
        for connection in [c for c in self.connections if c.blocked or c.next_check <= now]:
            if connection.check(now, interval, timeout):
                self.counters.aborted += 1
        self._chunks.forget_idle()
        for stream in list(self._channels):
            if stream.ring.throttled:  # also where nothing is sent any more that would let it go on
                self._report(stream)
        for channel in list(self._streams):
            if not channel.live and channel.ring.head()[0] > channel.next_seq:
                self._schedule(channel)  # nobody leads it any more
            if channel.quiet_since is not None and now - channel.quiet_since >= interval / 2:
                self._tell_place(channel)

    def _tell_place(self, channel: Channel) -> None:
        """Filtered clients learn how far the file was searched for them, so that they need not search it again."""
        if channel.flushing is not None:
            return
        channel.quiet_since = None
        token = messages.token(channel.stream, channel.positions)
        frame = encode_frame(Opcode.TEXT, messages.lines_message(channel.stream, token, None, []))
        for subscription in list(channel.live):
            if not subscription.sink.blocked and not subscription.sink.write(frame):
                channel.leave(subscription)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float, reason: str) -> None:
        """Say goodbye to everybody, spread over at most `seconds`, then wait for what is left of them to end. Who is
        there when it is cancelled is cut off."""
        connections = list(self.connections)
        pause = min(seconds / max(1, len(connections)), 0.001)
        bye = encode_frame(Opcode.TEXT, messages.bye_message(reason, reconnect=True, retry_ms=1000))
        try:
            for connection in connections:
                if not connection.is_gone:
                    if connection.format == Format.JSON:
                        connection.write(bye)
                    connection.finish(1012, reason)
                await asyncio.sleep(pause)
            end = self._time() + max(1.0, seconds)
            while self.connections and self._time() < end:  # noqa: ASYNC110 - they end in many places, seldom, and soon
                await asyncio.sleep(0.02)
        finally:  # also when there is no time left for goodbyes
            for connection in list(self.connections):
                connection.abort()


def _distance(behind: Positions, ahead: Positions) -> int | None:
    """How many bytes lie between two positions; None when that cannot be told."""
    at = {p.generation: p.offset for p in behind}
    total = 0
    for position in ahead:
        total += max(0, position.offset - at.pop(position.generation, position.generation.begin))
    for generation, offset in at.items():
        if generation.end is None or generation.forgotten:
            return None
        total += max(0, generation.end - offset)
    return total
