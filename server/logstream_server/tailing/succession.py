"""The files of one path, one after another: which is the current one, which of those that were rotated away are still
read, and what the ring is told when one begins or ends.

It decides nothing about what a look has shown: that is the follower's, for whom it is kept. One per follower, on its
thread.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from logstream_server.lines.cursor import HEAD_BYTES, Mark
from logstream_server.lines.framing import LineFramer
from logstream_server.lines.ring import EventKind, StreamEvent

from . import follow
from .condition import Condition
from .files import GONE_ERRNOS, FileStat, LogFile, given_back_on_error
from .ledger import Ledger
from .missed import Found, Missed
from .reading import Reading, find_rest, last_line_start, mark_of
from .siblings import holds, marker_at
from .stream import Stream
from .watch import Watch

MAX_DRAINING: Final = 16
"""Of so many old files late lines are waited for."""
_SENTENCES: Final = {
    EventKind.APPEARED: "the file is there",
    EventKind.ROTATED: "a new file has taken the name",
    EventKind.TRUNCATED: "the file was truncated",
}


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """What the administrator chose; times in seconds."""

    max_line_bytes: int = 1 << 20
    poll_interval_s: float = 0.25
    partial_after_s: float = 5.0
    rotate_wait_s: float = 5.0


class Succession:
    """Of one stream. `from_start`: the lines that are there at the first look are news; `skip_known`: how far the file
    of a stat was read under another name. What opens files raises OSError, NotALog."""

    def __init__(
        self,
        stream: Stream,
        options: FollowOptions,
        watch: Watch,
        ledger: Ledger,
        condition: Condition,
        *,
        from_start: bool,
        skip_known: Callable[[Stream, FileStat], int],
    ) -> None:
        self.current: Reading | None = None
        """What is read of the path; None: there is no file."""
        self.draining: list[Reading] = []
        """What was at the path before and may still grow, oldest first."""
        self._missed = Missed(stream)
        self.successor = EventKind.APPEARED
        """What the next file that is opened will be."""
        self._stream, self._options, self._watch = stream, options, watch
        self._ledger, self._condition = ledger, condition
        self._from_start, self._skip_known = from_start, skip_known
        self._given_up: Mark | None = None
        self._first = True

    @property
    def all(self) -> tuple[Reading, ...]:
        """All that are read, the current one last."""
        return (*self.draining, self.current) if self.current is not None else tuple(self.draining)

    # -- what is read --------------------------------------------------------------------------------------------------

    def before(self, reading: Reading) -> list[Reading]:
        """Those that are still read and were written before it."""
        return self.draining[: self.draining.index(reading)] if reading in self.draining else self.draining

    def is_unsupported(self, reading: Reading) -> bool:
        """Whether its first bytes say that it has no lines; then it is marked so."""
        encoding = follow.utf16_bom(reading.generation.head)
        if encoding is None:
            return False
        reading.unsupported = encoding
        self._condition.refuse_encoding(encoding)
        return True

    def read_on(self, reading: Reading, file: LogFile) -> None:
        """What is left of it is in `file`."""
        self._stream.keep(reading.generation, file)
        reading.file, reading.seen = file, None

    def find_rest(self, reading: Reading) -> LogFile | None:
        """The file that has what is left of it, under another name."""
        others = [other for other in self.draining if other is not reading]
        return find_rest(reading, self._stream.path, self._stream.roots, others)

    # -- what came and went between two looks --------------------------------------------------------------------------

    def read_earlier(self, reading: Reading, now: float) -> bool:
        """Before its first line is read: what came and went before that. True: there is some. Raises Unsettled."""
        if reading.framer.offset or not self._read_missed(self._find_missed(now, reading.identity), now):
            return False
        self._ledger.renew(reading)
        return True

    def may_have_earlier(self, reading: Reading) -> bool:
        """Whether there may be some, of an empty file."""
        return not reading.framer.offset and self._missed.may_be_more()

    def _find_missed(
        self, now: float, newest: follow.Identity, *, replaces: bool = False, emptied: LogFile | None = None
    ) -> list[Found]:
        """Files that came and went between two looks; `replaces`: `newest` is not the current file; `emptied`: see
        `Missed.find`. Raises Unsettled."""
        current = None if replaces else self.current
        return self._missed.find(now, newest, self.all, current, keep_open=self._watch.keeps_open, emptied=emptied)

    def _find_missed_before(self, file: LogFile, now: float, *, is_emptied: bool = False) -> list[Found]:
        """The same, before a file that was opened for this; it is given back when that fails."""
        with given_back_on_error(file):
            return self._find_missed(now, file.identity, emptied=file if is_emptied else None)

    def _read_missed(self, missed: list[Found], now: float) -> bool:
        """They are read before what is at the path now. True: there are some."""
        for found in missed:
            reading = self._new_reading(found.file, now)
            reading.replaced_at, reading.first = now, found.first
            self.draining.append(reading)
        return bool(missed)

    def _new_reading(self, file: LogFile, now: float) -> Reading:
        """A generation that is read from its first byte."""
        generation = self._ledger.begin(file, begin=0, head=b"")
        self._ledger.event(EventKind.ROTATED, _SENTENCES[EventKind.ROTATED], generation)
        return Reading(generation, file, LineFramer(self._options.max_line_bytes), now)

    # -- a generation begins -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before a file is opened: how that is to be done may have changed with the mount."""
        self._watch.prepare(self._stream.path)
        self._stream.keeps_open = self._watch.keeps_open

    def open(self, now: float, kind: EventKind) -> None:
        """Begin with what is at the path by now, if anything, and read what came and went meanwhile before it. `kind`:
        what it is to those who had the one before. Raises Unsettled."""
        self.prepare()
        try:
            file = LogFile(self._stream.path, self._stream.roots, keep_open=self._watch.keeps_open)
        except OSError as error:
            if error.errno not in GONE_ERRNOS:
                raise
            self._condition.wait()
            self.begin_without()
            return
        self._condition.is_missing = False
        if not self._first:
            self.successor = kind  # also when it is only opened at a later look
            is_emptied = kind is EventKind.TRUNCATED
            self._read_missed(self._find_missed_before(file, now, is_emptied=is_emptied), now)
        self.successor = EventKind.APPEARED
        self._begin(file, now, kind=kind, at_end=self._first and not self._from_start)

    def begin_without(self) -> None:
        """There was no file at the first look: one that comes is read from its start, and what was rotated away before
        is no news."""
        if self._first:
            self._ledger.comes_after(self._missed.begin(None))
        self._first, self._from_start = False, True

    def replace(self, current: Reading, file: LogFile, now: float, kind: EventKind) -> None:
        """`file` is at the path in the place of `current`, which is read on until its writer has surely gone. The
        reference is taken over, or given back on an error. Raises Unsettled."""
        with given_back_on_error(file):
            self.read_earlier(current, now)
            missed = self._find_missed(now, file.identity, replaces=True)
        self.to_draining(current, now)
        self._read_missed(missed, now)
        self._stream.counters.rotations += 1
        self._begin(file, now, kind=kind)

    def _begin(self, file: LogFile, now: float, *, kind: EventKind, at_end: bool = False) -> None:
        """Make `file` the current one; `at_end`: its present lines are history, not news."""
        with given_back_on_error(file):
            self._watch.follow(file)
            stat = file.stat()
            if self._first:
                self._ledger.comes_after(self._missed.begin(stat.identity))
            if at_end:
                start = last_line_start(file, stat.size, self._options.max_line_bytes)
            else:
                start = self._skip_known(self._stream, stat) or self._offset_given_up(file)
            has_head = start or (at_end and stat.size)
            head = file.read(0, min(HEAD_BYTES, stat.size)).data if has_head else b""
            before = marker_at(file, start)
            generation = self._ledger.begin(file, begin=0 if at_end else start, head=head)
        framer = LineFramer(self._options.max_line_bytes, start, before)
        reading = Reading(generation, file, framer, now, seen=stat if at_end else None)
        self.current, first, self._first = reading, self._first, False
        had_trouble = self._condition.opened()
        if self.is_unsupported(reading):
            return
        self._condition.publish(reading, notifies=self._watch.notifies, opened=stat)
        event = None if first and at_end and not had_trouble else StreamEvent(kind, _SENTENCES[kind])
        self._stream.ring.append(generation, start, start, marker=framer.marker, event=event)
        if at_end and start < stat.size:  # an unfinished line: read at once, for its bytes say which file this is
            self._ledger.append(reading, framer.feed(file.read(start, stat.size - start).data))
            reading.flushed = self._is_old(stat)
            if reading.flushed:
                self._ledger.flush(reading)
        for older in self.draining:
            older.replaced_at = now if older.replaced_at is None else older.replaced_at

    def _is_old(self, stat: FileStat) -> bool:
        after_s = self._options.partial_after_s
        return bool(after_s) and time.time() - stat.mtime_ns / 1e9 >= after_s

    def restart(self, reading: Reading, now: float, *, offset: int, before: bytes, head: bytes, detail: str) -> None:
        """The same path begins a new generation at `offset`; what was held of the old one goes out first."""
        file = reading.file
        if not file.keeps_open:  # by name it may be another one
            file = LogFile(self._stream.path, self._stream.roots, keep_open=False)
        elif not file.acquire():
            raise OSError(errno.EBADF, "closed", file.path)
        missed = self._find_missed_before(file, now)
        self._missed.note_end(reading)
        self._ledger.append(reading, reading.framer.finish())
        self._read_missed(missed, now)
        old = reading.generation
        old.end, old.marker = reading.framer.start, reading.framer.marker
        generation = self._ledger.begin(file, begin=offset, head=head)
        self._stream.forget(old)
        framer = LineFramer(self._options.max_line_bytes, offset, before)
        self.current = Reading(generation, file, framer, now)
        self._stream.counters.truncations += 1
        self._ledger.event(EventKind.TRUNCATED, detail, generation, offset, framer.marker, retires=old)

    # -- and ends ------------------------------------------------------------------------------------------------------

    def to_draining(self, reading: Reading, replaced_at: float | None) -> None:
        """The current file is one of the old ones from now on. `replaced_at`: when its successor was seen; None: there
        is none yet, and it is read on until there is."""
        reading.replaced_at = replaced_at
        self.draining.append(reading)
        self.current = None
        if len(self.draining) > MAX_DRAINING:
            self.retire_if_spent(self.draining[0], float("inf"))

    def give_up(self, current: Reading) -> None:
        """The path has led nowhere for long. Should the same file be there again, as after a mount that was lost, what
        was read of it is no news."""
        self.current = None
        self._given_up = mark_of(current) if current.framer.offset >= follow.RESAVE_BYTES else None
        self.retire(current)

    def _offset_given_up(self, file: LogFile) -> int:
        """How far the file was read before it was given up; 0: it is another one."""
        mark = self._given_up
        offset = mark.offset if mark is not None and holds(file, mark) else 0
        self._given_up = None
        return offset

    def retire_if_spent(self, reading: Reading, now: float) -> None:
        """When its writer has surely gone, or it is a copy, which nobody writes to."""
        seen = reading.seen
        if reading.is_copy or follow.is_spent(
            now,
            replaced_at=reading.replaced_at,
            grew_at=reading.grew_at,
            rotate_wait_s=self._options.rotate_wait_s,
            links=seen.links if seen else 1,
            backlog=not reading.unsupported and (seen is None or seen.size > reading.framer.offset),
        ):
            self.retire(reading)

    def retire(self, reading: Reading, lost: str | None = None) -> None:
        """Nothing more will come from this generation. `lost`: why its end could not be read."""
        if reading in self.draining:
            self.draining.remove(reading)
        self._missed.note_end(reading)
        self._ledger.end(reading, lost)
        self._missed.note_read(reading)
