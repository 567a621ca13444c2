"""The connections of `logstream bench`: thousands of sockets on one epoll, as little work for each as can be.

What comes is handed to the `listener` of the connection. Connecting is spread over a ramp; with `reconnect_s` every
client drops its connection now and then, without a word, and goes on at its cursor. Neither asyncio nor a WebSocket
library: either takes longer for a wake-up than all that is done here. Called by `bench`.
"""

from __future__ import annotations

import heapq
import random
import select
import socket
import ssl
import struct
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha1
from ipaddress import IPv4Network, IPv6Network
from itertools import cycle, islice
from os import strerror, urandom
from typing import Any, Final
from urllib.parse import urlsplit

from logstream_server.client.addresses import display_url, with_query
from logstream_server.encoding.events import reason_in
from logstream_server.encoding.frames import ProtocolError
from logstream_server.errors import CannotFollow

from .listener import Listener, Run

IN_FLIGHT: Final = 64
"""Handshakes at one time: a server's queue of connections to accept is often 128."""
PORTS_PER_ADDRESS: Final = 20_000
"""Linux gives 28,232 ports for outgoing connections to each source address; others use some."""
_BUFFER_BYTES: Final = 256 << 10
_BATCH: Final = 1024
_RETRY_S: Final = 0.2
_MAX_ANSWER_BYTES: Final = 64 << 10
_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: a reset and no TIME_WAIT, which would hold the port for a minute."""
_NO_PORT_YET: Final = 24
"""IP_BIND_ADDRESS_NO_PORT, which Python has no name for before 3.12: the port is chosen by destination, too."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to: the socket's URL with all of the query but the cursor, its address, and what to bring."""

    url: str
    family: int
    address: tuple[Any, ...]
    headers: dict[str, str]
    tls: ssl.SSLContext | None


class _State(Enum):
    CONNECTING = auto()
    SECURING = auto()
    ASKING = auto()
    OPEN = auto()
    GONE = auto()


@dataclass(slots=True, eq=False)
class Client:
    """One client, through all its connections."""

    listener: Listener
    source: str | None
    state: _State = _State.GONE
    was_open: bool = False
    answer: bytes = b""
    accept: bytes = b""
    socket: socket.socket | None = None
    drop_at: float = 0.0


@dataclass(slots=True)
class Counts:
    """What became of the connections: reasons with how often, and the number of clients that are there now."""

    open: int = 0
    reconnects: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


class Crowd:
    """All clients. `connect_more` and `poll` are to be called again and again."""

    def __init__(
        self,
        target: Target,
        run: Run,
        count: int,
        cursor: str | None,
        sources: Sequence[str],
        reconnect_s: float | None,
    ) -> None:
        each = cycle(sources or [None])
        self.clients = [Client(Listener(run, cursor), next(each)) for _ in range(count)]
        self.counts = Counts()
        self._target = target
        self._reconnect_s = reconnect_s
        self._may_return = reconnect_s is not None
        self._waiting = deque(self.clients)
        self._again: list[tuple[float, int, Client]] = []
        self._drops: list[tuple[float, int, Client]] = []
        self._in_flight = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def close(self) -> None:
        """End all connections, without a word."""
        for client in self.clients:
            self._close(client)
        self._epoll.close()

    @property
    def is_complete(self) -> bool:
        """Whether every first connection was made, or has failed."""
        return not self._waiting and not self._in_flight

    def connect_more(self, at_most: int) -> None:
        """Begin to connect clients that have not been yet, so that at most so many have been in all."""
        done = len(self.clients) - len(self._waiting)
        for _ in range(min(at_most - done, len(self._waiting), IN_FLIGHT - self._in_flight)):
            self._connect(self._waiting.popleft())

    def give_up_connecting(self) -> None:
        """What is still being connected has failed."""
        self._waiting.clear()
        for client in self.clients:
            if client.state not in (_State.OPEN, _State.GONE):
                self._fail(client, "no answer in time")

    def stop_dropping(self) -> None:
        """From now on no client drops its connection; those that are away still come back."""
        self._reconnect_s = None
        self._drops.clear()

    def poll(self, timeout_s: float) -> None:
        """Take in what has come, or wait for it."""
        now = time.monotonic()
        while self._again and self._again[0][0] <= now:
            self._connect(heapq.heappop(self._again)[2])
        while self._drops and self._drops[0][0] <= now:
            self._drop(heapq.heappop(self._drops)[2])
        by_fd = self._by_fd
        for fd, _ in self._epoll.poll(timeout_s, _BATCH):
            client = by_fd.get(fd)
            if client is not None:  # not closed by what came before it
                self._ready(client)

    # -- one connection -----------------------------------------------------------------------------------------------

    def _connect(self, client: Client) -> None:
        target = self._target
        client.answer = b""
        self._in_flight += 1
        client.state = _State.CONNECTING
        try:
            client.socket = opened = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            if client.source is not None:
                with suppress(OSError):  # an old kernel
                    opened.setsockopt(socket.IPPROTO_IP, _NO_PORT_YET, 1)
                opened.bind((client.source, 0))
            with suppress(BlockingIOError):
                opened.connect(target.address)
        except OSError as error:
            self._fail(client, error.strerror or str(error))
            return
        self._by_fd[opened.fileno()] = client
        self._epoll.register(opened.fileno(), select.EPOLLOUT)

    def _ready(self, client: Client) -> None:
        try:
            if client.state is _State.OPEN:
                self._receive(client)
            elif client.state is _State.CONNECTING:
                self._connected(client)
            elif client.state is _State.SECURING:
                self._secure(client)
            else:
                self._read_answer(client)
        except ssl.SSLCertVerificationError as error:
            self._fail(client, f"its certificate is not trusted: {error.verify_message}")
        except ProtocolError as error:
            self._fail(client, str(error))
        except OSError as error:
            self._fail(client, error.strerror or str(error))

    def _connected(self, client: Client) -> None:
        assert client.socket is not None
        error = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, strerror(error))
        if self._target.tls is None:
            self._ask(client)
            return
        host = urlsplit(self._target.url).hostname
        client.socket = self._target.tls.wrap_socket(client.socket, server_hostname=host, do_handshake_on_connect=False)
        client.state = _State.SECURING
        self._secure(client)

    def _secure(self, client: Client) -> None:
        assert isinstance(client.socket, ssl.SSLSocket)
        try:
            client.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._epoll.modify(client.socket.fileno(), select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._epoll.modify(client.socket.fileno(), select.EPOLLOUT)
        else:
            self._ask(client)

    def _ask(self, client: Client) -> None:
        """Send the request for a WebSocket (RFC 6455, 4.1)."""
        assert client.socket is not None
        cursor = client.listener.cursor
        parts = urlsplit(with_query(self._target.url, {"cursor": cursor} if cursor else {"tail": 0}))
        key = b64encode(urandom(16))
        client.accept = b64encode(sha1(key + _GUID).digest())  # noqa: S324 - what RFC 6455 prescribes
        fields = {
            "Host": parts.netloc.rpartition("@")[2],
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Version": "13",
            "User-Agent": "logstream-bench",
            **self._target.headers,
        }
        lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        client.socket.send("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        client.state = _State.ASKING
        self._epoll.modify(client.socket.fileno(), select.EPOLLIN)

    def _read_answer(self, client: Client) -> None:
        for data in self._incoming(client):
            client.answer += data
            head, end, rest = client.answer.partition(b"\r\n\r\n")
            if end:
                self._answered(client, head.decode("latin-1"), rest)
                return
            if len(client.answer) > _MAX_ANSWER_BYTES:
                raise ProtocolError(1002, "the answer does not end")
        if client.listener.closed:
            self._fail(client, "closed without an answer")

    def _answered(self, client: Client, head: str, rest: bytes) -> None:
        status, *lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        code = status.split(" ")[1:2]
        if code != ["101"]:
            self._fail(client, f"{reason_in(rest) or 'refused'} (HTTP {''.join(code) or status})")
        elif fields.get("sec-websocket-accept", "").encode() != client.accept:
            self._fail(client, "it does not speak WebSocket")
        else:
            self._opened(client)
            client.answer = b""
            if rest:
                self._take(client, rest)

    def _opened(self, client: Client) -> None:
        self._in_flight -= 1
        self.counts.open += 1
        self.counts.reconnects += client.was_open
        client.state, client.was_open = _State.OPEN, True
        if self._reconnect_s is not None:
            at = time.monotonic() + self._reconnect_s * random.uniform(0.5, 1.5)  # noqa: S311
            heapq.heappush(self._drops, (at, id(client), client))

    def _incoming(self, client: Client) -> Iterator[memoryview]:
        """What is there to read; notes it when that ended."""
        assert client.socket is not None
        secured = isinstance(client.socket, ssl.SSLSocket)
        while True:
            try:
                size = client.socket.recv_into(self._buffer)
            except (ssl.SSLWantReadError, BlockingIOError):
                return
            except (ssl.SSLEOFError, ConnectionResetError):
                size = 0
            if not size:
                client.listener.lose_connection()
                return
            yield self._buffer[:size]
            if not secured:  # what is left wakes us again; TLS may hold some that the socket does not show
                return

    def _receive(self, client: Client) -> None:
        if self._target.tls is None:  # as below, and a microsecond faster
            assert client.socket is not None
            size = client.socket.recv_into(self._buffer)
            if size:
                self._take(client, self._buffer[:size])
                return
            client.listener.lose_connection()
            self._lost(client)
            return
        for data in self._incoming(client):
            self._take(client, data)
            if client.state is not _State.OPEN:
                return
        if client.listener.closed is not None:
            self._lost(client)

    def _take(self, client: Client, data: memoryview | bytes) -> None:
        listener = client.listener
        listener.feed(data, time.time_ns())
        if listener.answers:
            assert client.socket is not None
            with suppress(OSError):  # who does not take a pong will end the connection
                client.socket.send(listener.answers)
            listener.answers = b""
        if listener.closed is not None:
            self._lost(client)

    def _lost(self, client: Client) -> None:
        """The server ended an open connection, or it broke."""
        closed = client.listener.closed
        assert closed is not None
        self.counts.dropped[f"{closed.reason or 'closed by the server'} ({closed.code})"] += 1
        self._away(client)

    def _drop(self, client: Client) -> None:
        """We end it, on purpose."""
        if client.state is _State.OPEN and self._reconnect_s is not None:
            self._away(client, 0)

    def _away(self, client: Client, wait_s: float = _RETRY_S) -> None:
        self.counts.open -= 1
        self._close(client)
        if self._may_return:
            heapq.heappush(self._again, (time.monotonic() + wait_s, id(client), client))
            client.listener.reconnected()

    def _fail(self, client: Client, reason: str) -> None:
        """No connection came about, or what came over an open one is not understood."""
        if client.state is _State.OPEN:
            self.counts.dropped[reason] += 1
            self.counts.open -= 1
        else:
            self.counts.refused[reason] += 1
            self._in_flight -= 1
        self._close(client)
        if client.was_open and self._may_return:
            heapq.heappush(self._again, (time.monotonic() + _RETRY_S, id(client), client))
            client.listener.reconnected()

    def _close(self, client: Client) -> None:
        if client.socket is not None:
            self._by_fd.pop(client.socket.fileno(), None)
            client.socket.close()  # which takes it off the epoll, too
        client.socket, client.state = None, _State.GONE


def find_target(url: str, headers: dict[str, str], tls: ssl.SSLContext | None) -> Target:
    """Look the host's address up. `url` is a socket's. Raises CannotFollow."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise CannotFollow(
            display_url(f"{parts.scheme}://{parts.netloc}"), None, error.strerror or str(error)
        ) from error
    family, _, _, _, address = found[0]
    return Target(url, family, address, headers, tls)


def spread(networks: Sequence[Network], clients: int) -> list[str]:
    """Source addresses out of these networks, as many as so many clients need ports."""
    wanted = -(-clients // PORTS_PER_ADDRESS)
    found: list[str] = []
    for network in networks:
        found += map(str, islice(network.hosts(), max(wanted, 1)))
    return found
