"""wire: messages as events and as lines; each whole, with its cursor, once for all who get the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.encoding.frames import Opcode, encode_frame
from logstream_server.encoding.messages import bye_message, event_message, gap_message, lines_message
from logstream_server.encoding.wire import PING, WIRES, EventStream, JsonLines
from logstream_server.lines.ring import EventKind, StreamEvent

from ..viewer import NdjsonParser, SseParser

LINES = lines_message("a.log", "c1", 0, ["one", "two"])


def frames(*messages: bytes) -> bytes:
    return b"".join(encode_frame(Opcode.TEXT, message) for message in messages)


def test_an_event_is_a_cursor_and_a_message() -> None:
    assert EventStream().transcode(frames(LINES)) == b"id: c1\ndata: " + LINES + b"\n\n"


def test_a_message_without_a_cursor_leaves_the_place_as_it_is() -> None:
    """An empty id would make a browser forget its place."""
    bye = bye_message("the end", reconnect=True, retry_ms=1)
    assert EventStream().transcode(frames(bye)) == b"data: " + bye + b"\n\n"


def test_a_line_is_a_message() -> None:
    assert JsonLines().transcode(frames(LINES, LINES)) == LINES + b"\n" + LINES + b"\n"


def test_a_ping_says_nothing() -> None:
    assert (EventStream().transcode(PING), JsonLines().transcode(PING)) == (b":\n\n", b"")


def test_the_place_of_every_kind_of_message_is_found() -> None:
    name = '","cursor":"wrong"'
    event = event_message(name, "c2", StreamEvent(EventKind.ROTATED, '"cursor":"wrong"'))
    gap = gap_message(name, "c3", "lost", '"cursor":"wrong"', None)
    parsed = SseParser().feed(EventStream().transcode(frames(lines_message(name, "c1", 0, [name]), event, gap)))
    assert [event_id for event_id, _ in parsed] == ["c1", "c2", "c3"]


@pytest.mark.parametrize("wire", WIRES)
def test_what_one_client_was_sent_is_not_made_again(wire: type[EventStream]) -> None:
    made = wire()
    batch = frames(LINES)
    assert made.transcode(batch) is made.transcode(batch)
    other = bytes(bytearray(frames(lines_message("a.log", "c2", 0, ["x"]))))
    assert made.transcode(other) != made.transcode(batch)


@given(st.lists(st.text(), min_size=1), st.integers(1, 20))
def test_any_text_comes_as_it_is_however_it_is_cut(lines: list[str], size: int) -> None:
    """With line breaks of all kinds, NULs, and nothing at all in it; by parsers that know the standards alone."""
    clean = [line.encode("utf-8", "replace").decode() for line in lines]
    batch = frames(lines_message("a.log", "c1", 0, clean))
    for wire, parser in ((EventStream(), SseParser()), (JsonLines(), NdjsonParser())):
        data = wire.preface + wire.transcode(PING) + wire.transcode(batch)
        parsed: list[tuple[str | None, Any]] = []
        for at in range(0, len(data), size):
            parsed += parser.feed(data[at : at + size])  # type: ignore[attr-defined]
        ((event_id, text),) = parsed
        assert (event_id, json.loads(text)["lines"]) == ("c1", clean)
