"""Reading an excerpt of a stream, on a thread: what REST answers with.

Where the reader begins (the last lines, a cursor, the start), then the file and the ring in the same steps as a client
that catches up (`catchup`), to the stream's head as it was when it was asked. Nothing here runs on the event loop but
`Reads`, which waits, and not for ever: a file system that hangs keeps a thread, never an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from logstream_server.errors import LogstreamError
from logstream_server.fanout.query import Wish
from logstream_server.history import history
from logstream_server.history.history import Lost, NotNow, NotYet
from logstream_server.history.resume import Resumed, from_start, resume
from logstream_server.lines.catchup import Leg, after_loss, first_needed, moved, plan, undelivered
from logstream_server.lines.cursor import Generation, Position, Positions
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.lines.ring import Base, EventKind, StreamEvent
from logstream_server.tailing.files import GONE_ERRNOS, NotALog
from logstream_server.tailing.scheduler import Scheduler
from logstream_server.tailing.siblings import marker_at
from logstream_server.tailing.stream import Stream, StreamStatus

from .excerpt import Collector, Excerpt

T = TypeVar("T")

MAX_BYTES: Final = 4 << 20
"""How much text one answer holds, and one entry more: the next request goes on behind it."""
CHUNK_BYTES: Final = 256 << 10
SEARCH_S: Final = 5.0
"""How long is read for one answer: a filter that matches nothing in 100 GB gets there in several requests."""
ANSWER_S: Final = 20.0
"""How long an answer is waited for: searching backwards for lines that match takes some seconds (history)."""
FOLLOWER_S: Final = 5.0
"""How long the follower is waited for; it looks every two seconds at the least (tailing.follower)."""
PAUSE_S: Final = 0.05
LOOK_S: Final = 0.5
"""How often somebody who waits looks whether that is of any use."""
READS_PER_STREAM: Final = 4
"""At one time; more would take the threads of other streams when this one's file system hangs."""
RETRY_S: Final = 5


class Unavailable(LogstreamError):
    """What was asked for is there, but cannot be had now; `retry_s`: when to ask again."""

    def __init__(self, reason: str, retry_s: int = RETRY_S) -> None:
        super().__init__(reason, retry_s)
        self.reason, self.retry_s = reason, retry_s

    def __str__(self) -> str:
        return f"{self.reason}; ask again in {self.retry_s} s"


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted: where to begin (`wish`), and at most `max_lines` lines (None: any number)."""

    wish: Wish
    max_lines: int | None
    max_line_bytes: int


class Reads:
    """Reads for HTTP requests: a few of each stream at one time, none waited for longer than `answer_s` seconds."""

    def __init__(self, scheduler: Scheduler, answer_s: float = ANSWER_S) -> None:
        self._scheduler = scheduler
        self._answer_s = answer_s
        self._slots: WeakKeyDictionary[Stream, asyncio.Semaphore] = WeakKeyDictionary()

    async def run(self, stream: Stream, call: Callable[[], T], unwanted: Callable[[T], None] | None = None) -> T:
        """What `call` returns, on a thread. Raises Unavailable when that takes too long, and what `call` raises.

        `unwanted` gets what is returned too late, or after the request was given up.
        """
        _refuse_if_hung(stream)
        slots = self._slots.setdefault(stream, asyncio.Semaphore(READS_PER_STREAM))
        try:
            async with asyncio.timeout(self._answer_s):
                await slots.acquire()
                future = asyncio.wrap_future(self._scheduler.submit(call, stream))

                def ended(done: asyncio.Future[T]) -> None:
                    slots.release()  # only now: whoever gave up waiting has left the thread behind
                    if not done.cancelled():
                        done.exception()

                future.add_done_callback(ended)
                try:
                    while not (await asyncio.wait((future,), timeout=LOOK_S))[0]:
                        _refuse_if_hung(stream)
                except BaseException:
                    if unwanted is not None:
                        future.add_done_callback(partial(_hand_over, unwanted))
                    raise
                return future.result()
        except TimeoutError:
            raise Unavailable(f"{stream.name}: the file could not be read within {self._answer_s:g} s") from None

    def later(self, stream: Stream, call: Callable[[], object]) -> None:
        """Call it on a thread, without waiting for it."""
        self._scheduler.submit(call, stream)


def _hand_over(unwanted: Callable[[T], None], done: asyncio.Future[T]) -> None:
    if not done.cancelled() and done.exception() is None:
        unwanted(done.result())


def _refuse_if_hung(stream: Stream) -> None:
    """Who follows the file notices first that its file system does not answer."""
    if stream.state.status is StreamStatus.HUNG:
        raise Unavailable(f"{stream.name}: {stream.state.detail}")


# -- on the thread ----------------------------------------------------------------------------------------------------


def retrieve(stream: Stream, order: Order) -> tuple[Resumed, Excerpt]:
    """Where the answer begins, and what it is. Raises Unavailable."""
    deadline = time.monotonic() + SEARCH_S
    begun, goal = _begin(stream, order)
    reader = _Reader(stream, order, begun.positions, goal)
    while not reader.collector.is_full and time.monotonic() < deadline and reader.advance():
        pass
    return begun, reader.result()


def _begin(stream: Stream, order: Order) -> tuple[Resumed, Base]:
    """The beginning, and the head up to which is read. Waits a moment for the follower's next look. Raises
    Unavailable."""
    deadline = time.monotonic() + FOLLOWER_S
    while True:
        try:
            return _try_begin(stream, order)
        except NotYet as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"{stream.name}: {error}") from error
            time.sleep(PAUSE_S)
        except NotNow as error:
            raise Unavailable(f"{stream.name}: {error}") from error


def _try_begin(stream: Stream, order: Order) -> tuple[Resumed, Base]:
    """Raises Unavailable, NotNow."""
    wish = order.wish
    if wish.cursor is not None:
        begun = resume(stream, wish.cursor, tail=wish.tail)
        goal = stream.ring.goal()
        head = goal.positions
        trouble = None if begun.recovered or not head else _trouble(stream, head[-1].generation)
        if trouble is not None:  # nothing can be proven now, and nothing is disproven
            raise Unavailable(f"{stream.name}: {trouble}")
        return begun, goal
    goal = stream.ring.goal()
    head = goal.positions
    if wish.from_start:
        return Resumed(from_start(head)), goal
    start = history.tail_start(stream, wish.tail or 0, wish.filter, head, counts_unfinished=False)
    return Resumed(start), goal


class _Reader:
    """From a beginning to the head `goal`, which stays where it is however the stream grows."""

    def __init__(self, stream: Stream, order: Order, begin: Positions, goal: Base) -> None:
        self._stream, self._order, self._goal = stream, order, goal
        self._seq: int | None = None
        """The ring's entry that comes next; None while that is not known."""
        proven = tuple(_prove(stream, position) for position in begin)
        self.collector = Collector(proven, order.wish.filter, order.max_lines, MAX_BYTES)

    def advance(self) -> bool:
        """Take the next chunk; False when there is none before the head. Raises Unavailable."""
        if self._seq is None:
            base = self._stream.ring.base()
            if base.seq >= self._goal.seq:  # all that is wanted has left the ring
                base = self._goal
            self.collector.positions, leg = plan(self.collector.positions, base)
            if leg is not None:
                self._read(leg)
                return True
            self._seq = self._first_needed(base)
        return self._seq < self._goal.seq and self._take_from_ring(self._seq)

    def result(self) -> Excerpt:
        """What has been taken."""
        end, left = plan(self.collector.positions, self._goal)
        if left is None:
            return self.collector.excerpt(end, more=False)
        at_head = self._seq is not None and self._seq >= self._goal.seq
        return self.collector.excerpt(self.collector.positions, more=not at_head)

    def _first_needed(self, base: Base) -> int:
        goal = self._goal
        newest_first = self._stream.ring.newest_first(goal.seq)
        return max(base.seq, first_needed(newest_first, self.collector.positions, goal.seq, goal.positions))

    def _take_from_ring(self, seq: int) -> bool:
        entries = self._stream.ring.since(seq, CHUNK_BYTES)
        if entries is None:  # let go of meanwhile: the file has it
            self._seq = None
            return True
        entries = [entry for entry in entries if entry.seq < self._goal.seq]
        taken = self.collector.take(undelivered(entries, self.collector.positions))
        self._seq = entries[-1].seq + 1 if taken and entries else None
        return True

    def _read(self, leg: Leg) -> None:
        """The next chunk of a file."""
        collector = self.collector
        try:
            leg = replace(leg, position=_prove(self._stream, leg.position))
            entries = history.read_leg(self._stream, leg, CHUNK_BYTES, self._order.max_line_bytes)
        except NotNow as error:
            raise Unavailable(f"{self._stream.name}: {error}") from error
        except Lost as lost:
            trouble = _trouble(self._stream, leg.position.generation)
            if trouble is not None:  # not lost: it cannot be had now
                raise Unavailable(f"{self._stream.name}: {trouble}") from lost
            known = (*self._stream.ring.base().positions, *self._goal.positions)
            after = after_loss(collector.positions, leg, known)
            collector.end_in_gap(after, StreamEvent(EventKind.GAP, lost.reason, lost.lost_bytes))
            return
        collector.positions = moved(collector.positions, leg.position)
        collector.take(entries)


def _trouble(stream: Stream, generation: Generation) -> str | None:
    """What the file system says when it refuses a file that is there; None when it does not."""
    file = stream.file_of(generation)
    if file is None:
        return None
    try:
        file.read(0, 1)
    except OSError as error:
        return None if error.errno in GONE_ERRNOS else error.strerror or str(error)
    except NotALog:
        return None
    finally:
        file.release()
    return None


def _prove(stream: Stream, position: Position) -> Position:
    """The position with its marker, which a cursor needs: read where it is not known (the start of part of a file)."""
    is_known = len(position.marker) >= min(position.offset, MARKER_BYTES)
    file = None if is_known else stream.file_of(position.generation)
    if file is None:
        return position
    try:
        return replace(position, marker=marker_at(file, position.offset))
    except (OSError, NotALog):
        return position
    finally:
        file.release()
