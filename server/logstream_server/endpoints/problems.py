"""Errors over HTTP: problem details as JSON (RFC 9457), one form for all that can go wrong.

`type` is always about:blank: the status says what kind of problem it is, `detail` is for a person, and `code` is the
close code that a WebSocket would have got for the same mistake. Here are the application's exception handlers; `rest`
uses `problem` directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from logstream_server.access.gate import Refused
from logstream_server.errors import BadQuery, CloseCode

from .retrieve import Unavailable
from .snapshot import NoFile

NEVER_STORED: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer made for its request: a log is nothing to keep, and its text nothing to guess about."""

_STATUS: Final = {
    CloseCode.SHUTTING_DOWN: 503,
    CloseCode.SLOW: 503,
    CloseCode.AUTH_EXPIRED: 401,
    CloseCode.FORBIDDEN: 403,
    CloseCode.NO_SUCH_STREAM: 404,
    CloseCode.GAP: 410,
    CloseCode.LIMIT: 429,
    CloseCode.BAD_REQUEST: 400,
    CloseCode.UNSUPPORTED_FILE: 415,
}
_RETRY_S: Final = 5


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, *, code: CloseCode | None = None
) -> Response:
    """An answer that says what is wrong. `detail`: a sentence; headers of the same name beat ours."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if code is not None:
        body["code"] = int(code)
    retry = {"Retry-After": str(_RETRY_S)} if status in (429, 503) else {}
    return Response(
        msgspec.json.encode(body), status, {**NEVER_STORED, **retry, **(headers or {})}, "application/problem+json"
    )


async def deny(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a WebSocket that is not accepted; below ASGI servers that can send none, a 403 of theirs."""
    can_answer = scope["type"] != "websocket" or "websocket.http.response" in scope.get("extensions", {})
    await (answer if can_answer else WebSocketClose())(scope, receive, send)


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """What routers do where no route matches. Starlette's own refuses a WebSocket as if it were forbidden, and raises
    what passes by the middleware that lets pages of other origins read the answer."""
    if scope["type"] == "websocket":
        await deny(problem(404, f"there is no WebSocket at {scope['path'][:200]}"), scope, receive, send)
    else:
        await _nothing_at(Request(scope))(scope, receive, send)


async def _bad_query(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BadQuery)
    return problem(_STATUS[error.code], error.reason, code=error.code)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error.status, error.reason, error.headers)


async def _unavailable(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)
    return problem(503, error.reason, {"Retry-After": str(error.retry_s)})


async def _no_file(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NoFile)
    return problem(404, str(error))


async def _http(request: Request, error: Exception) -> Response:
    """What the router has to say: no such path, not with this method."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        return _nothing_at(request)
    if error.status_code == 405:
        detail = f"{request.method} is not possible here"
    return problem(error.status_code, detail, error.headers)


def _nothing_at(request: Request) -> Response:
    return problem(404, f"there is nothing at {request.url.path[:200]}")


async def _gone(_request: Request, _error: Exception) -> Response:
    """The client went in the middle of its request: an answer for nobody."""
    return Response(status_code=400)


async def _defect(_request: Request, _error: Exception) -> Response:
    """A mistake of ours; the server's log has the rest."""
    return problem(500, "the server made a mistake; its log says which")


HANDLERS: Final[Mapping[Any, ExceptionHandler]] = {
    BadQuery: _bad_query,
    Refused: _refused,
    Unavailable: _unavailable,
    NoFile: _no_file,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: _defect,
}
