"""What a request says about who sends it: the page that it comes from, the host that it asks for, the token that it
shows. Values in, values out; `gate` decides."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

ORIGINS_KEPT: Final = 64
"""Few pages show one server's lines; both headers may be long, so that this is also a bound on memory."""
ANY: Final = "*"


def page_allowed(request: HTTPConnection, allowed: tuple[str, ...]) -> bool:
    """Whether the page that a request comes from, if any, may talk to us. Tools send no origin, and pass.

    A page that sends no referrer posts its forms with the origin "null"; a browser that says all the same that the page
    is of our own origin is believed, since no script can set that header (Fetch, "forbidden request-header").
    """
    origin = request.headers.get("origin")
    is_tls = request.scope.get("scheme") in ("https", "wss")
    if origin is None or origin_allowed(origin, request.headers.get("host", ""), allowed, is_tls):
        return True
    return origin == "null" and request.headers.get("sec-fetch-site") == "same-origin"


@lru_cache(ORIGINS_KEPT)
def origin_allowed(origin: str, host: str, allowed: tuple[str, ...], is_tls: bool = False) -> bool:
    """Whether a page of `origin` may talk to us: it came from this very host, or it is listed. A page's opaque origin
    ("null") is nobody's. The scheme tells nothing, since TLS may end before us, unless it ends here (`is_tls`): then a
    page that came without it may be anybody's on the way."""
    wanted = origin.lower().rstrip("/")
    if ANY in allowed or wanted in {entry.lower().rstrip("/") for entry in allowed}:
        return True
    try:
        parts = urlsplit(wanted)
        port = parts.port
    except ValueError:
        return False
    default = {"http": 80, "https": 443, "ws": 80, "wss": 443}.get(parts.scheme)
    if parts.hostname is None or default is None or "@" in parts.netloc or (is_tls and parts.scheme in ("http", "ws")):
        return False
    return _host(host) in (
        (parts.hostname, port or default),
        (parts.hostname, None if port in (None, default) else port),
    )


@lru_cache(ORIGINS_KEPT)
def is_own_name(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether the header `Host` names this machine to itself: by an address, as `localhost`, or as an origin that is
    listed. Any other name may be a foreign page's, which its owner has made to point here: then its origin and our host
    are the same, and only the name is wrong (DNS rebinding)."""
    name, _ = _host(host)
    if not host or name is None:
        return not host  # HTTP/1.0: no browser speaks it
    if name == "localhost" or name.endswith(".localhost") or ANY in allowed:
        return True
    try:
        ip_address(name)
    except ValueError:
        return name in {urlsplit(entry).hostname for entry in allowed}
    return True


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
    return value.encode("utf-8", "replace") or None


def is_https(request: HTTPConnection) -> bool:
    """Whether the browser came by https: to us, or to a proxy that says so, or that its own origin shows.

    Anybody may say so, and would only keep their own cookie from being sent without encryption.
    """
    said = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    origin = request.headers.get("origin", "").lower()
    return request.scope.get("scheme") in ("https", "wss") or said == "https" or origin.startswith("https://")
