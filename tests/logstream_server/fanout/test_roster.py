"""roster: a source waits for those who are live, or for the fastest, and for nobody who is slow."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from logstream_server.encoding.view import Format, View
from logstream_server.fanout.channel import Lag, Subscription
from logstream_server.fanout.roster import Roster
from logstream_server.lines.framing import Flag
from logstream_server.lines.ring import Ring
from logstream_server.tailing.stream import Stream

from ..served import PATIENCE_S, RING_BYTES, Wire, serving, until


def test_the_source_waits_for_the_fastest_where_nobody_keeps_up(tmp_path: Path) -> None:
    """Else the file would be read twice, for the ring and for the client, and the ring's part in vain."""

    async def run() -> None:
        async with serving(tmp_path, lead_s=PATIENCE_S) as site:
            wire = Wire(takes=1)
            only = site.join(wire)
            site.write(60_000)
            while len(wire.lines) < len(site.written):
                await until(lambda: wire.blocked or len(wire.lines) == len(site.written))
                ahead = site.stream.state.offset - sum(len(line) + 1 for line in wire.lines)
                assert ahead <= 2 * RING_BYTES
                site.open(wire, only, takes=1)
                await asyncio.sleep(0)
            assert wire.lines == site.written
            assert site.hub.tally.catchups == 0, "the file was read for a client"

    asyncio.run(run())


def test_nobody_waits_for_a_client_that_takes_nothing_any_more(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as site:
            wire = Wire(takes=1)
            stalled = site.join(wire)
            site.write(60_000)
            await site.is_read()
            await until(lambda: stalled.channel.next_seq == site.stream.ring.head()[0])
            assert len(wire.frames) == 1
            other = Wire()
            site.join(other)
            site.write(1)
            await until(lambda: other.lines == site.written[-1:])
            site.open(wire, stalled)
            await until(lambda: wire.lines == site.written)
            assert site.hub.tally.catchups == 1

    asyncio.run(run())


# -- the table by itself ----------------------------------------------------------------------------------------------

TEXT, RAW = View(Format.TEXT), View(Format.RAW)


class Table:
    """A roster, a stream that has some lines, and who was woken."""

    def __init__(self) -> None:
        self.woken: list[Stream] = []
        self.roster = Roster(self.woken.append, PATIENCE_S)
        self.stream = Stream("a.log", "/a.log", (), Ring(1000))
        self.add()

    def add(self, size: int = 100) -> None:
        """One more line."""
        end = self.stream.ring.total_bytes
        self.stream.ring.append(None, end, end + size, b"x" * (size - 1) + b"\n", flags=Flag.LINES)

    def join(self, view: View, *, live: bool) -> Subscription:
        """Somebody who has everything until now."""
        channel = self.roster.open(self.stream, view)
        subscription = Subscription(Wire(), channel, channel.positions, Lag.CATCHUP)
        channel.members.add(subscription)
        if live:
            channel.join_or_wait(subscription)
        else:
            channel.led_at = time.monotonic()
        return subscription


def test_equal_views_share_a_channel_while_somebody_looks() -> None:
    table = Table()
    one, two = table.join(TEXT, live=True), table.join(TEXT, live=True)
    other = table.join(RAW, live=True)
    assert one.channel is two.channel is table.roster.find(table.stream, TEXT)
    assert table.roster.of(table.stream) == [one.channel, other.channel] == list(table.roster)
    table.roster.close_unused(one.channel)
    assert one.channel in table.roster
    assert table.roster.stream_of(one.channel) is table.stream
    for subscription in (one, two, other):
        subscription.channel.members.clear()
        table.roster.close_unused(subscription.channel)
    assert list(table.roster) == []
    assert table.roster.find(table.stream, TEXT) is None
    assert not table.stream.ring.is_watched


def test_a_channel_that_is_being_flushed_stays() -> None:
    table = Table()
    channel = table.join(TEXT, live=True).channel
    table.add()
    channel.flushing = channel.next_batch()
    channel.members.clear()
    table.roster.close_unused(channel)
    assert channel in table.roster


def test_the_source_waits_for_the_slowest_of_those_who_are_live() -> None:
    table = Table()
    one, other = table.join(TEXT, live=True).channel, table.join(RAW, live=True).channel
    table.add()
    table.add()
    one.next_batch()
    table.roster.moved(one)
    assert table.stream.ring.backlog_bytes == 200
    other.next_batch()
    table.roster.moved(other)
    assert table.stream.ring.backlog_bytes == 0


def test_a_channel_that_is_led_counts_only_where_there_is_no_other() -> None:
    table = Table()
    led = table.join(TEXT, live=False).channel
    table.add()
    assert table.roster.is_led(led)
    table.roster.moved(led)
    assert table.stream.ring.backlog_bytes == 100
    live = table.join(RAW, live=True).channel
    table.roster.moved(live)
    assert table.stream.ring.backlog_bytes == 0
    assert not table.roster.is_led(live)


def test_nobody_leads_for_long_without_coming() -> None:
    table = Table()
    led = table.join(TEXT, live=False).channel
    led.led_at -= PATIENCE_S
    assert not table.roster.is_led(led)


def test_a_source_that_waited_is_woken_once_most_is_taken() -> None:
    table = Table()
    channel = table.join(TEXT, live=True).channel
    table.add(600)
    table.stream.ring.throttled = True
    table.roster.free_sources()
    assert table.woken == []
    channel.next_batch()
    table.roster.free_sources()
    table.roster.free_sources()
    assert table.woken == [table.stream]
