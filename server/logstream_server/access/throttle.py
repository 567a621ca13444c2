"""How often somebody may try tokens that are wrong: a bucket of tries for each visitor, refilled with time. Pure.

Only failures take from a bucket. While it is empty, nothing that its visitor presents is looked at, right or wrong:
otherwise the right one would be found all the same. So that one neighbour behind a shared proxy does not lock the
others out, a peer that is no trusted proxy has a large bucket, and each visitor that it claims to forward a small one;
who makes claims up only divides the large one. Time is an argument: monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rate:
    """So many tries at once, and then one every `seconds`."""

    tries: int
    seconds: float


VISITOR: Final = Rate(20, 5.0)
"""Some 17,000 guesses a day: a person mistypes a few times, a page whose session is withdrawn asks twice or thrice."""
PEER: Final = Rate(1000, 0.1)
"""Of everybody together behind an address: hundreds of clients may come back at once with a withdrawn token."""
MAX_BUCKETS: Final = 10_000
"""Buckets kept; the one that failed longest ago is forgotten first."""


class Throttle:
    """The failures of a server's visitors."""

    __slots__ = ("_empty_at",)

    def __init__(self) -> None:
        # When each bucket would be empty of debt, as a leaky bucket's clock: a number a visitor.
        self._empty_at: OrderedDict[tuple[str, Rate], float] = OrderedDict()

    def wait_s(self, keys: tuple[tuple[str, Rate], ...], now: float) -> float:
        """How long who has these buckets must wait before trying again; 0 where they need not."""
        return max((self._wait_s(key, now) for key in keys), default=0.0)

    def failed(self, keys: tuple[tuple[str, Rate], ...], now: float) -> None:
        """Count a failure in each of the buckets."""
        for key in keys:
            self._empty_at[key] = max(now, self._empty_at.pop(key, now)) + key[1].seconds
        while len(self._empty_at) > MAX_BUCKETS:
            self._empty_at.popitem(last=False)

    def _wait_s(self, key: tuple[str, Rate], now: float) -> float:
        rate = key[1]
        debt_s = self._empty_at.get(key, now) - now
        return max(0.0, debt_s - (rate.tries - 1) * rate.seconds)
