"""Who may connect: origin and token. Values in, a refusal or None out."""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response

from .settings import Settings
from .tokens import Tokens

ORIGINS_KEPT: Final = 64
"""Few pages show one server's lines; both headers may be long, so that this is also a bound on memory."""


def check(settings: Settings, tokens: Tokens, request: HTTPConnection) -> Response | None:
    """The refusal of a request, None when it may go on."""
    origin = request.headers.get("origin")
    if origin is not None and not origin_allowed(origin, request.headers.get("host", ""), settings.allowed_origins):
        return PlainTextResponse(f"origin {origin[:200]} is not allowed (--allowed-origin)\n", 403)
    if settings.token_files and not token_allowed(presented_token(request), tokens):
        return PlainTextResponse("a valid token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
    return None


@lru_cache(ORIGINS_KEPT)
def origin_allowed(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a page of `origin` may talk to us: it came from this very host (whatever the scheme, since TLS may end
    before us), or it is listed. A page's opaque origin ("null") is nobody's."""
    wanted = origin.lower().rstrip("/")
    if "*" in allowed or wanted in {entry.lower().rstrip("/") for entry in allowed}:
        return True
    try:
        parts = urlsplit(wanted)
        port = parts.port
    except ValueError:
        return False
    default = {"http": 80, "https": 443, "ws": 80, "wss": 443}.get(parts.scheme)
    if parts.hostname is None or default is None:
        return False
    return _host(host) in (
        (parts.hostname, port or default),
        (parts.hostname, None if port in (None, default) else port),
    )


def _host(header: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(f"//{header.lower()}")
        port = parts.port
    except ValueError:
        return None, None
    return parts.hostname, port


def presented_token(request: HTTPConnection) -> bytes | None:
    """The token that came with a request: bearer header first, `access_token` in the query for tools that have no
    headers."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.encode("latin-1").strip()  # as the bytes came: Starlette reads headers so
    value = request.query_params.get("access_token", "")
    return value.encode() or None


def token_allowed(token: bytes | None, tokens: Tokens) -> bool:
    """Whether it is one of ours; takes as long whichever it is."""
    if token is None:
        return False
    matches = [hmac.compare_digest(token, known) for known in tokens]
    return any(matches)
