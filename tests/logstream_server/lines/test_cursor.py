"""cursor: a token is what it was made from, or is refused with a reason; a mark fits the bytes it was taken from."""

from __future__ import annotations

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.lines.cursor import (
    HEAD_BYTES,
    MAX_TOKEN,
    BadCursor,
    Cursor,
    Generation,
    Mark,
    Position,
    cursor_at,
    encode_cursor,
    parse_cursor,
)
from logstream_server.lines.framing import MARKER_BYTES

digests = st.binary(min_size=8, max_size=8)
marks = st.builds(
    Mark, st.none() | st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), digests, digests, st.booleans()
)
# Also surrogates: a name may come from the bytes of a file's name.
names = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
cursors = st.builds(Cursor, names, st.lists(marks, max_size=4).map(tuple))


def at(data: bytes, offset: int, inode: int | None = 7) -> Mark:
    """The mark of a reader of a file with these bytes."""
    generation = Generation(1, inode, data[:HEAD_BYTES])
    return Mark.of(Position(generation, offset, data[max(0, offset - MARKER_BYTES) : offset]))


def signed(raw: bytes) -> str:
    """A token of these bytes, with the right check sum."""
    return urlsafe_b64encode(raw + struct.pack(">I", binascii.crc32(raw))).rstrip(b"=").decode()


# -- tokens -----------------------------------------------------------------------------------------------------------


@given(cursors)
def test_a_token_is_what_it_was_made_from(cursor: Cursor) -> None:
    token = encode_cursor(cursor)
    assert parse_cursor(token) == cursor


@given(cursors)
def test_a_token_needs_no_escaping_in_a_url(cursor: Cursor) -> None:
    assert not set(encode_cursor(cursor)) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@given(cursors, st.data())
def test_a_token_with_one_bit_changed_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    """Or it says the same still: base64 leaves up to four bits of its last character unused."""
    token = encode_cursor(cursor)
    place = data.draw(st.integers(0, len(token) - 1))
    changed = token[:place] + chr(ord(token[place]) ^ (1 << data.draw(st.integers(0, 7)))) + token[place + 1 :]
    try:
        assert parse_cursor(changed) == cursor
    except BadCursor as error:
        assert error.token == changed  # noqa: PT017 - both outcomes are right


def test_every_bit_of_a_tokens_bytes_counts() -> None:
    token = encode_cursor(Cursor("app.log", (at(b"one\ntwo\n", 4),)))
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadCursor, match="it is incomplete or was changed on its way"):
            parse_cursor(urlsafe_b64encode(changed).decode())


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_what_strangers_send_is_refused_and_nothing_worse(token: str) -> None:
    with pytest.raises(BadCursor):
        parse_cursor(token)


@given(st.binary(max_size=100))
def test_a_forged_token_is_a_cursor_or_refused(body: bytes) -> None:
    """The check sum is no secret: whoever forges one gets what a cursor can say, and no exception of another kind."""
    try:
        cursor = parse_cursor(signed(b"\x01" + body))
    except BadCursor:
        return
    assert parse_cursor(encode_cursor(cursor)) == cursor


NAME = b"\x00\x01a"

FORGED = [
    pytest.param("", "it is incomplete or was changed on its way", id="an empty token"),
    pytest.param("AAAA", "it is incomplete or was changed on its way", id="too short to be one"),
    pytest.param("A", "it is not base64url text", id="no whole number of bytes"),
    pytest.param("zwölf", "it is not base64url text", id="other characters"),
    pytest.param("A" * 4097, "it has 4097 characters, no cursor has more than 4096", id="a long one"),
    pytest.param(signed(b"\x00" + NAME), "it has version 0, this server reads version 1", id="an older version"),
    pytest.param(signed(b"\x02" + NAME), "it has version 2, this server reads version 1", id="a newer version"),
    pytest.param(signed(b"\x01\x00\x02a"), "its parts have wrong lengths", id="a name that is cut"),
    pytest.param(signed(b"\x01" + NAME + b"x" * 32), "its parts have wrong lengths", id="a position that is cut"),
    pytest.param(signed(b"\x01\x00\x01\xff"), "the stream's name in it is not text", id="a name that is not UTF-8"),
]


@pytest.mark.parametrize(("token", "reason"), FORGED)
def test_a_refusal_says_why(token: str, reason: str) -> None:
    with pytest.raises(BadCursor) as caught:
        parse_cursor(token)
    assert (caught.value.token, caught.value.reason) == (token, reason)
    shown = token if len(token) <= 40 else token[:40] + "…"
    assert str(caught.value) == f"cursor {shown!r} is not valid: {reason}"


def test_a_cursor_of_a_reader_of_nothing_names_its_stream() -> None:
    assert parse_cursor(encode_cursor(cursor_at("app.log", ()))) == Cursor("app.log")


# -- marks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, MARKER_BYTES, MARKER_BYTES + 1, HEAD_BYTES - 1, HEAD_BYTES, 2000])
def test_a_mark_fits_the_file_that_it_was_taken_from_however_much_that_has_grown(offset: int) -> None:
    data = b"".join(b"line %d\n" % number for number in range(1000))
    mark = at(data, offset)
    assert (mark.head_bytes, mark.marker_bytes) == (min(offset, HEAD_BYTES), min(offset, MARKER_BYTES))
    grown = data + b"more\n"
    assert mark.matches(grown[: mark.head_bytes], grown[offset - mark.marker_bytes : offset])


@given(st.binary(min_size=1, max_size=400), st.data())
def test_a_mark_fits_no_file_with_another_beginning_or_other_bytes_before_it(data: bytes, draw: st.DataObject) -> None:
    offset = draw.draw(st.integers(1, len(data)))
    mark = at(data, offset)
    places = [*range(min(offset, HEAD_BYTES)), *range(max(0, offset - MARKER_BYTES), offset)]
    changed = bytearray(data)
    changed[draw.draw(st.sampled_from(places))] ^= 1
    head, marker = bytes(changed[: mark.head_bytes]), bytes(changed[offset - mark.marker_bytes : offset])
    assert not mark.matches(head, marker)


def test_the_start_of_a_file_is_told_by_its_sign_and_proven_by_its_bytes() -> None:
    """No bytes are equal in all files, and few in many."""
    start = b"x" * HEAD_BYTES
    signed, unsigned = Generation(1, head=start, sign=b"a sign.."), Generation(2, head=start)
    for offset in (0, 1, HEAD_BYTES):
        marks = [Mark.of(Position(g, offset, start[:offset][-MARKER_BYTES:])) for g in (signed, unsigned)]
        assert marks[0].marker == b"a sign.." != marks[1].marker
        for mark in marks:
            assert mark.matches(start[:offset], start[:offset][-MARKER_BYTES:])
            assert offset == 0 or not mark.matches(b"y" * offset, (b"y" * offset)[-MARKER_BYTES:])
    behind = [Mark.of(Position(g, HEAD_BYTES + 1, start[-MARKER_BYTES:])) for g in (signed, unsigned)]
    assert behind[0] == behind[1]


def test_files_that_were_read_to_their_end_are_not_listed_beside_one_that_was_read_later() -> None:
    read = [Generation(-1, inode, b"x", end=5) for inode in range(3)]
    late, current = Generation(1, 8, b"late"), Generation(2, 9, b"now")
    positions = (*(Position(g, 5, b"xxxxx") for g in read), Position(late, 2, b"la"), Position(current, 1, b"n"))
    assert [mark.inode for mark in cursor_at("a", positions).marks] == [8, 9]
    assert [mark.inode for mark in cursor_at("a", positions[:3]).marks] == [2]
    assert [mark.inode for mark in cursor_at("a", (*positions[:3], Position(current, 0))).marks] == [2, 9]


def test_a_reader_many_files_behind_has_a_token_that_is_accepted() -> None:
    begun = Position(Generation(-1, 1, b"x" * 300), 300, b"x" * MARKER_BYTES)
    many = (begun, *(Position(Generation(-1, inode), 0) for inode in range(2, 1000)))
    token = encode_cursor(cursor_at("a" * 255, many))
    assert parse_cursor(token).marks == (Mark.of(begun),)
    assert len(token) < MAX_TOKEN


def test_a_reader_who_has_nothing_of_many_files_has_a_token_that_is_accepted() -> None:
    """Where the first of them begins says where all do."""
    many = tuple(Position(Generation(-1, inode), 0) for inode in range(1, 1000))
    token = encode_cursor(cursor_at("a" * 255, many))
    assert parse_cursor(token).marks == (Mark.of(many[0]),)
    assert len(token) < MAX_TOKEN


@pytest.mark.parametrize("count", range(1, 5))
def test_no_file_comes_after_itself(count: int) -> None:
    """Whatever was said of it before: a reader at the starts of all of them has a cursor."""
    files = [Generation(-1, inode, b"x", end=1) for inode in range(count)]
    for before, after in zip((files[-1], *files), files, strict=False):
        after.comes_after(before)
    assert (files[0].before, [file.before for file in files[1:]]) == (None, files[:-1])
    assert len(cursor_at("a", tuple(Position(file, 0) for file in files)).marks) == count


def test_the_first_bytes_of_a_file_are_told_by_the_end_of_the_one_before_it() -> None:
    """And of no other: those that are listed, or empty, do not say it. Further on, the file itself does."""
    first = Generation(1, 7, b"x" * 256, end=300, marker=b"y" * MARKER_BYTES)
    empty = Generation(2, 8, end=0, before=first)
    newest = Generation(3, 9, before=empty)
    over, start = parse_cursor(encode_cursor(cursor_at("a", (Position(newest, 0),)))).marks
    assert over == replace(Mark.of(Position(first, 300, first.marker)), is_over=True)
    assert start == Mark.of(Position(newest, 0))
    newest.head = b"z" * HEAD_BYTES
    for offset, count in ((1, 2), (HEAD_BYTES - 1, 2), (HEAD_BYTES, 1)):
        assert len(cursor_at("a", (Position(newest, offset, b"z" * MARKER_BYTES),)).marks) == count
    listed = cursor_at("a", (Position(first, 100, b"x" * MARKER_BYTES), Position(newest, 0)))
    assert [(mark.inode, mark.is_over) for mark in listed.marks] == [(7, False), (9, False)]
    empty.end = None  # late lines may still come there
    late = cursor_at("a", (Position(empty, 0), Position(newest, 0)))
    assert [(mark.inode, mark.is_over) for mark in late.marks] == [(7, True), (8, False), (9, False)]


def test_what_follows_a_file_that_was_read_says_so() -> None:
    """Of few bytes only, and not where another that has bytes came between."""
    first = Generation(1, 7, b"x" * 256, end=300, marker=b"y" * MARKER_BYTES)
    second = Generation(2, 8, b"y" * 20, before=first)
    newest = Generation(3, 9, b"z" * HEAD_BYTES, before=second)
    places = {
        (20, 1): [(7, True, False), (8, False, True), (9, False, True)],
        (0, 1): [(7, True, False), (8, False, False), (9, False, False)],
        (20, HEAD_BYTES): [(7, True, False), (8, False, True), (9, False, False)],
    }
    for (in_second, in_newest), expected in places.items():
        seen = Position(second, in_second, second.head[:in_second])
        cursor = cursor_at("a", (seen, Position(newest, in_newest, b"z" * min(MARKER_BYTES, in_newest))))
        assert parse_cursor(encode_cursor(cursor)) == cursor
        assert [(mark.inode, mark.is_over, mark.follows) for mark in cursor.marks] == expected
    second.end = 20
    between = cursor_at("a", (Position(first, 100, b"x" * MARKER_BYTES), Position(newest, 1, b"z")))
    assert [(mark.inode, mark.follows) for mark in between.marks] == [(7, False), (8, False), (9, True)]


def test_positions_keep_their_order_and_their_inodes() -> None:
    old, new = Generation(1, 5, b"old"), Generation(2, None, b"new")
    cursor = cursor_at("a", (Position(old, 3, b"old"), Position(new, 2, b"ne")))
    assert [(mark.inode, mark.offset) for mark in cursor.marks] == [(5, 3), (None, 2)]
    assert parse_cursor(encode_cursor(cursor)) == cursor


def test_generations_are_told_apart_by_being_not_by_looks() -> None:
    """Two files may have the same number of the same inode and the same bytes."""
    assert Generation(1) != Generation(1)
    assert len({Generation(1), Generation(1)}) == 2


def test_a_generation_is_over_for_who_is_behind_the_entry_that_said_so() -> None:
    generation = Generation(1)
    assert not generation.is_over(100)
    generation.retired_seq = 5
    assert [generation.is_over(seq) for seq in (4, 5, 6)] == [False, False, True]
