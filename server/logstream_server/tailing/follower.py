"""Following one path: look, decide (follow), read, frame, append to the ring. One job of the scheduler per stream.

A step first reads what was rotated away, then the current file, then compares the path with what is open; so lines stay
in the order in which they were written, however the file was moved under the reader. Each step is bounded in bytes; a
step with more to read asks to run again at once, behind the other streams.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from logstream_server.lines.cursor import HEAD_BYTES, Mark
from logstream_server.lines.framing import LineFramer
from logstream_server.lines.ring import EventKind, StreamEvent

from . import follow
from .condition import Condition
from .files import (
    GONE_ERRNOS,
    MOUNT_ERRNOS,
    FileStat,
    LogFile,
    NotALog,
    Read,
    given_back_on_error,
    stat_or_none,
    stat_path,
)
from .ledger import Ledger
from .missed import Found, Missed, Unsettled
from .reading import Reading, find_rest, is_copy, is_resaved, last_line_start, mark_of, was_read
from .siblings import holds, marker_at
from .stream import Stream, StreamStatus
from .watch import Watch

READ_BYTES: Final = 256 << 10
"""How much one read asks for: large enough that its cost does not show, small enough for the processor's cache."""
STEP_BYTES: Final = 1 << 20
"""How much one step reads before other streams get their turn."""
RECONCILE_S: Final = 2.0
"""How often a file is looked at when inotify is silent, as events do get lost (Fluent Bit looks every 2 s)."""
RETRY_S: Final = 1.0
UNSETTLED_S: Final = 0.01
"""A rotation that renames a hundred files is over by then."""
MAX_DRAINING: Final = 16


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """What the administrator chose; times in seconds."""

    max_line_bytes: int = 1 << 20
    poll_interval_s: float = 0.25
    partial_after_s: float = 5.0
    rotate_wait_s: float = 5.0


@dataclass(eq=False)
class Follower:
    """The job. `changed` is called, on the worker's thread, after the ring or the state changed."""

    stream: Stream
    options: FollowOptions
    watch: Watch
    changed: Callable[[Stream], None]
    from_start: bool
    next_id: Callable[[], int]
    skip_known: Callable[[Stream, FileStat], int] = field(default=lambda _stream, _stat: 0)
    _current: Reading | None = None
    _draining: list[Reading] = field(default_factory=list)
    _given_up: Mark | None = None
    _successor: EventKind = EventKind.APPEARED
    _first: bool = True

    def __post_init__(self) -> None:
        self._ledger = Ledger(self.stream, self.next_id)
        self._missed = Missed(self.stream)
        self._condition = Condition(self.stream, self._ledger)

    # -- the job -------------------------------------------------------------------------------------------------------

    @property
    def patience_s(self) -> float:
        """How long a look may take; see Job."""
        return self._condition.patience.limit_s

    def run(self, now: float) -> float | None:
        """One bounded step; see Job."""
        ring = self.stream.ring
        before = ring.head()[0]
        state = self.stream.state
        self._condition.begin(now)
        begun = time.monotonic()
        is_settled = True
        try:
            delay = self._look(now)
        except OSError as error:
            delay = self._failed(error, now)
        except Unsettled:
            delay, is_settled = UNSETTLED_S, False
        if delay and is_settled and not ring.throttled:
            self.stream.looks += 1
        self._condition.end(now, time.monotonic() - begun)
        self.stream.expire(now)
        if ring.head()[0] != before or self.stream.state is not state:
            self.changed(self.stream)
        return delay

    def stuck(self, seconds: float) -> None:
        """The file system does not answer; see Job."""
        self._condition.stuck(seconds)
        self.changed(self.stream)

    def close(self) -> None:
        """Give everything back; the job was removed before."""
        self.watch.close()
        for generation, _ in self.stream.generations():
            self.stream.forget(generation)

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing has been there to read for so long."""
        return not self._draining and (self._current is None or time.monotonic() - self._current.grew_at > seconds)

    # -- one step ------------------------------------------------------------------------------------------------------

    def _look(self, now: float) -> float:
        try:
            return self._step(now)
        except NotALog as error:
            return self._refuse(error)

    def _step(self, now: float) -> float:
        if self.stream.ring.backlog_bytes > self.stream.ring.capacity_bytes // 2:
            self.stream.ring.throttled = True
            return self.options.poll_interval_s  # the hub wakes us as soon as it has caught up
        for reading in list(self._draining):
            if self._read(reading, now):
                return 0.0
            self._retire_if_spent(reading, now)
        if self._current is None:
            return self._open_next(now)
        if self._read_many(self._current, now):
            if self._current is not None:
                self._condition.publish(self._current, notifies=self.watch.notifies)
            return 0.0
        if self._check_path(now) or self._current is None:
            return 0.0
        for reading in (*self._draining, self._current):
            self._ledger.flush_if_silent(reading, now, self.options.partial_after_s)
        self._condition.publish(self._current, notifies=self.watch.notifies)
        return self._delay(now)

    def _delay(self, now: float) -> float:
        """Seconds until the next look when nothing wakes us."""
        options = self.options
        delay = RECONCILE_S if self.watch.notifies and not self._condition.is_missing else options.poll_interval_s
        if self._current is None or self._condition.trouble:
            delay = min(delay, max(options.poll_interval_s, 0.01))
        for reading in (*self._draining, self._current):
            if reading is None:
                continue
            if options.partial_after_s and reading.framer.pending and not reading.flushed:
                delay = min(delay, max(0.01, reading.grew_at + options.partial_after_s - now))
            if reading is not self._current:
                delay = min(delay, options.poll_interval_s)
        return delay

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read(self, reading: Reading, now: float) -> bool:
        """Read on; True when a next step should follow at once."""
        framer = reading.framer
        if reading.unsupported:
            return self._read_unsupported(reading, now)
        head = reading.generation.head[: framer.offset] if framer.offset else reading.first or b""
        read = reading.file.read(framer.offset, READ_BYTES, framer.tail, reading.seen, head)
        moved = reading.identity != read.stat.identity
        verdict = follow.judge_content(framer.offset, read.stat.size, read.intact)
        rest = None
        if verdict is follow.Content.SAME and moved and framer.offset < follow.RESAVE_BYTES:
            # So few equal bytes prove nothing when the old file is there under another name, or had another itself.
            rest = self._find_rest(reading)
            if rest is None and reading is not self._current:
                verdict = follow.Content.REWRITTEN
        if rest is not None or verdict is not follow.Content.SAME:
            self._content_changed(reading, read, verdict, rest, moved, now)
            return True
        reading.seen = read.stat
        if not read.data:
            return False
        reading.grew_at = now
        if framer.offset == 0 and reading.first == b"" and self._is_copy(reading):
            self._retire(reading)
            return True
        is_first = framer.offset == 0 and reading is self._current and not reading.generation.head
        if is_first and self._read_missed(self._find_missed(now, reading.identity), now):
            self._ledger.renew(reading)
            return True
        data = read.data
        if len(data) == READ_BYTES:  # more follows: whole lines now, and the rest together with the rest of its line
            data = data[: data.rfind(b"\n") + 1] or data
        self._take(reading, data)
        return framer.offset < read.stat.size

    def _is_copy(self, reading: Reading) -> bool:
        """Of a file that had nothing in it when it was found, it shows now."""
        others = [r for r in (*self._draining, self._current) if r is not None and r is not reading]
        return is_copy(reading.file, others, self._current)

    def _read_unsupported(self, reading: Reading, now: float) -> bool:
        """Such a file is not read, but it may be written anew."""
        stat = reading.file.stat()
        if stat == reading.seen:
            return False
        reading.seen = stat
        if reading is not self._current or follow.utf16_bom(reading.file.read(0, 4).data) == reading.unsupported:
            return False
        self._restart(reading, now, offset=0, before=b"", head=b"", detail="the file was written anew")
        return True

    def _read_many(self, reading: Reading, now: float) -> bool:
        """Read on for a whole step; True when a next step should follow at once."""
        # A part of the ring: those who read it must find all of the step there.
        size = min(STEP_BYTES, self.stream.ring.capacity_bytes // 4)
        end, generation = reading.framer.offset + size, reading.generation
        while self._read(reading, now):
            if reading.framer.offset >= end or reading is not self._current or reading.generation is not generation:
                return True
        return False

    def _take(self, reading: Reading, data: bytes) -> None:
        framer, generation = reading.framer, reading.generation
        at = framer.offset
        if at < HEAD_BYTES and at <= len(generation.head):
            generation.head = (generation.head[:at] + data)[:HEAD_BYTES]
            if self._is_unsupported(reading):
                return
        for older in self._before(reading):  # what was begun in an old file goes out before what a new one says
            self._ledger.flush(older)
        self._ledger.take(reading, data)

    def _before(self, reading: Reading) -> list[Reading]:
        """Those that are still read and were written before it."""
        return self._draining[: self._draining.index(reading)] if reading in self._draining else self._draining

    def _is_unsupported(self, reading: Reading) -> bool:
        encoding = follow.utf16_bom(reading.generation.head)
        if encoding is None:
            return False
        reading.unsupported = encoding
        self._condition.refuse_encoding(encoding)
        return True

    # -- what happened to the content ----------------------------------------------------------------------------------

    def _content_changed(
        self, reading: Reading, read: Read, verdict: follow.Content, rest: LogFile | None, moved: bool, now: float
    ) -> None:
        """The bytes below our offset are not what they were: truncated, rewritten, or (by path) another file.

        `rest`: a file that still holds them, when one was found already; `moved`: the path leads to another inode.
        """
        is_current = reading is self._current
        size = read.stat.size
        head = reading.file.read(0, min(HEAD_BYTES, size)).data if is_current and size else b""
        is_cut_off = (
            verdict is follow.Content.SHRUNK
            and not moved
            and is_current
            and follow.keeps_prefix(reading.generation.head, head, size)
        )
        if is_cut_off and size < follow.RESAVE_BYTES:
            # Many files begin with the same few bytes: where there is a copy, it was emptied and begun anew.
            rest = self._find_rest(reading)
        if is_cut_off and rest is None:
            before = marker_at(reading.file, size)
            self._restart(reading, now, offset=size, before=before, head=head, detail=f"its end was cut off at {size}")
            return
        rest = rest or self._find_rest(reading)
        if rest is not None:
            self._read_on(reading, rest)
            reading.is_copy = not moved
            if is_current:
                self._read_earlier(reading, now)
                self._to_draining(reading, now)
                self._open(now, EventKind.ROTATED if moved else EventKind.TRUNCATED)
        elif is_current:
            detail = "another file has taken its place" if moved else "the file was truncated"
            self._restart(reading, now, offset=0, before=b"", head=b"", detail=detail)
        else:
            self._retire(reading, lost=None if was_read(reading) else "it was rewritten before it was read")

    def _restart(self, reading: Reading, now: float, *, offset: int, before: bytes, head: bytes, detail: str) -> None:
        """The same path begins a new generation at `offset`; what was held of the old one goes out first."""
        file = reading.file
        if not file.keeps_open:  # by name it may be another one
            file = LogFile(self.stream.path, self.stream.roots, keep_open=False)
        elif not file.acquire():
            raise OSError(errno.EBADF, "closed", file.path)
        missed = self._find_missed_before(file, now)
        self._missed.note_end(reading)
        self._ledger.append(reading, reading.framer.finish())
        self._read_missed(missed, now)
        old = reading.generation
        old.end, old.marker = reading.framer.start, reading.framer.marker
        generation = self._ledger.begin(file, begin=offset, head=head)
        self.stream.forget(old)
        framer = LineFramer(self.options.max_line_bytes, offset, before)
        self._current = Reading(generation, file, framer, now)
        self.stream.counters.truncations += 1
        self._ledger.event(EventKind.TRUNCATED, detail, generation, offset, framer.marker, retires=old)

    def _read_on(self, reading: Reading, file: LogFile) -> None:
        """What is left of it is in `file`."""
        self.stream.keep(reading.generation, file)
        reading.file, reading.seen = file, None

    def _find_rest(self, reading: Reading) -> LogFile | None:
        others = [other for other in self._draining if other is not reading]
        return find_rest(reading, self.stream.path, self.stream.roots, others)

    # -- what happened to the path -------------------------------------------------------------------------------------

    def _check_path(self, now: float) -> bool:
        """Compare the path with the open file; True when a next step should follow at once."""
        current = self._current
        assert current is not None
        named = stat_path(self.stream.path)
        verdict = follow.judge_path(current.identity, named.identity if named else None)
        if verdict is follow.Path.MISSING:
            self._path_missing(current, now)
            return False
        was_missing, self._condition.is_missing = self._condition.is_missing, False
        if verdict is follow.Path.SAME:
            if was_missing:
                self._condition.recovered("the file is back")
            if current.framer.offset or not self._missed.may_be_more():
                return False
            if not self._read_missed(self._find_missed(now, current.identity), now):
                return False
            self._ledger.renew(current)
            return True
        return self._path_replaced(current, EventKind.APPEARED if was_missing else EventKind.ROTATED, now)

    def _path_missing(self, current: Reading, now: float) -> None:
        self._condition.miss()
        links = current.seen.links if current.seen else 1
        if follow.is_spent(
            now,
            replaced_at=None,
            grew_at=current.grew_at,
            rotate_wait_s=self.options.rotate_wait_s,
            links=links,
            backlog=False,
        ):
            self._give_up(current)

    def _give_up(self, current: Reading) -> None:
        """The path has led nowhere for long. Should the same file be there again, as after a mount that was lost, what
        was read of it is no news."""
        self._current = None
        self._given_up = mark_of(current) if current.framer.offset >= follow.RESAVE_BYTES else None
        self._retire(current)

    def _offset_given_up(self, file: LogFile) -> int:
        """How far the file was read before it was given up; 0: it is another one."""
        mark = self._given_up
        offset = mark.offset if mark is not None and holds(file, mark) else 0
        self._given_up = None
        return offset

    def _path_replaced(self, current: Reading, kind: EventKind, now: float) -> bool:
        """Another inode is at the path. The old one is read on until its writer has surely gone."""
        self._prepare()
        file = LogFile(self.stream.path, self.stream.roots, keep_open=self.watch.keeps_open)
        with given_back_on_error(file):
            goes_on = is_resaved(current, file)
        if goes_on:
            self._read_on(current, file)
            self.watch.follow(file)
            return True
        with given_back_on_error(file):
            self._read_earlier(current, now)
            missed = self._find_missed(now, file.identity, replaces=True)
        self._to_draining(current, now)
        self._read_missed(missed, now)
        self.stream.counters.rotations += 1
        self._begin(file, now, kind=kind)
        return True

    def _read_earlier(self, reading: Reading, now: float) -> None:
        """Before it is read as one of the old files: what came and went before its first line. Raises Unsettled."""
        if not reading.framer.offset and self._read_missed(self._find_missed(now, reading.identity), now):
            self._ledger.renew(reading)

    def _to_draining(self, reading: Reading, now: float) -> None:
        reading.replaced_at = now
        self._draining.append(reading)
        self._current = None
        if len(self._draining) > MAX_DRAINING:
            self._retire_if_spent(self._draining[0], float("inf"))

    def _find_missed(
        self, now: float, newest: follow.Identity, *, replaces: bool = False, emptied: LogFile | None = None
    ) -> list[Found]:
        """Files that came and went between two looks; `replaces`: `newest` is not the current file; `emptied`: see
        `Missed.find`. Raises Unsettled."""
        readings = [*self._draining, *([self._current] if self._current else [])]
        current = None if replaces else self._current
        return self._missed.find(now, newest, readings, current, keep_open=self.watch.keeps_open, emptied=emptied)

    def _find_missed_before(self, file: LogFile, now: float, *, is_emptied: bool = False) -> list[Found]:
        """The same, before a file that was opened for this; it is given back when that fails."""
        with given_back_on_error(file):
            return self._find_missed(now, file.identity, emptied=file if is_emptied else None)

    def _read_missed(self, missed: list[Found], now: float) -> bool:
        """They are read before what is at the path now. True: there are some."""
        for found in missed:
            reading = self._new_reading(found.file, now)
            reading.replaced_at, reading.first = now, found.first
            self._draining.append(reading)
        return bool(missed)

    def _new_reading(self, file: LogFile, now: float) -> Reading:
        """A generation that is read from its first byte."""
        generation = self._ledger.begin(file, begin=0, head=b"")
        self._ledger.event(EventKind.ROTATED, _SENTENCES[EventKind.ROTATED], generation)
        return Reading(generation, file, LineFramer(self.options.max_line_bytes), now)

    # -- beginning and ending a generation -----------------------------------------------------------------------------

    def _open_next(self, now: float) -> float:
        """Open what is at the path by now, if anything; the next step reads what came and went meanwhile before it."""
        self._open(now, self._successor)
        return self._delay(now) if self._current is None else 0.0

    def _prepare(self) -> None:
        self.watch.prepare(self.stream.path)
        self.stream.keeps_open = self.watch.keeps_open

    def _open(self, now: float, kind: EventKind = EventKind.APPEARED) -> None:
        self._prepare()
        try:
            file = LogFile(self.stream.path, self.stream.roots, keep_open=self.watch.keeps_open)
        except OSError as error:
            if error.errno not in GONE_ERRNOS:
                raise
            self._condition.wait()
            self._begin_without()
            return
        self._condition.is_missing = False
        if not self._first:
            self._successor = kind  # also when it is only opened at a later look
            is_emptied = kind is EventKind.TRUNCATED
            self._read_missed(self._find_missed_before(file, now, is_emptied=is_emptied), now)
        self._successor = EventKind.APPEARED
        self._begin(file, now, kind=kind, at_end=self._first and not self.from_start)

    def _begin_without(self) -> None:
        """There was no file at the first look: one that comes is read from its start, and what was rotated away before
        is no news."""
        if self._first:
            self._ledger.comes_after(self._missed.begin(None))
        self._first, self.from_start = False, True

    def _begin(self, file: LogFile, now: float, *, kind: EventKind, at_end: bool = False) -> None:
        """Make `file` the current one; `at_end`: its present lines are history, not news."""
        self.watch.follow(file)
        stat = file.stat()
        if self._first:
            with given_back_on_error(file):
                self._ledger.comes_after(self._missed.begin(stat.identity))
        head = file.read(0, min(HEAD_BYTES, stat.size)).data if at_end and stat.size else b""
        if at_end:
            start = last_line_start(file, stat.size, self.options.max_line_bytes)
        else:
            start = self.skip_known(self.stream, stat) or self._offset_given_up(file)
        if start:
            head = file.read(0, min(HEAD_BYTES, stat.size)).data
        before = marker_at(file, start)
        generation = self._ledger.begin(file, begin=0 if at_end else start, head=head)
        framer = LineFramer(self.options.max_line_bytes, start, before)
        reading = Reading(generation, file, framer, now, seen=stat if at_end else None)
        self._current, first, self._first = reading, self._first, False
        had_trouble = self._condition.opened()
        if self._is_unsupported(reading):
            return
        self._condition.publish(reading, notifies=self.watch.notifies, opened=stat)
        event = None if first and at_end and not had_trouble else StreamEvent(kind, _SENTENCES[kind])
        self.stream.ring.append(generation, start, start, marker=framer.marker, event=event)
        if at_end and start < stat.size:  # an unfinished line: read at once, for its bytes say which file this is
            self._ledger.append(reading, framer.feed(file.read(start, stat.size - start).data))
            reading.flushed = self._is_old(stat)
            if reading.flushed:
                self._ledger.flush(reading)
        for older in self._draining:
            older.replaced_at = now if older.replaced_at is None else older.replaced_at

    def _is_old(self, stat: FileStat) -> bool:
        return bool(self.options.partial_after_s) and time.time() - stat.mtime_ns / 1e9 >= self.options.partial_after_s

    def _retire_if_spent(self, reading: Reading, now: float) -> None:
        seen = reading.seen
        if reading.is_copy or follow.is_spent(
            now,
            replaced_at=reading.replaced_at,
            grew_at=reading.grew_at,
            rotate_wait_s=self.options.rotate_wait_s,
            links=seen.links if seen else 1,
            backlog=not reading.unsupported and (seen is None or seen.size > reading.framer.offset),
        ):
            self._retire(reading)

    def _retire(self, reading: Reading, lost: str | None = None) -> None:
        """Nothing more will come from this generation. `lost`: why its end could not be read."""
        if reading in self._draining:
            self._draining.remove(reading)
        self._missed.note_end(reading)
        self._ledger.end(reading, lost)
        self._missed.note_read(reading)

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _failed(self, error: OSError, now: float) -> float:
        """The file system refuses: say so once, and try again by name."""
        counters, current = self.stream.counters, self._current
        if error.errno in GONE_ERRNOS and (current or self._draining):  # by path: it was moved or deleted under us
            try:
                return self._vanished(current, now)
            except Unsettled:
                return UNSETTLED_S
            except OSError as refused:  # there is no descriptor to look for it with
                error = refused
        counters.reopen_errors += 1
        if error.errno in MOUNT_ERRNOS:
            counters.mount_error_since = counters.mount_error_since or now
            self._reopen()
        self._condition.complain(StreamStatus.UNREADABLE, error.strerror or str(error))
        return max(self.options.poll_interval_s, RETRY_S)

    def _reopen(self) -> None:
        """A descriptor of a mount that was lost stays dead; the name may lead to its successor."""
        current = self._current
        if current is None or not current.file.keeps_open:
            return
        try:
            file = LogFile(self.stream.path, self.stream.roots, keep_open=True)
        except (OSError, NotALog):
            return
        self._read_on(current, file)

    def _vanished(self, current: Reading | None, now: float) -> float:
        """A file that is read by name has lost it. Its content may have another one by now."""
        by_name = [r for r in self._draining if not r.file.keeps_open]
        broken = next((r for r in by_name if stat_or_none(r.file.path) is None), None)
        if broken is not None:
            rest = self._find_rest(broken)
            if rest is None:
                self._retire(broken, lost=None if was_read(broken) else "it was deleted before it was read")
            else:
                self._read_on(broken, rest)
            return 0.0
        if current is None:
            return self.options.poll_interval_s
        if current.file.keeps_open:
            self._path_missing(current, now)
        elif stat_or_none(current.file.path) is not None:  # it is there again, as after a mount
            return self.options.poll_interval_s
        elif stat_or_none(self.stream.path) is not None:  # a link that leads elsewhere now
            self._to_draining(current, now)
            return 0.0
        elif not self._condition.is_missing:
            self._path_missing(current, now)
            rest = self._find_rest(current)
            if rest is not None:
                self._read_on(current, rest)
                self._read_earlier(current, now)
                self._draining.append(current)
                self._current = None
        elif now - current.grew_at >= self.options.rotate_wait_s:
            self._give_up(current)
        return self.options.poll_interval_s

    def _refuse(self, error: NotALog) -> float:
        self._condition.complain(StreamStatus.REFUSED, error.reason)
        if self._current is None:
            self._begin_without()
        return max(self.options.poll_interval_s, RETRY_S)


_SENTENCES: Final = {
    EventKind.APPEARED: "the file is there",
    EventKind.ROTATED: "a new file has taken the name",
    EventKind.TRUNCATED: "the file was truncated",
}
