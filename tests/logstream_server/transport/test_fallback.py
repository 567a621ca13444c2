"""fallback: the same lines over plain ASGI messages, for servers that cannot hand the connection over."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from logstream_server.app import create_app
from logstream_server.commandline.forms import NamedPath
from logstream_server.encoding.frames import Opcode, encode_frame, encode_text_frames
from logstream_server.fanout.connection import Connection
from logstream_server.service import Service
from logstream_server.settings import Settings
from logstream_server.transport.fallback import AsgiConnection

from ..process import eventually

with warnings.catch_warnings():  # it would rather have another HTTP client, which the WebSockets here do not use
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketTestSession

START = 1000.0
INTERVAL_S, TIMEOUT_S = 20.0, 20.0


# -- the connection by itself -----------------------------------------------------------------------------------------


@dataclass
class Owner:
    """The hub, as a connection sees it."""

    now: float = START
    ready: int = 0
    gone: int = 0
    messages: list[tuple[Opcode, bytes]] = field(default_factory=list)

    def connection_ready(self, _connection: Connection) -> None:
        self.ready += 1

    def connection_message(self, _connection: Connection, opcode: Opcode, payload: bytes) -> None:
        self.messages.append((opcode, payload))

    def connection_gone(self, _connection: Connection) -> None:
        self.gone += 1


class Socket:
    """Starlette's WebSocket, as far as it is used, with a peer that the test plays."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.closed: tuple[int, str] | None = None
        self.takes = asyncio.Event()
        self.takes.set()
        self.fails: Exception | None = None
        self._come: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def come(self, **message: Any) -> None:
        """The peer sends, or goes."""
        self._come.put_nowait({"type": "websocket.receive", **message})

    async def receive(self) -> dict[str, Any]:
        return await self._come.get()

    async def _send(self, what: object) -> None:
        await self.takes.wait()
        if self.fails is not None:
            raise self.fails
        self.sent.append(what)

    async def send_text(self, text: str) -> None:
        await self._send(text)

    async def send_bytes(self, data: bytes) -> None:
        await self._send(data)

    async def close(self, code: int, reason: str) -> None:
        await self.takes.wait()
        self.closed = (code, reason)


class Running:
    """A connection that runs."""

    def __init__(self) -> None:
        self.owner, self.socket = Owner(), Socket()
        self.connection = AsgiConnection(self.owner, "text", self.socket)  # type: ignore[arg-type]
        self.begun = asyncio.Event()
        self.begin_ended: str | None = None
        self.life = asyncio.create_task(self.connection.run(self._begin()))

    async def _begin(self) -> None:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            self.begin_ended = "cancelled"

    async def until(self, check: Callable[[], Any]) -> None:
        """Until something is true."""
        async with asyncio.timeout(20):
            while not check():  # noqa: ASYNC110 - the loop itself is what it waits for
                await asyncio.sleep(0)

    async def end(self) -> None:
        """Until its life has ended."""
        await asyncio.wait_for(asyncio.shield(self.life), 20)


def live(test: Callable[[Running], Awaitable[None]]) -> None:
    """Run a test with a connection; whatever becomes of it, it ends and its owner is told once that it has."""

    async def main() -> None:
        running = Running()
        await running.begun.wait()
        try:
            await test(running)
        finally:
            running.connection.abort()
            await running.end()
        assert running.connection.is_gone
        assert running.begin_ended == "cancelled"
        assert running.owner.gone <= 2  # when it was closed by us, and when it has ended

    asyncio.run(main())


def test_frames_become_messages_one_by_one() -> None:
    async def test(running: Running) -> None:
        assert not running.connection.write(encode_text_frames([b"one", "zwölf".encode()]))
        assert not running.connection.write(encode_frame(Opcode.BINARY, b"\xff") + encode_frame(Opcode.PING, b""))
        await running.until(lambda: not running.connection.blocked)
        assert running.socket.sent == ["one", "zwölf", b"\xff"]

    live(test)


def test_it_is_blocked_until_everything_was_taken_and_then_says_so() -> None:
    async def test(running: Running) -> None:
        running.socket.takes.clear()
        running.connection.write(encode_text_frames([b"one"]))
        await asyncio.sleep(0)
        assert running.connection.blocked
        running.connection.write(encode_text_frames([b"two"]))
        running.socket.takes.set()
        await running.until(lambda: running.owner.ready)
        assert running.socket.sent == ["one", "two"]
        assert not running.connection.blocked

    live(test)


def test_what_the_peer_sends_goes_to_the_owner() -> None:
    async def test(running: Running) -> None:
        running.socket.come(text="hello")
        running.socket.come(bytes=b"\xff", text=None)
        running.socket.come(bytes=None)
        await running.until(lambda: len(running.owner.messages) == 3)
        assert running.owner.messages == [(Opcode.TEXT, b"hello"), (Opcode.BINARY, b"\xff"), (Opcode.BINARY, b"")]

    live(test)


def test_a_close_comes_after_what_was_written_before_it() -> None:
    async def test(running: Running) -> None:
        running.socket.takes.clear()
        running.connection.write(encode_text_frames([b"one"]))
        running.connection.finish(4005, "a gap")
        running.connection.finish(4001, "too slow")
        running.socket.come(text="what?")
        running.socket.takes.set()
        await running.end()
        assert running.socket.sent == ["one"]
        assert running.socket.closed == (4005, "a gap")
        assert running.owner.messages == []
        running.connection.finish(4005, "too late")

    live(test)


def test_nothing_is_written_to_one_that_closes() -> None:
    async def test(running: Running) -> None:
        connection = running.connection
        assert not connection.is_closing
        running.socket.takes.clear()
        connection.finish(4005, "a gap")
        assert connection.is_closing
        assert not connection.write(encode_text_frames([b"late"]))
        assert connection.blocked
        running.socket.takes.set()
        await running.end()
        assert running.socket.sent == []
        assert running.socket.closed == (4005, "a gap")

    live(test)


def test_a_peer_that_goes_ends_it() -> None:
    async def test(running: Running) -> None:
        running.socket.come(type="websocket.disconnect", code=1001)
        await running.end()
        assert running.owner.gone == 1
        assert running.socket.closed is None
        running.connection.finish(4005, "too late")
        assert running.owner.gone == 1

    live(test)


@pytest.mark.parametrize("error", [WebSocketDisconnect(1006), RuntimeError("Unexpected ASGI message")], ids=repr)
def test_a_peer_that_goes_in_the_middle_of_a_send_ends_it(error: Exception) -> None:
    async def test(running: Running) -> None:
        running.socket.fails = error
        running.connection.write(encode_text_frames([b"one"]))
        await running.end()
        assert running.owner.gone == 1

    live(test)


def test_a_send_that_does_not_end_is_ended_after_interval_and_timeout() -> None:
    async def test(running: Running) -> None:
        owner, connection = running.owner, running.connection
        running.socket.takes.clear()
        connection.write(encode_text_frames([b"one"]))
        await asyncio.sleep(0)
        owner.now += INTERVAL_S + TIMEOUT_S
        assert not connection.check(owner.now, INTERVAL_S, TIMEOUT_S)
        assert connection.next_check == owner.now + INTERVAL_S
        owner.now += 0.5
        assert connection.check(owner.now, INTERVAL_S, TIMEOUT_S)
        await running.end()

    live(test)


def test_a_close_that_does_not_end_is_ended_likewise() -> None:
    async def test(running: Running) -> None:
        owner, connection = running.owner, running.connection
        running.socket.takes.clear()
        connection.finish(4005, "a gap")
        await asyncio.sleep(0)
        owner.now += INTERVAL_S + TIMEOUT_S + 0.5
        assert connection.check(owner.now, INTERVAL_S, TIMEOUT_S)
        await running.end()

    live(test)


def test_a_send_that_takes_its_time_but_goes_on_is_left_alone() -> None:
    async def test(running: Running) -> None:
        owner, connection = running.owner, running.connection
        for number in range(5):
            running.socket.takes.clear()
            connection.write(encode_text_frames([b"%d" % number]))
            await asyncio.sleep(0)
            owner.now += INTERVAL_S + TIMEOUT_S - 1
            assert not connection.check(owner.now, INTERVAL_S, TIMEOUT_S)
            running.socket.takes.set()
            await running.until(lambda n=number: len(running.socket.sent) == n + 1)  # type: ignore[misc]
        await running.until(lambda: not connection.blocked)
        owner.now += 10 * INTERVAL_S
        assert not connection.check(owner.now, INTERVAL_S, TIMEOUT_S)

    live(test)


def test_a_defect_of_ours_is_the_servers_to_log() -> None:
    async def test(running: Running) -> None:
        def fail(*_arguments: object) -> None:
            raise ValueError("a defect")

        running.owner.connection_message = fail  # type: ignore[method-assign]
        running.socket.come(text="hello")
        with pytest.raises(ValueError, match="a defect"):
            await running.end()
        running.life = asyncio.create_task(asyncio.sleep(0))

    live(test)


def test_the_end_of_the_server_ends_it() -> None:
    async def test(running: Running) -> None:
        running.life.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running.life
        assert running.owner.gone == 1
        running.life = asyncio.create_task(asyncio.sleep(0))

    live(test)


# -- the whole app on a server without the extension ------------------------------------------------------------------


@dataclass
class Site:
    """The app in the test client, and its file."""

    client: TestClient
    service: Service
    log: Path

    def append(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    @contextmanager
    def socket(self, query: str = "", *protocols: str, **headers: str) -> Iterator[WebSocketTestSession]:
        """A connection to /ws."""
        with self.client.websocket_connect(
            "/ws" + query, list(protocols), headers={"host": "localhost", **headers}
        ) as session:
            yield session


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    log = tmp_path / "a.log"
    log.write_text("one\ntwo\nthree\n")
    settings = Settings(paths=(NamedPath(str(log)),), poll_interval_s=0.02, partial_after_s=0.1, max_clients=3)
    service = Service.build(settings)
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = stack.enter_context(TestClient(create_app(settings, service), base_url="http://localhost"))
        yield Site(client, service, log)


def test_lines_come_as_they_are_written(site: Site) -> None:
    with site.socket("?tail=2") as session:
        assert [session.receive_text() for _ in range(2)] == ["two", "three"]
        site.append("four\nfive\n")
        assert [session.receive_text() for _ in range(2)] == ["four", "five"]
    eventually(lambda: not site.service.hub.connections)


def test_more_lines_than_one_chunk(site: Site) -> None:
    """Each chunk is waited for before the next is made."""
    lines = [f"line {number} {'x' * 100}" for number in range(1500)]
    site.append("\n".join(lines) + "\n")
    with site.socket("?from=start") as session:
        assert [session.receive_text() for _ in range(3 + len(lines))] == ["one", "two", "three", *lines]


def test_json_messages_go_both_ways(site: Site) -> None:
    with site.socket("?tail=1", "logstream.json.v1") as session:
        assert session.accepted_subprotocol == "logstream.json.v1"
        assert json.loads(session.receive_text())["type"] == "hello"
        assert json.loads(session.receive_text())["lines"] == ["three"]
        session.send_text('{"type":"filter","stream":"a.log","grep":"x"}')
        session.send_text('{"type":"nonsense"}')
        assert json.loads(session.receive_text())["type"] == "error"
        site.append("no\nyes x\n")
        assert json.loads(session.receive_text())["lines"] == ["yes x"]
        session.send_text('{"type":"unsubscribe","stream":"a.log"}')
        assert json.loads(session.receive_text())["type"] == "unsubscribed"


def test_raw_is_bytes(site: Site) -> None:
    with site.socket("?format=raw&from=start") as session:
        assert session.receive_bytes() == b"one\ntwo\nthree\n"


def test_what_is_wrong_with_a_query_is_told_by_the_close(site: Site) -> None:
    with site.socket("?tail=x") as session, pytest.raises(WebSocketDisconnect) as caught:
        session.receive_text()
    assert caught.value.code == 4009
    assert caught.value.reason.startswith("tail='x': a whole number")


def test_a_cursor_that_is_lost_closes_a_plain_reader(site: Site) -> None:
    with site.socket("?tail=0", "logstream.json.v1") as session:
        cursor = json.loads(session.receive_text())["cursor"]
    site.log.write_text("another\n")
    eventually(lambda: site.service.monitor.streams["a.log"].counters.truncations)
    with site.socket(f"?cursor={cursor}") as session, pytest.raises(WebSocketDisconnect) as caught:
        session.receive_text()
    assert caught.value.code == 4005


def test_clients_that_are_served_are_not_being_opened_any_more(site: Site) -> None:
    """And each counts once: three are three."""
    with site.socket() as first, site.socket() as second:
        for session in (first, second):
            assert session.receive_text() == "one"
        eventually(lambda: site.service.handshakes == 0)
        assert len(site.service.hub.connections) == 2
        with site.socket() as third:
            assert third.receive_text() == "one"
    eventually(lambda: not site.service.hub.connections)


def test_the_drain_says_goodbye(site: Site) -> None:
    with site.socket("?tail=0", "logstream.json.v1") as session:
        assert json.loads(session.receive_text())["type"] == "hello"
        assert site.client.portal is not None
        site.client.portal.call(site.service.hub.drain, 0.1, "the end")
        bye = json.loads(session.receive_text())
        assert (bye["type"], bye["reason"], bye["reconnect"]) == ("bye", "the end", True)
        with pytest.raises(WebSocketDisconnect) as caught:
            session.receive_text()
    assert (caught.value.code, caught.value.reason) == (1012, "the end")
