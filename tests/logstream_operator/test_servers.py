"""servers: what the servers' pods say of themselves."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from logstream_operator.assess import Report
from logstream_operator.servers import MAX_BYTES, MAX_DETAILS, Answer, Servers, ready_addresses


def a_status(clients: int = 7, *troubled: tuple[str, str, str], **streams: int) -> bytes:
    """What a server says. `troubled`: name, state, detail."""
    words = [dict(zip(("name", "state", "detail"), each, strict=True)) for each in troubled]
    return json.dumps({"clients": clients, "streams": streams, "troubled": words, "untold": 0}).encode()


def a_pod(address: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", **more},
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_what_a_server_says_is_read() -> None:
    said = a_status(7, ("a.log", "unreadable", "Permission denied"), following=2, unreadable=1)
    assert Answer.parse(said) == Answer(7, Counter(following=2, unreadable=1), ("a.log: Permission denied",))


def test_words_are_told_of_files_that_give_no_lines() -> None:
    """A newer server may list others, and one may have nothing to say."""
    said = a_status(0, ("a.log", "resting", "soon"), ("b.log", "hung", ""), ("c.log", "hung", "no answer"))
    assert Answer.parse(said).details == ("c.log: no answer",)


@pytest.mark.parametrize(
    "said",
    [b"", b"ok\n", b"[]", b"{}", b'{"clients":1,"streams":[],"troubled":[]}', a_status().replace(b"7", b"null")],
)
def test_what_no_server_says_is_no_answer(said: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Answer.parse(said)


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


async def with_servers(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, tuple[int, bytes]], then: Callable[[Servers], Awaitable[None]]
) -> None:
    """Servers on loopback addresses; each says what `said` has for its address: status and body."""

    async def status(request: web.Request) -> web.Response:
        code, body = said[request.host.rpartition(":")[0]]
        return web.Response(body=body, status=code)

    app = web.Application()
    app.router.add_get("/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        port = 0
        for address in said:
            await web.TCPSite(runner, address.strip("[]"), port).start()
            port = runner.addresses[0][1]
        monkeypatch.setattr("logstream_operator.servers.METRICS_PORT", port)
        async with aiohttp.ClientSession() as session:
            await then(Servers(session))
    finally:
        await runner.cleanup()


def test_servers_count_their_clients_and_see_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "127.0.0.1": (200, a_status(3, ("a.log", "hung", "no answer"), following=2, hung=1)),
        "127.0.0.2": (
            200,
            a_status(4, ("a.log", "hung", "no answer"), ("b.log", "hung", "none either"), following=1, hung=2),
        ),
        "127.0.0.3": (503, a_status(100)),
    }

    async def then(servers: Servers) -> None:
        pods = [a_pod("127.0.0.1"), a_pod("127.0.0.2"), a_pod("127.0.0.3"), a_pod("127.0.0.1", deletionTimestamp="now")]
        expected = {"following": 2, "hung": 2}
        report = await servers.ask(pods)
        assert report == Report(7, Counter(expected), ("a.log: no answer", "b.log: none either"))

    asyncio.run(with_servers(monkeypatch, said, then))


def test_a_few_words_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    many = a_status(0, *((f"{number}.log", "hung", "no answer") for number in range(9)), hung=9)

    async def then(servers: Servers) -> None:
        report = await servers.ask([a_pod("127.0.0.1")])
        assert report is not None
        assert len(report.details) == MAX_DETAILS

    asyncio.run(with_servers(monkeypatch, {"127.0.0.1": (200, many)}, then))


def test_servers_that_do_not_answer_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"127.0.0.1": (500, b""), "127.0.0.2": (200, b"ok"), "127.0.0.3": (200, b" " * MAX_BYTES + a_status())}

    async def then(servers: Servers) -> None:
        for address in (*said, "127.0.0.4"):
            assert await servers.ask([a_pod(address)]) is None
        assert await servers.ask([]) is None

    asyncio.run(with_servers(monkeypatch, said, then))


def test_a_server_may_have_an_address_of_either_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def then(servers: Servers) -> None:
        report = await servers.ask([a_pod("::1")])
        assert report is not None
        assert report.clients == 7

    try:
        asyncio.run(with_servers(monkeypatch, {"[::1]": (200, a_status())}, then))
    except OSError as error:
        pytest.skip(f"this machine has no ::1: {error}")
