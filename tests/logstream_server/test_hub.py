"""hub: whatever a client's socket takes and when, it gets every line once and in order, and nobody waits for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from logstream_server.channel import Lag, Place, Subscription
from logstream_server.discovery import parse_source
from logstream_server.errors import CloseCode
from logstream_server.follower import FollowOptions
from logstream_server.frames import parse_server_frames
from logstream_server.hub import LEAD_S, Hub, HubOptions
from logstream_server.stream import Stream
from logstream_server.tailer import LogMonitor
from logstream_server.view import Format, View

RING_BYTES = 2 << 20
LINE = "x" * 180
PATIENCE_S = 30.0


@dataclass
class Wire:
    """A socket that takes so many writes and then no more, until it is opened again."""

    takes: float = float("inf")
    blocked: bool = False
    frames: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    closed: list[tuple[int, str]] = field(default_factory=list)
    on_close: Callable[[], None] = lambda: None

    def write(self, frames: bytes) -> bool:
        assert not self.blocked, "written to a socket that takes nothing"
        self.frames.append(frames)
        self.messages += [message.payload for message in parse_server_frames(frames)]
        self.takes -= 1
        self.blocked = self.takes <= 0
        return not self.blocked

    def finish(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))
        self.on_close()

    @property
    def lines(self) -> list[str]:
        return [message.decode() for message in self.messages]


class Site:
    """A followed file and a hub."""

    def __init__(self, log: Path, monitor: LogMonitor, lead_s: float) -> None:
        self.log = log
        self.monitor = monitor
        self.hub = Hub(monitor, HubOptions(lead_s=lead_s))
        self.written: list[str] = []

    @property
    def stream(self) -> Stream:
        return self.monitor.streams["app.log"]

    def write(self, count: int) -> None:
        lines = [f"{len(self.written) + i:06d} {LINE}" for i in range(count)]
        with self.log.open("a") as file:
            file.write("".join(line + "\n" for line in lines))
        self.written += lines

    def join(self, wire: Wire, form: Format = Format.TEXT, lag: Lag = Lag.CATCHUP) -> Subscription:
        view = View(form)
        subscription = self.hub.prepare(wire, self.stream, view, self.hub.head(self.stream, view), lag)
        wire.on_close = lambda: self.hub.unsubscribe(subscription)
        self.hub.pump(subscription)
        return subscription

    def open(self, wire: Wire, subscription: Subscription, takes: float = float("inf")) -> None:
        """As a connection does whose peer has taken everything."""
        wire.takes, wire.blocked = takes, False
        self.hub.pump(subscription)

    @property
    def content(self) -> bytes:
        """What was written, without newlines."""
        return "".join(self.written).encode()

    async def is_read(self) -> None:
        """Until the follower has all that was written."""
        await until(lambda: self.stream.state.offset == self.log.stat().st_size)


def content(wire: Wire) -> bytes:
    """What a text or raw client has, without newlines."""
    return b"".join(wire.messages).replace(b"\n", b"")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - of many things, on threads, too
            await asyncio.sleep(0.005)


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[LogMonitor]:
    (tmp_path / "app.log").touch()
    options = FollowOptions(poll_interval_s=0.02)
    monitor = LogMonitor([parse_source(str(tmp_path / "app.log"))], options, watch="poll", ring_bytes=RING_BYTES)
    monitor.start()
    yield monitor
    monitor.stop()


@asynccontextmanager
async def serving(monitor: LogMonitor, folder: Path, lead_s: float = LEAD_S) -> AsyncIterator[Site]:
    site = Site(folder / "app.log", monitor, lead_s)
    site.hub.start()
    try:
        yield site
    finally:
        site.hub.stop()


def test_who_is_live_gets_the_same_bytes(monitor: LogMonitor, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(monitor, tmp_path) as site:
            wires = [Wire(), Wire(), Wire()]
            for wire in wires:
                site.join(wire)
            for count in (1, 40, 3):
                site.write(count)
                await until(lambda: wires[-1].lines == site.written)
            assert all(wire.lines == site.written for wire in wires)
            assert all(a is b for a, b in zip(wires[0].frames, wires[1].frames, strict=True))

    asyncio.run(run())


@pytest.mark.parametrize("missed", [10, 3000, 60_000], ids=["from memory", "from the ring", "from the file"])
@pytest.mark.parametrize("form", [Format.TEXT, Format.RAW])
def test_who_falls_behind_gets_the_rest_once_and_is_live_again(
    monitor: LogMonitor, tmp_path: Path, missed: int, form: Format
) -> None:
    async def run() -> None:
        async with serving(monitor, tmp_path) as site:
            quick, slow = Wire(), Wire(takes=1)
            site.join(quick, form)
            behind = site.join(slow, form)
            site.write(1)
            await until(lambda: behind.place is Place.BEHIND)
            site.write(missed)
            await site.is_read()
            await until(lambda: content(quick) == site.content)
            site.open(slow, behind)
            await until(lambda: behind.place is Place.LIVE)
            site.write(1)
            await until(lambda: content(slow) == site.content)
            assert behind.place is Place.LIVE

    asyncio.run(run())


def test_the_source_waits_for_the_fastest_where_nobody_keeps_up(monitor: LogMonitor, tmp_path: Path) -> None:
    """Else the file would be read twice, for the ring and for the client, and the ring's part in vain."""

    async def run() -> None:
        async with serving(monitor, tmp_path, lead_s=PATIENCE_S) as site:
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
            assert site.hub.counters.catchups == 0, "the file was read for a client"

    asyncio.run(run())


def test_nobody_waits_for_a_client_that_takes_nothing_any_more(monitor: LogMonitor, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(monitor, tmp_path) as site:
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

    asyncio.run(run())


def test_a_slow_client_delays_nobody_with_another_view(monitor: LogMonitor, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(monitor, tmp_path) as site:
            slow, quick = Wire(takes=1), Wire()
            site.join(slow, Format.RAW)
            site.join(quick)
            site.write(60_000)
            await until(lambda: quick.lines == site.written)
            assert slow.blocked

    asyncio.run(run())


def test_who_chose_to_be_closed_or_to_skip_is(monitor: LogMonitor, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(monitor, tmp_path) as site:
            wires = {lag: Wire(takes=1) for lag in (Lag.CLOSE, Lag.SKIP)}
            quick = Wire()
            site.join(quick, Format.JSON)
            late = {lag: site.join(wire, Format.JSON, lag) for lag, wire in wires.items()}
            site.write(1)
            await until(lambda: all(wire.blocked for wire in wires.values()))
            site.write(60_000)
            await site.is_read()
            await until(lambda: b"060000 " in b"".join(quick.messages))
            for lag, wire in wires.items():
                site.open(wire, late[lag])
            assert [code for code, _ in wires[Lag.CLOSE].closed] == [CloseCode.SLOW]
            await until(lambda: late[Lag.SKIP].place is Place.LIVE)
            gap = json.loads(wires[Lag.SKIP].messages[-1])
            assert (gap["type"], gap["reason"], gap["bytes"]) == ("gap", "slow", 60_000 * (len(LINE) + 8))
            site.write(1)  # the source waits for nobody any more
            await until(lambda: b"060001 " in wires[Lag.SKIP].messages[-1])

    asyncio.run(run())


def test_who_has_left_gets_nothing_more(monitor: LogMonitor, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(monitor, tmp_path) as site:
            gone, there = Wire(), Wire()
            leaving = site.join(gone)
            site.join(there)
            site.write(1)
            await until(lambda: gone.lines == there.lines == site.written)
            site.hub.unsubscribe(leaving)
            site.write(1)
            await until(lambda: there.lines == site.written)
            assert len(gone.lines) == 1

    asyncio.run(run())
