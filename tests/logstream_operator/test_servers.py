"""servers: what the servers' pods say of themselves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from logstream_operator.assess import Report
from logstream_operator.servers import Servers, find_details, parse_metrics, ready_addresses

METRICS = """\
# TYPE logstream_clients gauge
logstream_clients{format="text"} 3.0
logstream_clients{format="json"} 4.0
# TYPE logstream_streams gauge
logstream_streams{state="following"} 2.0
logstream_streams{state="unreadable"} 1.0
"""
STREAMS = {"streams": [{"name": "a.log", "state": "unreadable", "detail": "permission denied"}]}


def a_pod(address: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", **more},
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_metrics_are_read() -> None:
    assert parse_metrics(METRICS) == (7, Counter(following=2, unreadable=1))
    assert parse_metrics("") == (0, Counter())


def test_details_are_a_few() -> None:
    many = [{"name": f"{n}", "state": "hung", "detail": "no answer"} for n in range(9)]
    good = {"name": "good", "state": "following", "detail": None}
    assert list(find_details({"streams": [good, *many]})) == ["0: no answer", "1: no answer", "2: no answer"]


@pytest.mark.parametrize(
    "pod",
    [
        {"metadata": {}, "status": {"podIP": "1.1.1.1", "conditions": [{"type": "Ready", "status": "False"}]}},
        {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"metadata": {}},
        a_pod("1.1.1.1", deletionTimestamp="now"),
    ],
    ids=["not ready", "no address", "no status", "ending"],
)
def test_pods_that_are_not_asked(pod: dict[str, Any]) -> None:
    assert list(ready_addresses(pod)) == []
    assert list(ready_addresses(a_pod("1.1.1.1"))) == ["1.1.1.1"]


async def with_server(monkeypatch: pytest.MonkeyPatch, status: int, then: Callable[[Servers], Awaitable[None]]) -> None:
    """A server on loopback, for both of a pod's ports."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=METRICS, status=status)

    async def streams(_request: web.Request) -> web.Response:
        return web.json_response(STREAMS)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/base/api/v1/streams", streams)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        monkeypatch.setattr("logstream_operator.servers.METRICS_PORT", port)
        monkeypatch.setattr("logstream_operator.servers.HTTP_PORT", port)
        async with aiohttp.ClientSession() as session:
            await then(Servers(session))
    finally:
        await runner.cleanup()


def test_two_servers_count_their_clients_and_see_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    async def then(servers: Servers) -> None:
        pods = [a_pod("127.0.0.1"), a_pod("127.0.0.1"), a_pod("127.0.0.1", deletionTimestamp="now")]
        report = await servers.ask(pods, "/base", is_open=True)
        expected = {"following": 2, "unreadable": 1}
        assert report == Report(14, Counter(expected), ("a.log: permission denied",))
        closed = await servers.ask(pods, "/base", is_open=False)
        assert closed is not None
        assert closed.details == (), "with a token, the API is not ours to ask"
        elsewhere = await servers.ask(pods, "/other", is_open=True)
        assert elsewhere is not None
        assert elsewhere.details == ()

    asyncio.run(with_server(monkeypatch, 200, then))


def test_servers_that_do_not_answer_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def then(servers: Servers) -> None:
        assert await servers.ask([a_pod("127.0.0.1")], "", is_open=True) is None
        assert await servers.ask([], "", is_open=True) is None
        assert await servers.ask([a_pod("::1")], "", is_open=True) is None

    asyncio.run(with_server(monkeypatch, 500, then))
