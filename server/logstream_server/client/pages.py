"""What a server has now, over HTTP: the lines of a stream, a page at a time, as the events that a client of its socket
would get. With an end: the socket does not say where that is. `tail` prints them.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Final, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import msgspec

from logstream_server.encoding.events import ClientEvent, Gap, Hello, Lines, reason_in
from logstream_server.errors import CannotFollow

from .addresses import api_url, display_url, socket_url
from .client import Subscription, failure_words
from .trust import Access

T = TypeVar("T")

PAGE_LINES: Final = 100_000
"""Lines in a page; the server makes it smaller where they are long."""
_ANSWER_S: Final = 90.0
"""How long to wait for an answer: a server gives up long before."""
_UNREDIRECTED: Final = frozenset({301, 302, 303, 307, 308})


class _Streams(msgspec.Struct):
    streams: list[dict[str, Any]]


class _Loss(msgspec.Struct):
    reason: str
    detail: str = ""
    bytes: int | None = None


class _Page(msgspec.Struct):
    """An answer with lines (docs/rest.md)."""

    lines: list[str]
    cursor: str
    more: bool
    recovered: bool | None = None
    reason: str | None = None
    partial: bool = False
    continued: bool = False
    cut: tuple[tuple[int, int], ...] = ()
    gap: _Loss | None = None


class Pages:
    """A server at `url`. All methods raise CannotFollow."""

    def __init__(self, url: str, access: Access) -> None:
        self.url = display_url(url)
        """The address for people to read."""
        self._address = url
        self._headers = {"Accept": "application/json", **_own_authorization(url), **access.headers}
        handlers = [_Stay()] if access.tls is None else [_Stay(), HTTPSHandler(context=access.tls)]
        self._opener = build_opener(*handlers)

    def streams(self) -> list[str]:
        """The names of all."""
        return [str(each.get("name")) for each in self._get(_Streams, "streams").streams]

    def first_lines(self, stream: str) -> list[str]:
        """Some lines from the beginning of the stream's file."""
        return self._page(stream, {"from": "start", "limit": 1000}).lines

    def events(self, subscription: Subscription) -> Iterator[ClientEvent]:
        """A Hello, and then all lines up to the stream's end as it is when they are asked for."""
        stream = subscription.stream or ""
        fields = _fields(subscription)
        described = self._get(dict[str, Any], f"streams/{_quoted(stream)}")
        if "tail" not in fields:
            fields["limit"] = PAGE_LINES
        page = self._page(stream, fields)
        yield Hello(stream, subscription.cursor, page.recovered, page.reason, streams=[described])
        yield from _events_in(page, stream)
        while page.more:
            onwards = replace(subscription, cursor=page.cursor)
            page = self._page(stream, {**_fields(onwards), "limit": PAGE_LINES})
            yield from _events_in(page, stream)

    def _page(self, stream: str, fields: Mapping[str, Any]) -> _Page:
        return self._get(_Page, f"streams/{_quoted(stream)}/lines", fields)

    def _get(self, kind: type[T], path: str, fields: Mapping[str, Any] | None = None) -> T:
        request = Request(api_url(self._address, path, fields), headers=self._headers)  # noqa: S310 - http or https
        try:
            with self._opener.open(request, timeout=_ANSWER_S) as answer:
                return msgspec.json.decode(answer.read(), type=kind)
        except HTTPError as refusal:
            with refusal:
                raise CannotFollow(self.url, refusal.code, _words(refusal)) from refusal
        except URLError as error:
            cause = error.reason
            if isinstance(cause, ssl.SSLCertVerificationError):
                untrusted = f"its certificate is not trusted: {cause.verify_message}"
                raise CannotFollow(self.url, None, untrusted) from error
            words = failure_words(cause) if isinstance(cause, Exception) else str(cause)
            raise CannotFollow(self.url, None, words) from error
        except (OSError, HTTPException) as error:
            raise CannotFollow(self.url, None, failure_words(error)) from error
        except ValueError as error:
            raise CannotFollow(self.url, None, "it sent no answer of the API; is it a logstream server?") from error


def _fields(subscription: Subscription) -> dict[str, Any]:
    return {name: value for name, value in subscription.wire().items() if name not in ("stream", "lag")}


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: it would take the token along, to wherever that leads."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """See HTTPRedirectHandler."""


def _words(refusal: HTTPError) -> str:
    if refusal.code in _UNREDIRECTED:
        return f"it is at {display_url(refusal.headers.get('Location', ''))}"
    return reason_in(refusal.read()) or refusal.reason or "refused"


def _events_in(page: _Page, stream: str) -> Iterator[ClientEvent]:
    if page.lines:
        yield Lines(stream, page.cursor, None, page.lines, page.partial, page.continued, page.cut)
    if page.gap is not None:
        yield Gap(stream, page.gap.reason, page.gap.detail, page.gap.bytes, page.cursor)


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="replace")


def _own_authorization(url: str) -> dict[str, str]:
    """A user and a password in the address are for a proxy before the server."""
    parts = urlsplit(socket_url(url))
    if parts.username is None:
        return {}
    both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(both.encode()).decode()}"}
