"""stamps: what is written can be read, and no changed byte goes unseen."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logstream_server.bench.stamps import MIN_LINE_BYTES, Damaged, Stamp, encode_stamped, padding, parse_stamped

STAMP = Stamp(b"5f3a90c1", 42, 1795479123035716300)
LINE = encode_stamped(STAMP, padding(200))


@pytest.mark.parametrize("size", [MIN_LINE_BYTES, MIN_LINE_BYTES + 1, 200, 5000])
def test_a_line_has_the_length_that_is_asked_for_and_says_what_it_was_made_of(size: int) -> None:
    line = encode_stamped(STAMP, padding(size))
    assert (len(line), line.count(b"\n"), line[-1:]) == (size, 1, b"\n")
    assert parse_stamped(line[:-1]) == STAMP


@pytest.mark.parametrize("line", [b"", b"2026-11-24 INFO hello", b"@logstream"])
def test_a_line_of_something_else_has_no_stamp(line: bytes) -> None:
    assert parse_stamped(line) is None


@given(st.integers(0, len(LINE) - 2), st.integers(0, 255))
@example(place=58, value=0)  # the blank before the check sum
def test_a_changed_byte_is_damage_or_makes_it_another_line(place: int, value: int) -> None:
    changed = LINE[:place] + bytes((value,)) + LINE[place + 1 : -1]
    if changed != LINE[:-1]:
        assert parse_stamped(changed) in (Damaged(), None)


@given(st.integers(17, len(LINE) - 2))
def test_a_cut_line_is_damaged(end: int) -> None:
    assert parse_stamped(LINE[:end]) == Damaged()


def test_two_lines_that_became_one_are_damaged() -> None:
    assert parse_stamped(LINE[:-1] + LINE[:-1]) == Damaged()
