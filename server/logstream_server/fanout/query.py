"""What a client asks for in a query string or a message: text in, checked values out. Pure.

Unknown parameters are refused, because a mistyped `grep` that is ignored shows everything and looks right. Those that
begin with an underscore are left alone (tools add them against caches).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from logstream_server.encoding.messages import JSON_PROTOCOL, RAW_PROTOCOL, Subscribe
from logstream_server.encoding.view import Format
from logstream_server.errors import BadQuery, CloseCode
from logstream_server.lines.cursor import BadCursor, Cursor, parse_cursor
from logstream_server.lines.filters import EVERY_LINE, LineFilter, parse_filter

from .channel import Lag

E = TypeVar("E", bound=StrEnum)

MAX_TAIL: Final = 1_000_000
"""The most lines that `tail` may ask for; for more there is `from=start`."""
MAX_LIMIT: Final = 1_000_000
"""The most lines that `limit` may ask for; an answer is bounded in bytes as well."""
SEARCH_LIMIT: Final = 100
"""Lines that a search finds for who does not say how many: a screen or two."""
_REPEATABLE: Final = frozenset({"grep", "exclude"})
_KNOWN: Final = frozenset({"stream", "tail", "cursor", "from", "grep", "exclude", "format", "lag", "access_token"})
LINES_PARAMETERS: Final = frozenset({"tail", "cursor", "from", "limit", "grep", "exclude", "access_token"})
EVENTS_PARAMETERS: Final = frozenset(
    {"tail", "cursor", "from", "grep", "exclude", "lag", "lastEventId", "access_token"}
)
SEARCH_PARAMETERS: Final = frozenset({"grep", "exclude", "limit", "before", "access_token"})
_SUBPROTOCOLS: Final = {JSON_PROTOCOL: Format.JSON, RAW_PROTOCOL: Format.RAW}


@dataclass(frozen=True, slots=True)
class Wish:
    """Where to begin in which stream. `stream` None: the first; "": none yet. `tail` None: the server's default, or
    (with a cursor) nothing but what the cursor says."""

    stream: str | None = None
    tail: int | None = None
    cursor: Cursor | None = None
    from_start: bool = False
    filter: LineFilter = EVERY_LINE
    lag: Lag = Lag.CATCHUP


@dataclass(frozen=True, slots=True)
class SocketQuery:
    """The whole of a `/ws` request: `subprotocol` is the one to answer with, None for none."""

    wish: Wish
    format: Format
    subprotocol: str | None


@dataclass(frozen=True, slots=True)
class LinesQuery:
    """A request for lines over HTTP: where they begin, and how many at most; `limit` None: the server's choice."""

    wish: Wish
    limit: int | None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search: `before` is the place of a line, before which it begins, None for the end of the file."""

    filter: LineFilter
    limit: int
    before: Cursor | None


def collect(pairs: Iterable[tuple[str, str]], known: frozenset[str] = _KNOWN) -> dict[str, list[str]]:
    """Query parameters by name. Raises BadQuery for an unknown or repeated one."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.startswith("_"):
            continue
        if name not in known:
            there_are = ", ".join(sorted(known - {"access_token"})) or "none"
            raise _bad(f"unknown parameter {name[:40]!r}; there are {there_are}")
        if name in values and name not in _REPEATABLE:
            raise _bad(f"{name} is given twice")
        values.setdefault(name, []).append(value)
    return values


def parse_socket_query(pairs: Iterable[tuple[str, str]], offered: Sequence[str]) -> SocketQuery:
    """`pairs`: decoded query parameters; `offered`: the client's subprotocols, in its order. Raises BadQuery."""
    values = collect(pairs)
    subprotocol = next((name for name in offered if name in _SUBPROTOCOLS), None)
    chosen = _SUBPROTOCOLS[subprotocol] if subprotocol is not None else Format.TEXT
    if "format" in values:
        asked = _one_of("format", values["format"][0], Format)
        if subprotocol is not None and asked is not chosen:
            raise _bad(f"format={asked.value} and the subprotocol {subprotocol} contradict each other")
        chosen = asked
    wish = parse_wish(values)
    if wish.lag is Lag.SKIP and chosen is not Format.JSON:
        raise _bad("lag=skip needs format=json: the other formats cannot say that lines were left out")
    return SocketQuery(wish, chosen, subprotocol)


def parse_lines_query(pairs: Iterable[tuple[str, str]]) -> LinesQuery:
    """`pairs`: decoded query parameters of a request for lines. Raises BadQuery."""
    values = collect(pairs, LINES_PARAMETERS)
    limit = values.pop("limit", None)
    return LinesQuery(parse_wish(values), None if limit is None else parse_count("limit", limit[0], MAX_LIMIT))


def parse_events_query(pairs: Iterable[tuple[str, str]], last_event_id: str | None) -> Wish:
    """`pairs`: decoded query parameters of a request for events. `last_event_id`: the header with which a browser comes
    back to the address that it first asked for, and which therefore counts before what that says. Raises BadQuery."""
    values = collect(pairs, EVENTS_PARAMETERS)
    in_query = values.pop("lastEventId", [""])[0]
    cursor = last_event_id or in_query  # without headers of their own, scripts in place of EventSource put it there
    if cursor:
        values.pop("from", None)
        values["cursor"] = [cursor]
    return parse_wish(values)


def parse_search_query(pairs: Iterable[tuple[str, str]]) -> SearchQuery:
    """`pairs`: decoded query parameters of a search. Raises BadQuery."""
    values = collect(pairs, SEARCH_PARAMETERS)
    limit = parse_count("limit", values.get("limit", [str(SEARCH_LIMIT)])[0], MAX_LIMIT, least=1)
    before = parse_place("before", values["before"][0]) if "before" in values else None
    return SearchQuery(parse_filter(values.get("grep", ()), values.get("exclude", ())), limit, before)


def refuse_parameters(pairs: Iterable[tuple[str, str]]) -> None:
    """For requests that take none but a token. Raises BadQuery."""
    collect(pairs, frozenset({"access_token"}))


def parse_wish(values: dict[str, list[str]]) -> Wish:
    """From collected parameters. Raises BadQuery."""
    single = {name: found[0] for name, found in values.items() if name not in _REPEATABLE}
    return _wish(
        single.get("stream"),
        None if "tail" not in single else parse_count("tail", single["tail"], MAX_TAIL),
        single.get("cursor"),
        single.get("from"),
        parse_filter(values.get("grep", ()), values.get("exclude", ())),
        single.get("lag"),
    )


def wish_of(message: Subscribe) -> Wish:
    """From a `subscribe` message. Raises BadQuery."""
    if message.tail is not None and not 0 <= message.tail <= MAX_TAIL:
        raise _bad(f"tail {message.tail}: a whole number from 0 to {MAX_TAIL} is needed")
    chosen = parse_filter(as_list(message.grep), as_list(message.exclude))
    return _wish(message.stream, message.tail, message.cursor, message.from_, chosen, message.lag)


def as_list(patterns: str | list[str]) -> list[str]:
    """One pattern or several, as messages may have them."""
    return [patterns] if isinstance(patterns, str) else patterns


def parse_count(name: str, text: str, most: int, *, least: int = 0) -> int:
    """A whole number from `least` to `most`. Raises BadQuery."""
    # isdecimal() alone would let other scripts' digits pass, and int() underscores and spaces
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise _bad(f"{name}={text[:40]!r}: a whole number from {least} to {most} is needed")
    return int(text)


def parse_place(name: str, text: str) -> Cursor:
    """A cursor's token. Raises BadQuery."""
    try:
        return parse_cursor(text)
    except BadCursor as error:
        raise _bad(str(error) if name == "cursor" else f"{name}: {error}") from error


def _wish(
    stream: str | None, tail: int | None, cursor: str | None, start: str | None, chosen: LineFilter, lag: str | None
) -> Wish:
    if start is not None and start != "start":
        raise _bad(f"from={start[:40]!r}: only from=start is known")
    if start is not None and (cursor is not None or tail is not None):
        raise _bad("from=start goes with neither tail nor cursor")
    position = None if cursor is None else parse_place("cursor", cursor)
    policy = Lag.CATCHUP if lag is None else _one_of("lag", lag, Lag)
    return Wish(stream, tail, position, start is not None, chosen, policy)


def _one_of(name: str, text: str, kind: type[E]) -> E:
    try:
        return kind(text)
    except ValueError:
        allowed = ", ".join(str(member.value) for member in kind)
        raise _bad(f"{name}={text[:40]!r}: it must be one of {allowed}") from None


def _bad(reason: str) -> BadQuery:
    return BadQuery(CloseCode.BAD_REQUEST, reason)
