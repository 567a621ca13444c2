"""Files that came and went between two looks at a path: which they are, by content.

They are the rotated names beside the path that were not there before, older than what is at the path now, and no
copies: neither of what was read nor of what is in the current file. Reading them is the follower's.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from logstream_server.lines.cursor import Generation, Mark

from . import follow
from .files import LogFile, given_back_on_error, stat_or_none, stat_path
from .reading import Reading, is_begun_copy, is_begun_copy_of, is_read_by, mark_of
from .siblings import (
    SETTLE_TRIES,
    Listing,
    Neighbours,
    Sibling,
    leads_to_itself,
    newest_past,
    open_sibling,
    read_head,
    settled_siblings,
    surely_holds,
)
from .stream import Stream

SETTLE_S: Final = 1.0
"""So long names may change without a pause before what is known of them has to do: then a file that is found later is
told later."""
ENDED_KEPT: Final = 16
"""Of so many files that are read no more it is known by content that they are no news, whatever their name is."""


class Unsettled(Exception):
    """Names change at this very moment, so that it cannot be said which files came before which. Look again soon.
    Internal to tailing."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that came and went, and what it began with when it was found: a copy may be written over before it is
    read, and then by one of what is read elsewhere."""

    file: LogFile
    first: bytes


class Missed:
    """What is known of the files beside one path. Used by one thread at a time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._neighbours = Neighbours()
        self._ended: deque[Mark] = deque(maxlen=ENDED_KEPT)
        self._folder_mtime_ns: int | None = None
        self._unsettled_since: float | None = None

    def begin(self, newest: follow.Identity | None) -> Generation | None:
        """What is there at the first look is no news; the last file of that. `newest`: what the path led to then; None:
        to no file."""
        older = None if newest is None else self._older_siblings(newest)
        listing = older or settled_siblings(self._stream.path, rotated_only=True)
        self._neighbours.learn(listing, self._stream.roots)
        return newest_past(listing.siblings, self._stream.roots)

    def may_be_more(self) -> bool:
        """Whether the folder has other names than when this was last asked. An empty file shows nothing of a
        copytruncate that came between two looks, but the copy beside it does."""
        folder = stat_path(os.path.dirname(os.path.realpath(self._stream.path)))
        before, self._folder_mtime_ns = self._folder_mtime_ns, folder.mtime_ns if folder else None
        return before != self._folder_mtime_ns

    def note_end(self, reading: Reading) -> None:
        """Nothing more is read of it: no file that has its content is news."""
        if reading.framer.offset >= follow.RESAVE_BYTES:
            self._ended.append(mark_of(reading))

    def note_read(self, reading: Reading) -> None:
        """The file was read to its end: by whatever name it is found, it is no news."""
        self._neighbours.read(reading.file.identity, reading.generation.head)

    def find(
        self,
        now: float,
        newest: follow.Identity,
        readings: Sequence[Reading],
        current: Reading | None,
        *,
        keep_open: bool,
        emptied: LogFile | None = None,
    ) -> list[Found]:
        """Those that are to be read before `newest`, the oldest first; the caller takes the references. `readings`: all
        that are being read, and that of `newest`, if it is one of them, as `current`. `emptied`: the file itself, where
        it was copied before and emptied: it may be copied again by now. Raises Unsettled, but not for long."""
        older, files = self._open_new(newest, readings, keep_open=keep_open)
        if older is None:
            return []
        with given_back_on_error(*files):
            self._wait_until_settled(now, older)
            firsts = [read_head(file) for file in files]  # before they are compared: what is compared has begun so
            is_known = self._are_known(files, older, readings, current, emptied)
            self._neighbours.learn(older, self._stream.roots)
        missed = []
        for file, first, is_old in zip(files, firsts, is_known, strict=True):
            if is_old:
                file.release()
            else:
                missed.append(Found(file, first))
        return missed

    def _are_known(
        self,
        files: Sequence[LogFile],
        older: Listing,
        readings: Sequence[Reading],
        current: Reading | None,
        emptied: LogFile | None,
    ) -> list[bool]:
        """Of each, whether it is a copy of what was read, or of what is in the file now."""
        listed = {s.stat.identity for s in older.siblings}
        nameless = [r for r in readings if r.framer.offset and r.identity not in listed]
        known = (*self._ended, *map(mark_of, nameless))
        return [
            any(surely_holds(file, mark) for mark in known)
            or any(is_begun_copy(file, r, 0 if r is current else follow.RESAVE_BYTES) for r in readings)
            or (emptied is not None and is_begun_copy_of(file, emptied, emptied.identity, 0))
            for file in files
        ]

    def _wait_until_settled(self, now: float, older: Listing) -> None:
        since = now if self._unsettled_since is None else self._unsettled_since
        if older.is_settled or now - since >= SETTLE_S:
            self._unsettled_since = None
            return
        self._unsettled_since = since
        raise Unsettled

    def _open_new(
        self, newest: follow.Identity, readings: Sequence[Reading], *, keep_open: bool
    ) -> tuple[Listing | None, list[LogFile]]:
        """The rotated files that are known by now (None: as before), and of them those that are new, oldest first."""
        roots = self._stream.roots
        held = {r.identity for r in readings if r.file.keeps_open}
        by_name = [r for r in readings if not r.file.keeps_open]
        older: Listing | None = None
        new: list[Sibling] = []
        for _ in range(SETTLE_TRIES):
            older = self._older_siblings(newest)
            if older is None:
                return None, []
            new = [s for s in older.siblings if s.stat.identity not in held and not self._neighbours.knows(s, roots)]
            files = _open_all(new[::-1], roots, keep_open=keep_open)
            with given_back_on_error(*files):
                others = _without_those_read(files, by_name) if len(files) == len(new) else None
            if others is not None:
                return older, others
            for file in files:
                file.release()
        # Names change all the time: what could not be opened is for the next look.
        return older and Listing([s for s in older.siblings if s not in new], is_settled=False), []

    def _older_siblings(self, newest: follow.Identity) -> Listing | None:
        """The rotated files beside, without those that came after `newest`: they are for the next look. None: that has
        no name any more, and those that have one may all be younger."""
        for _ in range(SETTLE_TRIES):
            listing = settled_siblings(self._stream.path, rotated_only=True)
            at = next((i for i, s in enumerate(listing.siblings) if s.stat.identity == newest), None)
            if at is not None:
                return replace(listing, siblings=listing.siblings[at + 1 :])
            named = stat_or_none(self._stream.path)
            if named is not None and named.identity == newest:
                return listing
        return None


def _without_those_read(files: list[LogFile], by_name: Sequence[Reading]) -> list[LogFile] | None:
    """The inode alone does not tell which are read by name: when such a file is deleted, the next new one has it. The
    references of the others pass on; None, and none does, where a name leads to another file by now: its content proves
    nothing."""
    read = []
    for file in files:
        alike = [r for r in by_name if r.identity == file.identity]
        if any(is_read_by(file, reading) for reading in alike):
            read.append(file)
        elif alike and not leads_to_itself(file):
            return None
    for file in read:
        file.release()
    return [file for file in files if file not in read]


def _open_all(siblings: Sequence[Sibling], roots: tuple[str, ...], *, keep_open: bool) -> list[LogFile]:
    """Those of them that can be opened."""
    with contextlib.ExitStack() as failed:
        files: dict[str, LogFile] = {}  # a name that was listed twice is one
        for sibling in siblings:
            file = None if sibling.path in files else open_sibling(sibling, roots, keep_open=keep_open)
            if file is not None:
                failed.callback(file.release)
                files[sibling.path] = file
        failed.pop_all()
    return list(files.values())
