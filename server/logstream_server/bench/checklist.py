"""What one client got, line by line: all of them, once, in order and whole, or what was wrong.

A number that is passed over is *lost* until it comes after all: then it was *out of order*. A number that was there
already is *repeated*. A *damaged* line tells no number; the hole that it leaves is not counted as a loss on top.
No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

_MAX_HOLES: Final = 1000
"""Holes that a client remembers; what comes of an older one is taken for a repetition, which is a fault as well."""


@dataclass(slots=True)
class Faults:
    """How many lines did not come as they should, of one client or of all together."""

    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    damaged: int = 0

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    def add(self, other: Faults) -> None:
        """Count those of one more client."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(slots=True)
class Checklist:
    """Of one client. `next` is the number that should come now; None before the first, where any may begin."""

    next: int | None = None
    lines: int = 0
    faults: Faults = field(default_factory=Faults)
    _holes: list[tuple[int, int]] = field(default_factory=list)
    _unexplained: int = 0

    def take(self, seq: int) -> bool:
        """A line came; whether it was the one that should."""
        self.lines += 1
        if seq == self.next or self.next is None:
            self.next = seq + 1
            return True
        if seq > self.next:
            self._skip(seq)
            self.next = seq + 1
        elif self._fill(seq):
            self.faults.lost -= 1
            self.faults.reordered += 1
        else:
            self.faults.repeated += 1
        return False

    def advance(self, lines: int, next_seq: int | None) -> None:
        """So many lines came as they should; now `next_seq` should come."""
        self.lines += lines
        self.next = next_seq

    def damage(self) -> None:
        """A line came that cannot be read."""
        self.faults.damaged += 1
        self._unexplained += 1

    def end(self, last: int | None) -> None:
        """No more comes, and the last line was `last` (None: there was none): what has not come by now is lost."""
        if last is not None and (self.next is None or self.next <= last):
            self.next = 0 if self.next is None else self.next
            self._skip(last + 1)
            self.next = last + 1

    def _skip(self, seq: int) -> None:
        assert self.next is not None
        first = min(seq, self.next + self._unexplained)
        self._unexplained = 0
        if first < seq:
            self.faults.lost += seq - first
            self._holes.append((first, seq))
            del self._holes[:-_MAX_HOLES]

    def _fill(self, seq: int) -> bool:
        """Whether the number was missing; it is no longer."""
        for index, (first, end) in enumerate(self._holes):
            if first <= seq < end:
                self._holes[index : index + 1] = [hole for hole in ((first, seq), (seq + 1, end)) if hole[0] < hole[1]]
                return True
        return False
