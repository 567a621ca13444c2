"""How a stream is: its state as clients see it, and what is said when that changes.

Told by the follower what its looks met with. Each trouble is told once, and so is its end.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from logstream_server.lines.ring import EventKind

from . import follow
from .files import FileStat
from .ledger import Ledger
from .mounts import mount_of, read_mounts
from .patience import Patience
from .reading import Reading
from .stream import Stream, StreamState, StreamStatus

log = logging.getLogger(__name__)


class Condition:
    """Of one stream. `is_missing`: the path leads nowhere, since `missing_since`; `trouble`: what the last look met
    with, None after a good one."""

    def __init__(self, stream: Stream, ledger: Ledger) -> None:
        self._stream, self._ledger = stream, ledger
        self.is_missing = False
        self.missing_since = 0.0
        self.trouble: str | None = None
        self.patience = Patience()
        self._stuck_s = 0.0

    # -- a file system that does not answer --------------------------------------------------------------------------

    def stuck(self, seconds: float) -> None:
        """Nothing has been heard of it for so long. Called from the watchdog's thread."""
        self._stuck_s = seconds
        self._stream.mount = mount_of(self._stream.path, read_mounts())  # a link may lead elsewhere by now
        detail = f"no answer from the file system for {seconds:.0f} s"
        log.warning("%s: %s", self._stream.name, detail)
        self._set(StreamStatus.HUNG, detail)
        self._ledger.event(EventKind.UNREADABLE, detail)

    def begin(self, now: float) -> None:
        """It is looked at again."""
        waited_s, self._stuck_s = self._stuck_s, 0.0
        if waited_s:
            self.patience.answered(now, waited_s)
            self._ledger.event(EventKind.APPEARED, "the file system answers again")

    def end(self, now: float, took_s: float) -> None:
        """The look has ended, whatever it saw."""
        self.patience.answered(now, took_s)

    # -- what looks met with -----------------------------------------------------------------------------------------

    def wait(self) -> None:
        """There is no file yet, and that is no trouble."""
        if self._stream.state.status is not StreamStatus.WAITING:
            self._set(StreamStatus.WAITING, "the file does not exist yet")
            log.info("%s: %r does not exist yet, waiting for it", self._stream.name, self._stream.path)
        self.is_missing, self.trouble = True, None
        self._stream.counters.mount_error_since = None  # the file system answers

    def miss(self, now: float) -> None:
        """The path leads nowhere, and did before."""
        if not self.is_missing:
            self.is_missing, self.missing_since = True, now
            self._ledger.event(EventKind.DELETED, "the path leads nowhere; waiting for it")
            self._set(StreamStatus.WAITING, "the file is missing")

    def opened(self) -> bool:
        """There is a file; whether there was trouble before."""
        trouble, self.trouble = self.trouble, None
        return trouble is not None

    def refuse_encoding(self, encoding: str) -> None:
        """The file is none of lines of bytes."""
        detail = f"the file is {encoding}; only UTF-8 and other encodings that extend ASCII have lines of bytes"
        self._set(StreamStatus.UNSUPPORTED, detail)
        log.warning("%s: %s", self._stream.name, detail)
        self._ledger.event(EventKind.UNREADABLE, detail)

    def complain(self, status: StreamStatus, detail: str) -> None:
        """A look failed."""
        self._set(status, detail)
        if self.trouble != detail:
            self.trouble = detail
            log.warning("%s: %s, trying again", self._stream.name, detail)
            self._ledger.event(EventKind.UNREADABLE, detail)

    def recovered(self, detail: str) -> None:
        """A look went well that did not before."""
        self.trouble = None
        self._ledger.event(EventKind.APPEARED, detail)

    def publish(self, current: Reading, *, notifies: bool, opened: FileStat | None = None) -> None:
        """After a step that went well: sizes as last seen, and no complaint any more. `opened`: of the file, if it was
        only opened so far. All in one value: other threads must not see a state half old and half new."""
        if self.trouble is not None:
            self.recovered("the file can be read again")
        self._stream.counters.mount_error_since = None
        seen = current.seen or opened
        status, detail = self._stream.state.status, self._stream.state.detail
        if not current.unsupported and not self.is_missing:
            status, detail = StreamStatus.FOLLOWING, ""
        elif self.is_missing:
            status, detail = StreamStatus.WAITING, "the file is missing"
        state = StreamState(
            status=status,
            detail=detail,
            size=seen.size if seen else None,
            mtime_ns=seen.mtime_ns if seen else None,
            offset=current.framer.start,
            watch="notify" if notifies else "poll",
            binary=follow.looks_binary(current.generation.head),
            pending=current.framer.pending > 0,
        )
        if state != self._stream.state:
            self._stream.state = state

    def _set(self, status: StreamStatus, detail: str) -> None:
        self._stream.state = replace(self._stream.state, status=status, detail=detail)
