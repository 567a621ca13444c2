"""service: which stream, where a client begins in it, and what JSON clients may ask for."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.sync.client import ClientConnection, connect

from logstream_server.commandline.forms import NamedPath
from logstream_server.encoding.frames import Opcode, encode_frame
from logstream_server.encoding.view import Format, View
from logstream_server.fanout.query import Wish
from logstream_server.history.resume import Resumed
from logstream_server.lines.cursor import Generation
from logstream_server.lines.ring import Ring
from logstream_server.service import MAX_SUBSCRIPTIONS, Service
from logstream_server.settings import Settings
from logstream_server.tailing.stream import Stream, StreamStatus

from .conftest import Serve
from .inside import MASK, RawClient
from .process import DEADLINE_S, Server
from .scenarios.harness import mounted, why_no_mount

QUICK = ("--poll-interval", "0.02", "--partial-after", "0.1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "b.log").write_text("b 1\nb 2\n")
    path = tmp_path / "a.log"
    path.write_text("a 1\na 2\n")
    return path


@pytest.fixture
def server(serve: Serve, log: Path) -> Server:
    return serve(*QUICK, log, log.with_name("b.log"))


def client(server: Server, **query: object) -> ClientConnection:
    """A JSON client, unless the query says otherwise; `from_` is `from`."""
    pairs = {"format": "json", **{name.rstrip("_"): value for name, value in query.items()}}
    return connect(f"{server.ws_url}?{urlencode(pairs)}", compression=None)


def message(connection: ClientConnection) -> dict[str, Any]:
    """The next message."""
    found: dict[str, Any] = json.loads(connection.recv(timeout=DEADLINE_S))
    return found


def ask(connection: ClientConnection, **fields: Any) -> None:
    """Send a message; `from_` is `from`."""
    connection.send(json.dumps({name.rstrip("_"): value for name, value in fields.items()}))


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


# -- several streams on one socket ------------------------------------------------------------------------------------


def test_streams_are_added_and_left(server: Server, log: Path) -> None:
    with client(server, tail=1) as one:
        assert message(one)["stream"] == "a.log"
        assert message(one)["lines"] == ["a 2"]
        ask(one, type="subscribe", stream="b.log", tail=1)
        added = message(one)
        assert (added["type"], added["stream"], added["recovered"]) == ("subscribed", "b.log", None)
        assert (message(one)["lines"]) == ["b 2"]
        append(log.with_name("b.log"), "b 3\n")
        assert message(one)["lines"] == ["b 3"]
        ask(one, type="unsubscribe", stream="b.log")
        assert message(one) == {"type": "unsubscribed", "stream": "b.log"}
        append(log.with_name("b.log"), "b 4\n")
        append(log, "a 3\n")
        assert message(one)["lines"] == ["a 3"]


def test_a_second_subscribe_begins_anew(server: Server) -> None:
    with client(server, tail=1) as one:
        cursor = message(one)["cursor"]
        assert message(one)["lines"] == ["a 2"]
        ask(one, type="subscribe", stream="a.log", from_="start")
        assert message(one)["type"] == "subscribed"
        assert message(one)["lines"] == ["a 1", "a 2"]
        ask(one, type="subscribe", stream="a.log", cursor=cursor)
        assert message(one)["recovered"] is True
        assert message(one)["lines"] == ["a 2"]


def test_another_filter_holds_from_the_next_line_on(server: Server, log: Path) -> None:
    with client(server, tail=0) as one:
        message(one)
        ask(one, type="filter", stream="a.log", grep=["keep"], exclude="not")
        ask(one, type="unsubscribe", stream="b.log")  # its answer says that the one before was read
        assert message(one)["code"] == 4004
        append(log, "drop\nkeep\nkeep not\nkeep too\n")
        assert message(one)["lines"] == ["keep", "keep too"]


class Hasty(RawClient):
    """A JSON client that does not wait for answers."""

    def __init__(self, server: Server, **query: object) -> None:
        super().__init__(server.port, f"/ws?{urlencode({'format': 'json', **query})}")
        self._kept: list[dict[str, Any]] = []

    def say(self, *asked: dict[str, Any]) -> None:
        """Messages in one segment: none of them is answered before the last has come."""
        frames = [encode_frame(Opcode.TEXT, json.dumps(each).encode(), mask=MASK) for each in asked]
        self.sock.sendall(b"".join(frames))

    def told(self, until: str) -> list[dict[str, Any]]:
        """What comes up to a message of that kind, but for how far a filter has searched."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["type"] != until:
            while not self._kept:
                self._kept = [json.loads(text) for opcode, text in self.frames() if opcode is Opcode.TEXT]
            found += [each for each in (self._kept.pop(0),) if each.get("lines") != []]
        return found


def test_messages_need_not_wait_for_the_answers_to_those_before(server: Server, log: Path) -> None:
    """They are followed in their order, though each subscribe takes a look at the file."""
    stream = {"stream": "b.log"}
    subscribe, unsubscribe = {"type": "subscribe", "from": "start", **stream}, {"type": "unsubscribe", **stream}
    with Hasty(server, tail=0) as one:
        one.open()
        assert [each["type"] for each in one.told("hello")] == ["hello"]
        for _ in range(5):
            one.say(
                *(subscribe, unsubscribe, subscribe),
                *({"type": "filter", "grep": grep, **stream} for grep in ("b 1", "b 2")),
            )
            assert [each["type"] for each in one.told("subscribed")] == ["unsubscribed", "subscribed"]
            assert [each["lines"] for each in one.told("lines")] == [["b 2"]]
            one.say(subscribe, unsubscribe, unsubscribe)
            assert [each["type"] for each in one.told("error")] == ["unsubscribed", "error"]
        append(log.with_name("b.log"), "b 2\n")
        append(log, "a 3\n")
        assert [each["stream"] for each in one.told("lines")] == ["a.log"]


@pytest.mark.parametrize(
    ("fields", "code", "stream"),
    [
        ({"type": "subscribe", "stream": "c.log"}, 4004, "c.log"),
        ({"type": "subscribe", "stream": "b.log", "grep": "("}, 4009, "b.log"),
        ({"type": "subscribe", "stream": "b.log", "cursor": "x"}, 4009, "b.log"),
        ({"type": "subscribe", "stream": "b.log", "tail": -1}, 4009, "b.log"),
        ({"type": "unsubscribe", "stream": "b.log"}, 4004, "b.log"),
        ({"type": "filter", "stream": "b.log"}, 4004, "b.log"),
        ({"type": "filter", "stream": "a.log", "grep": "("}, 4009, "a.log"),
        ({"type": "nothing"}, 4009, None),
    ],
)
def test_what_cannot_be_done_is_answered_and_the_socket_stays(
    server: Server, log: Path, fields: dict[str, Any], code: int, stream: str | None
) -> None:
    with client(server, tail=0) as one:
        message(one)
        ask(one, **fields)
        error = message(one)
        assert (error["type"], error["code"], error["stream"]) == ("error", code, stream)
        append(log, "and on\n")
        assert message(one)["lines"] == ["and on"]


def test_so_many_streams_fit_on_one_socket(serve: Serve, tmp_path: Path) -> None:
    for number in range(MAX_SUBSCRIPTIONS + 1):
        (tmp_path / f"{number:03}.log").write_text("one\n")
    with client(serve(*QUICK, tmp_path), stream="") as one:
        assert message(one)["stream"] is None
        for number in range(MAX_SUBSCRIPTIONS):
            ask(one, type="subscribe", stream=f"{number:03}.log", tail=0)
            assert message(one)["type"] == "subscribed"
        ask(one, type="subscribe", stream=f"{MAX_SUBSCRIPTIONS:03}.log", tail=0)
        error = message(one)
        assert (error["code"], error["reason"]) == (4008, f"at most {MAX_SUBSCRIPTIONS} streams on one socket")
        ask(one, type="subscribe", stream="001.log", tail=1)  # no more of them by another beginning
        assert message(one)["type"] == "subscribed"
        assert message(one)["lines"] == ["one"]
        ask(one, type="unsubscribe", stream="000.log")
        assert message(one)["type"] == "unsubscribed"
        ask(one, type="subscribe", stream=f"{MAX_SUBSCRIPTIONS:03}.log", tail=0)
        assert message(one)["type"] == "subscribed"


def test_so_many_streams_may_be_asked_for_in_one_go(serve: Serve, tmp_path: Path) -> None:
    for number in range(MAX_SUBSCRIPTIONS + 8):
        (tmp_path / f"{number:03}.log").write_text("one\n")
    with client(serve(*QUICK, tmp_path), stream="") as one:
        assert message(one)["stream"] is None
        for number in range(MAX_SUBSCRIPTIONS + 8):
            ask(one, type="subscribe", stream=f"{number:03}.log", tail=1000)
        found = [message(one) for _ in range(2 * MAX_SUBSCRIPTIONS + 8)]
    assert [each["code"] for each in found if each["type"] == "error"] == [4008] * 8
    for kind in ("subscribed", "lines"):
        assert sum(each["type"] == kind for each in found) == MAX_SUBSCRIPTIONS


def test_where_lines_begin_is_of_no_use_while_the_file_hangs() -> None:
    """They would have to be read: a JSON client is told why nothing comes."""

    async def run() -> None:
        service = Service.build(Settings(paths=(NamedPath("/no/such/file"),)))
        stream, view, wish = Stream("a.log", "/a.log", (), Ring(4096)), View(Format.TEXT), Wish("a.log", tail=1)
        stream.ring.append(Generation(1), 0, 4, b"one\n", lines=1)
        head = stream.ring.head()[1]
        known = asyncio.get_running_loop().create_future()
        service._tails[service._tail_key(stream, wish)] = head, known
        assert service.begin_now(stream, wish, view) is None
        known.set_result(())
        assert service.begin_now(stream, wish, view) == Resumed(())
        stream.state = replace(stream.state, status=StreamStatus.HUNG)
        assert service.begin_now(stream, wish, view) is None
        assert service.begin_now(stream, replace(wish, tail=0), view) == Resumed(head)

    asyncio.run(run())


# -- a file system that does not answer -------------------------------------------------------------------------------


def test_clients_of_a_dead_mount_wait_for_their_last_lines_and_hinder_nobody(
    serve: Serve, log: Path, tmp_path: Path
) -> None:
    """A JSON client is told why nothing comes; as many of them as may be opened at once do not keep others out."""
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(reason)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "far.log").write_text("one\ntwo\nthree\n")
    with ExitStack() as clients:
        stay = clients.enter_context
        with mounted(source, target) as mount:
            server = serve(*QUICK, "--max-handshakes", "2", log, target / "far.log")
            with client(server, stream="far.log", tail=0) as first:
                cursor = message(first)["cursor"]
            mount.die()
            talking = stay(client(server, stream="far.log", tail=2))
            returning = stay(client(server, stream="far.log", cursor=cursor))
            for one in (talking, returning):
                hello = message(one)
                assert (hello["stream"], hello["cursor"], hello["recovered"]) == ("far.log", None, None)
                state = next(stream for stream in hello["streams"] if stream["name"] == "far.log")
                assert state["state"] == "unreadable"
                assert state["detail"] == "Transport endpoint is not connected"
            plain = stay(client(server, stream="far.log", tail=1, format="text"))
            with client(server, tail=1) as near:
                assert message(near)["cursor"]
                assert message(near)["lines"] == ["a 2"]
        with mounted(source, target):
            begun = message(talking)
            assert (begun["type"], begun["recovered"]) == ("subscribed", None)
            assert message(talking)["lines"] == ["two", "three"]
            begun = message(returning)
            assert (begun["type"], begun["recovered"]) == ("subscribed", True)
            assert plain.recv(timeout=DEADLINE_S) == "three"
            append(source / "far.log", "four\n")
            for one in (talking, returning):
                while (found := message(one))["type"] != "lines":
                    pass
                assert found["lines"] == ["four"]
