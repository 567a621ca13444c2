"""errors: each error makes its own sentence, and a close reason always fits its frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.errors import (
    BadQuery,
    CannotFollow,
    CannotListen,
    CloseCode,
    LogstreamError,
    Problem,
    SettingsError,
    kept_in,
    refuse,
)


def test_a_settings_error_lists_every_problem_by_name_value_and_advice() -> None:
    error = SettingsError(
        (
            Problem("--port", "http", "must be a whole number from 0 to 65535"),
            Problem("PATH", None, "give at least one file"),
        )
    )
    assert str(error) == "--port 'http': must be a whole number from 0 to 65535\nPATH: give at least one file"


def test_a_problem_is_one_printable_line_whatever_was_typed() -> None:
    """A newline, an escape sequence and a byte that is not UTF-8 (which Python carries as a surrogate)."""
    line = str(Problem("PATH", "a\nb\x1b[2J\udcff", "is wrong"))
    assert line.isprintable()
    line.encode()


def test_what_cannot_be_followed_is_one_printable_line_whatever_a_server_says() -> None:
    line = str(CannotFollow("http://h/\x1b]0;", 500, "\x1b[31mred\nlines with ü"))
    assert line == "cannot follow http://h/\\x1b]0;: \\x1b[31mred\\nlines with ü (HTTP 500)"


def test_problems_of_several_steps_are_told_at_once_and_each_once() -> None:
    first, second = Problem("--a", "1", "is wrong"), Problem("--b", "2", "is wrong")
    problems: list[Problem] = []
    refuse(problems)
    for found in ((first,), (first, second)):
        with kept_in(problems):
            raise SettingsError(found)
    with pytest.raises(SettingsError) as caught:
        refuse(problems)
    assert caught.value.problems == (first, second)


def test_a_port_in_use_says_which() -> None:
    assert str(CannotListen("::1", 80, "Permission denied")) == "cannot listen on ::1 port 80: Permission denied"


def test_a_bad_query_carries_its_close_code_and_reason() -> None:
    error = BadQuery(CloseCode.NO_SUCH_STREAM, "no stream is called 'x'")
    assert (error.code, error.reason) == (4004, "no stream is called 'x'")
    assert str(error) == "no stream is called 'x' (4004)"


@pytest.mark.parametrize("error", [SettingsError(()), CannotListen("h", 1, "r"), BadQuery(CloseCode.GAP, "r")])
def test_every_error_has_the_one_base(error: Exception) -> None:
    assert isinstance(error, LogstreamError)


def test_close_codes_are_an_applications_own() -> None:
    """RFC 6455 7.4.2 leaves 4000 to 4999 to the application."""
    assert all(4000 <= code <= 4999 for code in CloseCode)


def test_reconnecting_is_worth_it_only_where_the_same_question_can_get_another_answer() -> None:
    worth = {code for code in CloseCode if code.reconnect}
    assert worth == {CloseCode.SHUTTING_DOWN, CloseCode.SLOW, CloseCode.GAP, CloseCode.LIMIT}


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_a_close_reason_fits_its_frame_and_is_a_beginning_of_the_reason(reason: str) -> None:
    """123 bytes of UTF-8, never cut inside a character (RFC 6455 5.5)."""
    short = BadQuery(CloseCode.BAD_REQUEST, reason).close_reason
    whole = reason.encode("utf-8", "replace").decode()
    assert len(short.encode()) <= 123
    assert short == whole or whole.startswith(short.removesuffix("..."))
    assert len(short.encode()) >= min(len(whole.encode()), 120)
