"""A client that goes on by itself where a broken connection left off.

`LogStreamClient` speaks `logstream.json.v1` (docs/protocol.md): it remembers the cursor of each stream together with
the lines that it gave out, so that after a reconnect no line is missing and none comes twice. What cannot be made up
for is an event of its own, never silence. What it gives are `events`; `tail` prints them, and the tests of the server
use it too.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.typing import Subprotocol

from logstream_server.encoding.events import (
    Bye,
    ClientEvent,
    Disconnected,
    Event,
    Gap,
    Hello,
    Lines,
    Reconnected,
    Subscribed,
    parse_server_message,
    reason_in,
)
from logstream_server.encoding.messages import JSON_PROTOCOL
from logstream_server.errors import CannotFollow, CloseCode

from .addresses import display_url, socket_url, with_query

MAX_MESSAGE_BYTES: Final = 512 << 20
"""The longest line that a server can be set to send is 64 MiB, and JSON may escape each of its bytes with six."""

_TRY_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that pass by themselves; any other refusal is final."""
_LONGEST_WAIT_S: Final = 60.0
"""However long a server asks us to stay away."""
_FINAL_CODES: Final = frozenset(int(code) for code in CloseCode if not code.reconnect)
_SSL_WORDS: Final = {"WRONG_VERSION_NUMBER": "it speaks no TLS: say http:// or ws://"}
"""For OpenSSL's, which few understand."""
_UNREADABLE: Final = frozenset({1002, 1003, 1007, 1009})
"""Codes with which our own side closes when it cannot read the server: it would be the same the next time."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is wanted of one stream (None: the server's first): from where on, and which lines.

    It begins at `cursor`, or else with the file's first line, or else with the last `tail` lines.
    """

    stream: str | None = None
    tail: int = 10
    cursor: str | None = None
    from_start: bool = False
    grep: Sequence[str] = ()
    exclude: Sequence[str] = ()
    lag: str | None = None

    def wire(self) -> dict[str, Any]:
        """The fields of a `subscribe` message, which are also those of the query."""
        start: dict[str, Any] = {"from": "start"} if self.from_start else {"tail": self.tail}
        if self.cursor:
            start = {"cursor": self.cursor}
        chosen = {"stream": self.stream, "grep": list(self.grep), "exclude": list(self.exclude), "lag": self.lag}
        return start | {name: value for name, value in chosen.items() if value}


@dataclass(frozen=True, slots=True)
class Patience:
    """How a client waits: the time before the first and before every later try (doubled each time, then jittered).

    With `for_server` it also waits for a server that is not there yet; else the very first failure is final.
    """

    first_s: float = 0.1
    longest_s: float = 5.0
    for_server: bool = False
    ping_s: float = 20.0


class LogStreamClient:
    """Follows one stream or more: `async with LogStreamClient(url) as client: async for event in client: ...`.

    `url` is a server's address (http, https, ws, wss), with its base path if it has one, or its socket `.../ws`. An
    iteration that is cancelled (by a timeout) can be taken up again and loses nothing. Raises CannotFollow.
    """

    def __init__(  # noqa: PLR0913 - flat, as the query of /ws is
        self,
        url: str,
        stream: str | None = None,
        tail: int = 10,
        cursor: str | None = None,
        from_start: bool = False,
        grep: Sequence[str] = (),
        exclude: Sequence[str] = (),
        lag: str | None = None,
        headers: Mapping[str, str] | None = None,
        patience: Patience = Patience(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = display_url(url)
        """The address for people to read: no query and no password, since those may hold a token."""
        self.cursors: dict[str, str] = {}
        """Where each stream goes on: after the last line that was given out."""
        self._socket_url = socket_url(url)
        self._headers = dict(headers or {})
        self._patience = patience
        self._tls = tls
        first = Subscription(stream, tail, cursor, from_start, grep, exclude, lag)
        self._subscriptions: dict[str | None, Subscription] = {stream: first}
        self._pending: deque[ClientEvent] = deque()
        self._connection: ClientConnection | None = None
        self._closing = asyncio.Event()
        self._bye: Bye | None = None
        self._attempts = 0  # since there was last any progress
        self._retry_at = 0.0
        self._connected_at = 0.0
        self._lost_at: float | None = None
        self._tries = 0  # since the connection was lost

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientEvent:
        while not self._pending:
            if self._closing.is_set():
                raise StopAsyncIteration
            try:
                await (self._receive(self._connection) if self._connection else self._connect())
            except CannotFollow:
                await self.close()
                raise
        event = self._pending.popleft()
        self._remember(event)
        return event

    async def close(self) -> None:
        """End the iteration and the connection."""
        self._closing.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def subscribe(self, subscription: Subscription) -> None:
        """Follow one more stream (or another part of one) on the same connection; `subscription.stream` names it."""
        self._subscriptions[subscription.stream] = subscription
        if subscription.stream is not None:
            self.cursors.pop(subscription.stream, None)
        await self._send({"type": "subscribe"} | subscription.wire())

    async def unsubscribe(self, stream: str) -> None:
        """No more of a stream."""
        self._subscriptions.pop(stream, None)
        self.cursors.pop(stream, None)
        await self._send({"type": "unsubscribe", "stream": stream})

    async def set_filter(self, stream: str, grep: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Other patterns for a stream that is followed already."""
        if stream in self._subscriptions:
            self._subscriptions[stream] = replace(self._subscriptions[stream], grep=grep, exclude=exclude)
        await self._send({"type": "filter", "stream": stream, "grep": list(grep), "exclude": list(exclude)})

    async def _send(self, message: dict[str, Any]) -> None:
        """Send, if there is a connection; the next one begins with all subscriptions as they are then."""
        if self._connection is not None:
            with suppress(ConnectionClosed):  # the next receive tells
                await self._connection.send(msgspec.json.encode(message).decode())

    def _resumed(self, subscription: Subscription) -> Subscription:
        cursor = self.cursors.get(subscription.stream or "")
        return replace(subscription, cursor=cursor) if cursor else subscription

    def _remember(self, event: ClientEvent) -> None:
        """Keep what the next connection goes on from, at the moment in which the event is given out."""
        if isinstance(event, Hello) and event.stream is not None and None in self._subscriptions:
            first = replace(self._subscriptions.pop(None), stream=event.stream)  # it has its name now
            self._subscriptions = {event.stream: first, **self._subscriptions}
        if isinstance(event, Lines) and event.lines:
            self._attempts = 0
        if isinstance(event, Hello | Subscribed | Lines | Gap | Event) and event.stream is not None and event.cursor:
            self.cursors[event.stream] = event.cursor

    async def _connect(self) -> None:
        """Make a connection, when it is time to; a failure that may pass sets the time of the next try."""
        if await self._closed_within(self._retry_at - asyncio.get_running_loop().time()):
            return
        first, *others = map(self._resumed, self._subscriptions.values()) if self._subscriptions else [Subscription()]
        self._tries += 1
        try:
            connection = await connect(
                with_query(self._socket_url, first.wire()),
                subprotocols=[Subprotocol(JSON_PROTOCOL)],
                compression=None,
                additional_headers=self._headers,
                ssl=self._tls or (True if self._socket_url.startswith("wss:") else None),
                max_size=MAX_MESSAGE_BYTES,
                ping_interval=self._patience.ping_s,
                ping_timeout=self._patience.ping_s,
                close_timeout=1,  # so that Ctrl-C is quick when the server hangs
            )
        except InvalidStatus as error:
            self._refused(error)
        except ssl.SSLCertVerificationError as error:
            raise CannotFollow(self.url, None, f"its certificate is not trusted: {error.verify_message}") from error
        except (OSError, EOFError, InvalidMessage, ProxyError) as error:
            if not self._connected_at and not self._patience.for_server:
                raise CannotFollow(self.url, None, failure_words(error)) from error
            self._lost(failure_words(error), None)
        except (InvalidHandshake, InvalidURI, InvalidProxy) as error:
            raise CannotFollow(self.url, None, failure_words(error)) from error
        else:
            await self._connected(connection, others)

    async def _connected(self, connection: ClientConnection, others: Sequence[Subscription]) -> None:
        self._connection = connection
        if connection.subprotocol != JSON_PROTOCOL:
            raise CannotFollow(self.url, None, f"it does not speak {JSON_PROTOCOL}; is it a logstream server?")
        if self._closing.is_set():  # while the connection was being made
            await self.close()
            return
        now = asyncio.get_running_loop().time()
        if self._lost_at is not None:
            self._pending.append(Reconnected(self._tries, now - self._lost_at))
        self._connected_at, self._lost_at, self._tries, self._bye = now, None, 0, None
        for subscription in others:
            await self._send({"type": "subscribe"} | subscription.wire())

    async def _closed_within(self, delay_s: float) -> bool:
        if delay_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), delay_s)
        return self._closing.is_set()

    async def _receive(self, connection: ClientConnection) -> None:
        """Wait for one message."""
        try:
            message = parse_server_message(await connection.recv())
        except ConnectionClosed as closed:
            self._connection = None
            if not self._closing.is_set():
                self._closed(closed)
            return
        except ValueError as error:
            raise CannotFollow(self.url, None, f"it sent what is no message of {JSON_PROTOCOL}: {error}") from error
        if isinstance(message, Bye):
            self._bye = message
        if message is not None:
            self._pending.append(message)

    def _closed(self, closed: ConnectionClosed) -> None:
        """Decide what a closed connection means: the end, or another try."""
        code = closed.rcvd.code if closed.rcvd else None
        reason = (closed.rcvd.reason if closed.rcvd else "") or (self._bye.reason if self._bye else "")
        if self._bye is not None and not self._bye.reconnect:
            raise CannotFollow(self.url, code, reason or "the server asked not to come back") from closed
        if code in _FINAL_CODES:
            raise CannotFollow(self.url, code, reason or "refused") from closed
        if closed.sent and not closed.rcvd_then_sent and closed.sent.code in _UNREADABLE:
            raise CannotFollow(self.url, closed.sent.code, closed.sent.reason or "unreadable") from closed
        if asyncio.get_running_loop().time() - self._connected_at > 2 * self._patience.longest_s:
            self._attempts = 0  # it held for a while: no failure of connecting
        unanswered = closed.sent is not None and "ping" in closed.sent.reason
        broke = "no answer to a ping" if unanswered else "closed by the server" if code else "the connection broke"
        self._lost(reason or broke, code)

    def _refused(self, refusal: InvalidStatus) -> None:
        """The server answered with an HTTP status in place of a socket."""
        response = refusal.response
        reason = reason_in(bytes(response.body or b"")) or response.reason_phrase or "refused"
        if response.status_code not in _TRY_LATER:
            raise CannotFollow(self.url, response.status_code, reason) from refusal
        after = response.headers.get("Retry-After", "")
        self._lost(f"{reason} (HTTP {response.status_code})", None, float(after) if after.isdecimal() else 0.0)

    def _lost(self, reason: str, code: int | None, at_least_s: float = 0.0) -> None:
        """Set the time of the next try: doubled with each that brought no line, jittered, so that a crowd spreads."""
        patience = self._patience
        delay_s = min(patience.longest_s, patience.first_s * 2 ** min(self._attempts, 30)) * random.uniform(0.5, 1)  # noqa: S311
        if self._bye is not None:
            at_least_s = max(at_least_s, self._bye.retry_ms / 1000)
            self._bye = None
        delay_s += min(at_least_s, _LONGEST_WAIT_S)
        now = asyncio.get_running_loop().time()
        self._attempts += 1
        self._retry_at = now + delay_s
        if self._lost_at is None:
            self._lost_at = now
        self._pending.append(Disconnected(reason, code, delay_s))


def failure_words(error: Exception) -> str:
    """What went wrong, in the system's words where it has some: asyncio puts words of its own in their place
    ("Connect call failed"), and where a name has several addresses one text of the failures of all."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and (reason := getattr(error, "reason", None)):  # those of Python itself lack it
        return _SSL_WORDS.get(reason) or f"TLS: {reason.lower().replace('_', ' ')}"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror | ssl.SSLError):
        numbers = [error.errno] if error.errno else map(int, re.findall(r"\[Errno (\d+)\]", str(error)))
        if words := "; ".join(dict.fromkeys(map(os.strerror, numbers))):
            return words
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
