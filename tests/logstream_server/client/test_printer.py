"""printer: lines as they are in the file, and everything else beside them."""

from __future__ import annotations

import io
import json

import pytest

from logstream_server.client.paint import painted
from logstream_server.client.printer import Look, Printer, remark_on
from logstream_server.encoding.events import (
    Bye,
    ClientEvent,
    Disconnected,
    Event,
    Gap,
    Hello,
    Lines,
    Reconnected,
    ServerError,
)

LOST = "cannot go on where it was, lines may be missing"


def printed(*events: ClientEvent, as_json: bool = False) -> tuple[str, str]:
    """Standard output and standard error for the events."""
    out, log = io.BytesIO(), io.StringIO()
    printer = Printer(out, log, Look(as_json=as_json))
    for event in events:
        printer.show(event)
    return out.getvalue().decode(), log.getvalue()


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([Lines("s", "c", 0, ["a", "", "ü"])], "a\n\nü\n", id="lines, empty ones too"),
        pytest.param([Lines("s", "c", 0, [])], "", id="a batch without lines prints nothing"),
        pytest.param([Lines("s", "c", 0, ["\x1b[1mé\t\x00"])], "\x1b[1mé\t\x00\n", id="control characters as they are"),
        pytest.param(
            [Lines("s", "c", 0, ["a", "b"], partial=True), Lines("s", "c", 0, ["c", "d"], continued=True)],
            "a\nbc\nd\n",
            id="a partial line is continued where it stands",
        ),
        pytest.param(
            [Lines("s", "c", 0, ["a"], partial=True), Lines("s", "c", 0, []), Lines("s", "c", 0, ["b"])],
            "a\nb\n",
            id="a partial line that is not continued ends",
        ),
    ],
)
def test_lines_are_printed_as_they_are_in_the_file(events: list[ClientEvent], expected: str) -> None:
    """And nothing is said about them."""
    assert printed(*events) == (expected, "")


def test_what_happens_is_said_on_standard_error() -> None:
    """In sentences, and a failure that repeats is said once."""
    out, log = printed(
        Hello("s", "c"),
        Disconnected("gone", 1006, 0.1),
        Disconnected("gone", 1006, 0.2),
        Disconnected("refused", None, 0.2),
        Reconnected(2, 1.25),
        Hello("s", "c", False, "the file was truncated"),
        Disconnected("gone", 1006, 0.1),
        Reconnected(2, 0.25),
        Hello("s", "c", True),
        Disconnected("gone", 1006, 0.1),
        Reconnected(2, 0.25),
        Hello(None, None),
        Gap("s", "lost", "the rotated file is gone", 12),
        Gap("s", "slow"),
        Event("s", "rotated"),
        Event("s", "unreadable", "permission denied"),
        ServerError(4004, "no stream x"),
        Bye(),
    )
    assert out == ""
    assert log.splitlines() == [
        "logstream: no connection: gone; trying again",
        "logstream: no connection: refused; trying again",
        f"logstream: connected again after 1.2 s; s: {LOST}: the file was truncated",
        "logstream: no connection: gone; trying again",
        "logstream: connected again after 0.2 s; nothing is missing",
        "logstream: no connection: gone; trying again",
        "logstream: connected again after 0.2 s; going on",
        "logstream: s: 12 bytes are missing here: the rotated file is gone",
        "logstream: s: lines are missing here: slow",
        "logstream: s: rotated",
        "logstream: s: unreadable: permission denied",
        "logstream: the server says: no stream x (4004)",
    ]


def test_a_file_that_is_no_text_is_remarked_on_once() -> None:
    greeting = Hello("s", "c", streams=[{"name": "s", "state": "following", "binary": True}])
    back = Hello("s", "c", True, streams=greeting.streams)
    _, log = printed(greeting, Disconnected("gone", 1006, 0.1), Reconnected(2, 1.25), back)
    assert log.splitlines() == [
        "logstream: s: holds bytes that are no text; is it compressed?",
        "logstream: no connection: gone; trying again",
        "logstream: connected again after 1.2 s; nothing is missing",
    ]


def test_as_json_each_message_is_a_line() -> None:
    """Those of the server, none of the client's own; enough to go on from with --cursor."""
    out, log = printed(
        Hello("s", "c0"), Lines("s", "c1", 5, ["a\nb"], partial=True), Disconnected("gone", None, 0.1), as_json=True
    )
    assert [json.loads(line) for line in out.splitlines()] == [
        {"type": "hello", "stream": "s", "cursor": "c0"},
        {"type": "lines", "stream": "s", "cursor": "c1", "offset": 5, "lines": ["a\nb"], "partial": True},
    ]
    assert log == "logstream: no connection: gone; trying again\n"


def test_every_kind_of_event_has_its_remark_or_none() -> None:
    """Lines are no news."""
    assert remark_on(Lines("s", "c", 0, ["a"])) == ""
    assert remark_on(Hello("s", "c", True)) == ""


def test_lines_of_several_sources_begin_with_its_name() -> None:
    """All equally wide, also when another name turns up; an unfinished line is not mixed with another's."""
    out, log = io.BytesIO(), io.StringIO()
    printer = Printer(out, log, Look(prefixed=True), ["a.log", "web"])
    printer.show(Lines("s", "c", 0, ["one", "two"]), "a.log", "a.log")
    printer.show(Lines("s", "c", 0, ["half"], partial=True), "web", "web")
    printer.show(Lines("s", "c", 0, [" done", "next"], continued=True), "web", "web")
    printer.show(Lines("s", "c", 0, ["half"], partial=True), "web", "web")
    printer.show(Lines("s", "c", 0, ["three"]), "a.log", "a.log")
    printer.show(Lines("s", "c", 0, ["rest"], continued=True), "web", "web")
    printer.show(Lines("s", "c", 0, ["x"]), "h", "h/longer.log")
    printer.show(Disconnected("gone", None, 1), "h", "h/longer.log")
    assert out.getvalue().decode().splitlines() == [
        "a.log | one",
        "a.log | two",
        "web   | half done",
        "web   | next",
        "web   | half",
        "a.log | three",
        "web   | rest",
        "h/longer.log | x",
    ]
    assert log.getvalue() == "logstream: h: no connection: gone; trying again\n"


def test_a_file_among_several_sources_is_named_once() -> None:
    """Of a server both are said: which one, and which of its streams."""
    log = io.StringIO()
    printer = Printer(io.BytesIO(), log, Look(prefixed=True), ["b/a.log"])
    printer.show(Event("a.log", "unreadable", "Permission denied"), "b/a.log", "b/a.log")
    printer.show(Event("a.log", "truncated"), "h:8080", "h:8080/a.log")
    assert log.getvalue().splitlines() == [
        "logstream: b/a.log: unreadable: Permission denied",
        "logstream: h:8080: a.log: truncated",
    ]


def test_for_a_terminal_lines_and_remarks_are_made_harmless() -> None:
    out, log = io.BytesIO(), io.StringIO()
    printer = Printer(out, log, Look(paint=painted))
    printer.show(Lines("s", "c", 0, ["\x1b]0;title\x07 ERROR"]))
    printer.show(Disconnected("\x1b[2Jgone", None, 1))
    assert out.getvalue() == b"\x1b[31m\\x1b]0;title\\x07 ERROR\x1b[0m\n"
    assert log.getvalue() == "logstream: no connection: \\x1b[2Jgone; trying again\n"


def test_json_for_a_terminal_stays_json() -> None:
    out, log = io.BytesIO(), io.StringIO()
    Printer(out, log, Look(as_json=True, paint=painted)).show(Lines("s", "c", 0, ["\x1b[2J\x9b2J\x7f"]))
    assert out.getvalue().isascii()
    assert b"\x1b" not in out.getvalue()
    assert json.loads(out.getvalue())["lines"] == ["\x1b[2J\x9b2J\x7f"]
