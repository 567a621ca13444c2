"""The address of a server as people type it, as the socket's URL, and as it may be shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from logstream_server.errors import CannotFollow

SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
"""What an address may begin with, and what its socket's begins with then."""

_HOST_AND_PORT: Final = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}(?:/|$)")
_PATH: Final = "/%:@!$&'()*+,;=~"
"""What stays as it is in a path: RFC 3986, 3.3, and what is encoded already."""
_STARTS: Final = frozenset({"cursor", "from", "tail"})
_TOKEN: Final = frozenset({"access_token"})
_FOR_LINES: Final = _STARTS | {"exclude", "grep"}


def socket_url(url: str) -> str:
    """The WebSocket URL of a server's address: `http://host/base` is `ws://host/base/ws`; its query stays. A path
    may be written with blanks and letters of any language.

    Raises CannotFollow for what is no address.
    """
    try:
        url.encode()
        parts = urlsplit(url)
        scheme, host, _ = SCHEMES.get(parts.scheme), parts.hostname, parts.port
    except UnicodeEncodeError as error:
        raise CannotFollow(display_url(url), None, "not an address: it holds bytes that are no text") from error
    except ValueError as error:  # a port that is no number, a bracket that stays open
        raise CannotFollow(display_url(url), None, f"not an address: {error}") from error
    if scheme is None or not host:
        raise CannotFollow(display_url(url), None, "not an address; it must be like http://HOST:PORT or wss://HOST/ws")
    path = quote(parts.path, safe=_PATH).rstrip("/")
    return urlunsplit((scheme, parts.netloc, path if path.endswith("/ws") else path + "/ws", parts.query, ""))


def api_url(url: str, path: str, fields: Mapping[str, Any] | None = None) -> str:
    """The URL of `path` below `/api/v1` of the same server. `fields`: the query of a request for lines, beside which
    the address's own counts, too (None: the path takes none but a token). Raises CannotFollow for what is no
    address."""
    parts = urlsplit(socket_url(url))
    scheme = next(name for name, socket in SCHEMES.items() if socket == parts.scheme)
    host = parts.netloc.rpartition("@")[2]
    wanted = _TOKEN if fields is None else _TOKEN | _FOR_LINES
    own = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name in wanted]
    below = f"{parts.path.removesuffix('/ws')}/api/v1/{path}"
    return with_query(urlunsplit((scheme, host, below, urlencode(own), "")), fields or {})


def own_stream(url: str) -> str | None:
    """Which stream an address's own query names."""
    return dict(parse_qsl(urlsplit(url).query)).get("stream")


def fault_of(url: str) -> str | None:
    """What is wrong with an address, None where nothing is."""
    try:
        socket_url(url)
    except CannotFollow as error:
        return error.reason
    return None


def is_encrypted(url: str) -> bool:
    """Whether the server is to be spoken to by TLS; also of what is no address."""
    return url.partition("://")[0].lower() in ("https", "wss")


def lacks_scheme(target: str) -> bool:
    """Whether it looks like a server's address whose beginning was left out: `localhost:8080`."""
    return _HOST_AND_PORT.match(target) is not None


def display_url(url: str) -> str:
    """A URL without what may be secret: user, password and query."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path


def with_query(url: str, fields: Mapping[str, Any]) -> str:
    """The URL with our fields in its query. Its own stay (a token, a `tail`), but where we have something to say."""
    parts = urlsplit(url)
    own = parse_qsl(parts.query, keep_blank_values=True)
    ours = dict(fields)
    if "cursor" in ours:
        own = [(name, value) for name, value in own if name not in _STARTS]
    elif any(name in _STARTS for name, _ in own):
        ours = {name: value for name, value in ours.items() if name not in _STARTS}
    kept = [(name, value) for name, value in own if name not in ours]
    return urlunsplit(parts._replace(query=urlencode([*kept, *ours.items()], doseq=True, errors="replace")))
