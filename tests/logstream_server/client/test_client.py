"""client: against a real WebSocket server that follows a script, and breaks where the script says so."""

from __future__ import annotations

import asyncio
import errno
import http
import json
import socket
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.frames import Close
from websockets.http11 import Response
from websockets.typing import Subprotocol

from logstream_server.client.client import LogStreamClient, Patience, Subscription, failure_words
from logstream_server.encoding.events import (
    Bye,
    ClientEvent,
    Disconnected,
    Event,
    Gap,
    Hello,
    Lines,
    Reconnected,
    ServerError,
    Subscribed,
)
from logstream_server.errors import CannotFollow, CloseCode

from ..script import QUICK, Scene, Script, hello, lines, playing, run, scene, take, texts, until_lines

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
            with pytest.raises(CannotFollow, match=rf"cannot follow {url}: Connection refused"):
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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(TimeoutError("x"), "no answer in time", id="no answer"),
        pytest.param(
            OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 1, 0, 0)"), "Connection refused", id="one"
        ),
        pytest.param(
            OSError("Multiple exceptions: [Errno 111] Connect call failed (1), [Errno 111] Connect call failed (2)"),
            "Connection refused",
            id="a name with two addresses",
        ),
        pytest.param(
            OSError("Multiple exceptions: [Errno 101] Connect call failed (1), [Errno 111] Connect call failed (2)"),
            "Network is unreachable; Connection refused",
            id="a name with two addresses, each with its own trouble",
        ),
        pytest.param(socket.gaierror(-2, "Name or service not known"), "Name or service not known", id="no such name"),
        pytest.param(ssl.SSLError(1, "[SSL] wrong version number"), "[SSL] wrong version number", id="TLS"),
        pytest.param(OSError("odd"), "odd", id="no number at all"),
    ],
)
def test_a_failed_connection_is_told_in_the_systems_words(error: OSError, words: str) -> None:
    assert failure_words(error) == words
