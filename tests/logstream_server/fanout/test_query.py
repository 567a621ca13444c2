"""query: good queries become values; each refusal names the parameter, what it was, and what is allowed."""

from __future__ import annotations

import contextlib
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.encoding.messages import JSON_PROTOCOL, RAW_PROTOCOL, Subscribe
from logstream_server.encoding.view import Format
from logstream_server.errors import BadQuery, CloseCode
from logstream_server.fanout.channel import Lag
from logstream_server.fanout.query import (
    MAX_LIMIT,
    MAX_TAIL,
    LinesQuery,
    SocketQuery,
    Wish,
    parse_count,
    parse_events_query,
    parse_lines_query,
    parse_socket_query,
    refuse_parameters,
    wish_of,
)
from logstream_server.lines.cursor import Cursor, encode_cursor
from logstream_server.lines.filters import EVERY_LINE, LineFilter

CURSOR = Cursor("a.log")
TOKEN = encode_cursor(CURSOR)


def pairs(query: str) -> list[tuple[str, str]]:
    """As a server decodes a query string."""
    return parse_qsl(query, keep_blank_values=True)


def refusal(query: str, offered: tuple[str, ...] = ()) -> str:
    """Why a socket's query is refused."""
    with pytest.raises(BadQuery) as caught:
        parse_socket_query(pairs(query), offered)
    assert caught.value.code is CloseCode.BAD_REQUEST
    return caught.value.reason


GOOD = [
    pytest.param("", Wish(), id="nothing said"),
    pytest.param("stream=b.log", Wish("b.log"), id="another stream"),
    pytest.param("stream=", Wish(""), id="no stream yet"),
    pytest.param("tail=0", Wish(tail=0), id="only new lines"),
    pytest.param("tail=000100", Wish(tail=100), id="zeros before a number"),
    pytest.param(f"tail={MAX_TAIL}", Wish(tail=MAX_TAIL), id="as many lines as there can be"),
    pytest.param(f"cursor={TOKEN}", Wish(cursor=CURSOR), id="a cursor"),
    pytest.param(f"cursor={TOKEN}&tail=5", Wish(cursor=CURSOR, tail=5), id="a cursor, and what to do when it is lost"),
    pytest.param("from=start", Wish(from_start=True), id="from the start"),
    pytest.param("grep=b&grep=a&grep=", Wish(filter=LineFilter(("a", "b"))), id="patterns, an empty one left out"),
    pytest.param("exclude=x", Wish(filter=LineFilter((), ("x",))), id="a pattern that must not be there"),
    pytest.param("lag=close", Wish(lag=Lag.CLOSE), id="what becomes of the slow"),
    pytest.param("access_token=secret&_=123&__t=4", Wish(), id="a token, and what tools add"),
]


@pytest.mark.parametrize(("query", "wish"), GOOD)
def test_a_good_query_is_understood(query: str, wish: Wish) -> None:
    assert parse_socket_query(pairs(query), ()) == SocketQuery(wish, Format.TEXT, None)
    if "stream" not in query and "lag" not in query:
        assert parse_lines_query(pairs(query)) == LinesQuery(wish, None)


FORMATS = [
    pytest.param("", (), Format.TEXT, None, id="nothing said: text"),
    pytest.param("format=json", (), Format.JSON, None, id="asked for in the query"),
    pytest.param("", (JSON_PROTOCOL,), Format.JSON, JSON_PROTOCOL, id="asked for by subprotocol"),
    pytest.param("format=raw", (RAW_PROTOCOL,), Format.RAW, RAW_PROTOCOL, id="both, and they agree"),
    pytest.param("", ("chat", RAW_PROTOCOL, JSON_PROTOCOL), Format.RAW, RAW_PROTOCOL, id="the first that is known"),
    pytest.param("format=text", ("chat",), Format.TEXT, None, id="a subprotocol that is not ours"),
    pytest.param("format=json&lag=skip", (), Format.JSON, None, id="lines may be skipped where that can be said"),
]


@pytest.mark.parametrize(("query", "offered", "chosen", "answered"), FORMATS)
def test_the_format_is_chosen_by_query_or_subprotocol(
    query: str, offered: tuple[str, ...], chosen: Format, answered: str | None
) -> None:
    found = parse_socket_query(pairs(query), offered)
    assert (found.format, found.subprotocol) == (chosen, answered)


REFUSED = [
    pytest.param(
        "gerp=x",
        "unknown parameter 'gerp'; there are cursor, exclude, format, from, grep, lag, stream, tail",
        id="a mistyped name",
    ),
    pytest.param("x" * 99 + "=1", "unknown parameter '" + "x" * 40 + "'; there are", id="a long name is cut"),
    pytest.param("tail=1&tail=2", "tail is given twice", id="twice"),
    pytest.param("tail=x", f"tail='x': a whole number from 0 to {MAX_TAIL} is needed", id="no number"),
    pytest.param("tail=", f"tail='': a whole number from 0 to {MAX_TAIL} is needed", id="an empty number"),
    pytest.param("tail=-1", "tail='-1': a whole number from 0", id="a negative number"),
    pytest.param("tail=1_000", "tail='1_000': a whole number", id="a number as Python writes it"),
    pytest.param("tail=%2010", "tail=' 10': a whole number", id="a blank before it"),
    pytest.param("tail=1.5", "tail='1.5': a whole number", id="a fraction"),
    pytest.param("tail=%D9%A3", "tail='\u0663': a whole number", id="another script's digit"),
    pytest.param("tail=%C2%B2", "tail='²': a whole number", id="a superscript"),
    pytest.param(f"tail={MAX_TAIL + 1}", f"tail='{MAX_TAIL + 1}': a whole number", id="too many"),
    pytest.param("tail=" + "9" * 5000, "tail='" + "9" * 40 + "': a whole number", id="a number of 5000 digits"),
    pytest.param("from=end", "from='end': only from=start is known", id="another beginning"),
    pytest.param("from=start&tail=1", "from=start goes with neither tail nor cursor", id="two beginnings"),
    pytest.param(f"from=start&cursor={TOKEN}", "from=start goes with neither", id="two other beginnings"),
    pytest.param("cursor=x", "cursor 'x' is not valid: ", id="a cursor that is none"),
    pytest.param("cursor=", "cursor '' is not valid: it is incomplete", id="an empty cursor"),
    pytest.param(f"cursor={TOKEN[:-4]}", "is not valid: it is incomplete or was changed", id="a torn cursor"),
    pytest.param("lag=wait", "lag='wait': it must be one of catchup, skip, close", id="no such policy"),
    pytest.param("lag=SKIP", "lag='SKIP': it must be one of", id="capital letters"),
    pytest.param("format=xml", "format='xml': it must be one of text, json, raw", id="no such format"),
    pytest.param("format=" + "x" * 99, "format='" + "x" * 40 + "': it must", id="a long word is cut"),
    pytest.param("lag=skip", "lag=skip needs format=json", id="skipping in a format that cannot say so"),
    pytest.param("lag=skip&format=raw", "lag=skip needs format=json", id="skipping in another such format"),
    pytest.param("grep=(", 'grep: missing ): "("', id="a pattern that is none"),
    pytest.param("exclude=[", 'exclude: missing ]: "["', id="the parameter to blame"),
    pytest.param("&".join(f"grep={n}" for n in range(9)), "grep: 9 patterns, at most 8", id="too many patterns"),
    pytest.param("grep=" + "x" * 1025, "has 1025 bytes, at most 1024 are allowed", id="a pattern too long"),
]


@pytest.mark.parametrize(("query", "reason"), REFUSED)
def test_a_refusal_names_the_parameter_what_it_was_and_what_is_allowed(query: str, reason: str) -> None:
    assert reason in refusal(query)


def test_the_token_is_never_in_a_refusal() -> None:
    assert "secret" not in refusal("access_token=secret&x=1")
    assert "access_token" not in refusal("x=1")


def test_a_query_that_contradicts_its_subprotocol_is_refused() -> None:
    reason = refusal("format=text", (JSON_PROTOCOL,))
    assert reason == "format=text and the subprotocol logstream.json.v1 contradict each other"


@given(
    st.lists(st.tuples(st.text(max_size=8) | st.sampled_from(["tail", "from", "lag", "cursor"]), st.text()), max_size=4)
)
def test_any_query_is_understood_or_refused(found: list[tuple[str, str]]) -> None:
    with contextlib.suppress(BadQuery):
        assert parse_socket_query(found, ()).format is Format.TEXT


# -- over HTTP --------------------------------------------------------------------------------------------------------


def test_a_request_for_lines_may_limit_them() -> None:
    assert parse_lines_query(pairs("limit=5&tail=3")) == LinesQuery(Wish(tail=3), 5)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        pytest.param("limit=x", f"limit='x': a whole number from 0 to {MAX_LIMIT} is needed", id="no number"),
        pytest.param("limit=1&limit=2", "limit is given twice", id="twice"),
        pytest.param("stream=a", "there are cursor, exclude, from, grep, limit, tail", id="what is in the path"),
    ],
)
def test_a_request_for_lines_is_refused_alike(query: str, reason: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_lines_query(pairs(query))
    assert reason in caught.value.reason


def test_a_request_without_parameters_takes_none_but_a_token() -> None:
    refuse_parameters(pairs("access_token=x&_=1"))
    with pytest.raises(BadQuery, match="unknown parameter 'tail'; there are none"):
        refuse_parameters(pairs("tail=1"))


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_count_goes_to_its_most(number: int, most: int) -> None:
    if number <= most:
        assert parse_count("n", str(number), most) == number
    else:
        with pytest.raises(BadQuery, match=f"n='{number}': a whole number from 0 to {most} is needed"):
            parse_count("n", str(number), most)


# -- in a message -----------------------------------------------------------------------------------------------------


def test_a_subscribe_message_says_the_same_as_a_query() -> None:
    message = Subscribe("a", 5, TOKEN, None, "x", ["y", "z"], "skip")
    assert wish_of(message) == Wish("a", 5, CURSOR, False, LineFilter(("x",), ("y", "z")), Lag.SKIP)
    assert wish_of(Subscribe("a", from_="start")) == Wish("a", from_start=True)
    assert wish_of(Subscribe("a")) == Wish("a", filter=EVERY_LINE)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(Subscribe("a", -1), f"tail -1: a whole number from 0 to {MAX_TAIL} is needed", id="below zero"),
        pytest.param(Subscribe("a", MAX_TAIL + 1), f"tail {MAX_TAIL + 1}: a whole number", id="too many"),
        pytest.param(Subscribe("a", 1, from_="start"), "from=start goes with neither", id="two beginnings"),
        pytest.param(Subscribe("a", cursor="x"), "cursor 'x' is not valid", id="a cursor that is none"),
        pytest.param(Subscribe("a", grep=["a", "("]), "grep: missing )", id="a pattern that is none"),
        pytest.param(Subscribe("a", lag="no"), "lag='no': it must be one of catchup, skip, close", id="no policy"),
    ],
)
def test_a_subscribe_message_is_refused_alike(message: Subscribe, reason: str) -> None:
    with pytest.raises(BadQuery) as caught:
        wish_of(message)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("query", "header", "expected"),
    [
        ("", None, Wish()),
        ("from=start", "", Wish(from_start=True)),
        (f"cursor={TOKEN}", None, Wish(cursor=CURSOR)),
        (f"lastEventId={TOKEN}&from=start", None, Wish(cursor=CURSOR)),
        ("lastEventId=&tail=3&lag=skip", None, Wish(tail=3, lag=Lag.SKIP)),
        ("cursor=x&tail=3", TOKEN, Wish(cursor=CURSOR, tail=3)),
        ("lastEventId=x", TOKEN, Wish(cursor=CURSOR)),
    ],
)
def test_who_comes_back_goes_on_whatever_the_address_says(query: str, header: str | None, expected: Wish) -> None:
    assert parse_events_query(pairs(query), header) == expected


def test_the_parameters_of_events_are_known_by_name() -> None:
    with pytest.raises(BadQuery, match="unknown parameter 'stream'; there are cursor, exclude, from, grep, lag"):
        parse_events_query(pairs("stream=a"), None)
