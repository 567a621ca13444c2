"""connection: every byte in order whatever the peer takes of it, and the rules by which a peer lives.

The transport is a fake where time matters, which is the owner's to give, and a real one over a socket pair where the
kernel does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.encoding.frames import Message, Opcode, encode_frame, parse_close, parse_server_frames
from logstream_server.fanout.connection import (
    CLOSE_WAIT_S,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGES_PER_TICK,
    Connection,
)
from logstream_server.transport.tls import Reception, TlsTransport

from ..tls import Authority

INTERVAL_S, TIMEOUT_S = 20.0, 20.0
START = 1000.0
MASK = b"\x0f\xf0\xaa\x01"
TICK_S = 0.5


@dataclass
class Owner:
    """The hub, as a connection sees it; its clock is the test's."""

    now: float = START
    ready: int = 0
    gone: int = 0
    messages: list[tuple[Opcode, bytes]] = field(default_factory=list)
    on_ready: Callable[[Connection], None] = lambda _connection: None

    def connection_ready(self, connection: Connection) -> None:
        self.ready += 1
        self.on_ready(connection)

    def connection_message(self, _connection: Connection, opcode: Opcode, payload: bytes) -> None:
        self.messages.append((opcode, payload))

    def connection_gone(self, _connection: Connection) -> None:
        self.gone += 1


class Transport:
    """Takes what it is told to take, as asyncio's do: with no high water, it pauses as soon as something is left."""

    def __init__(self) -> None:
        self.takes = 1 << 30
        self.sent = b""
        self.buffer = b""
        self.closing = self.aborted = False
        self.protocol: Any = None
        self.extra: dict[str, Any] = {}

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> Any:
        return self.extra.get(name)

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        assert not self.closing
        was_empty = not self.buffer
        self.buffer += bytes(data)
        if was_empty:
            self._flush()
            if self.buffer:
                self.protocol.pause_writing()

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.write(b"".join(parts))

    def take(self, count: int) -> None:
        """The peer takes some of what waits."""
        self.takes += count
        waited = bool(self.buffer)
        self._flush()
        if waited and not self.buffer:
            self.protocol.resume_writing()

    def _flush(self) -> None:
        self.sent += self.buffer[: self.takes]
        self.buffer, self.takes = self.buffer[self.takes :], max(0, self.takes - len(self.buffer))

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    @property
    def frames(self) -> list[Message]:
        return parse_server_frames(self.sent)


def send_next(connection: Connection) -> None:
    """What an owner does that has one line more."""
    connection.write(b"\x81\x04next")


class Peer:
    """A connection on a fake transport, and what its client does."""

    def __init__(self) -> None:
        self.owner, self.transport = Owner(), Transport()
        self.connection = Connection(self.owner, "text")
        self.lost: list[Connection] = []
        self.connection.attach(self.transport, self.lost.append)

    def block(self) -> None:
        """The client takes nothing any more; some bytes wait."""
        self.transport.takes = 0
        assert not self.connection.write(b"waiting...")
        assert self.connection.blocked

    def send(self, opcode: Opcode, payload: bytes = b"") -> None:
        self.connection.data_received(encode_frame(opcode, payload, mask=MASK))

    def wait(self, seconds: float) -> bool:
        """Let time pass as the hub's clock does; True if the connection was aborted for it."""
        end = self.owner.now + seconds
        while self.owner.now < end:
            self.owner.now = min(end, self.owner.now + TICK_S)
            if (self.connection.blocked or self.connection.next_check <= self.owner.now) and self.connection.check(
                self.owner.now, INTERVAL_S, TIMEOUT_S
            ):
                return True
        return False


@pytest.fixture
def peer() -> Peer:
    return Peer()


# -- pings ------------------------------------------------------------------------------------------------------------


def test_a_peer_that_answers_lives(peer: Peer) -> None:
    for _ in range(10):
        assert not peer.wait(INTERVAL_S)
        peer.send(Opcode.PONG)
    assert peer.transport.frames == [(Opcode.PING, b"")] * 10
    assert not peer.transport.aborted


def test_whatever_comes_is_a_sign_of_life(peer: Peer) -> None:
    """Be it half a frame."""
    for byte in encode_frame(Opcode.TEXT, b"hello", mask=MASK):
        assert not peer.wait(INTERVAL_S + TIMEOUT_S - 1)
        peer.connection.data_received(bytes([byte]))
    assert peer.owner.messages == [(Opcode.TEXT, b"hello")]


def test_a_peer_that_does_not_answer_is_aborted_after_interval_and_timeout(peer: Peer) -> None:
    assert not peer.wait(INTERVAL_S + TIMEOUT_S - TICK_S)
    assert peer.transport.frames
    assert peer.wait(TICK_S)
    assert peer.transport.aborted


def test_a_peer_that_takes_nothing_is_aborted_as_soon(peer: Peer) -> None:
    """Without a ping: it would wait behind what is not taken."""
    peer.block()
    assert not peer.wait(INTERVAL_S + TIMEOUT_S - TICK_S)
    assert peer.wait(TICK_S)
    assert peer.transport.aborted
    assert peer.transport.sent == b""


def test_a_peer_that_takes_a_little_lives(peer: Peer) -> None:
    """It may be behind a thin line; its answers wait with it."""
    peer.block()
    for _ in range(9):
        assert not peer.wait(INTERVAL_S + TIMEOUT_S - 1)
        peer.transport.take(1)
    assert not peer.wait(1)
    assert peer.connection.blocked
    assert peer.wait(INTERVAL_S + TIMEOUT_S)


def test_growth_of_what_waits_hides_no_progress(peer: Peer) -> None:
    """A close frame behind it makes it more, but that is not the peer's doing."""
    peer.block()
    assert not peer.wait(30)
    peer.transport.write(b"more, and much of it")
    assert not peer.wait(5)
    peer.transport.take(1)
    assert not peer.wait(20)


def test_a_peer_that_took_everything_is_alive(peer: Peer) -> None:
    peer.block()
    assert not peer.wait(30)
    peer.transport.take(1000)
    assert not peer.connection.blocked
    assert not peer.wait(INTERVAL_S + TIMEOUT_S - TICK_S)
    assert peer.wait(TICK_S)


def test_a_peer_that_sends_but_does_not_read_lives(peer: Peer) -> None:
    """That is not nice, but it is bounded: nothing more is written to it."""
    peer.block()
    for _ in range(5):
        assert not peer.wait(30)
        peer.send(Opcode.PING, b"?")


@given(st.lists(st.floats(0.5, 60), max_size=30))
def test_a_peer_is_pinged_once_an_interval_however_lively_it_is(pauses: list[float]) -> None:
    peer = Peer()
    begun = peer.owner.now
    for pause in pauses:
        if peer.wait(min(pause, 30)):
            raise AssertionError("a lively peer was aborted")
        peer.send(Opcode.PONG)
    passed = peer.owner.now - begun
    assert passed / (INTERVAL_S + TICK_S) - 1 <= len(peer.transport.frames) <= passed / INTERVAL_S


# -- writing ----------------------------------------------------------------------------------------------------------


def test_what_is_taken_at_once_needs_no_waiting(peer: Peer) -> None:
    assert peer.connection.write(b"abc")
    assert not peer.connection.blocked
    assert peer.transport.sent == b"abc"


def test_what_is_not_taken_blocks_until_it_is(peer: Peer) -> None:
    peer.block()
    assert peer.owner.ready == 0
    peer.transport.take(3)
    assert peer.connection.blocked
    peer.transport.take(100)
    assert not peer.connection.blocked
    assert peer.owner.ready == 1
    assert peer.transport.sent == b"waiting..."


def test_the_owner_may_block_it_again_at_once(peer: Peer) -> None:
    def write(connection: Connection) -> None:
        if peer.owner.ready == 1:
            assert not connection.write(b" and more")

    peer.owner.on_ready = write
    peer.block()
    peer.transport.take(10)
    assert peer.connection.blocked
    peer.transport.take(100)
    assert (peer.owner.ready, peer.connection.blocked) == (2, False)
    assert peer.transport.sent == b"waiting... and more"


def test_a_connection_that_was_blocked_when_it_was_taken_over_is_blocked() -> None:
    transport = Transport()
    transport.buffer = b"the answer to its request"
    connection = Connection(Owner(), "text")
    connection.attach(transport, lambda _connection: None)
    assert connection.blocked
    transport.take(1000)
    assert not connection.blocked


def test_with_tls_nothing_goes_past_the_transport() -> None:
    """The kernel would send it as it is."""
    mine, other = socket.socketpair()
    with mine, other:
        transport = Transport()
        transport.extra = {"socket": mine, "sslcontext": object()}
        connection = Connection(Owner(), "text")
        connection.attach(transport, lambda _connection: None)
        assert connection.write(b"secret")
        assert connection.write(b"and", b"more")
        assert transport.sent == b"secretandmore"
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(10)


def test_nothing_is_written_to_a_connection_that_closes(peer: Peer) -> None:
    peer.transport.close()
    assert not peer.connection.write(b"abc")
    assert peer.connection.blocked
    assert peer.transport.sent == b""


# -- pings of the peer ------------------------------------------------------------------------------------------------


def test_a_ping_is_answered_with_its_own_words(peer: Peer) -> None:
    peer.send(Opcode.PING, b"are you there?")
    assert peer.transport.frames == [(Opcode.PONG, b"are you there?")]


def test_pings_of_a_peer_that_does_not_read_cost_one_answer(peer: Peer) -> None:
    """The newest is enough (RFC 6455, 5.5.3), and it comes before the next line."""
    peer.owner.on_ready = send_next
    peer.block()
    for number in range(500):
        peer.send(Opcode.PING, b"%d" % number)
    assert len(peer.transport.buffer) == len(b"waiting...")
    peer.transport.take(1 << 20)
    assert parse_server_frames(peer.transport.sent[10:]) == [(Opcode.PONG, b"499"), (Opcode.TEXT, b"next")]
    assert peer.owner.ready == 1


def test_when_the_answer_blocks_again_the_lines_wait(peer: Peer) -> None:
    peer.block()
    peer.send(Opcode.PING, b"x" * 100)
    peer.transport.take(10)
    assert (peer.connection.blocked, peer.owner.ready) == (True, 0)
    peer.transport.take(1000)
    assert (peer.connection.blocked, peer.owner.ready) == (False, 1)


def test_a_peer_may_send_so_many_messages_a_tick(peer: Peer) -> None:
    frame = encode_frame(Opcode.PONG, b"", mask=MASK)
    for _ in range(3):
        peer.connection.data_received(frame * (MAX_MESSAGES_PER_TICK // 2))
        peer.connection.data_received(frame * (MAX_MESSAGES_PER_TICK // 2))
        peer.owner.now += TICK_S
    assert peer.transport.sent == b""
    peer.connection.data_received(frame * MAX_MESSAGES_PER_TICK)
    peer.connection.data_received(frame)
    (message,) = peer.transport.frames
    assert parse_close(message.payload) == (1008, "too many messages")


# -- messages ---------------------------------------------------------------------------------------------------------


def test_messages_go_to_the_owner_however_they_are_cut(peer: Peer) -> None:
    data = encode_frame(Opcode.TEXT, "zwölf".encode(), mask=MASK) + encode_frame(Opcode.BINARY, b"\0", mask=MASK)
    for byte in data:
        peer.connection.data_received(bytes([byte]))
    assert peer.owner.messages == [(Opcode.TEXT, "zwölf".encode()), (Opcode.BINARY, b"\0")]


def test_between_messages_no_parser_is_kept(peer: Peer) -> None:
    """An idle client costs nothing that it does not need."""
    data = encode_frame(Opcode.TEXT, b"hello", mask=MASK)
    peer.connection.data_received(data[:3])
    assert peer.connection._parser is not None
    peer.connection.data_received(data[3:])
    assert peer.connection._parser is None


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        pytest.param(encode_frame(Opcode.TEXT, b"a"), 1002, "frame of a client without a mask", id="no mask"),
        pytest.param(b"\xff\x80", 1002, "reserved bits are set", id="no frame at all"),
        pytest.param(encode_frame(Opcode.TEXT, b"\xff", mask=MASK), 1007, "text is not UTF-8", id="no text"),
        pytest.param(
            encode_frame(Opcode.TEXT, bytes(MAX_MESSAGE_BYTES + 1), mask=MASK)[:14],
            1009,
            "message of 65537 bytes or more, over 65536",
            id="too long, known before it is there",
        ),
    ],
)
def test_a_peer_that_breaks_the_rules_is_told_which(peer: Peer, data: bytes, code: int, reason: str) -> None:
    peer.connection.data_received(data)
    (message,) = peer.transport.frames
    assert (message.opcode, parse_close(message.payload)) == (Opcode.CLOSE, (code, reason))
    assert peer.owner.gone == 1
    assert peer.owner.messages == []


# -- closing ----------------------------------------------------------------------------------------------------------


def test_a_peer_that_answers_our_close_is_closed(peer: Peer) -> None:
    peer.connection.finish(4005, "a gap")
    (message,) = peer.transport.frames
    assert parse_close(message.payload) == (4005, "a gap")
    assert (peer.owner.gone, peer.transport.closing) == (1, False)
    peer.send(Opcode.CLOSE, message.payload)
    assert (peer.transport.closing, peer.transport.aborted) == (True, False)
    assert len(peer.transport.frames) == 1


def test_a_peer_that_does_not_answer_our_close_is_waited_for_only_so_long(peer: Peer) -> None:
    assert not peer.wait(1)
    peer.connection.finish(1012, "restart")
    assert not peer.wait(CLOSE_WAIT_S)
    assert not peer.transport.aborted
    peer.wait(1.5)
    assert peer.transport.aborted


def test_a_peer_that_does_not_even_take_our_close_is_waited_for_no_longer(peer: Peer) -> None:
    peer.block()
    peer.connection.finish(4001, "too slow")
    peer.wait(CLOSE_WAIT_S + 1.5)
    assert peer.transport.aborted
    assert peer.transport.sent == b""


def test_it_is_closing_from_the_first_word_of_it_whoever_says_it() -> None:
    ours, theirs, lost, broken = Peer(), Peer(), Peer(), Peer()
    assert not ours.connection.is_closing
    ours.connection.finish(4001, "too slow")
    theirs.send(Opcode.CLOSE, b"\x03\xe8")
    lost.connection.connection_lost(None)
    broken.transport.close()
    assert all(peer.connection.is_closing for peer in (ours, theirs, lost, broken))


def test_our_close_is_said_once_and_nothing_is_heard_after_it(peer: Peer) -> None:
    peer.connection.finish(4005, "a gap")
    peer.connection.finish(4001, "too slow")
    peer.send(Opcode.TEXT, b"what?")
    assert len(peer.transport.frames) == 1
    assert peer.owner.messages == []
    assert peer.owner.gone == 1


def test_when_our_close_has_left_no_line_follows_it(peer: Peer) -> None:
    peer.block()
    peer.connection.finish(4005, "a gap")
    peer.transport.take(1000)
    assert peer.owner.ready == 0


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        pytest.param(b"\x03\xe8bye", 1000, id="with a code and a reason"),
        pytest.param(b"\x0f\xa1", 4001, id="with a code of its own"),
        pytest.param(b"", 1000, id="without a code"),
    ],
)
def test_a_peer_that_closes_is_answered(peer: Peer, payload: bytes, answer: int) -> None:
    peer.send(Opcode.CLOSE, payload)
    (message,) = peer.transport.frames
    assert parse_close(message.payload) == (answer, "")
    assert (peer.transport.closing, peer.owner.gone) == (True, 1)
    peer.connection.finish(4005, "a gap")
    assert len(peer.transport.frames) == 1


def test_a_peer_that_closes_and_does_not_read_is_aborted(peer: Peer) -> None:
    """The transport would wait for ever until everything before the answer was taken."""
    peer.block()
    peer.send(Opcode.CLOSE, b"\x03\xe8")
    assert not peer.transport.aborted
    peer.wait(CLOSE_WAIT_S + 1.5)
    assert peer.transport.aborted


def test_a_transport_that_closes_by_itself_is_written_nothing(peer: Peer) -> None:
    peer.transport.close()
    peer.connection.finish(4005, "a gap")
    assert peer.transport.sent == b""
    other = Peer()
    other.transport.close()
    other.send(Opcode.CLOSE, b"\x03\xe8")
    assert other.transport.sent == b""


def test_the_end_is_told_once(peer: Peer) -> None:
    peer.connection.connection_lost(None)
    peer.connection.connection_lost(None)
    assert (peer.owner.gone, peer.lost) == (1, [peer.connection])
    assert (peer.connection.is_gone, peer.connection.blocked) == (True, True)
    peer.connection.finish(4005, "a gap")
    assert peer.transport.sent == b""


def test_a_connection_that_never_had_a_transport_may_end(peer: Peer) -> None:
    """The peer went before it was taken over."""
    connection = Connection(peer.owner, "text")
    connection.connection_lost(None)
    connection.abort()
    assert (peer.owner.gone, connection.is_gone) == (1, True)


def test_the_servers_end_is_an_abort(peer: Peer) -> None:
    peer.connection.shutdown()
    assert peer.transport.aborted


# -- on a real socket -------------------------------------------------------------------------------------------------


class Line:
    """A connection over a real pair of sockets, with little room in the kernel; `other` is the client's end."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.connection = Connection(self.owner, "text")
        self.lost = asyncio.Event()
        mine, self.other = socket.socketpair()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.other.setblocking(False)
        self._mine = mine

    async def open(self) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=self._mine)
        self.connection.attach(transport, lambda _connection: self.lost.set())

    async def read(self, count: int) -> bytes:
        """So many bytes, as they come."""
        data = b""
        while len(data) < count:
            data += await asyncio.get_running_loop().sock_recv(self.other, count - len(data))
        return data

    async def send(self, data: bytes) -> None:
        """What the client sends."""
        await asyncio.get_running_loop().sock_sendall(self.other, data)

    async def is_over(self) -> bool:
        """Whether the end is what comes next."""
        return await asyncio.get_running_loop().sock_recv(self.other, 10) == b""

    async def until(self, check: Callable[[], Any]) -> None:
        """Until something is true."""
        async with asyncio.timeout(20):
            while not check():  # noqa: ASYNC110 - the loop itself is what it waits for
                await asyncio.sleep(0)


class TlsLine(Line):
    """The same over TLS; the client takes bytes from the kernel only when it is to read."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(*authority.issue())
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client = authority.trust.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def open(self) -> None:
        protocol = asyncio.Protocol()
        reception = Reception(lambda: self._context, 20)
        loop = asyncio.get_running_loop()
        tls = TlsTransport(reception, lambda: protocol, set())
        await loop.create_connection(lambda: tls, sock=self._mine)
        while not await self._step(self._client.do_handshake):
            pass
        await self.until(lambda: tls.get_protocol() is protocol)
        self.connection.attach(tls, lambda _connection: self.lost.set())

    async def _step(self, call: Callable[[], Any]) -> bool:
        """Try something; read what it wants and return False, if it wants anything."""
        is_done = True
        try:
            call()
        except ssl.SSLWantReadError:
            is_done = False
        if self._outgoing.pending:
            await super().send(self._outgoing.read())
        if not is_done:
            self._incoming.write(await asyncio.get_running_loop().sock_recv(self.other, 1 << 16))
        return is_done

    async def read(self, count: int) -> bytes:
        data = b""

        def take() -> None:
            nonlocal data
            while len(data) < count and (part := self._client.read(count - len(data))):
                data += part

        while not await self._step(take):
            pass
        return data

    async def send(self, data: bytes) -> None:
        self._client.write(data)
        await super().send(self._outgoing.read())

    async def is_over(self) -> bool:
        return await self.read(10) == b""


@pytest.fixture(params=["asyncio", "uvloop", "asyncio, TLS", "uvloop, TLS"])
def on_line(
    request: pytest.FixtureRequest, authority: Authority
) -> Callable[[Callable[[Line], Awaitable[None]]], None]:
    """Run a test's coroutine with a line, on each kind of loop that uvicorn may use, and over TLS."""
    kind, _, is_tls = request.param.partition(",")
    factory = uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop

    def run(test: Callable[[Line], Awaitable[None]]) -> None:
        async def main() -> None:
            line = TlsLine(authority) if is_tls else Line()
            await line.open()
            try:
                await test(line)
            finally:
                line.connection.abort()
                await asyncio.wait_for(line.lost.wait(), 20)
                line.other.close()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


OnLine = Callable[[Callable[[Line], Awaitable[None]]], None]
BULK = b"".join(b"line %06d\n" % number for number in range(60_000))


def test_every_byte_arrives_in_order_whatever_the_kernel_takes_at_once(on_line: OnLine) -> None:
    async def test(line: Line) -> None:
        assert line.connection.write(b"small\n")
        assert not line.connection.write(BULK)
        assert line.connection.blocked
        assert line.owner.ready == 0
        assert await line.read(6 + len(BULK)) == b"small\n" + BULK
        await line.until(lambda: not line.connection.blocked)
        assert line.owner.ready == 1
        assert line.connection.write(b"and on\n")
        assert await line.read(7) == b"and on\n"

    on_line(test)


@pytest.mark.parametrize("cut", [1, 10, 1000, len(BULK) - 1], ids=lambda cut: f"{cut} bytes before it")
def test_a_body_follows_what_it_belongs_to_wherever_the_kernel_stops(on_line: OnLine, cut: int) -> None:
    async def test(line: Line) -> None:
        assert line.connection.write(b"a", b"b\n")
        assert not line.connection.write(BULK[:cut], BULK[cut:])
        assert not line.connection.write(b"late", b"body")  # an answer to a ping may come while it waits
        assert await line.read(11 + len(BULK)) == b"ab\n" + BULK + b"latebody"

    on_line(test)


def test_lines_that_come_one_by_one_fill_the_kernel_and_lose_nothing(on_line: OnLine) -> None:
    async def test(line: Line) -> None:
        written = 0
        while line.connection.write(BULK[written : written + 100]):
            written += 100
        assert line.connection.blocked
        assert await line.read(written + 100) == BULK[: written + 100]
        await line.until(lambda: line.owner.ready)

    on_line(test)


def test_a_peer_that_reads_a_little_makes_progress_that_the_clock_sees(on_line: OnLine) -> None:
    async def test(line: Line) -> None:
        line.connection.write(BULK)
        for _ in range(3):
            line.owner.now += INTERVAL_S + TIMEOUT_S - 1
            before = line.connection._transport.get_write_buffer_size()
            await line.read(20_000)
            await line.until(lambda b=before: line.connection._transport.get_write_buffer_size() < b)  # type: ignore[misc]
            assert not line.connection.check(line.owner.now, INTERVAL_S, TIMEOUT_S)
        line.owner.now += INTERVAL_S + TIMEOUT_S
        assert line.connection.check(line.owner.now, INTERVAL_S, TIMEOUT_S)
        await asyncio.wait_for(line.lost.wait(), 20)
        assert line.connection.is_gone

    on_line(test)


def test_a_peer_that_is_gone_ends_the_connection(on_line: OnLine) -> None:
    async def test(line: Line) -> None:
        line.other.close()
        line.connection.write(b"anybody?\n")
        assert not line.connection.write(b"nobody\n")
        assert line.connection.blocked
        await asyncio.wait_for(line.lost.wait(), 20)
        assert (line.owner.gone, line.owner.ready) == (1, 0)

    on_line(test)


def test_an_answer_to_a_ping_comes_after_what_waits_and_before_what_follows(on_line: OnLine) -> None:
    async def test(line: Line) -> None:
        line.owner.on_ready = send_next
        line.connection.write(BULK)
        await line.send(encode_frame(Opcode.PING, b"?", mask=MASK))
        await line.until(lambda: line.connection._pong is not None)
        assert await line.read(len(BULK) + 9) == BULK + b"\x8a\x01?" + b"\x81\x04next"

    on_line(test)


def test_the_closing_handshake(on_line: OnLine) -> None:
    async def test(line: Line) -> None:
        line.connection.finish(4005, "a gap")
        frame = await line.read(9)
        assert parse_close(parse_server_frames(frame)[0].payload) == (4005, "a gap")
        await line.send(encode_frame(Opcode.CLOSE, frame[2:], mask=MASK))
        await asyncio.wait_for(line.lost.wait(), 20)
        assert await line.is_over()

    on_line(test)
