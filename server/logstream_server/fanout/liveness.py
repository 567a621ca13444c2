"""Who is connected: pings and aborts of peers that are dead or stuck, and the goodbye when the server ends.

A connection knows by which rules it lives (`Connection.check`); here is when it is looked at. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import time

from logstream_server.encoding import messages
from logstream_server.encoding.frames import Opcode, encode_frame
from logstream_server.encoding.view import Format

from .connection import Connection
from .tally import Tally

LEAST_DRAIN_S = 1.0
"""How long peers may at least take to answer the close."""


class Liveness:
    """Looks after `connections`, which others add and take away."""

    def __init__(self, ping_interval_s: float, ping_timeout_s: float, tally: Tally) -> None:
        self.connections: set[Connection] = set()
        self._ping_interval_s = ping_interval_s
        self._ping_timeout_s = ping_timeout_s
        self._tally = tally

    def add(self, connection: Connection, now: float) -> None:
        """Look after the connection from now on."""
        connection.next_check = now + self._ping_interval_s
        self.connections.add(connection)

    def tick(self, now: float) -> None:
        """The clock's look at those who are due, or do not read."""
        for connection in [c for c in self.connections if c.blocked or c.next_check <= now]:
            if connection.check(now, self._ping_interval_s, self._ping_timeout_s):
                self._tally.aborted += 1

    def abort_all(self) -> None:
        """Wait for nobody."""
        for connection in list(self.connections):
            connection.abort()

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
            end = time.monotonic() + max(LEAST_DRAIN_S, seconds)
            while self.connections and time.monotonic() < end:  # noqa: ASYNC110 - they end in many places, soon
                await asyncio.sleep(0.02)
        finally:  # also when there is no time left for goodbyes
            self.abort_all()
