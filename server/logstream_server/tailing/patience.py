"""How long a file system may take to answer before that counts as a hang. Pure: times in seconds of one monotonic
clock are given by the caller."""

from __future__ import annotations

from typing import Final

LEAST_S: Final = 3.0
"""Looks at a healthy file take milliseconds."""
MOST_S: Final = 30.0
"""However slow it was: people want to know of a mount that died within half a minute."""
PROMPT_S: Final = 60.0
"""After so long without a slow answer it counts as healthy again."""


class Patience:
    """Twice as long as the last hang that ended by itself. So a file system that is merely slow is called hung once or
    twice, and not at every look, with an event each time for all who follow its files."""

    __slots__ = ("_slow_at", "limit_s")

    def __init__(self) -> None:
        self.limit_s = LEAST_S
        self._slow_at = 0.0

    def answered(self, now: float, took_s: float) -> None:
        """It did, after `took_s`."""
        if took_s > LEAST_S:
            self._slow_at = now
            if took_s > self.limit_s:
                self.limit_s = min(MOST_S, 2 * took_s)
        elif self.limit_s > LEAST_S and now - self._slow_at > PROMPT_S:
            self.limit_s = LEAST_S
