"""`GET .../search`: lines of the whole file that pass a filter, newest first, as they are found.

The file is read backwards on a thread (`backward`), a moment at a time, when the client has taken what was found
before: who goes, or reads slowly, stops the search. Each line comes with its cursor, from which the log can be read on,
and before which a search can go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Self

import msgspec
from starlette.responses import Response

from logstream_server.errors import BadQuery, CloseCode
from logstream_server.fanout.query import SearchQuery
from logstream_server.lines.cursor import Mark
from logstream_server.tailing.stream import Stream

from .backward import BackwardSearch, Found
from .live import HEADERS
from .retrieve import Reads, Unavailable
from .sending import Streamed
from .snapshot import Changed, Snapshot

NDJSON: Final = "application/x-ndjson"
PROGRESS_S: Final = 0.5
"""How often a search says how far it is."""

_encode = msgspec.json.Encoder().encode


async def search(stream: Stream, query: SearchQuery, reads: Reads, max_line_bytes: int) -> Response:
    """The answer to one request. Raises BadQuery, NoFile, Unavailable."""
    mark = _mark(stream, query)
    try:
        take = partial(Snapshot.take, stream) if mark is None else partial(Snapshot.take_with, stream, mark)
        snapshot = await reads.run(stream, take, lambda late: reads.later(stream, late.release))
    except Changed:
        raise BadQuery(CloseCode.GAP, "before: the file that it was taken from is not here any more") from None
    end = snapshot.size if mark is None else min(mark.offset, snapshot.size)
    scan = BackwardSearch(snapshot, end, query.filter, max_line_bytes)
    return Streamed(_Records(stream, reads, snapshot, scan, query.limit), HEADERS, NDJSON)


def _mark(stream: Stream, query: SearchQuery) -> Mark | None:
    """The place before which is searched, None for the end."""
    if query.before is None:
        return None
    if query.before.stream != stream.name:
        raise BadQuery(CloseCode.BAD_REQUEST, f"before: it belongs to the stream {query.before.stream[:60]!r}")
    if not query.before.marks:
        raise BadQuery(CloseCode.BAD_REQUEST, "before: it was taken when there was no file")
    return query.before.marks[-1]


class _Records:
    """What the client is told: `begin`, each `match`, `progress` now and then, and `end`."""

    def __init__(self, stream: Stream, reads: Reads, snapshot: Snapshot, scan: BackwardSearch, limit: int) -> None:
        self._stream, self._reads = stream, reads
        self._snapshot, self._scan = snapshot, scan
        self._limit = limit
        self._all_bytes = scan.left_bytes
        self._matches = 0
        self._last: str | None = None
        self._told_at: float | None = None
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        if self._told_at is None:
            self._told_at = time.monotonic()
            return _record("begin", stream=self._stream.name, size=self._snapshot.size, cursor=self._snapshot.cursor)
        try:
            return await self._reads.run(self._stream, lambda: b"".join(self._step()))
        except (Changed, Unavailable) as error:
            return self._end(str(error))
        except OSError as error:
            return self._end(f"{self._stream.name}: {error.strerror or error}")

    async def aclose(self) -> None:
        """See sending.Parts."""
        self._reads.later(self._stream, self._snapshot.release)

    # -- on a thread ---------------------------------------------------------------------------------------------------

    def _step(self) -> Iterator[bytes]:
        """What is found next, and how far that is. Raises Changed, OSError."""
        found = self._scan.step() if self._matches < self._limit else []
        wanted = found[: self._limit - self._matches]
        for line in wanted:
            self._last = self._snapshot.token(line.offset, line.before)
            self._matches += 1
            yield _match(line, self._last)
        if self._matches >= self._limit and (len(wanted) < len(found) or not self._scan.is_over):
            yield self._end(None)
        elif self._scan.is_over:
            self._last = None
            yield self._end(None)
        else:
            yield from self._progress()

    def _progress(self) -> Iterator[bytes]:
        now = time.monotonic()
        if self._told_at is None or now - self._told_at >= PROGRESS_S:
            self._told_at = now
            yield _record("progress", searched=self._all_bytes - self._scan.left_bytes, left=self._scan.left_bytes)

    def _end(self, reason: str | None) -> bytes:
        """`before`: where the search can go on; `complete`: it need not."""
        self._is_over = True
        is_complete = reason is None and self._last is None and self._scan.is_over
        return _record("end", matches=self._matches, complete=is_complete, before=self._last, reason=reason)


def _match(line: Found, cursor: str) -> bytes:
    remarks: dict[str, Any] = {}
    if line.partial:
        remarks["partial"] = True
    if line.cut_bytes is not None:
        remarks["cut"] = line.cut_bytes
    return _record("match", offset=line.offset, cursor=cursor, line=line.text, **remarks)


def _record(kind: str, **fields: Any) -> bytes:
    return _encode({"type": kind, **fields}) + b"\n"
