"""When to flush: at once while the machine keeps up, later and together when it does not.

A write costs nearly the same whatever it carries (some 8 us up to 20 KB), so under load the number of writes is what
decides the throughput, and lines are left to collect. A fixed tick would cost latency at rest; no tick costs throughput
under load. Pure: times in seconds of one monotonic clock are given by the caller.
"""

from __future__ import annotations

from typing import Final

MAX_DELAY_S: Final = 0.05
"""The most that a line waits for company."""
FAN_OUT_SHARE: Final = 0.92
"""The share of a core that fan-out may take before lines are held back. Below it a flush is immediate, which keeps the
latency of a server that is busy, but not saturated, as low as that of one that never waits. With 0.8, a hundred lines a
second to a thousand clients (0.75 to 0.85 of a core) waited now and then; the rest is for reading the files."""
SATURATED_SHARE: Final = 0.99
_MEMORY: Final = 0.3
"""How fast the measured load follows (weight of the newest flush): a few flushes, so that one burst does not count as
load."""


class Pacer:
    """One channel's rhythm."""

    __slots__ = ("_ended", "_load", "_took", "delay_s")

    def __init__(self) -> None:
        self._ended = 0.0
        self._took = 0.0
        self._load = 0.0
        self.delay_s = 0.0

    def due(self) -> float:
        """The earliest time of the next flush."""
        return self._ended + self.delay_s

    def flushed(self, began: float, ended: float) -> None:
        """A flush (encoding and all its writes) took from `began` to `ended`."""
        took = ended - began
        cycle = ended - self._ended if self._ended else took * 10
        self._ended = ended
        if cycle <= 0:
            return
        self._load += _MEMORY * (min(1.0, took / cycle) - self._load)
        if self._load <= FAN_OUT_SHARE:
            self.delay_s = 0.0
            return
        # Beyond the share: wait so long that writes get larger and fewer; at saturation about as long as a flush takes.
        excess = (self._load - FAN_OUT_SHARE) / (SATURATED_SHARE - FAN_OUT_SHARE)
        self.delay_s = min(MAX_DELAY_S, took * min(1.0, excess))
