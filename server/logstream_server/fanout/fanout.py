"""The live view: each batch of a channel is encoded once, and the same bytes are written to each client who is live.

Who does not take them falls out of the live view (`pump` looks after those), so nobody waits for anybody. Runs on the
event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from logstream_server.encoding import messages
from logstream_server.encoding.frames import Opcode, encode_frame
from logstream_server.errors import CloseCode
from logstream_server.lines.ring import StreamEvent

from .channel import Batch, Channel, Place, Subscription
from .pump import Pump
from .roster import Roster
from .tally import Tally

SLICE_S: Final = 0.01
"""How long a fan-out may go on before other work of the loop gets its turn."""


class FanOut:
    """Writes what is new to those who have everything else."""

    def __init__(self, roster: Roster, pump: Pump, tally: Tally) -> None:
        self._roster = roster
        self._pump = pump
        self._tally = tally

    def schedule(self, channel: Channel, *, at_once: bool = True) -> None:
        """Flush when it is time; `at_once` False: not before other work of the loop had its turn."""
        if channel.flushing is not None or channel.is_scheduled or self._roster.is_led(channel):
            return
        wait_s = channel.pacer.due() - time.monotonic()
        if wait_s <= 0 and at_once:
            self._flush(channel)
            return
        channel.is_scheduled = True
        loop = asyncio.get_running_loop()
        if wait_s <= 0:
            loop.call_soon(self._flush_scheduled, channel)
        else:
            loop.call_later(wait_s, self._flush_scheduled, channel)

    def tick(self, now: float, quiet_s: float) -> None:
        """The clock's look: channels that nobody leads any more go on by themselves, and clients whose filter has let
        nothing pass for `quiet_s` are told where they are."""
        for channel in self._roster:
            if not channel.live and channel.ring.head()[0] > channel.next_seq:
                self.schedule(channel)
            if channel.quiet_since is not None and now - channel.quiet_since >= quiet_s:
                self._tell_place(channel)

    def _flush_scheduled(self, channel: Channel) -> None:
        channel.is_scheduled = False
        if channel.flushing is None and channel in self._roster and not self._roster.is_led(channel):
            self._flush(channel)

    def _flush(self, channel: Channel) -> None:
        began = time.monotonic()
        batch = channel.next_batch()
        if batch is None:
            self._roster.close_unused(channel)
            return
        channel.flushing = batch
        self._write(channel, batch, iter(list(channel.live)) if batch.frames else iter(()), began)

    def _write(self, channel: Channel, batch: Batch, targets: Iterator[Subscription], began: float) -> None:
        """Write the batch to all who are live; go on later when it takes long."""
        frames, body, seq, next_seq, end = batch.frames, batch.body, batch.seq, batch.next_seq, batch.end
        clock, live, count = time.monotonic, channel.live, 0
        slice_end = clock() + SLICE_S
        for subscription in targets:
            if subscription.place is not Place.LIVE or subscription.seq > seq:  # type: ignore[operator]
                continue
            sink = subscription.sink
            if sink.blocked:
                channel.leave(subscription)
                continue
            count += 1
            if sink.write(frames, body):
                subscription.seq = next_seq
            else:
                del live[subscription]
                channel.led_at = clock()
                subscription.place, subscription.seq, subscription.positions = Place.BEHIND, next_seq, end
            if not count & 63 and clock() > slice_end:
                break
        else:
            self._tally.sent(batch.lines, batch.size, count)
            self._flushed(channel, batch, began)
            return
        self._tally.sent(batch.lines, batch.size, count)
        asyncio.get_running_loop().call_soon(self._write, channel, batch, targets, began)

    def _flushed(self, channel: Channel, batch: Batch, began: float) -> None:
        channel.flushing = None
        ended = time.monotonic()
        self._tally.flushes += 1
        self._tally.flush_seconds += ended - began
        channel.pacer.flushed(began, ended)
        self._tally.told(batch.losses)
        if batch.gap is not None:
            self._close_all(channel, batch.gap)
        self._pump.advanced(channel, batch)
        if channel.ring.head()[0] > channel.next_seq:
            self.schedule(channel, at_once=False)
        else:
            self._roster.close_unused(channel)

    def _close_all(self, channel: Channel, gap: StreamEvent) -> None:
        """A loss that plain clients can only be told by closing."""
        for subscription in list(channel.live):
            subscription.sink.finish(CloseCode.GAP, gap.detail)

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
