"""The hub: gets every line from the rings to every client, on the event loop.

It holds together those who do it: the channels (`roster`), the live view (`fanout`), those who are behind (`pump`) and
the connections (`liveness`). No client has a queue or a task; one clock looks after all of them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from logstream_server.encoding.frames import Opcode
from logstream_server.encoding.view import View
from logstream_server.history.chunks import ChunkReader
from logstream_server.lines.cursor import Positions
from logstream_server.tailing.stream import Stream
from logstream_server.tailing.tailer import LogMonitor

from .channel import Channel, Lag, Place, Sink, Subscription
from .connection import Connection
from .fanout import FanOut
from .liveness import Liveness
from .pump import Pump
from .roster import LEAD_S, Roster
from .tally import Tally

log = logging.getLogger(__name__)

CLOCK_S: Final = 0.5


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
        self.tally = Tally()
        self.now = time.monotonic()
        """As of the last tick: what connections measure silence with."""
        self.on_message: Callable[[Connection, Opcode, bytes], None] = lambda _connection, _opcode, _payload: None
        self.on_gone: Callable[[Connection], None] = lambda _connection: None
        self._monitor = monitor
        self._quiet_s = options.ping_interval_s / 2
        self._roster = Roster(monitor.wake, options.lead_s)
        self._chunks = ChunkReader(monitor.scheduler, options.max_line_bytes)
        self._pump = Pump(self._roster, self._chunks, self.tally, self._go_on)
        self._fan_out = FanOut(self._roster, self._pump, self.tally)
        self._liveness = Liveness(options.ping_interval_s, options.ping_timeout_s, self.tally)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: set[Stream] = set()
        self._changed_lock = threading.Lock()
        self._tick: asyncio.TimerHandle | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.now = time.monotonic()
        self._tick = self._loop.call_later(CLOCK_S, self._clock)
        self._monitor.subscribe(self)

    def stop(self) -> None:
        """End: connections are aborted."""
        self._monitor.unsubscribe(self)
        if self._tick is not None:
            self._tick.cancel()
        self._liveness.abort_all()
        self._loop = None

    async def drain(self, seconds: float, reason: str) -> None:
        """Say goodbye to everybody; see Liveness."""
        await self._liveness.drain(seconds, reason)

    def _clock(self) -> None:
        assert self._loop is not None
        late = time.monotonic() - self.now - CLOCK_S
        self.now = now = time.monotonic()
        self.tally.lag.add(max(0.0, late))
        self._tick = self._loop.call_later(CLOCK_S, self._clock)
        self._liveness.tick(now)
        self._chunks.forget_idle()
        self._roster.free_sources()
        self._fan_out.tick(now, self._quiet_s)

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
            for channel in self._roster.of(stream):  # one without members goes on the way
                self._fan_out.schedule(channel)

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def head(self, stream: Stream, view: View) -> Positions:
        """Where the live view of a stream is: what a client that wants only new lines begins behind."""
        channel = self._roster.find(stream, view)
        return stream.ring.head()[1] if channel is None else channel.positions

    def prepare(self, sink: Sink, stream: Stream, view: View, positions: Positions, lag: Lag) -> Subscription:
        """A subscription that has everything before `positions`; `pump` sends it the rest and keeps it going."""
        channel = self._roster.open(stream, view)
        subscription = Subscription(sink, channel, positions, lag)
        channel.members.add(subscription)
        return subscription

    def pump(self, subscription: Subscription) -> None:
        """Bring a subscription on; see Pump."""
        self._pump.pump(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Send nothing more."""
        if subscription.place is Place.OVER:
            return
        channel = subscription.channel
        channel.live.pop(subscription, None)
        channel.members.discard(subscription)
        subscription.place = Place.OVER
        self._roster.close_unused(channel)

    def place_of(self, subscription: Subscription) -> Positions:
        """What the client has of the stream by now."""
        return subscription.channel.place_of(subscription)[1]

    def _go_on(self, channel: Channel) -> None:
        self._fan_out.schedule(channel, at_once=False)

    # -- Owner: what connections tell ----------------------------------------------------------------------------------

    @property
    def connections(self) -> set[Connection]:
        """All of them, also those that are being closed."""
        return self._liveness.connections

    def add(self, connection: Connection) -> None:
        """Look after the connection from now on."""
        self._liveness.add(connection, self.now)

    def connection_ready(self, connection: Connection) -> None:
        """The peer has taken everything: go on."""
        for subscription in list(connection.subscriptions.values()):
            self._pump.pump(subscription)

    def connection_message(self, connection: Connection, opcode: Opcode, payload: bytes) -> None:
        """A message from a client."""
        self.on_message(connection, opcode, payload)

    def connection_gone(self, connection: Connection) -> None:
        """No line goes there any more."""
        for subscription in connection.subscriptions.values():
            self.unsubscribe(subscription)
        connection.subscriptions = {}
        if connection.is_gone and connection in self._liveness.connections:
            self._liveness.connections.remove(connection)
            self.on_gone(connection)
