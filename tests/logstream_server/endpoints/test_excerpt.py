"""excerpt: a page ends exactly where its cursor says, and is the same from the ring and from the file."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.endpoints.excerpt import Collector, Excerpt
from logstream_server.lines.catchup import undelivered
from logstream_server.lines.cursor import Generation, Position, Positions
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import Flag, LineFramer, Segment
from logstream_server.lines.ring import Entry, EventKind, Ring, StreamEvent

MIB = 1 << 20
NO_FILTER = LineFilter()


@dataclass
class Source:
    """A stream that is written by hand: each `feed` is what one look at the file gave."""

    max_line_bytes: int = MIB
    ring: Ring = field(default_factory=lambda: Ring(1 << 30))
    data: bytes = b""

    def __post_init__(self) -> None:
        self.begin_file()

    def begin_file(self) -> Generation:
        """Another file from here on."""
        self.generation = Generation(self.ring.head()[0] + 1)
        self.framer = LineFramer(self.max_line_bytes)
        self.data = b""
        return self.generation

    def feed(self, data: bytes) -> Source:
        """More bytes of the file."""
        self.data += data
        return self._append(self.framer.feed(data))

    def silence(self) -> Source:
        """Nothing has come for a while: the unfinished line goes out."""
        return self._append(self.framer.flush_partial())

    def finish(self) -> Source:
        """The file has ended."""
        self._append(self.framer.finish())
        self.generation.end = self.framer.start
        self.ring.append(None, 0, 0, event=StreamEvent(EventKind.RETIRED), retires=self.generation)
        return self

    def event(self, kind: EventKind, lost_bytes: int | None = None) -> Source:
        """Something else."""
        self.ring.append(None, 0, 0, event=StreamEvent(kind, "so it is", lost_bytes))
        return self

    def _append(self, segments: list[Segment]) -> Source:
        for each in segments:
            self.ring.append(self.generation, each.start, each.end, each.data, each.marker, each.flags)
        return self


def page(
    source: Source,
    begin: Positions = (),
    max_lines: int | None = None,
    chosen: LineFilter = NO_FILTER,
    max_bytes: int = MIB,
) -> Excerpt:
    """The next lines from `begin`, all from the ring."""
    collector = Collector(begin, chosen, max_lines, max_bytes)
    entries = undelivered(source.ring.entries(), begin)
    took_all = collector.take(entries)
    return collector.excerpt(collector.positions, more=not took_all)


def lines_of(data: bytes) -> list[str]:
    """What a page from the file's first byte to its last shows."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    ended = [line[:-1] if line.endswith(b"\r") else line for line in lines]
    if ended and not data.endswith(b"\n"):
        ended[-1] = lines[-1]
    return [line.decode("utf-8", "replace") for line in ended]


def offset_of(positions: Positions, generation: Generation) -> int:
    return next(p.offset for p in positions if p.generation is generation)


# -- any bytes, cut anywhere ------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.one_of(
        st.none(),
        st.binary(max_size=8).map(lambda data: data.replace(b"\0", b"0")),  # a hole is the framer's business
        st.sampled_from(
            [b"a\n", b"long line of text\n", b"\r\n", b"\n", "zwölf\n".encode(), b"\xff\xfe\n", b"\xef\xbb\xbf"]
        ),
    ),
    max_size=30,
)
"""What the file got from one look to the next; None: a silence."""


@given(PIECES, st.integers(1, 7))
def test_pages_put_together_are_the_lines_of_the_file(pieces: list[bytes | None], limit: int) -> None:
    """However it was written, wherever a line was held or let go, and wherever the limit falls."""
    source = Source()
    for piece in pieces:
        if piece is None:
            source.silence()
        else:
            source.feed(piece)
    source.finish()
    shown: list[str] = []
    at: Positions = ()
    while True:
        excerpt = page(source, at, limit)
        assert len(excerpt.lines) <= limit
        assert not excerpt.partial
        assert not excerpt.continued
        shown += excerpt.lines
        at = excerpt.end
        if not excerpt.more:
            break
        assert len(excerpt.lines) == limit
        (position,) = at
        assert source.data[: position.offset].endswith(b"\n")
        assert position.marker == source.data[: position.offset][-32:]
    assert shown == lines_of(source.data)


@given(PIECES, st.integers(1, 4), st.sampled_from(["a", "l.*x", "z"]))
def test_pages_with_a_filter_are_the_lines_that_pass(pieces: list[bytes | None], limit: int, pattern: str) -> None:
    """A line that was let go unfinished is judged as a whole."""
    source = Source()
    for piece in pieces:
        if piece is None:
            source.silence()
        else:
            source.feed(piece)
    source.finish()
    chosen = LineFilter((pattern,))
    shown: list[str] = []
    at: Positions = ()
    more = True
    while more:
        excerpt = page(source, at, limit, chosen)
        shown += excerpt.lines
        at, more = excerpt.end, excerpt.more
    lines = lines_of(source.data)
    assert shown == [lines[i] for i in chosen.select([line.encode() for line in lines])]


# -- the end of a page ------------------------------------------------------------------------------------------------


def test_a_limit_within_an_entry_ends_the_page_within_it() -> None:
    source = Source().feed(b"one\ntwo\nthree\n")
    excerpt = page(source, max_lines=2)
    assert excerpt == Excerpt(["one", "two"], (Position(source.generation, 8, b"one\ntwo\n"),), more=True)
    assert page(source, excerpt.end).lines == ["three"]


def test_the_marker_of_a_page_reaches_back_over_earlier_entries() -> None:
    source = Source().feed(b"x" * 40 + b"\n").feed(b"a\nb\n")
    excerpt = page(source, max_lines=2)
    (position,) = excerpt.end
    assert position.marker == (b"x" * 40 + b"\na\n")[-32:]


def test_a_page_without_room_takes_nothing() -> None:
    source = Source().feed(b"one\n")
    assert page(source, max_lines=0) == Excerpt([], (), more=True)


def test_a_page_ends_with_the_entry_that_makes_it_too_long() -> None:
    source = Source().feed(b"x" * 50 + b"\n").feed(b"y" * 50 + b"\n").feed(b"z\n")
    excerpt = page(source, max_bytes=60)
    assert [line[0] for line in excerpt.lines] == ["x", "y"]
    assert excerpt.more


# -- lines with a remark ----------------------------------------------------------------------------------------------


def test_an_unfinished_last_line_is_partial_and_its_rest_continued() -> None:
    source = Source().feed(b"one\ntw").silence()
    excerpt = page(source)
    assert (excerpt.lines, excerpt.partial, excerpt.more) == (["one", "tw"], True, False)
    source.feed(b"o\nthree\n")
    rest = page(source, excerpt.end)
    assert (rest.lines, rest.partial, rest.continued) == (["o", "three"], False, True)


def test_a_line_that_came_in_parts_is_one_line_when_all_parts_are_there() -> None:
    source = Source().feed(b"on").silence().feed(b"e a").silence().feed(b"nd all\r\n")
    excerpt = page(source)
    assert (excerpt.lines, excerpt.partial, excerpt.continued) == (["one and all"], False, False)


def test_what_happened_between_the_parts_of_a_line_does_not_cut_it() -> None:
    source = Source().feed(b"on").silence().event(EventKind.UNREADABLE).feed(b"e\n")
    assert page(source).lines == ["one"]


def test_only_a_newline_that_came_late_is_an_empty_continued_line() -> None:
    source = Source().feed(b"one").silence()
    first = page(source)
    rest = page(source.feed(b"\ntwo\n"), first.end)
    assert (rest.lines, rest.continued) == (["", "two"], True)


def test_the_unfinished_last_line_of_a_file_that_has_ended_is_a_line() -> None:
    source = Source().feed(b"one\ntwo").finish()
    source.begin_file()
    source.feed(b"three\n")
    excerpt = page(source)
    assert (excerpt.lines, excerpt.partial, excerpt.more) == (["one", "two", "three"], False, False)


def test_lines_of_two_files_that_are_written_in_turn_are_told_apart_by_pages() -> None:
    """The old file's writer ends its line when the new file has lines already: the rest begins a page of its own."""
    source = Source().feed(b"old 1").silence()
    old, framer = source.generation, source.framer
    source.begin_file()
    source.feed(b"new 1\n")
    source.generation, source.framer = old, framer
    source.feed(b" and more\nold 2\n")
    pages = []
    at: Positions = ()
    more = True
    while more:
        excerpt = page(source, at)
        pages.append((excerpt.lines, excerpt.partial, excerpt.continued))
        at, more = excerpt.end, excerpt.more
    assert pages == [
        (["old 1"], True, False),
        (["new 1"], False, False),
        ([" and more", "old 2"], False, True),
    ]


def test_a_line_over_the_limit_is_cut_and_its_length_told() -> None:
    source = Source(max_line_bytes=10).feed(b"a\n" + b"x" * 30 + b"\nb\n")
    excerpt = page(source)
    assert (excerpt.lines, excerpt.cut) == (["a", "x" * 10, "b"], ((1, 31),))


def test_a_line_over_the_limit_that_came_in_parts_is_cut_once() -> None:
    source = Source(max_line_bytes=10).feed(b"x" * 20).silence().feed(b"y" * 5 + b"\n")
    excerpt = page(source)
    assert (excerpt.lines, excerpt.cut) == (["x" * 10], ((0, 26),))


def test_lines_of_a_page_keep_their_remarks() -> None:
    source = Source(max_line_bytes=10).feed(b"a\n" + b"x" * 30 + b"\nb\nc").silence()
    collector = Collector((), NO_FILTER, None, MIB)
    assert collector.take(source.ring.entries())
    excerpt = collector.excerpt((), more=False)
    assert (excerpt.lines, excerpt.cut, excerpt.partial) == (["a", "x" * 10, "b", "c"], ((1, 31),), True)


def test_a_hole_is_no_line() -> None:
    source = Source().feed(b"one\n")
    end = source.framer.offset
    source.ring.append(source.generation, end, end + 4096, b"", b"\0" * 32, Flag.HOLE)
    assert page(source).lines == ["one"]
    assert offset_of(page(source).end, source.generation) == end + 4096


def test_a_loss_ends_the_page_and_is_told() -> None:
    source = Source().feed(b"one\n").event(EventKind.GAP, 7).feed(b"two\n")
    excerpt = page(source)
    assert excerpt.lines == ["one"]
    assert excerpt.more
    assert excerpt.gap is not None
    assert excerpt.gap.lost_bytes == 7
    # What comes behind it is asked for with the position behind it: the events before it are not told again.
    after = [entry for entry in source.ring.entries() if entry.seq > 1]
    collector = Collector(excerpt.end, NO_FILTER, None, MIB)
    assert collector.take(undelivered(after, excerpt.end))
    assert collector.excerpt((), more=False).lines == ["two"]


def test_bytes_that_are_lost_are_skipped_and_the_page_ends_there() -> None:
    source = Source().feed(b"one\n")
    collector = Collector((Position(source.generation, 0),), NO_FILTER, None, MIB)
    collector.end_in_gap((Position(source.generation, 4),), StreamEvent(EventKind.GAP, "gone", 4))
    assert collector.is_full
    assert not collector.take(source.ring.entries())
    excerpt = collector.excerpt(collector.positions, more=True)
    assert (excerpt.lines, offset_of(excerpt.end, source.generation)) == ([], 4)


@pytest.mark.parametrize("begin", [b"\xef\xbb\xbf", b""], ids=["with a byte order mark", "without"])
def test_a_byte_order_mark_is_no_text(begin: bytes) -> None:
    assert page(Source().feed(begin + b"one\n")).lines == ["one"]
    assert page(Source().feed(begin + b"one").silence()).lines == ["one"]
    assert page(Source().feed(begin).silence()).lines == []


def test_entries_are_not_changed() -> None:
    source = Source().feed(b"one\ntwo\n")
    before: list[Entry] = source.ring.entries()
    page(source, max_lines=1)
    assert source.ring.entries() == before
