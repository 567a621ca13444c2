"""shared: one reading for many, and never one from before a change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from logstream_operator.errors import Unreachable
from logstream_operator.shared import AGE_S, Shared

from .examples import until


@dataclass
class Source:
    """Counts how often it is read; waits where it is told to."""

    now_s: float = 0.0
    reads: int = 0
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> int:
        self.reads += 1
        found = self.reads
        await self.may_go_on.wait()
        return found


@pytest.fixture
def source() -> Source:
    found = Source()
    found.may_go_on.set()
    return found


@pytest.fixture
def shared(source: Source) -> Shared[int]:
    return Shared(source.read, lambda: source.now_s)


def test_many_share_one_reading(shared: Shared[int]) -> None:
    async def run() -> list[int]:
        return [*await asyncio.gather(*(shared.get() for _ in range(9))), await shared.get()]

    assert asyncio.run(run()) == [1] * 10


def test_it_gets_old(source: Source, shared: Shared[int]) -> None:
    asyncio.run(shared.get())
    source.now_s += AGE_S
    assert asyncio.run(shared.get()) == 2


def test_after_a_change_it_is_read_again(shared: Shared[int]) -> None:
    asyncio.run(shared.get())
    shared.forget()
    assert [asyncio.run(shared.get()) for _ in range(2)] == [2, 2]


def test_a_change_while_it_is_read_is_not_missed(source: Source, shared: Shared[int]) -> None:
    async def run() -> list[int]:
        source.may_go_on.clear()
        first = asyncio.create_task(shared.get())
        await until(lambda: source.reads == 1)
        shared.forget()
        second = asyncio.create_task(shared.get())
        source.may_go_on.set()
        return [await first, await second]

    assert asyncio.run(run()) == [1, 2]


def test_a_failure_is_not_kept() -> None:
    errors: list[Exception] = [Unreachable("Nodes", 503, "busy")]

    async def read() -> str:
        if errors:
            raise errors.pop()
        return "nodes"

    shared = Shared(read, lambda: 0.0)
    with pytest.raises(Unreachable):
        asyncio.run(shared.get())
    assert asyncio.run(shared.get()) == "nodes"
