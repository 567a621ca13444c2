"""framing: however the bytes are cut into feeds, the segments tile the file and tell the same lines and holes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logstream_server.lines.framing import HOLE_BYTES, MARKER_BYTES, Flag, LineFramer, Segment, incomplete_utf8

LIMIT = 64
"""The least that --max-line-bytes takes."""

Line = tuple[int, int, bytes, Flag]
"""Start, end, data and flags of one line, or of one hole."""


def feed_cut(framer: LineFramer, data: bytes, cuts: Iterable[int]) -> list[Segment]:
    """Feed `data` in pieces that end at the given places."""
    segments: list[Segment] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        segments += framer.feed(data[start:end])
    return segments


def lines_of(segments: Iterable[Segment]) -> list[Line]:
    """Segments as lines: how many lines share a segment, and in how many pieces a hole was seen, says nothing."""
    lines: list[Line] = []
    for segment in segments:
        if segment.flags is Flag.LINES:
            start = segment.start
            for line in segment.data.splitlines(keepends=True) if b"\r" not in segment.data else _split(segment.data):
                lines.append((start, start + len(line), line, Flag.LINES))
                start += len(line)
        elif segment.flags & Flag.HOLE and lines and lines[-1][3] & Flag.HOLE and lines[-1][1] == segment.start:
            lines[-1] = (lines[-1][0], segment.end, b"", Flag.HOLE)
        else:
            lines.append((segment.start, segment.end, segment.data, segment.flags))
    return lines


def _split(data: bytes) -> list[bytes]:
    """Like splitlines, but at newlines only."""
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def expected(data: bytes, limit: int, *, dead: bool = False) -> list[Line]:
    """What a file with these bytes consists of, told the slow way; `dead`: its end is its end."""
    lines: list[Line] = []
    start = 0
    for whole in _split(data):
        line, nuls = whole, len(whole) - len(whole.lstrip(b"\0"))
        if nuls and (start == 0 or nuls >= HOLE_BYTES):
            lines.append((start, start + nuls, b"", Flag.HOLE))
            start, line = start + nuls, whole[nuls:]
        end = start + len(line)
        if line.endswith(b"\n"):
            text = line[:-2] if line.endswith(b"\r\n") else line[:-1]
            lines.append((start, end, *_within(line, len(text), limit, Flag.LINES)))
        elif line and dead:
            lines.append((start, end, *_within(line, len(line), limit, Flag.PARTIAL)))
        start = end
    return lines


def _within(line: bytes, length: int, limit: int, flags: Flag) -> tuple[bytes, Flag]:
    if length <= limit:
        return line, flags
    cut = line[:limit]
    return cut[: len(cut) - incomplete_utf8(cut)], flags | Flag.CUT


def assert_sound(segments: Sequence[Segment], data: bytes, begin: int = 0) -> None:
    """They tile the file without a gap, each says what stands there, and each marker is what precedes its end."""
    end = begin
    for segment in segments:
        assert segment.start == end < segment.end
        end = segment.end
        assert segment.marker == data[max(0, end - MARKER_BYTES) : end]
        there = data[segment.start : end]
        if segment.flags & Flag.HOLE:
            assert segment.data == b""
            assert not there.strip(b"\0")
        elif segment.flags & Flag.CUT:
            assert there.startswith(segment.data)
        else:
            assert segment.data == there
            assert bool(segment.flags & Flag.PARTIAL) != there.endswith(b"\n")


texts = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"a\n", b"b\r\n", b"\n", b"\r", "zwölf\n".encode(), b"\0", b"x\0", b"\0\0x\n", b"\xef\xbb\xbf"]),
    st.integers(LIMIT - 3, LIMIT + 3).map(lambda size: b"x" * size),
    st.integers(LIMIT - 4, LIMIT).map(lambda size: b"x" * size + "€\n".encode()),
    st.sampled_from([LIMIT, 2 * LIMIT, HOLE_BYTES - 1, HOLE_BYTES, HOLE_BYTES + 1]).map(bytes),
)
contents = st.lists(texts, max_size=12).map(b"".join)
cuts = st.lists(st.integers(0, 1 << 14), max_size=8)
limits = st.sampled_from([1, LIMIT, HOLE_BYTES, 1 << 20])


# -- any cut ----------------------------------------------------------------------------------------------------------


@given(contents, cuts, limits)
@example(b"a\n" + bytes(HOLE_BYTES) + b"b\n", [3000], LIMIT)
@example(bytes(HOLE_BYTES + 1), [1], 1)
@example(b"\n" + bytes(LIMIT + 2) + b"x" + bytes(HOLE_BYTES), [LIMIT + 4], LIMIT)
def test_any_cut_of_the_bytes_gives_the_lines_of_the_file(data: bytes, where: list[int], limit: int) -> None:
    framer = LineFramer(limit)
    segments = feed_cut(framer, data, where)
    assert_sound(segments, data)
    assert lines_of(segments) == expected(data, limit)
    segments += framer.finish()
    assert_sound(segments, data)
    assert lines_of(segments) == expected(data, limit, dead=True)
    assert framer.offset == framer.start == len(data)


@given(contents, cuts, limits)
def test_the_framer_always_knows_where_its_reader_is(data: bytes, where: list[int], limit: int) -> None:
    """`start` and `marker` are the position of a reader who has every segment so far, `offset` and `tail` its own."""
    framer = LineFramer(limit)
    fed = 0
    end = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in where), len(data)]:
        for segment in framer.feed(data[fed:cut]):
            end = segment.end
        fed = cut
        assert (framer.offset, framer.tail) == (fed, data[max(0, fed - MARKER_BYTES) : fed])
        assert (framer.start, framer.marker) == (end, data[max(0, end - MARKER_BYTES) : end])
        assert framer.pending == fed - end


@given(contents, cuts, limits)
def test_a_reader_who_begins_at_any_edge_gets_the_same_rest(data: bytes, where: list[int], limit: int) -> None:
    segments = feed_cut(LineFramer(limit), data, where)
    for index, segment in enumerate(segments):
        framer = LineFramer(limit, segment.end, segment.marker)
        rest = framer.feed(data[segment.end :])
        assert_sound(rest, data, segment.end)
        after = lines_of(segments[index:])[1:] if segment.flags & Flag.HOLE else lines_of(segments[index + 1 :])
        joined = lines_of([segment, *rest])[1:] if segment.flags & Flag.HOLE else lines_of(rest)
        assert joined == after


@st.composite
def histories(draw: st.DrawFn) -> list[bytes | None]:
    """What comes of a file from one look to the next; None: a silence, after which the unfinished line goes out."""
    # No run of NULs as long as a marker within a line: to one who begins behind it, it looks like a hole.
    pieces = st.one_of(st.none(), st.none(), texts.filter(lambda text: bytes(MARKER_BYTES) not in text))
    return draw(st.lists(pieces, max_size=12))


@given(histories(), limits)
def test_a_line_that_went_out_in_pieces_is_whole_when_they_are_joined(history: list[bytes | None], limit: int) -> None:
    """No byte twice and none left out; every piece but the first is CONTINUED, every one but the last PARTIAL."""
    framer = LineFramer(limit)
    data = b"".join(piece or b"" for piece in history)
    segments: list[Segment] = []
    for piece in history:
        segments += framer.flush_partial() if piece is None else framer.feed(piece)
    segments += framer.finish()
    assert_sound(segments, data)
    assert framer.start == len(data)
    begun = False
    for segment in segments:
        assert bool(segment.flags & Flag.CONTINUED) == begun, segment
        begun = bool(segment.flags & Flag.PARTIAL)


@given(histories(), limits)
@example([b"a\0", None, b"b\n"], LIMIT)
def test_a_reader_who_begins_within_a_line_knows_it(history: list[bytes | None], limit: int) -> None:
    framer = LineFramer(limit)
    data = b"".join(piece or b"" for piece in history)
    segments: list[Segment] = []
    for piece in history:
        segments += framer.flush_partial() if piece is None else framer.feed(piece)
    for before, after in pairwise(segments):
        other = LineFramer(limit, before.end, before.marker)
        assert other.is_continuing == bool(after.flags & Flag.CONTINUED)
        rest = other.feed(data[before.end :]) + other.finish()
        assert_sound(rest, data, before.end)
        assert bool(rest[0].flags & Flag.CONTINUED) == bool(after.flags & Flag.CONTINUED)


# -- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["newline", "CRLF"])
@pytest.mark.parametrize("step", [1, 7, 1 << 20], ids=lambda step: f"by {step}")
def test_the_limit_is_for_the_text_whichever_way_the_line_ends(ending: bytes, step: int) -> None:
    for size, cut in ((LIMIT, False), (LIMIT + 1, True)):
        data = b"a\n" + b"x" * size + ending + b"b\n"
        framer = LineFramer(LIMIT)
        segments = [s for at in range(0, len(data), step) for s in framer.feed(data[at : at + step])]
        line = lines_of(segments)[1]
        assert line == (2, len(data) - 2, b"x" * LIMIT if cut else data[2:-2], Flag.CUT if cut else Flag.LINES)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        pytest.param(b"x" * 63 + "ä".encode(), 63, id="two bytes"),
        pytest.param(b"x" * 62 + "€".encode(), 62, id="three bytes"),
        pytest.param(b"x" * 61 + "𝄞".encode(), 61, id="four bytes"),
        pytest.param(b"x" * 63 + b"\xc3y", 63, id="a first byte without its second"),
        pytest.param(b"x" * 62 + "ä".encode() + b"y", 64, id="a character that ends at the limit"),
        pytest.param(b"\x80" * 65, 64, id="no UTF-8 at all"),
    ],
)
def test_a_cut_is_made_between_characters(line: bytes, kept: int) -> None:
    (segment,) = LineFramer(LIMIT).feed(line + b"\n")
    assert segment.flags == Flag.CUT
    assert (segment.data, segment.start, segment.end) == (line[:kept], 0, len(line) + 1)


def test_an_endless_line_takes_no_more_memory_than_the_limit() -> None:
    """A megabyte by single bytes, then in large pieces: neither its bytes nor a list of its pieces is kept."""
    framer = LineFramer(LIMIT)
    for _ in range(5000):
        assert framer.feed(b"x") == []
    for _ in range(16):
        assert framer.feed(b"x" * (1 << 16)) == []
    assert framer._held_bytes == sum(map(len, framer._held)) == LIMIT + 2
    assert framer.pending == 5000 + (1 << 20)
    (segment,) = framer.feed(b"\n")
    assert (segment.flags, segment.data, segment.end) == (Flag.CUT, b"x" * LIMIT, 5001 + (1 << 20))


def test_a_writer_that_goes_byte_by_byte_costs_no_list_entry_a_byte() -> None:
    framer = LineFramer(1 << 20)
    for _ in range(5000):
        framer.feed(b"x")
    assert len(framer._held) <= 1025
    assert b"".join(framer._held) == b"x" * 5000


def test_many_short_lines_stay_one_segment_of_the_very_same_bytes() -> None:
    """Splitting is the view's business, and copying nobody's."""
    data = b"line\n" * 1000
    (segment,) = LineFramer(LIMIT).feed(data)
    assert segment.data is data


# -- the unfinished line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "out", "kept"),
    [
        pytest.param(b"abc", b"abc", 0, id="text goes out"),
        pytest.param(b"abc\r", b"abc", 1, id="half of a CRLF stays"),
        pytest.param(b"abc\xe2\x82", b"abc", 2, id="an unfinished character stays"),
        pytest.param(b"abc\xff", b"abc\xff", 0, id="what is no UTF-8 goes out"),
        pytest.param(b"x" * LIMIT + b"yz", b"x" * LIMIT, 0, id="a line over the limit goes out, cut"),
    ],
)
def test_after_a_silence_the_unfinished_line_goes_out_but_for_unfinished_characters(
    begun: bytes, out: bytes, kept: int
) -> None:
    framer = LineFramer(LIMIT)
    assert framer.feed(begun) == []
    (segment,) = framer.flush_partial()
    assert (segment.data, segment.start, framer.pending) == (out, 0, kept)
    assert segment.flags & Flag.PARTIAL
    assert bool(segment.flags & Flag.CUT) == (len(begun) > LIMIT)
    assert segment.marker == begun[: len(begun) - kept][-MARKER_BYTES:]
    assert framer.is_continuing
    assert framer.flush_partial() == []
    (rest,) = framer.feed(b"!\n")
    assert (rest.flags, rest.data) == (Flag.CONTINUED, begun[len(begun) - kept :] * bool(kept) + b"!\n")
    assert not framer.is_continuing


@pytest.mark.parametrize("data", [b"", b"a\n", b"\r", b"\xe2\x82"], ids=repr)
def test_a_silence_after_nothing_that_can_be_shown_says_nothing(data: bytes) -> None:
    framer = LineFramer(LIMIT)
    framer.feed(data)
    assert framer.flush_partial() == []
    assert not framer.is_continuing


def test_the_death_of_the_file_lets_go_of_everything() -> None:
    """Also of the half characters that a silence keeps back."""
    framer = LineFramer(LIMIT)
    framer.feed(b"abc\r")
    framer.flush_partial()
    (segment,) = framer.finish()
    assert (segment.data, segment.flags) == (b"\r", Flag.PARTIAL | Flag.CONTINUED)
    assert framer.finish() == []
    assert framer.is_continuing


def test_feeding_nothing_does_nothing() -> None:
    framer = LineFramer(LIMIT)
    assert framer.feed(b"") == []
    assert (framer.offset, framer.start, framer.marker) == (0, 0, b"")


def test_the_byte_order_mark_is_the_views_business() -> None:
    (segment,) = LineFramer(LIMIT).feed(b"\xef\xbb\xbfa\n")
    assert segment.data == b"\xef\xbb\xbfa\n"


# -- holes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        pytest.param(b"\0\0a\n", [(0, 2, b"", Flag.HOLE), (2, 4, b"a\n", Flag.LINES)], id="any run at the start"),
        pytest.param(b"a\n\0\0b\n", [(0, 2, b"a\n", Flag.LINES), (2, 6, b"\0\0b\n", Flag.LINES)], id="a short run"),
        pytest.param(b"a\0\0\n", [(0, 4, b"a\0\0\n", Flag.LINES)], id="a run within a line"),
        pytest.param(
            b"a\n" + bytes(HOLE_BYTES) + b"b\n",
            [(0, 2, b"a\n", Flag.LINES), (2, 4098, b"", Flag.HOLE), (4098, 4100, b"b\n", Flag.LINES)],
            id="a page at the start of a line",
        ),
        pytest.param(
            b"a\n" + bytes(HOLE_BYTES - 1) + b"\n",
            [(0, 2, b"a\n", Flag.LINES), (2, 4098, bytes(HOLE_BYTES - 1) + b"\n", Flag.LINES)],
            id="a byte less than a page",
        ),
    ],
)
def test_a_hole_is_a_run_of_nuls_where_a_line_would_begin(data: bytes, lines: list[Line]) -> None:
    assert lines_of(LineFramer(1 << 20).feed(data)) == lines


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"", id="at the start of the file"),
        pytest.param(b"a\n" + bytes(HOLE_BYTES), id="in a hole"),
        pytest.param(b"a\n" + bytes(100), id="behind NULs that may be a hole"),
        pytest.param(b"abc", id="within a line"),
    ],
)
@given(rest=st.sampled_from([b"", b"x", b"x\n", b"\0x\n", b"\n"]), limit=limits)
def test_nuls_that_the_file_system_knows_need_not_be_read(before: bytes, rest: bytes, limit: int) -> None:
    """Skipping them says the same as reading them, at no cost in memory."""
    count = HOLE_BYTES * 3
    data = before + bytes(count) + rest
    read, skipped = LineFramer(limit), LineFramer(limit)
    wanted = read.feed(before) + read.feed(bytes(count)) + read.feed(rest) + read.finish()
    got = skipped.feed(before) + skipped.skip_nuls(count)
    assert skipped._held_bytes <= limit + 2
    got += skipped.feed(rest) + skipped.finish()
    assert_sound(got, data)
    assert lines_of(got) == lines_of(wanted)


def test_no_nuls_at_all_are_no_hole() -> None:
    framer = LineFramer(LIMIT)
    framer.feed(b"a\n")
    assert framer.skip_nuls(0) == []
    assert (framer.offset, framer.start) == (2, 2)


def test_a_hole_within_a_line_that_went_out_in_part_belongs_to_the_line() -> None:
    framer = LineFramer(LIMIT)
    framer.feed(b"abc")
    framer.flush_partial()
    assert not framer.may_skip_nuls
    assert framer.skip_nuls(10) == []
    (segment,) = framer.feed(b"d\n")
    assert (segment.data, segment.flags) == (bytes(10) + b"d\n", Flag.CONTINUED)


# -- UTF-8 ------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=4), st.characters(codec="utf-8"))
def test_exactly_the_first_bytes_of_a_character_are_incomplete(text: str, character: str) -> None:
    data = character.encode()
    for size in range(len(data) + 1):
        assert incomplete_utf8(text.encode() + data[:size]) == size % len(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x80", id="a continuation byte alone"),
        pytest.param(b"\x80\x80\x80\x80", id="continuation bytes only"),
        pytest.param(b"\xff", id="a byte that begins nothing"),
        pytest.param(b"\xc3\xa4\x80", id="a continuation byte too many"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_cannot_become_a_character_is_not_waited_for(data: bytes) -> None:
    assert incomplete_utf8(data) == 0
