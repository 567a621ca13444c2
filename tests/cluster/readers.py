"""Clients that resume: many at once, each of which checks that it gets every line once and in order.

`Progress` is the checker, and is itself checked in test_flood.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, overload

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
PREFIX: Final = "line "


def numbered(first: int, count: int) -> list[str]:
    """Lines that tell their place; long enough to be a log's."""
    return [f"{PREFIX}{n:08d} the quick brown fox jumps over the lazy dog" for n in range(first, first + count)]


class Numbered(Sequence[str]):
    """As many numbered lines as anybody may want, made when they are asked for."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One line, or the lines from a number to another."""
        if isinstance(index, int):
            return numbered(index, 1)[0]
        return numbered(index.start, index.stop - index.start)

    def __len__(self) -> int:
        """More than a test writes."""
        return 10**8


class Wrong(AssertionError):
    """A line that is not the next one."""


@dataclass(slots=True)
class Progress:
    """What one client has got of the lines that are written. `total`: how many that will be; None for all expected."""

    expected: Sequence[str]
    done: int = 0
    total: int | None = None

    def accept(self, lines: Sequence[str]) -> None:
        """Take a batch. Raises Wrong for a line that is lost, repeated, swapped or another one."""
        end = self.done + len(lines)
        if list(lines) != list(self.expected[self.done : end]):
            at = next(i for i, line in enumerate(lines) if self.expected[self.done + i : self.done + i + 1] != [line])
            raise Wrong(f"line {self.done + at} should be next, and {lines[at]!r} came")
        self.done = end

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return self.done == (len(self.expected) if self.total is None else self.total)


@dataclass(slots=True)
class Reader:
    """One client: comes back with its cursor whenever its connection breaks."""

    url: str
    address: str
    """Where the ingress is, whatever host name the URL has."""
    stream: str
    progress: Progress
    query: str = ""
    """More of it, such as `&exclude=x`."""
    connections: int = 0
    live: bool = False
    cursor: str = ""
    unrecovered: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until everything has come. Raises Wrong."""
        while not self.progress.is_complete:
            with contextlib.suppress(OSError, TimeoutError, InvalidHandshake, WebSocketException):
                await self._read()
            self.live = False
            await asyncio.sleep(random.uniform(0.2, 1.5))  # noqa: S311 - so that not all come at once

    async def _read(self) -> None:
        begin = f"cursor={self.cursor}" if self.cursor else "from=start"
        url = f"{self.url}?format=json&stream={self.stream}&{begin}{self.query}"
        async with connect(
            url, host=self.address, port=80, compression=None, open_timeout=20, max_size=None, max_queue=64
        ) as socket:
            self.connections += 1
            async for message in socket:
                self._take(_decode(message))
                if self.progress.is_complete:
                    return

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "hello":
            self.live = True
            if message["recovered"] is False:
                self.unrecovered.append(message["reason"])
        elif kind == "gap":
            raise Wrong(f"a gap: {message['detail']}")
        elif kind == "lines":
            self.progress.accept(message["lines"])
        self.cursor = message.get("cursor") or self.cursor


@dataclass(slots=True)
class Crowd:
    """Many readers of one stream, side by side on one event loop."""

    readers: list[Reader]

    async def run(self, timeout_s: float) -> None:
        """Until all have everything. Raises Wrong, or TimeoutError that says how far they are."""
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                for reader in self.readers:
                    group.create_task(reader.run())
        except TimeoutError:
            raise TimeoutError(f"after {timeout_s:.0f} s: {self.describe()}") from None

    def describe(self) -> str:
        """How far they are."""
        done = sorted(reader.progress.done for reader in self.readers)
        complete = sum(reader.progress.is_complete for reader in self.readers)
        came = sum(reader.connections for reader in self.readers)
        return f"{complete} of {len(done)} complete, {done[0]} to {done[-1]} lines, {came} connections"
