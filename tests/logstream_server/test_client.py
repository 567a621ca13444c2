"""client: against a real WebSocket server that follows a script, and breaks where the script says so."""

from __future__ import annotations

import asyncio
import http
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Close
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from logstream_server.client import (
    Bye,
    CannotFollow,
    ClientEvent,
    Disconnected,
    Event,
    Gap,
    Hello,
    Lines,
    LogStreamClient,
    Patience,
    Printer,
    Reconnected,
    ServerError,
    Subscribed,
    Subscription,
    display_url,
    parse_server_message,
    remark_on,
    run_tail,
    socket_url,
)
from logstream_server.errors import CloseCode, SettingsError
from logstream_server.settings import TailOptions

QUICK = Patience(first_s=0.01, longest_s=0.05)
"""Of a client whose server breaks on purpose."""

Scene = Callable[[ServerConnection, "Script"], Awaitable[None]]
"""What the server does with one connection; when it returns, the connection is cut without a word."""


class Script:
    """A server: the first connection plays the first scene, and so on; requests and messages are kept."""

    def __init__(self, *scenes: Scene | http.HTTPStatus | Response) -> None:
        self.scenes = list(scenes)
        self.queries: list[dict[str, list[str]]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.received: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        scene = self.scenes.pop(0)
        assert callable(scene)
        reader = asyncio.create_task(self._read(connection))
        await scene(connection, self)
        reader.cancel()
        if connection.close_code is None:
            connection.transport.abort()

    async def heard(self, count: int) -> None:
        """Wait until so many messages have come from the client, over all connections."""
        while len(self.received) < count:
            self._news.clear()
            await self._news.wait()

    async def _read(self, connection: ServerConnection) -> None:
        async for message in connection:
            self.received.append(json.loads(message))
            self._news.set()

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse with a status if that is the next scene."""
        parts = urlsplit(request.path)
        self.paths.append(parts.path)
        self.queries.append(parse_qs(parts.query))
        self.headers.append(dict(request.headers.raw_items()))
        scene = self.scenes[0]
        if callable(scene):
            return None
        self.scenes.pop(0)
        return scene if isinstance(scene, Response) else connection.respond(scene, "no")


@asynccontextmanager
async def playing(script: Script, protocols: tuple[str, ...] = ("logstream.json.v1",)) -> AsyncIterator[str]:
    """The script's server, on a free port; gives its address."""
    subprotocols = [Subprotocol(name) for name in protocols] or None
    server = await serve(
        script.handle, "127.0.0.1", 0, subprotocols=subprotocols, process_request=script.answer, compression=None
    )
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close(close_connections=True)
        await server.wait_closed()


def scene(*messages: dict[str, Any] | Close | str | bytes | float, stay: bool = False) -> Scene:
    """Send messages, then cut the connection, or stay.

    A float is seconds of rest, an int waits for so many messages of the client, a Close closes with its code.
    """

    async def play(connection: ServerConnection, script: Script) -> None:
        for message in messages:
            if isinstance(message, Close):
                await connection.close(message.code, message.reason)
            elif isinstance(message, int):
                await script.heard(message)
            elif isinstance(message, float):
                await asyncio.sleep(message)
            elif isinstance(message, dict):
                await connection.send(json.dumps(message))
            else:
                await connection.send(message)
        if stay:
            await connection.wait_closed()

    return play


def hello(cursor: str | None = "c0", recovered: bool | None = None, **fields: Any) -> dict[str, Any]:
    """The server's first message."""
    rest = {"version": 1, "server": "logstream/0.1.0", "streams": [], "stream": "app.log", "limits": {}}
    return {"type": "hello", "cursor": cursor, "recovered": recovered, "reason": None, **rest, **fields}


def lines(cursor: str, *texts: str, **fields: Any) -> dict[str, Any]:
    """A batch."""
    return {"type": "lines", "stream": "app.log", "cursor": cursor, "offset": 0, "lines": list(texts), **fields}


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; nothing here takes ten seconds unless it hangs."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(bounded())


async def take(client: LogStreamClient, count: int) -> list[ClientEvent]:
    """The next events."""
    return [await anext(client) for _ in range(count)]


def texts(events: list[ClientEvent]) -> list[str]:
    """All lines in the events."""
    return [line for event in events if isinstance(event, Lines) for line in event.lines]


async def until_lines(client: LogStreamClient, count: int) -> list[ClientEvent]:
    """Events up to and with the batch that makes `count` lines."""
    events: list[ClientEvent] = []
    while len(texts(events)) < count:
        events.append(await anext(client))
    return events


# What the client asks for


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        pytest.param({}, {"tail": ["10"]}, id="nothing: the last ten lines of the first stream"),
        pytest.param({"stream": "a b/c", "tail": 0}, {"stream": ["a b/c"], "tail": ["0"]}, id="stream and tail"),
        pytest.param({"from_start": True}, {"from": ["start"]}, id="from the start"),
        pytest.param({"cursor": "c7", "from_start": True}, {"cursor": ["c7"]}, id="a cursor beats all other starts"),
        pytest.param(
            {"grep": ["a&b", "ü"], "exclude": ["x"], "lag": "skip"},
            {"tail": ["10"], "grep": ["a&b", "ü"], "exclude": ["x"], "lag": ["skip"]},
            id="patterns and lag",
        ),
    ],
)
def test_the_query_says_what_is_wanted(arguments: dict[str, Any], query: dict[str, list[str]]) -> None:
    """As /ws understands it."""

    async def test() -> None:
        script = Script(scene(hello(), stay=True))
        async with playing(script) as url, LogStreamClient(url + "/base", **arguments) as client:
            assert isinstance(await anext(client), Hello)
        assert script.queries == [query]
        assert script.paths == ["/base/ws"]

    run(test())


def test_a_url_may_bring_its_own_query_and_headers_go_along() -> None:
    """A token stays, a start of its own counts until there is a cursor."""

    async def test() -> None:
        script = Script(scene(hello(), lines("c1", "a")), scene(hello(), stay=True))
        headers = {"Authorization": "Bearer t"}
        async with (
            playing(script) as url,
            LogStreamClient(url + "?access_token=s&tail=7&grep=x", headers=headers, patience=QUICK) as client,
        ):
            await take(client, 5)
        assert script.queries == [
            {"access_token": ["s"], "tail": ["7"], "grep": ["x"]},
            {"access_token": ["s"], "grep": ["x"], "stream": ["app.log"], "cursor": ["c1"]},
        ]
        assert [each["Authorization"] for each in script.headers] == ["Bearer t"] * 2
        assert [each["Sec-WebSocket-Protocol"] for each in script.headers] == ["logstream.json.v1"] * 2
        assert all("Sec-WebSocket-Extensions" not in each for each in script.headers)

    run(test())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("http://h", "ws://h/ws", id="a bare host"),
        pytest.param("http://h:8080/", "ws://h:8080/ws", id="a port"),
        pytest.param("https://h/team/app/", "wss://h/team/app/ws", id="a base path, encrypted"),
        pytest.param("https://h/team/app/ws", "wss://h/team/app/ws", id="the socket itself by http"),
        pytest.param("ws://h/ws?tail=3", "ws://h/ws?tail=3", id="the socket itself"),
        pytest.param("ws://h", "ws://h/ws", id="the socket's scheme without its path"),
        pytest.param("http://[::1]:80/x#part", "ws://[::1]:80/x/ws", id="a literal address; a fragment goes"),
    ],
)
def test_an_address_leads_to_its_socket(url: str, expected: str) -> None:
    """However a person writes it."""
    assert socket_url(url) == expected


@pytest.mark.parametrize("url", ["ftp://h", "http://", "app.log", "http://[::1", "http://h:port/?token=s", "ws:///ws"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """By name, without its query."""
    with pytest.raises(CannotFollow, match="not an address") as caught:
        LogStreamClient(url)
    assert "token" not in str(caught.value)


def test_an_address_is_shown_without_its_secrets() -> None:
    """Queries and passwords hold tokens."""
    assert display_url("https://user:secret@h:1/b?access_token=s#f") == "https://h:1/b"


# What the client gives


def test_messages_become_events() -> None:
    """All types, all fields; types and fields that are not known yet do no harm."""

    async def test() -> None:
        script = Script(
            scene(
                hello(streams=[{"name": "app.log", "state": "ok", "size": 7}], new_field=1),
                {"type": "surprise", "stream": 5},
                lines("c1", "a", "ü", offset=4, partial=True, cut=[[1, 99]]),
                lines("c2", "b", offset=9, continued=True, new_field=1),
                lines("c3", offset=None),
                {"type": "gap", "stream": "app.log", "reason": "lost", "detail": "d", "bytes": 5, "cursor": "c4"},
                {"type": "gap", "stream": "app.log", "reason": "slow", "bytes": None, "cursor": "c5"},
                {"type": "event", "stream": "app.log", "event": "rotated", "detail": "x", "cursor": "c6"},
                {"type": "error", "code": 4004, "reason": "no such stream", "stream": "b"},
                stay=True,
            )
        )
        async with playing(script) as url, LogStreamClient(url) as client:
            events = await take(client, 8)
        assert events == [
            Hello("app.log", "c0", server="logstream/0.1.0", streams=[{"name": "app.log", "state": "ok", "size": 7}]),
            Lines("app.log", "c1", 4, ["a", "ü"], partial=True, cut=((1, 99),)),
            Lines("app.log", "c2", 9, ["b"], continued=True),
            Lines("app.log", "c3", None, []),
            Gap("app.log", "lost", "d", 5, "c4"),
            Gap("app.log", "slow", "", None, "c5"),
            Event("app.log", "rotated", "x", "c6"),
            ServerError(4004, "no such stream", "b"),
        ]
        assert client.cursors == {"app.log": "c6"}

    run(test())


def test_the_cursor_moves_with_the_events_that_were_given_out() -> None:
    """Not with those that merely arrived: what a consumer has not seen is asked for again."""

    async def test() -> None:
        script = Script(scene(hello(), lines("c1", "a"), lines("c2", "b"), stay=True))
        async with playing(script) as url, LogStreamClient(url) as client:
            assert client.cursors == {}
            await anext(client)
            assert client.cursors == {"app.log": "c0"}
            await anext(client)
            await asyncio.sleep(0.05)
            assert client.cursors == {"app.log": "c1"}
            await anext(client)
            assert client.cursors == {"app.log": "c2"}

    run(test())


# Going on


def test_a_broken_connection_is_taken_up_at_the_last_cursor() -> None:
    """Again and again, and the consumer is told."""

    async def test() -> None:
        script = Script(
            scene(hello(), lines("c1", "a", "b")),
            scene(hello("c1", True), lines("c2", "c")),
            scene(hello("c2", True), lines("c3", "d"), stay=True),
        )
        async with playing(script) as url, LogStreamClient(url, "app.log", tail=5, patience=QUICK) as client:
            events = await until_lines(client, 4)
        assert [type(event) for event in events] == [Hello, Lines, *[Disconnected, Reconnected, Hello, Lines] * 2]
        assert texts(events) == ["a", "b", "c", "d"]
        assert {event.reason for event in events if isinstance(event, Disconnected)} == {"the connection broke"}
        assert script.queries == [
            {"stream": ["app.log"], "tail": ["5"]},
            {"stream": ["app.log"], "cursor": ["c1"]},
            {"stream": ["app.log"], "cursor": ["c2"]},
        ]

    run(test())


def test_a_connection_that_breaks_before_any_line_starts_where_hello_said() -> None:
    """Hello's cursor stands before the last N lines, so they are neither lost nor counted anew."""

    async def test() -> None:
        script = Script(scene(hello("c0")), scene(hello("c0", True), lines("c1", "a"), stay=True))
        async with playing(script) as url, LogStreamClient(url, patience=QUICK) as client:
            await until_lines(client, 1)
        assert script.queries[1] == {"stream": ["app.log"], "cursor": ["c0"]}

    run(test())


def test_a_server_that_cannot_go_on_says_so_and_sets_a_new_start() -> None:
    """The event tells it, and the next reconnect uses the new cursor."""

    async def test() -> None:
        script = Script(
            scene(hello(), lines("c1", "a")),
            scene(hello("n0", False, reason="the file was truncated")),
            scene(hello("n0", True), lines("n1", "x"), stay=True),
        )
        async with playing(script) as url, LogStreamClient(url, patience=QUICK) as client:
            events = await until_lines(client, 2)
        lost = [event for event in events if isinstance(event, Hello) and event.recovered is False]
        assert [event.reason for event in lost] == ["the file was truncated"]
        assert [query.get("cursor") for query in script.queries] == [None, ["c1"], ["n0"]]

    run(test())


def test_gaps_and_events_move_the_cursor_too() -> None:
    """A reconnect does not ask for what is gone."""

    async def test() -> None:
        gap = {"type": "gap", "stream": "app.log", "reason": "slow", "bytes": 9, "cursor": "c2"}
        event = {"type": "event", "stream": "app.log", "event": "truncated", "detail": "", "cursor": "c3"}
        script = Script(
            scene(hello(), lines("c1", "a"), gap),
            scene(hello(), event),
            scene(hello(), stay=True),
        )
        async with playing(script) as url, LogStreamClient(url, patience=QUICK) as client:
            await take(client, 10)
        assert [query.get("cursor") for query in script.queries] == [None, ["c2"], ["c3"]]

    run(test())


def test_an_iteration_that_is_cancelled_loses_nothing() -> None:
    """Whether it waits for a message, for the next try, or for a connection."""

    async def two_lines(connection: ServerConnection, _: Script) -> None:
        """The next two of twenty lines, slowly, from where the cursor stands."""
        assert connection.request is not None
        start = int(parse_qs(urlsplit(connection.request.path).query).get("cursor", ["0"])[0])
        await connection.send(json.dumps(hello(str(start))))
        for number in range(start, min(20, start + 2)):
            await asyncio.sleep(0.02)
            await connection.send(json.dumps(lines(str(number + 1), str(number))))

    async def test() -> None:
        script = Script(*[two_lines] * 1000)
        got: list[ClientEvent] = []
        patience_s = 0.004  # it grows, so that a slow machine gets through too
        async with playing(script) as url, LogStreamClient(url, patience=QUICK) as client:
            while len(texts(got)) < 20:
                try:
                    got.append(await asyncio.wait_for(anext(client), patience_s))
                except TimeoutError:
                    patience_s *= 1.01
        assert texts(got) == [str(number) for number in range(20)]

    run(test())


def test_several_streams_go_on_each_at_its_own_cursor() -> None:
    """The first in the query, the others by message, with the filters they have now."""

    async def test() -> None:
        other = {"type": "lines", "stream": "b", "cursor": "b1", "offset": 0, "lines": ["x"]}
        subscribed = {"type": "subscribed", "stream": "b", "cursor": "b0", "recovered": None, "reason": None}
        script = Script(
            scene(hello(), lines("c1", "a"), subscribed, 4, other),
            scene(hello(), 5, lines("c2", "c"), stay=True),
        )
        async with playing(script) as url, LogStreamClient(url, grep=["q"], patience=QUICK) as client:
            await anext(client)
            await client.subscribe(Subscription("b", tail=3))
            await client.subscribe(Subscription("gone"))
            await client.unsubscribe("gone")
            await client.set_filter("b", grep=["y"])
            events = await until_lines(client, 3)
        assert any(isinstance(event, Subscribed) for event in events)
        assert script.queries[1] == {"stream": ["app.log"], "cursor": ["c1"], "grep": ["q"]}
        assert script.received == [
            {"type": "subscribe", "stream": "b", "tail": 3},
            {"type": "subscribe", "stream": "gone", "tail": 10},
            {"type": "unsubscribe", "stream": "gone"},
            {"type": "filter", "stream": "b", "grep": ["y"], "exclude": []},
            {"type": "subscribe", "stream": "b", "cursor": "b1", "grep": ["y"]},
        ]

    run(test())


# When to come back, and when not


def test_the_wait_doubles_up_to_its_bound_and_starts_anew_after_lines() -> None:
    """Each wait lies between half of its bound and the whole."""

    async def test() -> None:
        down = http.HTTPStatus.SERVICE_UNAVAILABLE
        script = Script(scene(hello()), down, down, down, down, scene(hello(), lines("c1", "a")), scene(stay=True))
        patience = Patience(first_s=0.02, longest_s=0.1)
        async with playing(script) as url, LogStreamClient(url, patience=patience) as client:
            events = await take(client, 11)
        waits = [event.retry_s for event in events if isinstance(event, Disconnected)]
        bounds = [0.02, 0.04, 0.08, 0.1, 0.1, 0.02]
        assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True)), waits
        assert [event.attempts for event in events if isinstance(event, Reconnected)] == [5, 1]

    run(test())


def test_a_bye_sets_the_time_of_the_return() -> None:
    """It is an event, its time is kept to, and lines that follow it still count."""

    async def test() -> None:
        bye = {"type": "bye", "reason": "restarting", "reconnect": True, "retry_ms": 200}
        script = Script(
            scene(hello(), bye, lines("c1", "a"), Close(1012, "")), scene(hello(), lines("c2", "b"), stay=True)
        )
        loop = asyncio.get_running_loop()
        async with playing(script) as url, LogStreamClient(url, patience=QUICK) as client:
            first = await take(client, 4)
            before = loop.time()
            assert texts(await until_lines(client, 1)) == ["b"]
            assert 0.19 < loop.time() - before < 2
        assert first[1:3] == [Bye("restarting", True, 200), Lines("app.log", "c1", 0, ["a"])]
        last = first[3]
        assert isinstance(last, Disconnected)
        assert (last.reason, last.code) == ("restarting", 1012)
        assert script.queries[1]["cursor"] == ["c1"]

    run(test())


@pytest.mark.parametrize(
    ("scenes", "code", "reason"),
    [
        *[
            pytest.param([scene(hello(), Close(code, "words"))], int(code), "words", id=f"close code {code}")
            for code in (
                CloseCode.AUTH_EXPIRED,
                CloseCode.FORBIDDEN,
                CloseCode.NO_SUCH_STREAM,
                CloseCode.BAD_REQUEST,
                CloseCode.UNSUPPORTED_FILE,
            )
        ],
        pytest.param(
            [scene({"type": "bye", "reason": "gone", "reconnect": False, "retry_ms": 0}, Close(1000, ""))],
            1000,
            "gone",
            id="a bye that asks not to come back",
        ),
        pytest.param(
            [scene(hello()), scene(Close(4004, "no stream app.log"))], 4004, "no stream app.log", id="later, too"
        ),
        pytest.param([http.HTTPStatus.FORBIDDEN], 403, "no", id="HTTP 403"),
        pytest.param([http.HTTPStatus.UNAUTHORIZED], 401, "no", id="HTTP 401"),
        pytest.param([http.HTTPStatus.NOT_FOUND], 404, "no", id="HTTP 404"),
        pytest.param([scene("not JSON")], None, "it sent what is no message of logstream.json.v1", id="no JSON"),
        pytest.param([scene("[1]")], None, "it sent what is no message of logstream.json.v1", id="no object"),
        pytest.param([scene({"type": "lines", "lines": 1})], None, "it sent what is no message", id="a bad field"),
        pytest.param([scene(b"\xff\xfe")], None, "it sent what is no message", id="binary"),
    ],
)
def test_a_final_refusal_is_raised(scenes: list[Scene], code: int | None, reason: str) -> None:
    """With URL, code and reason; after it the iteration is over."""

    async def test() -> None:
        script = Script(*scenes)
        async with playing(script) as url, LogStreamClient(url + "?token=secret", patience=QUICK) as client:
            with pytest.raises(CannotFollow) as caught:
                async for _ in client:
                    pass
            assert await anext(client, None) is None
            assert url in str(caught.value)
        assert caught.value.code == code
        assert caught.value.reason.startswith(reason)
        assert code is None or str(code) in str(caught.value)
        assert "secret" not in str(caught.value)

    run(test())


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4000, 4001, 4005, 4008, 4321])
def test_any_other_close_code_is_worth_another_try(code: int) -> None:
    """Slow, full, restarting, or not known to us."""

    async def test() -> None:
        script = Script(scene(hello(), lines("c1", "a"), Close(code, "")), scene(hello(), lines("c2", "b"), stay=True))
        async with playing(script) as url, LogStreamClient(url, patience=QUICK) as client:
            events = await until_lines(client, 2)
        assert [event.code for event in events if isinstance(event, Disconnected)] == [code]
        assert script.queries[1]["cursor"] == ["c1"]

    run(test())


def test_a_server_that_is_full_is_asked_again_when_it_says() -> None:
    """429 and 503 pass; Retry-After counts; the words of a problem+json are shown."""

    async def test() -> None:
        body = json.dumps({"title": "Service Unavailable", "detail": "10000 clients already"}).encode()
        headers = {"Retry-After": "1", "Content-Length": str(len(body))}
        from websockets.datastructures import Headers  # noqa: PLC0415

        full = Response(503, "Service Unavailable", Headers(headers), body)
        script = Script(full, scene(hello(), stay=True))
        async with playing(script) as url, LogStreamClient(url, patience=QUICK) as client:
            lost, again, first = await take(client, 3)
        assert isinstance(lost, Disconnected)
        assert lost.reason == "10000 clients already (HTTP 503)"
        assert lost.retry_s >= 1
        assert isinstance(again, Reconnected)
        assert isinstance(first, Hello)

    run(test())


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_a_server_that_is_not_there_is_a_failure_at_once() -> None:
    """A mistyped port should not hang."""

    async def test() -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with LogStreamClient(url) as client:
            with pytest.raises(CannotFollow, match=rf"cannot follow {url}: .*(refused|failed)"):
                await anext(client)

    run(test())


def test_a_patient_client_waits_for_a_server_that_is_not_there_yet() -> None:
    """For tests and for programs that start together."""

    async def test() -> None:
        port = free_port()
        patience = Patience(0.01, 0.05, for_server=True)
        async with LogStreamClient(f"http://127.0.0.1:{port}", patience=patience) as client:
            assert isinstance(await anext(client), Disconnected)
            script = Script(scene(hello(), stay=True))
            async with await serve(script.handle, "127.0.0.1", port, subprotocols=[Subprotocol("logstream.json.v1")]):
                while not isinstance(event := await anext(client), Hello):
                    assert isinstance(event, Disconnected | Reconnected)
                await client.close()

    run(test())


def test_a_server_of_another_kind_is_recognized() -> None:
    """One that accepts a WebSocket and does not take our subprotocol."""

    async def test() -> None:
        script = Script(scene("hi", stay=True))
        async with playing(script, protocols=()) as url, LogStreamClient(url) as client:
            with pytest.raises(CannotFollow, match=r"does not speak logstream\.json\.v1"):
                await anext(client)

    run(test())


def test_a_server_that_falls_silent_is_left() -> None:
    """A connection that died without a word is found out by a ping."""

    async def test() -> None:
        async def deaf(connection: ServerConnection, _: Script) -> None:
            await connection.send(json.dumps(hello()))
            connection.transport.pause_reading()
            await asyncio.sleep(0.5)

        script = Script(deaf, scene(hello(), lines("c1", "a"), stay=True))
        patience = Patience(0.01, 0.05, ping_s=0.05)
        async with playing(script) as url, LogStreamClient(url, patience=patience) as client:
            events = await until_lines(client, 1)
        lost = [event for event in events if isinstance(event, Disconnected)]
        assert [(event.code, event.reason) for event in lost] == [(None, "no answer to a ping")]

    run(test())


def test_close_ends_an_iteration_that_waits() -> None:
    """For a message, or for the next try."""

    async def test() -> None:
        script = Script(scene(hello(), stay=True), scene(hello()))
        async with playing(script) as url:
            for patience in (QUICK, Patience(30, 30)):
                client = LogStreamClient(url, patience=patience)

                async def consume(client: LogStreamClient = client) -> list[ClientEvent]:
                    return [event async for event in client]

                consumer = asyncio.create_task(consume())
                await asyncio.sleep(0.1)
                assert not consumer.done()
                await client.close()
                assert isinstance((await consumer)[0], Hello)

    run(test())


def test_parse_server_message_knows_what_it_does_not_know() -> None:
    """A new type is None, a known one that is broken is an error."""
    assert parse_server_message('{"type":"new","x":1}') is None
    assert parse_server_message(b'{"type":"bye"}') == Bye()
    for broken in ("", "{}", '{"type":"lines"}', '{"type":5}', "[]", "{"):
        with pytest.raises(ValueError, match=r"."):
            parse_server_message(broken)


# logstream tail


def printed(*events: ClientEvent, as_json: bool = False) -> tuple[str, str]:
    """Standard output and standard error for the events."""
    out, log = io.BytesIO(), io.StringIO()
    printer = Printer(out, log, as_json)
    for event in events:
        printer.show(event)
    return out.getvalue().decode(), log.getvalue()


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([Lines("s", "c", 0, ["a", "", "ü"])], "a\n\nü\n", id="lines, empty ones too"),
        pytest.param([Lines("s", "c", 0, [])], "", id="a batch without lines prints nothing"),
        pytest.param([Lines("s", "c", 0, ["\x1b[1mé\t\x00"])], "\x1b[1mé\t\x00\n", id="control characters as they are"),
        pytest.param(
            [Lines("s", "c", 0, ["a", "b"], partial=True), Lines("s", "c", 0, ["c", "d"], continued=True)],
            "a\nbc\nd\n",
            id="a partial line is continued where it stands",
        ),
        pytest.param(
            [Lines("s", "c", 0, ["a"], partial=True), Lines("s", "c", 0, []), Lines("s", "c", 0, ["b"])],
            "a\nb\n",
            id="a partial line that is not continued ends",
        ),
    ],
)
def test_lines_are_printed_as_they_are_in_the_file(events: list[ClientEvent], expected: str) -> None:
    """And nothing is said about them."""
    assert printed(*events) == (expected, "")


def test_what_happens_is_said_on_standard_error() -> None:
    """In sentences, and a failure that repeats is said once."""
    out, log = printed(
        Hello("s", "c"),
        Disconnected("gone", 1006, 0.1),
        Disconnected("gone", 1006, 0.2),
        Disconnected("refused", None, 0.2),
        Reconnected(2, 1.25),
        Hello("s", "c", False, "the file was truncated"),
        Gap("s", "lost", "the rotated file is gone", 12),
        Gap("s", "slow"),
        Event("s", "rotated"),
        Event("s", "unreadable", "permission denied"),
        ServerError(4004, "no stream x"),
        Bye(),
    )
    assert out == ""
    assert log.splitlines() == [
        "logstream: no connection: gone; trying again",
        "logstream: no connection: refused; trying again",
        "logstream: connected again after 1.2 s",
        "logstream: s: cannot go on where it was, lines may be missing: the file was truncated",
        "logstream: s: 12 bytes are missing here: the rotated file is gone",
        "logstream: s: lines are missing here: slow",
        "logstream: s: rotated",
        "logstream: s: unreadable: permission denied",
        "logstream: the server says: no stream x (4004)",
    ]


def test_as_json_each_message_is_a_line() -> None:
    """Those of the server, none of the client's own; enough to go on from with --cursor."""
    out, log = printed(
        Hello("s", "c0"), Lines("s", "c1", 5, ["a\nb"], partial=True), Disconnected("gone", None, 0.1), as_json=True
    )
    assert [json.loads(line) for line in out.splitlines()] == [
        {"type": "hello", "stream": "s", "cursor": "c0"},
        {"type": "lines", "stream": "s", "cursor": "c1", "offset": 5, "lines": ["a\nb"], "partial": True},
    ]
    assert log == "logstream: no connection: gone; trying again\n"


def test_every_kind_of_event_has_its_remark_or_none() -> None:
    """Lines are no news."""
    assert remark_on(Lines("s", "c", 0, ["a"])) == ""
    assert remark_on(Hello("s", "c", True)) == ""


def tail(options: TailOptions) -> None:
    """run_tail beside a server in the same loop: in a thread, since it brings a loop of its own."""
    assert run_tail(options) == 0


def test_tail_prints_goes_on_and_ends_with_the_refusal(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    """The main job of the command, over a broken connection."""
    token = tmp_path / "token"
    token.write_text("\nt0ken\nother\n")

    async def test() -> None:
        script = Script(
            scene(hello(), lines("c1", "a", "ü")),
            scene(hello(), lines("c2", "b"), Close(4004, "no stream app.log")),
        )
        async with playing(script) as url:
            options = TailOptions(target=url, lines=3, stream="app.log", grep="g", exclude="e", token_file=str(token))
            with pytest.raises(CannotFollow, match=rf"cannot follow {url}: no stream app.log \(close code 4004\)"):
                await asyncio.to_thread(tail, options)
        assert script.queries[0] == {"stream": ["app.log"], "tail": ["3"], "grep": ["g"], "exclude": ["e"]}
        assert script.headers[0]["Authorization"] == "Bearer t0ken"

    run(test())
    captured = capsysbinary.readouterr()
    assert captured.out == "a\nü\nb\n".encode()
    assert b"no connection" in captured.err
    assert b"connected again" in captured.err


def test_tail_without_resume_ends_with_the_connection(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """And says why."""

    async def test() -> None:
        script = Script(scene(hello(), lines("c1", "a"), Close(1001, "going")))
        async with playing(script) as url:
            with pytest.raises(CannotFollow, match=r"going \(close code 1001\)"):
                await asyncio.to_thread(tail, TailOptions(target=url, no_resume=True))

    run(test())
    assert capsysbinary.readouterr().out == b"a\n"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param(TailOptions(target="ftp://host/log"), "FILE|URL", id="a URL of another kind"),
        pytest.param(TailOptions(target="http://h", token_file="/no/such/file"), "--token-file", id="no token file"),
        pytest.param(TailOptions(target="http://h", token_file=os.devnull), "--token-file", id="an empty token file"),
    ],
)
def test_tail_names_the_option_that_is_wrong(options: TailOptions, name: str) -> None:
    """As a problem of the settings, which ends with status 2."""
    with pytest.raises(SettingsError) as caught:
        run_tail(options)
    assert [problem.name for problem in caught.value.problems] == [name]


async def tail_process(url: str, out: int) -> asyncio.subprocess.Process:
    """The program itself, its standard output going to a descriptor."""
    return await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "logstream_server", "tail", url],
        stdout=out,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_tail_as_a_program_ends_quietly_at_ctrl_c() -> None:
    """Status 130, as shells have it, nothing on standard error."""

    async def test() -> None:
        async with playing(Script(scene(hello(), lines("c1", "a"), stay=True))) as url:
            process = await tail_process(url, subprocess.PIPE)
            assert process.stdout is not None
            assert await process.stdout.readline() == b"a\n"
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
            assert (process.returncode, errors) == (130, b"")

    run(test())


def test_tail_as_a_program_ends_quietly_when_nobody_reads() -> None:
    """As `logstream tail URL | head -1` does: status 141, nothing on standard error."""

    async def test() -> None:
        async def endless(connection: ServerConnection, _: Script) -> None:
            await connection.send(json.dumps(hello()))
            while True:
                await connection.send(json.dumps(lines("c", *["x" * 1000] * 100)))
                await asyncio.sleep(0.01)

        reader, writer = os.pipe()
        async with playing(Script(endless)) as url:
            process = await tail_process(url, writer)
            os.close(writer)
            assert await asyncio.to_thread(os.read, reader, 1) == b"x"
            os.close(reader)
            _, errors = await process.communicate()
            assert (process.returncode, errors) == (141, b"")

    run(test())
