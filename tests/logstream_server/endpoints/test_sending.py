"""sending: answers in slices, that end when their client goes, and never look whole when they are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import Response

from logstream_server.endpoints import sending
from logstream_server.endpoints.retrieve import Unavailable
from logstream_server.endpoints.sending import SLICE_BYTES, Sliced, Streamed, Turns
from logstream_server.errors import LogstreamError


class Peer:
    """The server below, and a client that the test plays."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.gone = asyncio.Event()
        self.stalls_after: int | None = None

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.sent.append(message)
        if len(self.sent) == self.stalls_after:
            self.takes.clear()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def is_whole(self) -> bool:
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body")

    async def ask(self, answer: Any, method: str = "GET") -> None:
        await answer({"type": "http", "method": method}, self.receive, self.send)


class Counted:
    """Parts of an answer; the last may be an error."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self._parts = list(parts)
        self.asked = self.closed = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        self.asked += 1
        part = self._parts.pop(0)
        if isinstance(part, Exception):
            raise part
        return part

    async def aclose(self) -> None:
        self.closed += 1


def run(test: Callable[[Peer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await test(Peer())

    asyncio.run(main())


def test_an_answer_comes_in_slices() -> None:
    async def test(peer: Peer) -> None:
        body = bytes(range(256)) * 1000
        await peer.ask(Sliced(body))
        assert (peer.body, peer.is_whole) == (body, True)
        assert max(len(message.get("body", b"")) for message in peer.sent) == SLICE_BYTES

    run(test)


def test_parts_are_asked_for_one_at_a_time_and_given_back() -> None:
    async def test(peer: Peer) -> None:
        parts = Counted(b"one", b"x" * SLICE_BYTES, b"three")
        await peer.ask(Streamed(parts, {"X-Test": "1"}, "text/plain"))
        assert (peer.body, peer.is_whole) == (b"one" + b"x" * SLICE_BYTES + b"three", True)
        assert (b"x-test", b"1") in peer.sent[0]["headers"]
        assert parts.closed == 1

    run(test)


def test_head_asks_for_no_part() -> None:
    async def test(peer: Peer) -> None:
        parts = Counted(b"one")
        await peer.ask(Streamed(parts, {}, "text/plain"), "HEAD")
        assert (peer.body, peer.is_whole, parts.asked, parts.closed) == (b"", True, 0, 1)

    run(test)


def test_an_error_breaks_off() -> None:
    async def test(peer: Peer) -> None:
        parts = Counted(b"one", LogstreamError("no more"))
        await peer.ask(Streamed(parts, {}, "text/plain"))
        assert (peer.body, peer.is_whole, parts.closed) == (b"one", False, 1)

    run(test)


def test_a_client_that_goes_is_sent_no_more() -> None:
    async def test(peer: Peer) -> None:
        parts = Counted(b"one", b"two", b"three")
        peer.takes.clear()
        life = asyncio.create_task(peer.ask(Streamed(parts, {}, "text/plain")))
        await asyncio.sleep(0)
        peer.gone.set()
        await asyncio.sleep(0)
        peer.takes.set()
        await life
        assert (parts.asked, parts.closed, peer.is_whole) == (1, 1, False)

    run(test)


@pytest.mark.parametrize("kind", ["sliced", "streamed"])
def test_a_client_that_takes_nothing_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SLICE_S", 0.01)  # the only way not to wait for twenty seconds

    async def test(peer: Peer) -> None:
        answer = Sliced(b"one") if kind == "sliced" else Streamed(Counted(b"one", b"two"), {}, "text/plain")
        peer.stalls_after = 1
        await peer.ask(answer)
        assert len(peer.sent) == 1

    run(test)


def test_turns_are_waited_for_but_not_for_long() -> None:
    async def test(peer: Peer) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await Response("done")(scope, receive, send)

        turns = Turns(app, 1, 0.01, "too many")
        peer.takes.clear()
        first = asyncio.create_task(peer.ask(turns))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="too many"):
            await peer.ask(turns)
        peer.takes.set()
        await first
        await peer.ask(turns)
        assert peer.body == b"donedone"

    run(test)
