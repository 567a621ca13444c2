"""needle: what is taken for needed is needed, whatever the pattern; and simple patterns have one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logstream_server.errors import BadQuery
from logstream_server.lines.filters import LineFilter, parse_filter
from logstream_server.lines.needle import needles_of, required_bytes


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("ERROR", "ERROR"),
        ("ERROR.*timeout", "timeout"),
        (r"status=5\d\d", "status=5"),
        (r"\[error\]", "[error]"),
        ("^GET /api$", "GET /api"),
        ("user=(bob|carol) id", "user="),
        ("ab+cd", "ab"),
        ("ab+?cd", "ab"),
        ("abc*def", "def"),
        ("abc?d", "ab"),
        ("abcd{0,3}x", "abc"),
        ("ab{2}", ""),
        ("[a-z]+ing the", "ing the"),
        ("[^]ab]cdef", ""),
        ("zwölf", "zwölf"),
        ("(?i)error", ""),
        ("(?i:error) code", ""),
        ("(?:x|y)=12", "=12"),
        ("(a[)]b)cd", "cd"),
        (r"(\))cd", "cd"),
        ("a|bcd", ""),
        (r"\Qa.b\E", ""),
        (r"\x41bc", ""),
        (r"\pLbc", ""),
        ("a", ""),
        ("", ""),
        ("a.b.c", ""),
        ("\ufffdabc", ""),
        ("ab\ncd", ""),
        ("abc**", ""),
        ("x{a}bc", ""),
    ],
)
def test_the_longest_plain_part_is_the_needle(pattern: str, expected: str) -> None:
    assert required_bytes(pattern) == expected.encode()


@pytest.mark.parametrize(
    ("grep", "expected"),
    [
        (["ab", "cdef", ".*"], (b"cdef",)),
        (["bob|carol x"], (b"bob", b"carol x")),
        (["(a|b)cd|[|]ef|\\|gh"], (b"cd", b"ef", b"|gh")),
        (["bob|.*", "xy"], (b"xy",)),
        (["bob|", "(?i)bob|carol", "bob|)"[:4]], ()),
        (["|".join(f"word{number}" for number in range(9))], ()),
        ([".*"], ()),
        ([], ()),
    ],
)
def test_a_filter_needs_what_its_most_telling_pattern_needs(grep: list[str], expected: tuple[bytes, ...]) -> None:
    assert needles_of(parse_filter(grep, ["not this"])) == expected


PIECES = st.sampled_from(
    [
        *"abc.*+?()|[]{}^$-\\,12é",
        "ab",
        "a{2}",
        "b{0,1}",
        "(?:",
        "(?i)",
        "(?i:",
        "\\d",
        "\\b",
        "\\.",
        "[ab]",
        "[^a]",
        "\\Q",
        "\\E",
        "\\x61",
    ]
)


@given(st.lists(PIECES, min_size=1, max_size=8).map("".join), st.text("abcABC12.-é\n ", max_size=30))
@example("(?i)ab", "AB")
@example("ab|", "c")
@example("(ab)?c", "c")
@example("ab|12", "12")
@example("ab|(?i)12|bc", "BC")
def test_a_line_that_passes_has_a_needle(pattern: str, text: str) -> None:
    try:
        chosen: LineFilter = parse_filter([pattern])
    except BadQuery:
        return
    needles = needles_of(chosen)
    for line in text.encode().split(b"\n"):
        assert not needles or not chosen.matches(line) or any(needle in line for needle in needles)
