"""A real file and its follower, driven by hand: each look happens when the test says so, and time is a number.

For tests of what reads a stream: where nothing moves by itself, every state of file, ring and reader can be made.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from logstream_server.history.reader import Reader
from logstream_server.lines.cursor import Positions
from logstream_server.lines.framing import Flag
from logstream_server.lines.ring import Entry, EventKind, Ring
from logstream_server.tailing.follower import Follower
from logstream_server.tailing.stream import Stream
from logstream_server.tailing.succession import FollowOptions
from logstream_server.tailing.watch import Watch

OPTIONS = FollowOptions(partial_after_s=5.0, rotate_wait_s=5.0, max_line_bytes=1 << 16)
LARGE = 1 << 20
"""A ring that holds everything."""


class ByName(Watch):
    """Of a file system that is not trusted with open files, wherever the test's folder really lies."""

    def prepare(self, path: str) -> None:
        """As ever, and then remote."""
        super().prepare(path)
        self.keeps_open = False


class Held(Watch):
    """Of a file system with inodes to rely on."""

    def prepare(self, path: str) -> None:
        """As ever, and then local."""
        super().prepare(path)
        self.keeps_open = True


class Followed:
    """`path` is followed from its present end (or `from_start`); `remote`: as on a file system with a server."""

    def __init__(
        self, folder: Path, content: bytes = b"", *, ring_bytes: int = LARGE, remote: bool = False, there: bool = True
    ) -> None:
        self.path = folder / "app.log"
        if there:
            self.path.write_bytes(content)
        self.now = 1000.0
        self._ids = itertools.count(1)
        self._ring_bytes, self._remote = ring_bytes, remote
        self.begin()

    def begin(self) -> None:
        """A server begins, which knows nothing."""
        self.stream = Stream("app.log", str(self.path), (), Ring(self._ring_bytes))
        watch = (ByName if self._remote else Held)("poll", None, lambda: None)
        self.follower = Follower(
            self.stream, OPTIONS, watch, lambda _stream: None, from_start=False, next_id=self._ids.__next__
        )
        self.look()

    def restart(self) -> None:
        """Another server follows the same file."""
        self.close()
        self.begin()

    def close(self) -> None:
        """Give the files back."""
        self.follower.close()

    # -- what happens to the file

    def write(self, data: bytes) -> None:
        """Append, unseen."""
        with self.path.open("ab") as file:
            file.write(data)

    def add(self, data: bytes) -> None:
        """Append, and have it seen."""
        self.write(data)
        self.look()

    def rotate(self) -> None:
        """Rename it and its predecessors; there is no new file yet."""
        for number in range(200, 0, -1):
            old = self.path.with_name(f"app.log.{number}")
            if old.exists():
                old.rename(self.path.with_name(f"app.log.{number + 1}"))
        self.path.rename(self.path.with_name("app.log.1"))

    def copy_and_truncate(self) -> None:
        """As logrotate's copytruncate does."""
        shutil.copy(self.path, self.path.with_name("app.log.1"))
        os.truncate(self.path, 0)

    # -- looks

    def look(self, seconds: float = 0.25) -> None:
        """Time passes, then the follower looks until there is nothing more to see."""
        self.now += seconds
        for _ in range(100):
            before = self.stream.ring.head()[0]
            if self.follower.run(self.now) != 0.0 and self.stream.ring.head()[0] == before:
                break

    def settle(self) -> None:
        """The waits after a rotation are over."""
        self.look()
        self.look(OPTIONS.rotate_wait_s + 1)

    # -- readers

    def head(self) -> Positions:
        """Where a reader is who has everything."""
        return self.stream.ring.head()[1]

    def reader(self, positions: Positions, *, chunk_bytes: int = 100) -> Reader:
        """One that has everything before `positions`, and for whom what happened before now is no news."""
        news = self.stream.ring.head()[0]
        return Reader(self.stream, positions, news, max_line_bytes=OPTIONS.max_line_bytes, chunk_bytes=chunk_bytes)


class Told:
    """What a reader was given: `lines`, what is `lost` (reason, bytes), `events`; parts of a line are put together."""

    def __init__(self, reader: Reader | None = None) -> None:
        self.lines: list[str] = []
        self.lost: list[tuple[str, int | None]] = []
        self.events: list[EventKind] = []
        self._open: bytes | None = None
        if reader is not None:
            self.read(reader)

    def read(self, reader: Reader) -> Told:
        """All there is now."""
        for chunk in reader.to_head():
            if chunk.lost is not None:
                self._lose(chunk.lost.reason, chunk.lost.lost_bytes)
            for entry in chunk.entries:
                self.add(entry)
        return self

    def add(self, entry: Entry) -> None:
        """One entry."""
        if entry.event is not None:
            if entry.event.kind is EventKind.GAP:
                self._lose(entry.event.detail, entry.event.lost_bytes)
            elif entry.event.kind is not EventKind.RETIRED:
                self.events.append(entry.event.kind)
        elif entry.flags & Flag.PARTIAL:
            self._open = entry.data
        elif entry.data:
            data = entry.data if self._open is None or not entry.flags & Flag.CONTINUED else self._open + entry.data
            self._open = None
            self.lines += data.decode().removesuffix("\n").split("\n")

    def _lose(self, reason: str, lost_bytes: int | None) -> None:
        self.lost.append((reason, lost_bytes))


def numbered(first: int, last: int) -> list[str]:
    """Lines of their own."""
    return [f"line {number}" for number in range(first, last + 1)]


def as_bytes(lines: list[str]) -> bytes:
    """As they stand in a file."""
    return "".join(line + "\n" for line in lines).encode()


Follow = Callable[..., Followed]
"""Makes a Followed that is given back after the test."""
