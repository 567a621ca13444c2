"""What all looks need to know of the whole cluster, read once for many of them.

Each look asks which nodes, classes and other LogStreams there are. Read anew for each, all looks of a resync together
would cost the square of the number of LogStreams: 20 s of CPU for 500, measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
AGE_S: Final = 2.0
"""How old a reading may be where nobody tells of changes, as of IngressClasses, which are not watched."""


class Shared(Generic[T]):
    """A reading that those who come shortly after one another share. `now_s`: a monotonic clock, in seconds."""

    def __init__(self, read: Callable[[], Awaitable[T]], now_s: Callable[[], float]) -> None:
        self._read, self._now_s = read, now_s
        self._changes = 0
        self._known: tuple[int, float, T] | None = None
        self._one_at_a_time = asyncio.Lock()

    def forget(self) -> None:
        """Something has changed: who asks from now on gets what is read from now on."""
        self._changes += 1

    async def get(self) -> T:
        """What was read after the last change, and not too long ago; raises what reading raises."""
        async with self._one_at_a_time:
            if self._known is not None:
                changes, began_s, value = self._known
                if changes == self._changes and self._now_s() - began_s < AGE_S:
                    return value
            changes, began_s = self._changes, self._now_s()
            value = await self._read()
            self._known = changes, began_s, value
            return value
