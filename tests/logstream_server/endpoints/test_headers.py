"""headers: what a Range says of so many bytes, entity tags in lists, and names that are safe to save by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from logstream_server.endpoints.headers import (
    ByteRange,
    NotSatisfiable,
    attachment,
    list_of,
    names,
    parse_range,
    parse_tags,
)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 100),
        ("bytes=99-", 99, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=10-1000", 10, 100),
        ("bytes=10-99999999999999999999999999", 10, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-100", 0, 100),
        ("bytes=-1000", 0, 100),
        ("bytes=-99999999999999999999999999", 0, 100),
        ("BYTES=0010-0019", 10, 20),
        ("bytes= 10-19 ", 10, 20),
        ("bytes=,10-19,", 10, 20),
    ],
)
def test_a_range_is_a_part(header: str, start: int, end: int) -> None:
    part = parse_range(header, 100)
    assert part == ByteRange(start, end, 100)
    assert part.content_range == f"bytes {start}-{end - 1}/100"


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1-2-3", "bytes=+1-2", "bytes=0x1-2"),
        *("lines=0-9", "0-9", "bytes=20-10", "bytes=0-1,5-6", "bytes=-1,-2", "bytes=\u0661-\u0662", "bytes:0-1"),
    ],
)
def test_what_is_no_single_range_asks_for_everything(header: str) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999999-"])
def test_a_range_behind_the_end_is_none(header: str) -> None:
    with pytest.raises(NotSatisfiable):
        parse_range(header, 100)


def test_an_empty_file_has_no_parts() -> None:
    """Tools that always send a range get the file that there is."""
    assert [parse_range(header, 0) for header in ("bytes=0-", "bytes=-5", "bytes=7-9")] == [None] * 3


def test_a_list_may_stand_in_several_lines() -> None:
    lines = [(b"if-match", b'"a", "b"'), (b"accept", b"*/*"), (b"if-match", b'"c"')]
    assert list_of(Headers(raw=lines), "If-Match") == '"a", "b", "c"'
    assert list_of(Headers(raw=lines), "if-none-match") is None
    assert list_of(Headers(raw=[(b"accept", b"")]), "accept") == ""


@pytest.mark.parametrize(
    ("header", "is_named"), [('"x", W/"t"', True), ("*", True), ('"x"', False), ("", False), ("t", False)]
)
def test_a_tag_is_named_by_itself_as_a_weak_one_or_with_all(header: str, is_named: bool) -> None:
    assert names(header, '"t"') is is_named


@given(st.text(max_size=40), st.integers(0, 10**12))
def test_any_header_is_a_part_of_what_there_is_or_nothing(header: str, size: int) -> None:
    try:
        part = parse_range("bytes=" + header, size)
    except NotSatisfiable:
        return
    assert part is None or 0 <= part.start < part.end <= size


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ("*", None),
        (" * ", None),
        ("", []),
        ('"a"', ['"a"']),
        ('"a", W/"b" ,"c,d"', ['"a"', 'W/"b"', '"c,d"']),
        ('"a" "b"', []),
        ("a", []),
    ],
)
def test_a_list_of_tags(header: str, tags: list[str] | None) -> None:
    assert parse_tags(header) == tags


@pytest.mark.parametrize(
    ("name", "plain", "encoded"),
    [
        ("app.log", "app.log", "app.log"),
        ("zwölf €.log", "zw_lf _.log", "zw%C3%B6lf%20%E2%82%AC.log"),
        ('a"b\\c/d.log', "a_b_c_d.log", "a%22b_c_d.log"),
        ("a\r\nSet-Cookie: x=1\r\n.log", "a__Set-Cookie_ x=1__.log", "a__Set-Cookie%3A%20x%3D1__.log"),
        ("bad\udcff;.log", "bad__.log", "bad%3F%3B.log"),
    ],
)
def test_a_name_is_no_more_than_a_name(name: str, plain: str, encoded: str) -> None:
    header = attachment(name)
    assert header == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    assert header.isascii()
    assert header.isprintable()
