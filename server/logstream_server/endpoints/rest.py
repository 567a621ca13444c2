"""The REST API, `/api/v1`: which streams there are, and their lines a page at a time.

Each page carries the cursor after its last line, in the answer and in the header `Logstream-Cursor`: `/ws?cursor=` goes
on there, and so does the next page (`Link: rel="next"` while there is more). Lines are read and answers made on threads
(`retrieve`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from logstream_server.access.gate import Refused
from logstream_server.encoding import messages
from logstream_server.encoding.wire import WIRES
from logstream_server.errors import BadQuery, CloseCode
from logstream_server.fanout.query import (
    LinesQuery,
    parse_events_query,
    parse_lines_query,
    parse_search_query,
    refuse_parameters,
)
from logstream_server.history.resume import Resumed
from logstream_server.service import Service
from logstream_server.tailing.stream import Stream, StreamStatus

from .download import CURSOR_HEADER, download
from .excerpt import Excerpt
from .headers import list_of
from .live import Live
from .openapi import describe
from .problems import NEVER_STORED, nothing_here, problem
from .retrieve import Order, Reads, Unavailable, retrieve
from .search import search
from .sending import Sliced, Turns

DEFAULT_LIMIT: Final = 1000
"""Lines in an answer to who begins at a cursor or at the start and does not say how many."""
MAX_ANSWERS: Final = 64
"""Answers with lines that are made or sent at one time: what they hold in memory is bounded with them."""
ALLOWED: Final = "GET, HEAD, OPTIONS"
MAX_DOWNLOADS: Final = 64
MAX_SEARCHES: Final = 2
"""Each takes half a core or more as long as it lasts, from the live log of everybody else."""
SEARCH_WAIT_S: Final = 2.0
WAIT_S: Final = 20.0
"""How long a request may wait for its turn."""

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
TEXT: Final = "text/plain"
GAP_HEADER: Final = "Logstream-Gap"
EXPOSED: Final = (
    *("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Link", "Retry-After"),
    *(CURSOR_HEADER, GAP_HEADER),
)
"""Headers that a page of another origin may read."""

_WEIGHT: Final = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
_json = msgspec.json.Encoder()


def create_api(service: Service) -> ASGIApp:
    """Everything below `/api/v1`."""
    api = _Api(service)
    routes = [
        Route("/openapi.json", api.openapi),
        Route("/streams", api.streams),
        Route("/streams/{name}", api.stream),
        Route("/streams/{name}/lines", api.lines, middleware=[_turns(MAX_ANSWERS)]),
        Route("/streams/{name}/events", api.events),
        Route("/streams/{name}/raw", api.raw, middleware=[_turns(MAX_DOWNLOADS)]),
        Route("/streams/{name}/search", api.search, middleware=[_turns(MAX_SEARCHES, SEARCH_WAIT_S)]),
    ]
    app: ASGIApp = _Guard(_Methods(Router(routes, redirect_slashes=False, default=nothing_here)), service)
    if service.settings.allowed_origins:  # pages from elsewhere may read the answers, not only ask
        app = CORSMiddleware(
            app,
            allow_origins=service.settings.allowed_origins,
            allow_methods=("GET", "HEAD"),
            allow_headers=("Authorization", "If-Match", "If-None-Match", "If-Range", "Last-Event-ID", "Range"),
            expose_headers=EXPOSED,
        )
    return app


def _turns(number: int, wait_s: float = WAIT_S) -> Middleware:
    return Middleware(Turns, number, wait_s, f"the server is busy with {number} requests of this kind")


class _Guard:
    """Lets in who may connect (`gate`), and says who it is, in `request.state.guest`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                scope.setdefault("state", {})["guest"] = self._service.gate.admit(HTTPConnection(scope))
        except Refused as refused:
            await problem(refused.status, refused.reason, refused.headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Methods:
    """Says which methods there are: to who asks, and to who used another."""

    def __init__(self, router: Router) -> None:
        self.router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = scope["type"] != "http" or scope["method"] in ("GET", "HEAD")
        if is_read or not any(route.matches(scope)[0] is not Match.NONE for route in self.router.routes):
            await self.router(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(status_code=204, headers={"Allow": ALLOWED})(scope, receive, send)
        else:
            detail = f"{scope['method']} is not possible here"
            await problem(405, detail, {"Allow": ALLOWED})(scope, receive, send)


class _Api:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reads = Reads(service.monitor.scheduler)
        self._wires = [wire() for wire in WIRES]

    async def openapi(self, request: Request) -> Response:
        """This API, described for programs."""
        refuse_parameters(request.query_params.multi_items())
        settings = self._service.settings
        return _json_answer(describe(settings.base_path, needs_token=bool(settings.token_files)))

    async def streams(self, request: Request) -> Response:
        """All streams, in the order of the command line."""
        refuse_parameters(request.query_params.multi_items())
        service = self._service
        return _json_answer({"streams": [stream.describe() for stream in service.monitor.streams.values()]})

    async def stream(self, request: Request) -> Response:
        """One stream, with the cursor at its head and its number of clients."""
        refuse_parameters(request.query_params.multi_items())
        stream = self._service.find_stream(request.path_params["name"])
        cursor = messages.token(stream.name, stream.ring.head()[1])
        clients = sum(stream.name in connection.subscriptions for connection in self._service.hub.connections)
        answer = {**stream.describe(), "cursor": cursor, "clients": clients}
        return _json_answer(answer, {CURSOR_HEADER: cursor})

    async def lines(self, request: Request) -> Response:
        """A page of lines, in the form that the client accepts."""
        kind = _accepted(request, (JSON, NDJSON, TEXT))
        query = parse_lines_query(request.query_params.multi_items())
        stream = self._service.find_stream(request.path_params["name"])
        if kind is None:
            return problem(406, f"lines come as {JSON}, {NDJSON} or {TEXT}")
        _refuse_unsupported(stream)
        order = self._order(query)
        begun, excerpt, body = await self._reads.run(stream, lambda: _read(stream, order, kind))
        self._count(begun)
        if kind == TEXT and begun.recovered is False:
            raise BadQuery(CloseCode.GAP, f"the cursor cannot be honoured: {begun.reason}")
        if not excerpt.lines and stream.state.status in (StreamStatus.UNREADABLE, StreamStatus.REFUSED):
            raise Unavailable(f"{stream.name}: {stream.state.detail}")
        return Sliced(body, headers=_headers(stream, query, excerpt), media_type=kind)

    async def events(self, request: Request) -> Response:
        """The last lines, and then each new one."""
        kind = _accepted(request, tuple(wire.media_type for wire in self._wires))
        wish = parse_events_query(request.query_params.multi_items(), request.headers.get("last-event-id"))
        stream = self._service.find_stream(request.path_params["name"])
        if kind is None:
            return problem(406, f"events come as {' or '.join(wire.media_type for wire in self._wires)}")
        _refuse_unsupported(stream)
        wire = next(wire for wire in self._wires if wire.media_type == kind)
        return Live(self._service, request.state.guest, wire, stream, wish)

    async def raw(self, request: Request) -> Response:
        """The file's bytes, or a range of them."""
        self._service.door.check_long(request.scope)
        refuse_parameters(request.query_params.multi_items())
        return await download(request, self._service.find_stream(request.path_params["name"]), self._reads)

    async def search(self, request: Request) -> Response:
        """Lines that pass a filter, newest first."""
        self._service.door.check_long(request.scope)
        kind = _accepted(request, (NDJSON,))
        query = parse_search_query(request.query_params.multi_items())
        stream = self._service.find_stream(request.path_params["name"])
        if kind is None:
            return problem(406, f"a search comes as {NDJSON}")
        _refuse_unsupported(stream)
        return await search(stream, query, self._reads, self._service.settings.max_line_bytes)

    def _order(self, query: LinesQuery) -> Order:
        """Which lines; who says nothing about where to begin gets the last `limit`."""
        wish, limit, max_line_bytes = query.wish, query.limit, self._service.settings.max_line_bytes
        if wish.cursor is not None or wish.from_start:
            return Order(wish, DEFAULT_LIMIT if limit is None else limit, max_line_bytes)
        if wish.tail is None:
            wish = replace(wish, tail=self._service.settings.tail_lines if limit is None else limit)
        is_less = limit is not None and limit < (wish.tail or 0)
        return Order(wish, limit if is_less else None, max_line_bytes)

    def _count(self, begun: Resumed) -> None:
        if begun.recovered is not None:
            result = "recovered" if begun.recovered else "reset"
            self._service.resumes[result] = self._service.resumes.get(result, 0) + 1


def _accepted(request: Request, offered: Sequence[str]) -> str | None:
    """Which of the media types offered the answer is to be."""
    return choose_type(list_of(request.headers, "accept") or "", offered)


def _refuse_unsupported(stream: Stream) -> None:
    if stream.state.status is StreamStatus.UNSUPPORTED:
        raise BadQuery(CloseCode.UNSUPPORTED_FILE, f"{stream.name}: {stream.state.detail}")


def _read(stream: Stream, order: Order, kind: str) -> tuple[Resumed, Excerpt, bytes]:
    """On a thread: the lines, and the answer's body."""
    begun, excerpt = retrieve(stream, order)
    return begun, excerpt, _BODIES[kind](stream, begun, excerpt)


# -- the forms of an answer --------------------------------------------------------------------------------------------


def _end(stream: Stream, begun: Resumed, excerpt: Excerpt) -> dict[str, Any]:
    """What an answer says besides its lines."""
    end: dict[str, Any] = {
        "cursor": messages.token(stream.name, excerpt.end),
        "recovered": begun.recovered,
        "reason": begun.reason,
        "more": excerpt.more,
    }
    if excerpt.gap is not None:
        end["gap"] = {"reason": "lost", "detail": excerpt.gap.detail, "bytes": excerpt.gap.lost_bytes}
    return end


def _json_body(stream: Stream, begun: Resumed, excerpt: Excerpt) -> bytes:
    body = {"stream": stream.name, "lines": excerpt.lines, **_end(stream, begun, excerpt)}
    if excerpt.partial:
        body["partial"] = True
    if excerpt.continued:
        body["continued"] = True
    if excerpt.cut:
        body["cut"] = excerpt.cut
    return _json.encode(body)


def _ndjson_body(stream: Stream, begun: Resumed, excerpt: Excerpt) -> bytes:
    """An object a line; the last one says where the answer ends."""
    objects: list[dict[str, Any]] = [{"line": line} for line in excerpt.lines]
    if excerpt.partial:
        objects[-1]["partial"] = True
    if excerpt.continued:
        objects[0]["continued"] = True
    for index, size in excerpt.cut:
        objects[index]["cut"] = size
    objects.append(_end(stream, begun, excerpt))
    return _json.encode_lines(objects)


def _text_body(_stream: Stream, _begun: Resumed, excerpt: Excerpt) -> bytes:
    """The lines as plain clients of the socket get them: each with a newline."""
    lines = excerpt.lines
    if excerpt.continued and not lines[0]:
        lines = lines[1:]  # it went out already, all but its newline
    return ("\n".join(lines) + "\n").encode() if lines else b""


_BODIES: Final = {JSON: _json_body, NDJSON: _ndjson_body, TEXT: _text_body}


def _json_answer(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(_json.encode(body), headers={**NEVER_STORED, **(headers or {})}, media_type=JSON)


def _headers(stream: Stream, query: LinesQuery, excerpt: Excerpt) -> dict[str, str]:
    cursor = messages.token(stream.name, excerpt.end)
    headers = {**NEVER_STORED, "Vary": "Accept", CURSOR_HEADER: cursor}
    if excerpt.more:
        chosen = query.wish.filter
        following = [("cursor", cursor), *(("grep", p) for p in chosen.grep), *(("exclude", p) for p in chosen.exclude)]
        if query.limit is not None:
            following.append(("limit", str(query.limit)))
        headers["Link"] = f'<?{urlencode(following)}>; rel="next"'  # relative: true behind any proxy
    if excerpt.gap is not None:
        size = excerpt.gap.lost_bytes
        headers[GAP_HEADER] = "lost" if size is None else f"lost; bytes={size}"
    return headers


def choose_type(accept: str, offered: Sequence[str]) -> str | None:
    """Which of the media types `offered` the client likes best, the first of equals; None when it accepts none of them.

    The most specific range that fits a type decides its weight (RFC 9110, 12.5.1). What has none that can be read says
    nothing.
    """
    ranges: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if _WEIGHT.fullmatch(weight):
            ranges[kind] = float(weight)
    ranges.pop("", None)
    if not ranges:
        return offered[0]
    weights = [
        next((ranges[r] for r in (kind, kind.partition("/")[0] + "/*", "*/*") if r in ranges), 0.0) for kind in offered
    ]
    best = max(weights)
    return offered[weights.index(best)] if best > 0 else None
