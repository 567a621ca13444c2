"""One queue of keys: each key is worked on by one task at a time, and once more when it was added meanwhile.

What happened is not kept, only that something did: the work looks at the whole again. A failure is tried again later
and later; success forgets the failures. Bounded by the number of keys there are.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from .errors import OperatorError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 120.0
SETTLE_S: Final = 0.1
"""How long a key waits after it was added: changes come in swarms."""


class WorkQueue(Generic[K]):
    """`work(key)` returns after how many seconds to look again, None for not by itself."""

    def __init__(self, work: Callable[[K], Awaitable[float | None]], *, settle_s: float = SETTLE_S) -> None:
        self._work = work
        self._settle_s = settle_s
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._running: dict[K, float] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: K, after_s: float | None = None) -> None:
        """Work on `key` soon, or after that time if nothing asks for it sooner."""
        due = self._now() + (self._settle_s if after_s is None else after_s)
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    def longest_s(self) -> float:
        """How long the work that has run longest has been running."""
        return max((self._now() - since for since in self._running.values()), default=0.0)

    async def run(self, workers: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._run_worker())

    async def _run_worker(self) -> None:
        while True:
            key = await self._next()
            self._running[key] = self._now()
            try:
                again_s = await self._work(key)
                self._failures.pop(key, None)
                if again_s is not None:
                    self.add(key, again_s)
            except OperatorError as error:
                self._retry(key, error)
            except asyncio.CancelledError as error:
                # Kopf, when it fails, cancels each task that is younger than itself: also what the work waits for.
                if is_cancelled():
                    raise
                self._retry(key, error)
            except Exception as error:
                log.exception("%s: a mistake in the operator", key)
                self._retry(key, error)
            finally:
                del self._running[key]
                self._changed.set()

    def _retry(self, key: K, error: BaseException) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = backoff_s(failures, random.random())  # noqa: S311 - spreads retries, keeps no secret
        log.warning("%s: try %d failed, again in %.1f s: %s", key, failures, delay_s, str(error) or "it was cut off")
        self.add(key, delay_s)

    async def _next(self) -> K:
        """The key that is due first of those that nobody works on; waits for it."""
        while True:
            self._changed.clear()
            waiting = [(due, key) for key, due in self._due.items() if key not in self._running]
            due, key = min(waiting, key=lambda entry: entry[0], default=(None, None))
            if due is not None and key is not None and due <= self._now():
                del self._due[key]
                return key
            delay_s = None if due is None else max(0.0, due - self._now())
            try:
                async with asyncio.timeout(delay_s):  # no task in between, in which a wake-up could be missed
                    await self._changed.wait()
            except TimeoutError:
                continue

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def is_cancelled() -> bool:
    """Whether the task that asks is to end, and not only one that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def backoff_s(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row; `chance`, from 0 to 1, takes up to a quarter off it."""
    return float(min(FIRST_RETRY_S * 2 ** min(failures - 1, 10), LAST_RETRY_S) * (1 - chance / 4))
