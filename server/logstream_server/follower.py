"""Following one path: look, decide (follow), read, frame, append to the ring. One job of the scheduler per stream.

A step first reads what was rotated away, then the current file, then compares the path with what is open; so lines stay
in the order in which they were written, however the file was moved under the reader. Each step is bounded in bytes; a
step with more to read asks to run again at once, behind the other streams.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from . import follow
from .cursor import HEAD_BYTES, Generation, Mark
from .files import GONE_ERRNOS, MOUNT_ERRNOS, FileStat, LogFile, NotALog, Read, stat_path
from .framing import MARKER_BYTES, Flag, LineFramer, Segment, count_newlines
from .mounts import mount_of, read_mounts
from .reading import Reading, is_begun_copy, is_read_by, mark_of, was_read
from .ring import EventKind, StreamEvent
from .siblings import (
    SETTLE_TRIES,
    Listing,
    Neighbours,
    Sibling,
    find_content,
    holds,
    open_sibling,
    read_head,
    settled_siblings,
    surely_holds,
)
from .stream import Stream, StreamState, StreamStatus
from .watch import Watch

log = logging.getLogger(__name__)

READ_BYTES: Final = 256 << 10
"""How much one read asks for: large enough that its cost does not show, small enough for the processor's cache."""
STEP_BYTES: Final = 1 << 20
"""How much one step reads before other streams get their turn."""
RECONCILE_S: Final = 2.0
"""How often a file is looked at when inotify is silent, as events do get lost (Fluent Bit looks every 2 s)."""
RETRY_S: Final = 1.0
MAX_DRAINING: Final = 16
ENDED_KEPT: Final = 16
"""Of so many files that are read no more it is known by content that they are no news, whatever their name is."""


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
    _neighbours: Neighbours = field(default_factory=Neighbours)
    _folder_mtime_ns: int | None = None
    _given_up: Mark | None = None
    _ended: deque[Mark] = field(default_factory=lambda: deque(maxlen=ENDED_KEPT))
    _missing: bool = False
    _trouble: str | None = None
    _was_stuck: bool = False
    _first: bool = True

    # -- the job -------------------------------------------------------------------------------------------------------

    def run(self, now: float) -> float | None:
        """One bounded step; see Job."""
        ring = self.stream.ring
        before = ring.head()[0]
        state = self.stream.state
        if self._was_stuck:
            self._was_stuck = False
            self._event(EventKind.APPEARED, "the file system answers again")
        try:
            delay = self._step(now)
        except OSError as error:
            delay = self._failed(error, now)
        except NotALog as error:
            delay = self._refuse(error)
        self.stream.expire(now)
        if ring.head()[0] != before or self.stream.state is not state:
            self.changed(self.stream)
        return delay

    def stuck(self, seconds: float) -> None:
        """The file system does not answer; see Job."""
        self._was_stuck = True
        self.stream.mount = mount_of(self.stream.path, read_mounts())  # a link may lead elsewhere by now
        detail = f"no answer from the file system for {seconds:.0f} s"
        log.warning("%s: %s", self.stream.name, detail)
        self.stream.state = replace(self.stream.state, status=StreamStatus.HUNG, detail=detail)
        self._event(EventKind.UNREADABLE, detail)
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
                self._publish_state()
            return 0.0
        if self._check_path(now) or self._current is None:
            return 0.0
        for reading in (*self._draining, self._current):
            self._flush_if_silent(reading, now)
        self._publish_state()
        return self._delay(now)

    def _delay(self, now: float) -> float:
        """Seconds until the next look when nothing wakes us."""
        options = self.options
        delay = RECONCILE_S if self.watch.notifies and not self._missing else options.poll_interval_s
        if self._current is None or self._trouble:
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
        head = reading.generation.head[: framer.offset]
        read = reading.file.read(framer.offset, READ_BYTES, framer.tail, reading.seen, head)
        moved = reading.identity != read.stat.identity
        intact = read.intact and (framer.offset > 0 or read.data.startswith(reading.first))
        verdict = follow.judge_content(framer.offset, read.stat.size, intact)
        rest = None
        if verdict is follow.Content.SAME and moved and framer.offset < follow.RESAVE_BYTES:
            # So few equal bytes prove nothing when the old file is there under another name, or had another itself.
            rest = self._rescue(reading)
            if rest is None and reading is not self._current:
                verdict = follow.Content.REWRITTEN
        if rest is not None or verdict is not follow.Content.SAME:
            self._content_changed(reading, read, verdict, rest, moved, now)
            return True
        reading.seen = read.stat
        if not read.data:
            return False
        reading.grew_at = now
        is_first = framer.offset == 0 and reading is self._current and not reading.generation.head
        if is_first and self._take_missed(now, reading.identity):
            self._renew(reading)
            return True
        data = read.data
        if len(data) == READ_BYTES:  # more follows: whole lines now, and the rest together with the rest of its line
            data = data[: data.rfind(b"\n") + 1] or data
        self._take(reading, data)
        return framer.offset < read.stat.size

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
        if reading is self._current:
            for older in self._draining:  # what was begun in the old file goes out before what the new one says
                self._append(older, older.framer.flush_partial())
        self.stream.counters.bytes += len(data)
        reading.flushed = False
        self._append(reading, framer.feed(data))
        if data[0] == 0 and len(data) >= follow.HOLE_PROBE_BYTES and not data.strip(b"\0"):
            self._skip_hole(reading)

    def _skip_hole(self, reading: Reading) -> None:
        framer = reading.framer
        end = reading.file.next_data(framer.offset)
        if end > framer.offset:
            self._append(reading, framer.skip_nuls(end - framer.offset))

    def _append(self, reading: Reading, segments: list[Segment]) -> None:
        ring, counters = self.stream.ring, self.stream.counters
        for segment in segments:
            lines = count_newlines(segment.data) if not segment.flags else int(not segment.flags & Flag.HOLE)
            ring.append(
                reading.generation,
                segment.start,
                segment.end,
                segment.data,
                segment.marker,
                segment.flags,
                lines=lines,
            )
            counters.lines += lines
            if segment.flags & Flag.CUT:
                counters.cut_lines += 1

    def _flush_if_silent(self, reading: Reading, now: float) -> None:
        wait = self.options.partial_after_s
        if wait and reading.framer.pending and not reading.flushed and now - reading.grew_at >= wait:
            self._append(reading, reading.framer.flush_partial())
            reading.flushed = True

    def _is_unsupported(self, reading: Reading) -> bool:
        encoding = follow.utf16_bom(reading.generation.head)
        if encoding is None:
            return False
        reading.unsupported = encoding
        detail = f"the file is {encoding}; only UTF-8 and other encodings that extend ASCII have lines of bytes"
        self.stream.state = replace(self.stream.state, status=StreamStatus.UNSUPPORTED, detail=detail)
        self._event(EventKind.UNREADABLE, detail)
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
        if (
            verdict is follow.Content.SHRUNK
            and not moved
            and is_current
            and follow.keeps_prefix(reading.generation.head, head, size)
        ):
            before = reading.file.read(max(0, size - MARKER_BYTES), min(size, MARKER_BYTES)).data
            self._restart(reading, now, offset=size, before=before, head=head, detail=f"its end was cut off at {size}")
            return
        rest = rest or self._rescue(reading)
        if rest is not None:
            self.stream.keep(reading.generation, rest)
            reading.file, reading.seen, reading.is_copy = rest, None, not moved
            if is_current:
                self._to_draining(reading, now)
                self._open(now, EventKind.ROTATED if moved else EventKind.TRUNCATED)
        elif is_current:
            detail = "another file has taken its place" if moved else "the file was truncated"
            self._restart(reading, now, offset=0, before=b"", head=b"", detail=detail)
        else:
            self._retire(reading, lost=None if was_read(reading) else "it was rewritten before it was read")

    def _restart(self, reading: Reading, now: float, *, offset: int, before: bytes, head: bytes, detail: str) -> None:
        """The same path begins a new generation at `offset`; what was held of the old one goes out first."""
        self._remember_end(reading)
        file = reading.file
        if not file.keeps_open:  # by name it may be another one
            file = LogFile(self.stream.path, self.stream.roots, keep_open=False)
        elif not file.acquire():
            raise OSError(errno.EBADF, "closed", file.path)
        self._take_missed(now, file.identity)
        old = reading.generation
        old.end = reading.framer.start
        generation = self._new_generation(file, begin=offset, head=head)
        self.stream.keep(generation, file)
        self.stream.forget(old)
        framer = LineFramer(self.options.max_line_bytes, offset, before)
        self._current = Reading(generation, file, framer, now)
        self.stream.counters.truncations += 1
        self._event(EventKind.TRUNCATED, detail, generation, offset, framer.marker, retires=old)

    def _rescue(self, reading: Reading) -> LogFile | None:
        """Where the content that is no longer here has gone to, if it is beside the file under another name."""
        mark = replace(mark_of(reading), inode=reading.identity.inode)
        keep_open = reading.file.keeps_open
        since = reading.seen.mtime_ns if reading.seen else None
        found = find_content(self.stream.path, self.stream.roots, mark, keep_open=keep_open, since_ns=since)
        if found is None:
            return None
        another = reading.framer.offset == 0 and not read_head(found).startswith(reading.first)
        if another or any(is_read_by(found, r) for r in self._draining if r is not reading):
            found.release()
            return None
        return found

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
        was_missing, self._missing = self._missing, False
        if verdict is follow.Path.SAME:
            if was_missing:
                self._recovered("the file is back")
            if current.framer.offset or not self._neighbours_changed():
                return False
            if not self._take_missed(now, current.identity):
                return False
            self._renew(current)
            return True
        return self._path_replaced(current, EventKind.APPEARED if was_missing else EventKind.ROTATED, now)

    def _neighbours_changed(self) -> bool:
        """Whether the folder has other names than at the last look. An empty file shows nothing of a copytruncate that
        came between two looks, but the copy beside it does."""
        folder = stat_path(os.path.dirname(os.path.realpath(self.stream.path)))
        before, self._folder_mtime_ns = self._folder_mtime_ns, folder.mtime_ns if folder else None
        return before != self._folder_mtime_ns

    def _path_missing(self, current: Reading, now: float) -> None:
        if not self._missing:
            self._missing = True
            self._event(EventKind.DELETED, "the path leads nowhere; waiting for it")
            self.stream.state = replace(self.stream.state, status=StreamStatus.WAITING, detail="the file is missing")
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
        if self._is_resaved(current, file):
            self.stream.keep(current.generation, file)
            current.file, current.seen = file, None
            self.watch.follow(file)
            return True
        self._to_draining(current, now)
        self._take_missed(now, file.identity)
        self.stream.counters.rotations += 1
        self._begin(file, now, kind=kind)
        return True

    def _to_draining(self, reading: Reading, now: float) -> None:
        reading.replaced_at = now
        self._draining.append(reading)
        self._current = None
        if len(self._draining) > MAX_DRAINING:
            self._retire_if_spent(self._draining[0], float("inf"))

    def _is_resaved(self, current: Reading, file: LogFile) -> bool:
        """Whether the new inode is a copy of the whole old file, whose name is gone: then its content goes on."""
        framer = current.framer
        if framer.offset < follow.RESAVE_BYTES or (current.file.keeps_open and current.file.stat().links > 0):
            return False
        read = file.read(framer.offset, 0, framer.tail)
        same_head = file.read(0, len(current.generation.head)).data == current.generation.head
        return read.stat.size >= framer.offset and read.intact and same_head

    def _take_missed(self, now: float, newest: follow.Identity) -> bool:
        """Files that came and went between two looks are read, too, before what is at the path now. True: there are
        some.

        They are the rotated names, older than `newest`, that were not there before and are no copies: neither of what
        we read nor of what is in the current file.
        """
        readings = [*self._draining, *([self._current] if self._current else [])]
        older, files = self._open_missed(newest, {r.identity for r in readings})
        if older is None:
            return False
        self._neighbours.learn(older, self.stream.roots)
        listed = {s.stat.identity for s in older.siblings}
        nameless = [r for r in readings if r.framer.offset and r.identity not in listed]
        missed = [
            file
            for file in files
            if not any(surely_holds(file, mark) for mark in (*self._ended, *map(mark_of, nameless)))
            and not any(is_begun_copy(file, r, 0 if r is self._current else follow.RESAVE_BYTES) for r in readings)
        ]
        for file in files:
            if file in missed:
                self._draining.append(self._new_reading(file, now, EventKind.ROTATED))
                self._draining[-1].replaced_at = now
                self._draining[-1].first = read_head(file)
            else:
                file.release()
        return bool(missed)

    def _open_missed(self, newest: follow.Identity, ours: set[follow.Identity]) -> tuple[Listing | None, list[LogFile]]:
        """The rotated files that are known by now (None: as before), and of them those that are new, oldest first."""
        roots, keep_open = self.stream.roots, self.watch.keeps_open
        older: Listing | None = None
        new: list[Sibling] = []
        for _ in range(SETTLE_TRIES):
            older = self._older_siblings(newest)
            if older is None:
                return None, []
            new = [s for s in older.siblings if s.stat.identity not in ours and not self._neighbours.knows(s, roots)]
            opened = {s.path: open_sibling(s, roots, keep_open=keep_open) for s in reversed(new)}
            files = [file for file in opened.values() if file is not None]
            if len(files) == len(new):
                return older, files
            for file in files:
                file.release()
        # Names change all the time: what could not be opened is for the next look.
        return older and replace(older, siblings=[s for s in older.siblings if s not in new]), []

    def _older_siblings(self, newest: follow.Identity) -> Listing | None:
        """The rotated files beside, without those that came after `newest`: they are for the next look. None: that has
        no name any more, and those that have one may all be younger."""
        for _ in range(SETTLE_TRIES):
            listing = settled_siblings(self.stream.path, rotated_only=True)
            at = next((i for i, s in enumerate(listing.siblings) if s.stat.identity == newest), None)
            if at is not None:
                return replace(listing, siblings=listing.siblings[at + 1 :])
            named = stat_or_none(self.stream.path)
            if named is not None and named.identity == newest:
                return listing
        return None

    def _renew(self, reading: Reading) -> None:
        """The current file, of which nothing was read, comes after files that began later: generations are in order."""
        old, file = reading.generation, reading.file
        old.end = 0
        reading.generation = self._new_generation(file, begin=0, head=b"")
        if file.acquire():
            self.stream.keep(reading.generation, file)
        self.stream.forget(old)
        self.stream.ring.append(reading.generation, 0, 0, retires=old)

    def _new_reading(self, file: LogFile, now: float, kind: EventKind) -> Reading:
        """A generation that is read from its first byte."""
        generation = self._new_generation(file, begin=0, head=b"")
        self.stream.keep(generation, file)
        self._event(kind, _SENTENCES[kind], generation)
        return Reading(generation, file, LineFramer(self.options.max_line_bytes), now)

    # -- beginning and ending a generation -----------------------------------------------------------------------------

    def _open_next(self, now: float) -> float:
        """Open what is at the path by now, if anything; the next step reads what came and went meanwhile before it."""
        self._open(now)
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
            if self.stream.state.status is not StreamStatus.WAITING:
                self.stream.state = replace(
                    self.stream.state, status=StreamStatus.WAITING, detail="the file does not exist yet"
                )
                log.info("%s: %r does not exist yet, waiting for it", self.stream.name, self.stream.path)
            self._missing, self._first, self.from_start, self._trouble = True, False, True, None
            self.stream.counters.mount_error_since = None  # the file system answers
            return
        self._missing = False
        if not self._first:
            self._take_missed(now, file.identity)
        self._begin(file, now, kind=kind, at_end=self._first and not self.from_start)

    def _begin(self, file: LogFile, now: float, *, kind: EventKind, at_end: bool = False) -> None:
        """Make `file` the current one; `at_end`: its present lines are history, not news."""
        self.watch.follow(file)
        stat = file.stat()
        head = file.read(0, min(HEAD_BYTES, stat.size)).data if at_end and stat.size else b""
        if at_end:
            start = self._last_line_start(file, stat.size)
        else:
            start = self.skip_known(self.stream, stat) or self._offset_given_up(file)
        if start:
            head = file.read(0, min(HEAD_BYTES, stat.size)).data
        before = file.read(max(0, start - MARKER_BYTES), min(start, MARKER_BYTES)).data if start else b""
        generation = self._new_generation(file, begin=0 if at_end else start, head=head)
        self.stream.keep(generation, file)
        framer = LineFramer(self.options.max_line_bytes, start, before)
        reading = Reading(generation, file, framer, now, seen=stat if at_end else None)
        self._current, first, self._first = reading, self._first, False
        trouble, self._trouble = self._trouble, None
        if first:
            listing = self._older_siblings(stat.identity) or settled_siblings(self.stream.path, rotated_only=True)
            self._neighbours.learn(listing, self.stream.roots)
        if self._is_unsupported(reading):
            return
        self.stream.state = replace(self.stream.state, status=StreamStatus.FOLLOWING, detail="")
        event = None if first and at_end and not trouble else StreamEvent(kind, _SENTENCES[kind])
        self.stream.ring.append(generation, start, start, marker=framer.marker, event=event)
        if at_end and start < stat.size:  # an unfinished line: read at once, for its bytes say which file this is
            self._append(reading, framer.feed(file.read(start, stat.size - start).data))
            reading.flushed = self._is_old(stat)
            if reading.flushed:
                self._append(reading, framer.flush_partial())
        for older in self._draining:
            older.replaced_at = now if older.replaced_at is None else older.replaced_at

    def _is_old(self, stat: FileStat) -> bool:
        return bool(self.options.partial_after_s) and time.time() - stat.mtime_ns / 1e9 >= self.options.partial_after_s

    def _last_line_start(self, file: LogFile, size: int) -> int:
        """The offset after the last newline; `size` itself when the last line is longer than we would hold."""
        low = max(0, size - self.options.max_line_bytes - 1)
        end = size
        while end > low:
            start = max(low, end - (1 << 16))
            block = file.read(start, end - start).data
            newline = block.rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0 if low == 0 else size

    def _new_generation(self, file: LogFile, *, begin: int, head: bytes) -> Generation:
        inode = file.identity.inode if file.keeps_open else None
        sign = b"" if file.keeps_open else os.urandom(8)
        generation = Generation(self.next_id(), inode, head[:HEAD_BYTES], begin, sign=sign)
        self.stream.remember(generation, file.identity.inode)
        return generation

    def _remember_end(self, reading: Reading) -> None:
        """Nothing more is read of it: what was held goes out."""
        if reading.framer.offset >= follow.RESAVE_BYTES:
            self._ended.append(mark_of(reading))
        self._append(reading, reading.framer.finish())

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
        self._remember_end(reading)
        generation, start = reading.generation, reading.framer.start
        if lost is None:
            generation.end = start
            self.stream.ring.append(None, 0, 0, event=StreamEvent(EventKind.RETIRED), retires=generation)
        else:  # the loss has its place in the file, as long as the file was, or at least one byte
            size = reading.seen.size if reading.seen else 0
            generation.end = max(size, start + 1)
            event = StreamEvent(EventKind.GAP, lost, size - start if size > start else None)
            self.stream.ring.append(generation, start, generation.end, event=event, retires=generation)
        self._neighbours.read(reading.file.identity, generation.head)
        file = self.stream.file_of(generation)
        if file is not None:
            self.stream.keep_for_a_while(generation, file, file.identity.inode)

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _failed(self, error: OSError, now: float) -> float:
        """The file system refuses: say so once, and try again by name."""
        counters, current = self.stream.counters, self._current
        if error.errno in GONE_ERRNOS and (current or self._draining):  # by path: it was moved or deleted under us
            return self._vanished(current, now)
        counters.reopen_errors += 1
        if error.errno in MOUNT_ERRNOS:
            counters.mount_error_since = counters.mount_error_since or now
            self._reopen()
        self._complain(StreamStatus.UNREADABLE, error.strerror or str(error))
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
        self.stream.keep(current.generation, file)
        current.file, current.seen = file, None

    def _vanished(self, current: Reading | None, now: float) -> float:
        """A file that is read by name has lost it. Its content may have another one by now."""
        by_name = [r for r in self._draining if not r.file.keeps_open]
        broken = next((r for r in by_name if stat_or_none(r.file.path) is None), None)
        if broken is not None:
            rest = self._rescue(broken)
            if rest is None:
                self._retire(broken, lost=None if was_read(broken) else "it was deleted before it was read")
            else:
                self.stream.keep(broken.generation, rest)
                broken.file, broken.seen = rest, None
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
        elif not self._missing:
            self._path_missing(current, now)
            rest = self._rescue(current)
            if rest is not None:
                self.stream.keep(current.generation, rest)
                current.file, current.seen = rest, None
                self._draining.append(current)
                self._current = None
        elif now - current.grew_at >= self.options.rotate_wait_s:
            self._give_up(current)
        return self.options.poll_interval_s

    def _refuse(self, error: NotALog) -> float:
        self._complain(StreamStatus.REFUSED, error.reason)
        return max(self.options.poll_interval_s, RETRY_S)

    def _complain(self, status: StreamStatus, detail: str) -> None:
        self.stream.state = replace(self.stream.state, status=status, detail=detail)
        if self._trouble != detail:
            self._trouble = detail
            log.warning("%s: %s, trying again", self.stream.name, detail)
            self._event(EventKind.UNREADABLE, detail)
        self._first = False if self._current is None and status is StreamStatus.REFUSED else self._first

    def _recovered(self, detail: str) -> None:
        self._trouble = None
        self._event(EventKind.APPEARED, detail)

    def _publish_state(self) -> None:
        """After a step that went well: sizes as last seen, and no complaint any more."""
        current = self._current
        assert current is not None
        if self._trouble is not None:
            self._recovered("the file can be read again")
        self.stream.counters.mount_error_since = None
        seen = current.seen
        status, detail = self.stream.state.status, self.stream.state.detail
        if not current.unsupported and not self._missing:
            status, detail = StreamStatus.FOLLOWING, ""
        elif self._missing:
            status, detail = StreamStatus.WAITING, "the file is missing"
        state = StreamState(
            status=status,
            detail=detail,
            size=seen.size if seen else None,
            mtime_ns=seen.mtime_ns if seen else None,
            offset=current.framer.start,
            watch="notify" if self.watch.notifies else "poll",
            binary=follow.looks_binary(current.generation.head),
            pending=current.framer.pending > 0,
        )
        if state != self.stream.state:
            self.stream.state = state

    def _event(
        self,
        kind: EventKind,
        detail: str,
        generation: Generation | None = None,
        offset: int = 0,
        marker: bytes = b"",
        retires: Generation | None = None,
    ) -> None:
        event = StreamEvent(kind, detail)
        self.stream.ring.append(generation, offset, offset, marker=marker, event=event, retires=retires)


_SENTENCES: Final = {
    EventKind.APPEARED: "the file is there",
    EventKind.ROTATED: "a new file has taken the name",
    EventKind.TRUNCATED: "the file was truncated",
}


def stat_or_none(path: str) -> FileStat | None:
    """What is at the path, None when that cannot be told."""
    try:
        return stat_path(path)
    except OSError:
        return None
