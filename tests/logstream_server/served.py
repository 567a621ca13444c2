"""A followed file, a hub, and sockets that take what the test lets them take.

For tests of what becomes of lines between the ring and the clients: real files and threads, no network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from logstream_server.encoding.frames import parse_server_frames
from logstream_server.encoding.view import Format, View
from logstream_server.fanout.channel import Lag, Subscription
from logstream_server.fanout.hub import Hub, HubOptions
from logstream_server.fanout.roster import LEAD_S
from logstream_server.lines.filters import EVERY_LINE, LineFilter
from logstream_server.tailing.discovery import parse_source
from logstream_server.tailing.stream import Stream
from logstream_server.tailing.succession import FollowOptions
from logstream_server.tailing.tailer import LogMonitor

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

    def write(self, frames: bytes, body: bytes = b"") -> bool:
        assert not self.blocked, "written to a socket that takes nothing"
        self.frames.append(frames)
        self.messages += [message.payload for message in parse_server_frames(frames + body)]
        self.takes -= 1
        self.blocked = self.takes <= 0
        return not self.blocked

    def finish(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))
        self.on_close()

    @property
    def lines(self) -> list[str]:
        """What a text client has."""
        return [message.decode() for message in self.messages]


class Site:
    """A followed file and a hub."""

    def __init__(self, log: Path, monitor: LogMonitor, options: HubOptions) -> None:
        self.log = log
        self.monitor = monitor
        self.hub = Hub(monitor, options)
        self.written: list[str] = []

    @property
    def stream(self) -> Stream:
        """Of the file."""
        return self.monitor.streams["app.log"]

    def write(self, count: int) -> None:
        """So many lines, numbered from 0."""
        lines = [f"{len(self.written) + i:06d} {LINE}" for i in range(count)]
        with self.log.open("a") as file:
            file.write("".join(line + "\n" for line in lines))
        self.written += lines

    def join(
        self, wire: Wire, form: Format = Format.TEXT, lag: Lag = Lag.CATCHUP, chosen: LineFilter = EVERY_LINE
    ) -> Subscription:
        """A client that wants what is new."""
        view = View(form, chosen)
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
    """Let everything go on until something is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - of many things, on threads, too
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(folder: Path, lead_s: float = LEAD_S, ping_interval_s: float = 20.0) -> AsyncIterator[Site]:
    """Follow `app.log` in the folder."""
    (folder / "app.log").touch()
    options = FollowOptions(poll_interval_s=0.02)
    monitor = LogMonitor([parse_source(str(folder / "app.log"))], options, watch="poll", ring_bytes=RING_BYTES)
    site = Site(folder / "app.log", monitor, HubOptions(ping_interval_s=ping_interval_s, lead_s=lead_s))
    await asyncio.to_thread(monitor.start)
    site.hub.start()
    try:
        yield site
    finally:
        site.hub.stop()
        await asyncio.to_thread(monitor.stop)
