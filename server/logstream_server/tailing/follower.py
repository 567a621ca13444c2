"""Following one path: look, decide (follow), read, frame, append to the ring. One job of the scheduler per stream.

A step first reads what was rotated away, then the current file, then compares the path with what is open; so lines stay
in the order in which they were written, however the file was moved under the reader. Each step is bounded in bytes; a
step with more to read asks to run again at once, behind the other streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from logstream_server.lines.cursor import HEAD_BYTES
from logstream_server.lines.ring import EventKind

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
from .missed import Unsettled
from .reading import Reading, is_copy, is_resaved, was_read
from .siblings import marker_at
from .stream import Stream, StreamStatus
from .succession import FollowOptions, Succession
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


class Follower:
    """The job. `changed` is called, on the worker's thread, after the ring or the state changed. `from_start`,
    `skip_known`: see Succession; `next_id` numbers generations."""

    def __init__(
        self,
        stream: Stream,
        options: FollowOptions,
        watch: Watch,
        changed: Callable[[Stream], None],
        *,
        from_start: bool,
        next_id: Callable[[], int],
        skip_known: Callable[[Stream, FileStat], int] = lambda _stream, _stat: 0,
    ) -> None:
        self.stream = stream
        self._options, self._watch, self._changed = options, watch, changed
        self._ledger = Ledger(stream, next_id)
        self._condition = Condition(stream, self._ledger)
        self._files = Succession(
            stream, options, watch, self._ledger, self._condition, from_start=from_start, skip_known=skip_known
        )

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
            self._changed(self.stream)
        return delay

    def stuck(self, seconds: float) -> None:
        """The file system does not answer; see Job."""
        self._condition.stuck(seconds)
        self._changed(self.stream)

    def close(self) -> None:
        """Give everything back; the job was removed before."""
        self._watch.close()
        for generation, _ in self.stream.generations():
            self.stream.forget(generation)

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing has been there to read for so long."""
        current = self._files.current
        return not self._files.draining and (current is None or time.monotonic() - current.grew_at > seconds)

    # -- one step ------------------------------------------------------------------------------------------------------

    def _look(self, now: float) -> float:
        try:
            return self._step(now)
        except NotALog as error:
            return self._refuse(error)

    def _step(self, now: float) -> float:
        if self.stream.ring.backlog_bytes > self.stream.ring.capacity_bytes // 2:
            self.stream.ring.throttled = True
            return self._options.poll_interval_s  # the hub wakes us as soon as it has caught up
        for reading in list(self._files.draining):
            if self._read(reading, now):
                return 0.0
            self._files.retire_if_spent(reading, now)
        if self._files.current is None:
            return self._open_next(now)
        if self._read_many(self._files.current, now):
            if self._files.current is not None:
                self._condition.publish(self._files.current, notifies=self._watch.notifies)
            return 0.0
        if self._check_path(now) or self._files.current is None:
            return 0.0
        for reading in self._files.all:
            self._ledger.flush_if_silent(reading, now, self._options.partial_after_s)
        self._condition.publish(self._files.current, notifies=self._watch.notifies)
        return self._delay(now)

    def _delay(self, now: float) -> float:
        """Seconds until the next look when nothing wakes us."""
        options = self._options
        delay = RECONCILE_S if self._watch.notifies and not self._condition.is_missing else options.poll_interval_s
        if self._files.current is None or self._condition.trouble:
            delay = min(delay, max(options.poll_interval_s, 0.01))
        for reading in self._files.all:
            if options.partial_after_s and reading.framer.pending and not reading.flushed:
                delay = min(delay, max(0.01, reading.grew_at + options.partial_after_s - now))
            if reading is not self._files.current:
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
            rest = self._files.find_rest(reading)
            if rest is None and reading is not self._files.current:
                verdict = follow.Content.REWRITTEN
        if rest is not None or verdict is not follow.Content.SAME:
            self._content_changed(reading, read, verdict, rest, moved, now)
            return True
        reading.seen = read.stat
        if not read.data:
            return False
        reading.grew_at = now
        if framer.offset == 0 and reading.first == b"" and self._is_copy(reading):
            self._files.retire(reading)
            return True
        is_first = framer.offset == 0 and reading is self._files.current and not reading.generation.head
        if is_first and self._files.read_earlier(reading, now):
            return True
        data = read.data
        if len(data) == READ_BYTES:  # more follows: whole lines now, and the rest together with the rest of its line
            data = data[: data.rfind(b"\n") + 1] or data
        self._take(reading, data)
        return framer.offset < read.stat.size

    def _is_copy(self, reading: Reading) -> bool:
        """Of a file that had nothing in it when it was found, it shows now."""
        others = [each for each in self._files.all if each is not reading]
        return is_copy(reading.file, others, self._files.current)

    def _read_unsupported(self, reading: Reading, now: float) -> bool:
        """Such a file is not read, but it may be written anew."""
        stat = reading.file.stat()
        if stat == reading.seen:
            return False
        reading.seen = stat
        if reading is not self._files.current or follow.utf16_bom(reading.file.read(0, 4).data) == reading.unsupported:
            return False
        self._files.restart(reading, now, offset=0, before=b"", head=b"", detail="the file was written anew")
        return True

    def _read_many(self, reading: Reading, now: float) -> bool:
        """Read on for a whole step; True when a next step should follow at once."""
        # A part of the ring: those who read it must find all of the step there.
        size = min(STEP_BYTES, self.stream.ring.capacity_bytes // 4)
        end, generation = reading.framer.offset + size, reading.generation
        while self._read(reading, now):
            is_same = reading is self._files.current and reading.generation is generation
            if reading.framer.offset >= end or not is_same:
                return True
        return False

    def _take(self, reading: Reading, data: bytes) -> None:
        framer, generation = reading.framer, reading.generation
        at = framer.offset
        if at < HEAD_BYTES and at <= len(generation.head):
            generation.head = (generation.head[:at] + data)[:HEAD_BYTES]
            if self._files.is_unsupported(reading):
                return
        for older in self._files.before(reading):  # what was begun in an old file goes out before what a new one says
            self._ledger.flush(older)
        self._ledger.take(reading, data)

    # -- what happened to the content ----------------------------------------------------------------------------------

    def _content_changed(
        self, reading: Reading, read: Read, verdict: follow.Content, rest: LogFile | None, moved: bool, now: float
    ) -> None:
        """The bytes below our offset are not what they were: truncated, rewritten, or (by path) another file.

        `rest`: a file that still holds them, when one was found already; `moved`: the path leads to another inode.
        """
        is_current = reading is self._files.current
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
            rest = self._files.find_rest(reading)
        if is_cut_off and rest is None:
            before, detail = marker_at(reading.file, size), f"its end was cut off at {size}"
            self._files.restart(reading, now, offset=size, before=before, head=head, detail=detail)
            return
        rest = rest or self._files.find_rest(reading)
        if rest is not None:
            self._files.read_on(reading, rest)
            reading.is_copy = not moved
            if is_current:
                self._files.read_earlier(reading, now)
                self._files.to_draining(reading, now)
                self._files.open(now, EventKind.ROTATED if moved else EventKind.TRUNCATED)
        elif is_current:
            detail = "another file has taken its place" if moved else "the file was truncated"
            self._files.restart(reading, now, offset=0, before=b"", head=b"", detail=detail)
        else:
            self._files.retire(reading, lost=None if was_read(reading) else "it was rewritten before it was read")

    # -- what happened to the path -------------------------------------------------------------------------------------

    def _check_path(self, now: float) -> bool:
        """Compare the path with the open file; True when a next step should follow at once."""
        current = self._files.current
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
            return self._files.may_have_earlier(current) and self._files.read_earlier(current, now)
        return self._path_replaced(current, EventKind.APPEARED if was_missing else EventKind.ROTATED, now)

    def _path_missing(self, current: Reading, now: float) -> None:
        self._condition.miss(now)
        links = current.seen.links if current.seen else 1
        if follow.is_spent(
            now,
            replaced_at=None,
            grew_at=current.grew_at,
            rotate_wait_s=self._options.rotate_wait_s,
            links=links,
            backlog=False,
        ):
            self._files.give_up(current)

    def _path_replaced(self, current: Reading, kind: EventKind, now: float) -> bool:
        """Another inode is at the path. The old one is read on until its writer has surely gone."""
        self._files.prepare()
        file = LogFile(self.stream.path, self.stream.roots, keep_open=self._watch.keeps_open)
        with given_back_on_error(file):
            goes_on = is_resaved(current, file)
        if goes_on:
            self._files.read_on(current, file)
            self._watch.follow(file)
            return True
        self._files.replace(current, file, now, kind)
        return True

    # -- beginning and ending a generation -----------------------------------------------------------------------------

    def _open_next(self, now: float) -> float:
        """Open what is at the path by now, if anything; the next step reads what came and went meanwhile before it."""
        self._files.open(now, self._files.successor)
        return self._delay(now) if self._files.current is None else 0.0

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _failed(self, error: OSError, now: float) -> float:
        """The file system refuses: say so once, and try again by name."""
        counters = self.stream.counters
        if error.errno in GONE_ERRNOS and self._files.all:  # by path: it was moved or deleted under us
            try:
                return self._vanished(self._files.current, now)
            except Unsettled:
                return UNSETTLED_S
            except OSError as refused:  # there is no descriptor to look for it with
                error = refused
        counters.reopen_errors += 1
        if error.errno in MOUNT_ERRNOS:
            counters.mount_error_since = counters.mount_error_since or now
            self._reopen()
        self._condition.complain(StreamStatus.UNREADABLE, error.strerror or str(error))
        return max(self._options.poll_interval_s, RETRY_S)

    def _reopen(self) -> None:
        """A descriptor of a mount that was lost stays dead; the name may lead to its successor."""
        current = self._files.current
        if current is None or not current.file.keeps_open:
            return
        try:
            file = LogFile(self.stream.path, self.stream.roots, keep_open=True)
        except (OSError, NotALog):
            return
        self._files.read_on(current, file)

    def _vanished(self, current: Reading | None, now: float) -> float:
        """A file that is read by name has lost it. Its content may have another one by now."""
        by_name = [r for r in self._files.draining if not r.file.keeps_open]
        broken = next((r for r in by_name if stat_or_none(r.file.path) is None), None)
        if broken is not None:
            rest = self._files.find_rest(broken)
            if rest is None:
                self._files.retire(broken, lost=None if was_read(broken) else "it was deleted before it was read")
            else:
                self._files.read_on(broken, rest)
            return 0.0
        if current is None:
            return self._options.poll_interval_s
        if current.file.keeps_open:
            self._path_missing(current, now)
        elif stat_or_none(current.file.path) is not None:  # it is there again, as after a mount
            return self._options.poll_interval_s
        elif stat_or_none(self.stream.path) is not None:  # a link that leads elsewhere now
            self._files.to_draining(current, now)
            return 0.0
        elif self._moved_away(current, now):
            return 0.0
        return self._options.poll_interval_s

    def _moved_away(self, current: Reading, now: float) -> bool:
        """It is read by name, and nothing has that now. It may get another one in several steps; True: it has one."""
        self._condition.miss(now)
        rest = self._files.find_rest(current)
        if rest is not None:
            self._files.read_on(current, rest)
            self._files.read_earlier(current, now)
            self._files.to_draining(current, None)
        elif now - max(current.grew_at, self._condition.missing_since) >= self._options.rotate_wait_s:
            self._files.give_up(current)
        return rest is not None

    def _refuse(self, error: NotALog) -> float:
        self._condition.complain(StreamStatus.REFUSED, error.reason)
        if self._files.current is None:
            self._files.begin_without()
        return max(self._options.poll_interval_s, RETRY_S)
