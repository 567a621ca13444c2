"""What a good client was sent, kept once: all the others are compared with it, which is a thousand times less work.

Clients with the same view are sent the same bytes. So only the first that gets a frame reads it, line by line; when all
of it is right, the frame goes to the end of the tape, and for every other client a comparison of memory says the same
of thousands of lines at once. A client whose bytes differ leaves the tape, is read line by line itself (`listener`),
and comes back at the place where the tape has what it should get next.

*Places* are bytes since the tape began. A *mark* is the end of a frame: how many lines there were, which number is
next, and where to resume. *Runs* are lines that were written at the same time. Old content is forgotten. No I/O.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from .histogram import Histogram

TAPE_BYTES: Final = 16 << 20
"""How much is kept at least: a client that is further behind is read line by line."""
_NOTHING_YET: Final = -1
_FEW_RUNS: Final = 5
_TOGETHER_BITS: Final = 20
"""2^20 ns are about a millisecond."""
_BREAK: Final = b"\xff"
"""No frame begins with this: its reserved bits are set."""


class Mark(NamedTuple):
    """The end of a frame: lines with a stamp and without one up to there, and where a client resumes (JSON only)."""

    stamped: int
    others: int
    next_seq: int | None
    cursor: str | None
    half: bytes


class Tape:
    """See the module's text. `next_seq` is what the first line must be, None where that is not known."""

    def __init__(self, next_seq: int | None, cursor: str | None, limit_bytes: int = TAPE_BYTES) -> None:
        self.end = 0
        """The place behind the last frame."""
        self._limit = limit_bytes
        self._data = bytearray()
        self._begin = 0
        self._ends = [0]
        self._nexts = [_NOTHING_YET if next_seq is None else next_seq]
        self._marks = [Mark(0, 0, next_seq, cursor, b"")]
        self._run_starts = [0]
        self._run_times = [0]
        self.ages = Histogram()
        """How old lines were when they came, in nanoseconds."""
        self._together: dict[int, int] = {}
        self._together_at = 0

    def has(self, data: bytes | memoryview, place: int) -> bool:
        """Whether exactly these bytes stand at a place."""
        return place >= self._begin and self._data.startswith(data, place - self._begin)

    @property
    def last(self) -> Mark:
        """The mark at the end."""
        return self._marks[-1]

    def mark_at(self, place: int) -> tuple[int, Mark]:
        """The last mark that does not lie behind a place that `has` has found, with its own place."""
        index = bisect_right(self._ends, place) - 1
        return self._ends[index], self._marks[index]

    def find(self, next_seq: int) -> int | None:
        """The place behind the line before this one; None where there is none, or inside a frame."""
        index = bisect_left(self._nexts, next_seq)
        if index < len(self._nexts) and self._nexts[index] == next_seq and not self._marks[index].half:
            return self._ends[index]
        return None

    def append(self, frame: bytes, mark: Mark, times_ns: list[int]) -> None:
        """One more frame, of which all is right: `times_ns` are those of the lines with a stamp that it ends."""
        self._data += frame
        self.end += len(frame)
        self._ends.append(self.end)
        self._marks.append(mark)
        self._nexts.append(_NOTHING_YET if mark.next_seq is None else mark.next_seq)
        first = mark.stamped - len(times_ns)
        for index, time_ns in enumerate(times_ns):
            if time_ns != self._run_times[-1]:
                self._run_starts.append(first + index)
                self._run_times.append(time_ns)
        if len(self._data) > 2 * self._limit:
            self._forget()

    def jump(self, next_seq: int) -> None:
        """Go on with a later line, when nobody gets those between: no client's bytes match across this place."""
        self.append(_BREAK, self.last._replace(next_seq=next_seq, cursor=None, half=b""), [])

    def time_lines(self, first: int, end: int, now_ns: int) -> None:
        """Count the ages of the lines with a stamp from `first` (counted from the tape's start) to before `end`.

        Where there are lines of many times, they are counted together with those that others get in the same
        millisecond: the youngest of them are some milliseconds old, and else this would take more than all the rest.
        """
        starts = self._run_starts
        if bisect_left(starts, end) - bisect_right(starts, first) < _FEW_RUNS:
            self._count(first, end, 1, now_ns)
            return
        now = now_ns >> _TOGETHER_BITS
        if now != self._together_at:
            self.count_rest()
            self._together_at = now
        changes = self._together
        changes[first] = changes.get(first, 0) + 1
        changes[end] = changes.get(end, 0) - 1

    def count_rest(self) -> None:
        """Count the ages that are still to be counted together."""
        changes, self._together = self._together, {}
        now_ns = (self._together_at << _TOGETHER_BITS) + (1 << (_TOGETHER_BITS - 1))
        clients, before = 0, 0
        for place in sorted(changes):
            if clients:
                self._count(before, place, clients, now_ns)
            clients += changes[place]
            before = place

    def _count(self, first: int, end: int, clients: int, now_ns: int) -> None:
        starts, times, record = self._run_starts, self._run_times, self.ages.record
        index = bisect_right(starts, first) - 1
        while first < end:
            stop = min(starts[index + 1], end) if index + 1 < len(starts) else end
            record(now_ns - times[index], (stop - first) * clients)
            first = stop
            index += 1

    def _forget(self) -> None:
        self.count_rest()
        index = bisect_left(self._ends, self.end - self._limit)
        cut, first = self._ends[index], self._marks[index].stamped
        del self._data[: cut - self._begin]
        self._begin = cut
        del self._ends[:index], self._marks[:index], self._nexts[:index]
        run = bisect_right(self._run_starts, first) - 1
        del self._run_starts[:run], self._run_times[:run]
