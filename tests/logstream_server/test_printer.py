"""printer: lines as they are in the file, and everything else beside them."""

from __future__ import annotations

import io
import json

import pytest

from logstream_server.events import (
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
from logstream_server.printer import Printer, remark_on


def printed(*events: ClientEvent, as_json: bool = False) -> tuple[str, str]:
    """Standard output and standard error for the events."""
    out, log = io.BytesIO(), io.StringIO()
    printer = Printer(out, log, as_json)
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
        "logstream: connected again after 1.2 s",
        "logstream: s: cannot go on where it was, lines may be missing: the file was truncated",
        "logstream: s: 12 bytes are missing here: the rotated file is gone",
        "logstream: s: lines are missing here: slow",
        "logstream: s: rotated",
        "logstream: s: unreadable: permission denied",
        "logstream: the server says: no stream x (4004)",
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
