"""protocol: a connection changes hands once, with all its bytes; whoever does not take it has uvicorn's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from logstream_server.encoding.frames import Message, Opcode, encode_close, encode_frame, parse_close
from logstream_server.fanout.connection import Connection
from logstream_server.transport.protocol import _NO_TRANSPORT, EXTENSION, MAX_EARLY_BYTES, TakeoverProtocol

from ..inside import MASK, PATIENCE_S, Inside, RawClient, serve_app
from ..process import eventually

HELLO = encode_frame(Opcode.TEXT, b"hello")


@dataclass
class App:
    """An ASGI application that is told what to do, and the owner of what it takes over."""

    behave: Callable[[App, Any, Any, Any], Any]
    now: float = 1000.0
    messages: list[bytes] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    gone: list[Connection] = field(default_factory=list)
    uvicorns: list[weakref.ref[TakeoverProtocol]] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.behave(self, scope, receive, send)
        finally:
            self.ended.set()

    async def pause(self) -> None:
        """Let the test do something, and the loop, too."""
        self.reached.set()
        await asyncio.to_thread(self.go_on.wait, PATIENCE_S)

    def take(self, scope: Any) -> Connection:
        """Take the connection over."""
        take_over = scope["extensions"][EXTENSION]
        self.uvicorns.append(weakref.ref(take_over.__self__))
        connection = Connection(self, "text")
        self.connections.append(connection)
        take_over(connection)
        return connection

    def connection_ready(self, _connection: Connection) -> None:
        pass

    def connection_message(self, connection: Connection, _opcode: Opcode, payload: bytes) -> None:
        self.messages.append(payload)
        connection.write(encode_frame(Opcode.TEXT, b"got " + payload))

    def connection_gone(self, connection: Connection) -> None:
        self.gone.append(connection)


async def take_over_at_once(app: App, scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    app.take(scope).write(HELLO)


async def take_over_later(app: App, scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await app.pause()
    await send({"type": "websocket.accept"})
    app.take(scope).write(HELLO)


async def echo(app: App, _scope: Any, receive: Any, send: Any) -> None:
    """A usual application, which knows nothing of the extension."""
    await receive()
    await app.pause()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        app.received.append(message)
        await send({"type": "websocket.send", "text": "got " + message["text"]})
    app.received.append(message)


class Running:
    """Servers of such applications."""

    def __init__(self) -> None:
        self._servers: list[Inside] = []

    def __call__(self, behave: Callable[..., Any], **config: Any) -> tuple[App, Inside]:
        app = App(behave)
        self._servers.append(serve_app(app, **config))
        return app, self._servers[-1]

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Iterator[Running]:
    """Start a server for the test; nothing may have failed inside."""
    running = Running()
    yield running
    running.stop()
    assert not [record for record in caplog.records if record.exc_info]


# -- taken over -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_transport_changes_hands_and_uvicorns_object_is_freed(run: Running, loop: str) -> None:
    """That is the point: an idle client costs a small object and no task."""
    app, server = run(take_over_at_once, loop=loop)
    with RawClient(server.port) as client:
        assert client.open().frames() == [(Opcode.TEXT, b"hello")]
        eventually(lambda: server.call(lambda: not server.server.server_state.tasks))
        server.call(gc.collect)
        assert [reference() for reference in app.uvicorns] == [None]
        client.send(Opcode.TEXT, b"a")
        client.send(Opcode.PING, b"?")
        assert client.frames(2) == [(Opcode.TEXT, b"got a"), (Opcode.PONG, b"?")]
    eventually(lambda: app.gone == app.connections)
    assert app.messages == [b"a"]


def test_the_server_knows_the_connection_as_one_of_its_own(run: Running) -> None:
    """For as long as it lasts: the end of the server waits for it."""
    app, server = run(take_over_at_once)
    with RawClient(server.port) as client:
        client.open().frames()
        assert server.call(lambda: set(server.server.server_state.connections)) == set(app.connections)
        client.send(Opcode.CLOSE, b"\x03\xe8")
        (close,) = client.frames()
        assert parse_close(close.payload) == (1000, "")
        assert client.rest() == b""
    eventually(lambda: server.call(lambda: not server.server.server_state.connections))


def test_the_end_of_the_server_ends_it(run: Running) -> None:
    app, server = run(take_over_at_once)
    with RawClient(server.port) as client:
        client.open().frames()
        server.stop()
        assert client.rest() == b""
    assert [connection.is_gone for connection in app.connections] == [True]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_a_hasty_client_sends_before_it_was_accepted_is_not_lost(run: Running, size: int) -> None:
    """However its bytes are cut; it comes after the server's own first words."""
    app, server = run(take_over_later)
    with RawClient(server.port) as client:
        assert app.reached.wait(PATIENCE_S)
        data = b"".join(encode_frame(Opcode.TEXT, b"%d" % number, mask=MASK) for number in range(20))
        for start in range(0, len(data), size):
            client.sock.sendall(data[start : start + size])
        early = server.call(lambda: [c for c in server.server.server_state.connections if c._early is not None])  # type: ignore[union-attr]
        eventually(lambda: sum(map(len, early[0]._early or [])) == len(data))  # type: ignore[union-attr]
        app.go_on.set()
        got = client.open().frames(21)
        assert got == [(Opcode.TEXT, b"hello"), *((Opcode.TEXT, b"got %d" % number) for number in range(20))]


def test_who_sends_too_much_before_it_was_accepted_is_cut_off(run: Running) -> None:
    app, server = run(take_over_later)
    with RawClient(server.port) as client:
        assert app.reached.wait(PATIENCE_S)
        client.sock.sendall(encode_frame(Opcode.TEXT, bytes(MAX_EARLY_BYTES), mask=MASK))
        with contextlib.suppress(ConnectionResetError):
            assert client.rest() == b""
        app.go_on.set()
        assert app.ended.wait(PATIENCE_S)
    assert app.messages == []


async def hand_over_a_lost_one(app: App, scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await app.pause()
    app.take(scope)


def test_a_peer_that_goes_before_it_was_taken_over_leaves_a_connection_that_is_gone(run: Running) -> None:
    app, server = run(hand_over_a_lost_one)
    with RawClient(server.port) as client:
        client.open()
        assert app.reached.wait(PATIENCE_S)
    eventually(lambda: server.call(lambda: not server.server.server_state.connections))
    app.go_on.set()
    assert app.ended.wait(PATIENCE_S)
    assert [connection.is_gone for connection in app.connections] == [True]
    assert app.gone == app.connections
    eventually(lambda: server.call(lambda: not server.server.server_state.tasks))


async def go_on_talking(app: App, scope: Any, receive: Any, send: Any) -> None:
    await take_over_at_once(app, scope, receive, send)
    await send({"type": "websocket.send", "text": "nobody hears this"})
    await send({"type": "websocket.close"})


def test_an_app_that_goes_on_talking_after_that_talks_to_nobody(run: Running) -> None:
    app, server = run(go_on_talking)
    with RawClient(server.port) as client:
        client.open().frames()
        assert app.ended.wait(PATIENCE_S)
        client.send(Opcode.TEXT, b"a")
        assert client.frames() == [(Opcode.TEXT, b"got a")]
    _NO_TRANSPORT.pause_reading()
    _NO_TRANSPORT.resume_reading()
    assert _NO_TRANSPORT.is_closing()


async def offer_again(app: App, scope: Any, receive: Any, send: Any) -> None:
    await take_over_at_once(app, scope, receive, send)
    app.received.append(dict(scope["extensions"]))


def test_a_connection_can_be_taken_over_once(run: Running) -> None:
    app, server = run(offer_again)
    with RawClient(server.port) as client:
        client.open().frames()
        assert app.ended.wait(PATIENCE_S)
    assert EXTENSION not in app.received[0]


# -- not taken over ---------------------------------------------------------------------------------------------------


def test_an_app_that_does_not_take_it_over_gets_uvicorns_own(run: Running) -> None:
    """With what came before it had decided, and in order."""
    app, server = run(echo)
    with RawClient(server.port) as client:
        assert app.reached.wait(PATIENCE_S)
        client.send(Opcode.TEXT, b"early")
        client.send(Opcode.TEXT, b"bird")
        app.go_on.set()
        client.open()
        assert client.frames(2) == [(Opcode.TEXT, b"got early"), (Opcode.TEXT, b"got bird")]
        client.send(Opcode.TEXT, b"late")
        client.send(Opcode.PING, b"?")
        assert sorted(client.frames(2)) == sorted([Message(Opcode.TEXT, b"got late"), Message(Opcode.PONG, b"?")])
        client.send(Opcode.CLOSE, b"\x0f\xa1bye")
        (close,) = client.frames()
        assert parse_close(close.payload) == (4001, "bye")
    assert app.ended.wait(PATIENCE_S)
    assert app.received[-1]["code"] == 4001


async def close(app: App, _scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await app.pause()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4009, "reason": "no"})


@pytest.mark.parametrize("hasty", [False, True], ids=["after it", "before it"])
def test_an_app_that_closes_hears_the_answer_whenever_it_came(run: Running, hasty: bool) -> None:
    app, server = run(close)
    with RawClient(server.port) as client:
        assert app.reached.wait(PATIENCE_S)
        if hasty:
            client.send(Opcode.TEXT, b"early")
            client.send(Opcode.CLOSE, b"\x03\xe8")
        app.go_on.set()
        (message,) = client.open().frames()
        assert parse_close(message.payload) == (4009, "no")
        if not hasty:
            client.send(Opcode.CLOSE, message.payload)
        assert client.rest() == b""


async def deny(app: App, _scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await app.pause()
    await send({"type": "websocket.http.response.start", "status": 429, "headers": [(b"retry-after", b"1")]})
    await send({"type": "websocket.http.response.body", "body": b"too many\n"})


def test_an_app_that_refuses_answers_with_a_status(run: Running) -> None:
    app, server = run(deny)
    with RawClient(server.port) as client:
        assert app.reached.wait(PATIENCE_S)
        app.go_on.set()
        status, headers = client.answer()
        assert (status, headers["retry-after"]) == (429, "1")
        assert client.rest() == b"too many\n"


def test_a_peer_that_goes_before_the_app_has_decided_is_a_disconnect(run: Running) -> None:
    app, server = run(echo)
    with RawClient(server.port):
        assert app.reached.wait(PATIENCE_S)
    eventually(lambda: server.call(lambda: not server.server.server_state.connections))
    app.go_on.set()
    assert app.ended.wait(PATIENCE_S)


# -- requests that are none -------------------------------------------------------------------------------------------


def test_a_request_that_is_no_handshake_is_refused_before_any_app(run: Running) -> None:
    app, server = run(echo)
    with RawClient(server.port, Sec_WebSocket_Version="12") as client:
        status, _ = client.answer()
        assert status == 400
    assert not app.reached.is_set()


def test_a_request_line_that_nobody_will_read_is_answered(run: Running) -> None:
    app, server = run(echo)
    with RawClient(server.port, "/" + "x" * 9000) as client:
        status, headers = client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert client.rest() == b"the request has a line over 8 KiB, too many headers, or a body\n"
    assert not app.reached.is_set()


def test_the_close_frame_of_a_taken_connection_is_ours(run: Running) -> None:
    app, server = run(take_over_at_once)
    with RawClient(server.port) as client:
        client.open().frames()
        server.call(lambda: app.connections[0].finish(4005, "a gap"))
        assert client.frames() == [(Opcode.CLOSE, encode_close(4005, "a gap")[2:])]
