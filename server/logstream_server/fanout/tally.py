"""What the server has done for its clients since the start: plain numbers, which `metrics` shows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from logstream_server.lines.ring import StreamEvent

LAG_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""From what a fan-out's slice takes to what people notice, and beyond."""


class LagHistogram:
    """How late the clock's ticks came, all of them since the start: however seldom and by however many it is asked
    for, no stall is missed. `counts[i]`: ticks at most LAG_BOUNDS_S[i] late, the last one all later ones."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LAG_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, late_s: float) -> None:
        """One more tick."""
        self.counts[bisect_left(LAG_BOUNDS_S, late_s)] += 1
        self.sum_s += late_s


@dataclass(slots=True)
class Tally:
    """`catchups`: times that a client who had everything fell so far behind that the file was read for it. `gaps`: how
    many losses, and of how many bytes, by reason. `lag`: how long the event loop was busy with something else."""

    lines_sent: int = 0
    bytes_sent: int = 0
    slow_disconnects: int = 0
    aborted: int = 0
    flushes: int = 0
    flush_seconds: float = 0.0
    catchups: int = 0
    gaps: dict[str, list[int]] = field(default_factory=dict)
    lag: LagHistogram = field(default_factory=LagHistogram)

    def sent(self, lines: int, size: int, clients: int = 1) -> None:
        """So many lines, in frames of `size` bytes, went to each of so many clients."""
        self.lines_sent += lines * clients
        self.bytes_sent += size * clients

    def told(self, losses: Iterable[StreamEvent]) -> None:
        """A client, or all of a view, was told of bytes that were gone before they were read."""
        for loss in losses:
            self.lost("lost", loss.lost_bytes)

    def lost(self, reason: str, lost_bytes: int | None) -> None:
        """A client, or all of a view, was told of a loss; `reason` is the protocol's: lost or slow."""
        entry = self.gaps.setdefault(reason, [0, 0])
        entry[0] += 1
        entry[1] += lost_bytes or 0
