"""A file as it is at one moment: so many bytes, and the proof that they are still the same ones later.

A log grows behind these bytes, and that does not matter; it may also be truncated and written anew while they are read,
and that must never show as other bytes. So the first and the last of them are kept, and looked at again after each
read. Where files are not held open, the name may lead to another file by then: then the content is looked for beside
it. Everything here runs on the scheduler's threads.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

from logstream_server.encoding import messages
from logstream_server.errors import LogstreamError
from logstream_server.lines.cursor import HEAD_BYTES, Generation, Mark, Position
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.tailing.files import GONE_ERRNOS, LogFile, NotALog, given_back_on_error
from logstream_server.tailing.siblings import find_content, surely_holds
from logstream_server.tailing.stream import Stream

from .retrieve import Unavailable

TAIL_BYTES: Final = 4096
"""How many of the last bytes are kept: logs repeat themselves, but hardly for so long."""
TRIES: Final = 5
"""How often a file is looked at that changes in the middle of it."""

_TAG: Final = struct.Struct(">BQQQ8s8s")
_VERSION: Final = 1


class NoFile(LogstreamError):
    """The stream has no file at the moment."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream}: there is no file at the moment"


class Changed(LogstreamError):
    """The bytes are not there any more: the file was truncated, rewritten or replaced."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream}: the file was truncated or rewritten meanwhile"


@dataclass(frozen=True, slots=True)
class Tag:
    """What an entity tag says: which bytes a client has seen. `inode` 0: it proves nothing here."""

    inode: int
    size: int
    mtime_ns: int
    head: bytes
    tail: bytes

    @property
    def text(self) -> str:
        """As it stands in a header, with its quotes."""
        raw = _TAG.pack(_VERSION, self.inode, self.size, self.mtime_ns, self.head, self.tail)
        return f'"{urlsafe_b64encode(raw).rstrip(b"=").decode()}"'


def parse_tag(text: str) -> Tag | None:
    """The tag that `text` stands for; None for one that is weak or not ours."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return None
    try:
        raw = urlsafe_b64decode(text[1:-1].encode("ascii") + b"=" * (-len(text[1:-1]) % 4))
    except (ValueError, UnicodeEncodeError):
        return None
    if len(raw) != _TAG.size or raw[0] != _VERSION:
        return None
    return Tag(*_TAG.unpack(raw)[1:])


class Snapshot:
    """The first `size` bytes of a stream's file. `release` it in the end."""

    def __init__(self, stream: Stream, file: LogFile, head: bytes, tail: bytes, tag: Tag) -> None:
        self._stream, self._file = stream, file
        self._head, self._tail = head, tail
        self.tag = tag
        self.size = tag.size

    @classmethod
    def take(cls, stream: Stream) -> Self:
        """The file as it is now. Raises NoFile, Unavailable."""
        return cls._take(stream, cls._open(stream))

    @classmethod
    def take_with(cls, stream: Stream, mark: Mark) -> Self:
        """The file that holds what the reader at `mark` has read, by whatever name. Raises Changed, NoFile,
        Unavailable."""
        try:
            file = cls._find_from(stream, mark)
        except OSError as error:
            raise Unavailable(f"{stream.name}: {error.strerror or error}") from error
        return cls._take(stream, file)

    @classmethod
    def _find_from(cls, stream: Stream, mark: Mark) -> LogFile:
        """Raises OSError where there is no descriptor to look with."""
        file = cls._open(stream)
        with given_back_on_error(file):
            if surely_holds(file, mark) and (mark.inode or file.identity.inode) == file.identity.inode:
                return file
        file.release()
        found = find_content(stream.path, stream.roots, mark, keep_open=stream.keeps_open)
        if found is None:
            raise Changed(stream.name)
        return found

    @staticmethod
    def _open(stream: Stream) -> LogFile:
        try:
            return LogFile(stream.path, stream.roots, keep_open=stream.keeps_open)
        except NotALog as error:
            raise Unavailable(f"{stream.name}: {error.reason}") from error
        except OSError as error:
            if error.errno in GONE_ERRNOS:
                raise NoFile(stream.name) from error
            raise Unavailable(f"{stream.name}: {error.strerror or error}") from error

    @classmethod
    def _take(cls, stream: Stream, file: LogFile) -> Self:
        """Takes the file over. Raises Unavailable."""
        try:
            for _ in range(TRIES):
                found = cls._look(stream, file)
                if found is not None:
                    return found
        except (OSError, NotALog) as error:
            file.release()
            raise Unavailable(f"{stream.name}: {error}") from error
        file.release()
        raise Unavailable(f"{stream.name}: the file is being rewritten", 1)

    @classmethod
    def _look(cls, stream: Stream, file: LogFile) -> Self | None:
        """None when something happened to the file in the middle of it."""
        first = file.read(0, HEAD_BYTES)
        stat, head = first.stat, first.data
        last = file.read(max(0, stat.size - TAIL_BYTES), min(stat.size, TAIL_BYTES), head=head)
        tail = last.data
        is_whole = len(head) == min(stat.size, HEAD_BYTES) and len(tail) == min(stat.size, TAIL_BYTES)
        if not is_whole or not last.intact or last.stat.identity != stat.identity or last.stat.size < stat.size:
            return None
        inode = stat.identity.inode if stream.keeps_open else 0
        tag = Tag(inode, stat.size, stat.mtime_ns, _digest(head), _digest(tail))
        return cls(stream, file, head, tail, tag)

    def version(self, tag: Tag) -> Snapshot | None:
        """The bytes that `tag` was given for, when this file still begins with them; else None. It takes the
        file over: release it in place of this. Raises Changed, OSError."""
        if tag == self.tag:
            return self
        if tag.size >= self.size or tag.inode != self.tag.inode:
            return None
        head = self._head[: tag.size]
        begin = max(0, tag.size - TAIL_BYTES)
        tail = self.read(begin, tag.size - begin)
        if (_digest(head), _digest(tail)) != (tag.head, tag.tail):
            return None
        return Snapshot(self._stream, self._file, head, tail, tag)

    def read(self, offset: int, count: int) -> bytes:
        """Exactly these bytes, which lie within `size`. Raises Changed, OSError."""
        data = self._read(offset, count)
        if data is None and not self._file.keeps_open and self._find():
            data = self._read(offset, count)
        if data is None:
            raise Changed(self._stream.name)
        return data

    def _read(self, offset: int, count: int) -> bytes | None:
        """None when the file does not hold the bytes of the snapshot, afterwards."""
        data = b""
        try:
            while len(data) < count:
                part = self._file.read(offset + len(data), count - len(data)).data
                if not part:
                    return None
                data = data + part if data else part
            begin = self.size - len(self._tail)
            proof = self._file.read(begin, len(self._tail), head=self._head)
        except NotALog:
            return None
        except OSError as error:
            if error.errno in GONE_ERRNOS:
                return None
            raise
        return data if proof.intact and proof.data == self._tail else None

    def _find(self) -> bool:
        """Where the name leads to another file: this one may have another name by now."""
        mark = Mark.of(self._end())
        file = find_content(self._stream.path, self._stream.roots, mark, keep_open=False)
        if file is None:
            return False
        self._file, old = file, self._file
        old.release()
        return True

    def next_data(self, offset: int) -> int:
        """The first offset from `offset` on that is not in a hole. Raises OSError."""
        return self._file.next_data(offset)

    def _end(self) -> Position:
        generation = Generation(0, self.tag.inode or None, self._head)
        return Position(generation, self.size, self._tail[-MARKER_BYTES:])

    @property
    def cursor(self) -> str:
        """The token of a reader who has all of these bytes and nothing more."""
        return messages.token(self._stream.name, (self._end(),))

    def token(self, offset: int, before: bytes) -> str:
        """The token of a reader who has the bytes before `offset`; `before`: the up to 32 last of them."""
        generation = Generation(0, self.tag.inode or None, self._head)
        return messages.token(self._stream.name, (Position(generation, offset, before),))

    def release(self) -> None:
        """It is needed no more."""
        self._file.release()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
