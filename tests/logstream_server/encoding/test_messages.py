"""messages: what we say can be read back, and what we do not understand is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.encoding import messages
from logstream_server.encoding.messages import SetFilter, Subscribe, Unsubscribe, parse_client_message
from logstream_server.errors import BadQuery, CloseCode
from logstream_server.lines.cursor import Cursor, Generation, Position, parse_cursor
from logstream_server.lines.ring import EventKind, StreamEvent

texts = st.text(max_size=20)
patterns = texts | st.lists(texts, max_size=3)
optional = st.none() | texts


def said(message: bytes) -> dict[str, Any]:
    """A message of ours, as a client's JSON library reads it."""
    found: dict[str, Any] = json.loads(message)
    return found


# -- what clients send ------------------------------------------------------------------------------------------------


@given(texts, st.none() | st.integers(0, 1 << 62), optional, optional, patterns, patterns, optional)
def test_a_subscription_is_understood_as_it_was_meant(
    stream: str,
    tail: int | None,
    cursor: str | None,
    start: str | None,
    grep: str | list[str],
    exclude: str | list[str],
    lag: str | None,
) -> None:
    sent = {
        "type": "subscribe",
        "stream": stream,
        "tail": tail,
        "cursor": cursor,
        "from": start,
        "grep": grep,
        "exclude": exclude,
        "lag": lag,
    }
    assert parse_client_message(json.dumps(sent).encode()) == Subscribe(stream, tail, cursor, start, grep, exclude, lag)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        pytest.param({"type": "subscribe", "stream": "a"}, Subscribe("a"), id="subscribe, nothing else said"),
        pytest.param({"type": "unsubscribe", "stream": "a"}, Unsubscribe("a"), id="unsubscribe"),
        pytest.param({"type": "filter", "stream": "a"}, SetFilter("a"), id="no filter any more"),
        pytest.param({"type": "filter", "stream": "a", "grep": "x"}, SetFilter("a", "x"), id="one pattern"),
        pytest.param(
            {"stream": "a", "exclude": ["x", "y"], "type": "filter"}, SetFilter("a", [], ["x", "y"]), id="any order"
        ),
    ],
)
def test_each_message_is_told_by_its_type(sent: dict[str, Any], message: object) -> None:
    assert parse_client_message(json.dumps(sent).encode()) == message


SUBSCRIBE = b'{"type":"subscribe","stream":"a",%s}'

REFUSED = [
    pytest.param(b"", "truncated", id="nothing"),
    pytest.param(b"subscribe", "malformed", id="no JSON"),
    pytest.param(b"{}", "missing required field `type`", id="no type"),
    pytest.param(b"[]", "Expected `object`, got `array`", id="a list"),
    pytest.param(b'{"type":"hello"}', "Invalid value 'hello' - at `$.type`", id="a type that clients do not send"),
    pytest.param(b'{"type":"subscribe"}', "missing required field `stream`", id="no stream"),
    pytest.param(b'{"type":"unsubscribe","stream":1}', "Expected `str`, got `int` - at `$.stream`", id="a number"),
    pytest.param(SUBSCRIBE % b'"gerp":"x"', "unknown field `gerp`", id="a mistyped field"),
    pytest.param(SUBSCRIBE % b'"from_":"start"', "unknown field `from_`", id="our name of a field for theirs"),
    pytest.param(SUBSCRIBE % b'"tail":"5"', "Expected `int | null`, got `str` - at `$.tail`", id="a number as text"),
    pytest.param(SUBSCRIBE % b'"tail":true', "got `bool` - at `$.tail`", id="a truth value for a number"),
    pytest.param(SUBSCRIBE % b'"tail":1.5', "got `float` - at `$.tail`", id="a fraction"),
    pytest.param(SUBSCRIBE % b'"tail":1e999', "out of range - at `$.tail`", id="more than a number holds"),
    pytest.param(SUBSCRIBE % (b'"tail":' + b"9" * 5000), "out of range - at `$.tail`", id="a number of 5000 digits"),
    pytest.param(SUBSCRIBE % b'"grep":[1]', "Expected `str`, got `int` - at `$.grep[0]`", id="no pattern in the list"),
    pytest.param(SUBSCRIBE % b'"grep":{}', "Expected `str | array`, got `object` - at `$.grep`", id="no patterns"),
    pytest.param(b'{"type":"unsubscribe","stream":"a"}{}', "trailing characters", id="two messages in one"),
    pytest.param(b'{"type":"unsubscribe","stream":"\xff"}', "can't decode byte 0xff", id="no UTF-8"),
    pytest.param(b'{"type":"unsubscribe","stream":"\\ud800"}', "truncated", id="half a character"),
    pytest.param(b'{"a":' * 12_000, "recursion", id="nested as deeply as a message can be"),
    pytest.param(b"[" * 60_000, "Expected `object`, got `array`", id="nested lists"),
    pytest.param(SUBSCRIBE % (b'"x":' + b"[" * 60_000 + b"]" * 60_000), "unknown field `x`", id="nested and unknown"),
]


@pytest.mark.parametrize(("data", "reason"), REFUSED)
def test_what_is_not_understood_is_refused_with_the_place(data: bytes, reason: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_client_message(data)
    assert caught.value.code is CloseCode.BAD_REQUEST
    assert caught.value.reason.startswith("message not understood: ")
    assert reason in caught.value.reason


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_strangers_get_a_refusal_and_never_an_exception_of_another_kind(data: bytes) -> None:
    with pytest.raises(BadQuery):
        parse_client_message(data)


# -- what we send -----------------------------------------------------------------------------------------------------


@given(texts, st.lists(texts), st.booleans(), st.booleans(), st.none() | st.integers(0))
def test_lines_come_with_their_cursor_and_only_the_remarks_that_hold(
    stream: str, lines: list[str], partial: bool, continued: bool, cut_bytes: int | None
) -> None:
    message = said(
        messages.lines_message(stream, "c", 5, lines, partial=partial, continued=continued, cut_bytes=cut_bytes)
    )
    remarks = {key: message.pop(key) for key in ("partial", "continued", "cut") if key in message}
    assert message == {"type": "lines", "stream": stream, "cursor": "c", "offset": 5, "lines": lines}
    wanted: dict[str, Any] = {"partial": True} if partial else {}
    if continued:
        wanted["continued"] = True
    if cut_bytes is not None:
        wanted["cut"] = [[len(lines) - 1, cut_bytes]]
    assert remarks == wanted


@pytest.mark.parametrize("kind", [kind for kind in EventKind if kind is not EventKind.GAP])
def test_an_event_is_named_and_told_in_a_sentence(kind: EventKind) -> None:
    message = said(messages.event_message("a", "c", StreamEvent(kind, "so it is")))
    assert message == {"type": "event", "stream": "a", "event": kind.value, "detail": "so it is", "cursor": "c"}


@pytest.mark.parametrize("lost", [None, 0, 17])
def test_a_loss_is_a_gap_and_says_how_much_when_that_is_known(lost: int | None) -> None:
    wanted = {"type": "gap", "stream": "a", "reason": "lost", "detail": "gone", "bytes": lost, "cursor": "c"}
    assert said(messages.event_message("a", "c", StreamEvent(EventKind.GAP, "gone", lost))) == wanted
    assert said(messages.gap_message("a", "c", "slow", "gone", lost)) == {**wanted, "reason": "slow"}


SENT = [
    pytest.param(
        messages.hello_message("logstream/1", [{"name": "a"}], "a", "c", None, None, {"max_line_bytes": 64}),
        {
            "type": "hello",
            "version": 1,
            "server": "logstream/1",
            "streams": [{"name": "a"}],
            "stream": "a",
            "cursor": "c",
            "recovered": None,
            "reason": None,
            "limits": {"max_line_bytes": 64},
        },
        id="hello",
    ),
    pytest.param(
        messages.subscribed_message("a", "c", False, "gone"),
        {"type": "subscribed", "stream": "a", "cursor": "c", "recovered": False, "reason": "gone"},
        id="subscribed",
    ),
    pytest.param(messages.unsubscribed_message("a"), {"type": "unsubscribed", "stream": "a"}, id="unsubscribed"),
    pytest.param(
        messages.error_message(CloseCode.NO_SUCH_STREAM, "no such stream", "b"),
        {"type": "error", "code": 4004, "reason": "no such stream", "stream": "b"},
        id="error",
    ),
    pytest.param(
        messages.error_message(4009, "what?"),
        {"type": "error", "code": 4009, "reason": "what?", "stream": None},
        id="error of no stream",
    ),
    pytest.param(
        messages.bye_message("drain", reconnect=True, retry_ms=1000),
        {"type": "bye", "reason": "drain", "reconnect": True, "retry_ms": 1000},
        id="bye",
    ),
]


@pytest.mark.parametrize(("message", "wanted"), SENT)
def test_a_message_says_this(message: bytes, wanted: dict[str, Any]) -> None:
    assert said(message) == wanted


def test_tokens_are_cursors_of_the_stream() -> None:
    generation = Generation(1, 7, b"one\n")
    cursor = parse_cursor(messages.token("a", (Position(generation, 4, b"one\n"),)))
    assert (cursor.stream, [mark.offset for mark in cursor.marks]) == ("a", [4])
    assert parse_cursor(messages.empty_token("a")) == Cursor("a")
