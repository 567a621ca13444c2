"""`GET .../raw`: the file's own bytes, as they are at that moment, or a range of them.

Bytes are read on threads, a chunk at a time, when the client has taken the last: a download costs the same memory
whatever its size. An entity tag names exactly the bytes that there were. If-Range and If-Match choose these bytes again
as long as the file begins with them, so that a download can be finished although the log has grown since.
"""

from __future__ import annotations

from functools import partial
from typing import Final, Self

from starlette.requests import Request
from starlette.responses import Response

from logstream_server.tailing.stream import Stream

from .headers import ByteRange, NotSatisfiable, attachment, list_of, names, parse_range, parse_tags
from .problems import NEVER_STORED, problem
from .retrieve import Reads, Unavailable
from .sending import Streamed
from .snapshot import Changed, Snapshot, parse_tag

BYTES: Final = "application/octet-stream"
CURSOR_HEADER: Final = "Logstream-Cursor"
CHUNK_BYTES: Final = 256 << 10


async def download(request: Request, stream: Stream, reads: Reads) -> Response:
    """The answer to one request. Raises NoFile, Unavailable."""
    try:
        snapshot = await reads.run(stream, partial(_choose, stream, _tags(request)), partial(_let_go, reads, stream))
    except Changed as error:
        raise Unavailable(str(error), 1) from error
    answer = _without_body(request, snapshot)
    if answer is not None:
        _let_go(reads, stream, snapshot)
        return answer
    part = _part(request, snapshot)
    headers = _headers(stream, snapshot)
    if part is None:
        part = ByteRange(0, snapshot.size, snapshot.size)
    else:
        headers["Content-Range"] = part.content_range
    if part.end == snapshot.size:
        headers[CURSOR_HEADER] = snapshot.cursor
    headers["Content-Length"] = str(part.end - part.start)
    status = 206 if "Content-Range" in headers else 200
    return Streamed(_Chunks(stream, reads, snapshot, part), headers, BYTES, status)


def _tags(request: Request) -> list[str]:
    """Which versions the client knows, and wants to go on with."""
    only = request.headers.get("if-range")
    return [*(parse_tags(list_of(request.headers, "if-match") or "") or ()), *(() if only is None else (only.strip(),))]


def _choose(stream: Stream, tags: list[str]) -> Snapshot:
    """On a thread: the file as it is, or the version of it that one of the tags names. Raises NoFile, Changed,
    Unavailable."""
    now = Snapshot.take(stream)
    try:
        for tag in filter(None, map(parse_tag, tags)):
            version = now.version(tag)
            if version is not None:
                return version
    except OSError as error:
        now.release()
        raise Unavailable(f"{stream.name}: {error.strerror or error}") from error
    except Changed:
        now.release()
        raise
    return now


def _without_body(request: Request, snapshot: Snapshot) -> Response | None:
    """The answer where the client's conditions forbid to send the file (RFC 9110, 13.2.2), or the range is none."""
    etag, headers = snapshot.tag.text, request.headers
    wanted, known = list_of(headers, "if-match"), list_of(headers, "if-none-match")
    if wanted is not None:
        tags = parse_tags(wanted)
        if tags is not None and etag not in tags:
            return problem(412, "the file does not begin any more with the bytes that If-Match names", {"ETag": etag})
    if known is not None and names(known, etag):
        return Response(status_code=304, headers={**NEVER_STORED, "ETag": etag})
    try:
        _part(request, snapshot)
    except NotSatisfiable:
        detail = f"the file has {snapshot.size} bytes, and the range begins behind them"
        return problem(416, detail, {"Content-Range": f"bytes */{snapshot.size}", "ETag": etag})
    return None


def _part(request: Request, snapshot: Snapshot) -> ByteRange | None:
    """The range that is to be sent; None for everything. Raises NotSatisfiable."""
    header = request.headers.get("range")
    if header is None or request.method != "GET":  # 14.2: it is for GET alone
        return None
    if "if-range" in request.headers and request.headers["if-range"].strip() != snapshot.tag.text:
        return None
    return parse_range(header, snapshot.size)


def _headers(stream: Stream, snapshot: Snapshot) -> dict[str, str]:
    return {
        **NEVER_STORED,
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(stream.name),
        "ETag": snapshot.tag.text,
    }


class _Chunks:
    """The bytes of a range, chunk by chunk, each read when it is asked for. Raises Changed, Unavailable."""

    def __init__(self, stream: Stream, reads: Reads, snapshot: Snapshot, part: ByteRange) -> None:
        self._stream, self._reads, self._snapshot = stream, reads, snapshot
        self._at, self._end = part.start, part.end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        count = min(CHUNK_BYTES, self._end - self._at)
        if not count:
            raise StopAsyncIteration
        try:
            data = await self._reads.run(self._stream, partial(self._snapshot.read, self._at, count))
        except OSError as error:
            raise Unavailable(f"{self._stream.name}: {error.strerror or error}") from error
        self._at += count
        return data

    async def aclose(self) -> None:
        """No more is asked for."""
        _let_go(self._reads, self._stream, self._snapshot)


def _let_go(reads: Reads, stream: Stream, snapshot: Snapshot) -> None:
    reads.later(stream, snapshot.release)
