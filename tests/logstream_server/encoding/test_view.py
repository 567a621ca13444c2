"""view: every line once, in order and readable, in each of the three formats; compared with a slow, plain reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logstream_server.encoding.frames import Opcode, parse_server_frames
from logstream_server.encoding.view import BOM, Encoded, Format, View, clean_text, encode, entry_text, split_lines
from logstream_server.lines.cursor import Generation, Positions, cursor_at, parse_cursor
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import Flag, LineFramer, Segment
from logstream_server.lines.ring import Entry, EventKind, Ring, StreamEvent, advance

LIMIT = 16
FILTERS = [
    LineFilter(),
    LineFilter(("x",)),
    LineFilter((), ("x",)),
    LineFilter(("^a",), ("b$",)),
    LineFilter(("\ufffd",)),
]
GAP = StreamEvent(EventKind.GAP, "so much is gone", 17)


@dataclass
class Log:
    """A stream that is written by hand."""

    ring: Ring = field(default_factory=lambda: Ring(1 << 30))

    def __post_init__(self) -> None:
        self._ids = count(1)
        self.begin()
        self.ring.append(self.generation, 0, 0)  # a file was found: no line, no event

    def begin(self) -> None:
        """Another file from here on."""
        self.generation, self.framer = Generation(next(self._ids)), LineFramer(LIMIT)

    def add(self, segments: Sequence[Segment]) -> Log:
        for s in segments:
            lines = s.data.count(b"\n") if not s.flags else int(not s.flags & Flag.HOLE)
            self.ring.append(self.generation, s.start, s.end, s.data, s.marker, s.flags, lines=lines)
        return self

    def write(self, data: bytes) -> Log:
        return self.add(self.framer.feed(data))

    def silence(self) -> Log:
        return self.add(self.framer.flush_partial())

    def die(self) -> Log:
        """The file ends, another one takes its place."""
        self.add(self.framer.finish())
        self.generation.end = self.framer.start
        self.ring.append(None, 0, 0, event=StreamEvent(EventKind.RETIRED), retires=self.generation)
        self.begin()
        return self

    def event(self, event: StreamEvent) -> Log:
        self.ring.append(None, 0, 0, event=event)
        return self

    @property
    def entries(self) -> list[Entry]:
        return self.ring.entries()


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """What a stream may consist of."""
    text = st.one_of(
        st.binary(max_size=5),
        st.text(max_size=5).map(str.encode),
        st.sampled_from([b"a\n", b"ax\r\n", b"b\r", b"\n", b"\r\n", b"\r\r\n", BOM, b"\0", b"\xff\n", b"\xe2\x82"]),
        st.integers(LIMIT - 2, LIMIT + 3).map(lambda size: b"l" * size),
        st.just(bytes(5000)),
    )
    log = Log()
    for step in draw(st.lists(st.one_of(text, text, st.sampled_from(["silence", "die", "gap", "event"])), max_size=12)):
        if isinstance(step, bytes):
            log.write(step)
        elif step == "silence":
            log.silence()
        elif step == "die":
            log.die()
        else:
            log.event(GAP if step == "gap" else StreamEvent(EventKind.DELETED, "it is gone"))
    return log.entries


# -- the reference ----------------------------------------------------------------------------------------------------


def content(entry: Entry) -> bytes:
    """What an entry says, without the file's mark."""
    return entry.data[3:] if entry.start == 0 and entry.data[:3] == b"\xef\xbb\xbf" else entry.data


def bare(line: bytes) -> str:
    """A line as a person reads it: without its end, replacement characters for what is not UTF-8."""
    if line.endswith(b"\r\n"):
        line = line[:-2]
    elif line.endswith(b"\n"):
        line = line[:-1]
    return line.decode("utf-8", "replace")


def lines_of(entry: Entry) -> list[str]:
    """The lines of an entry, one after the other."""
    if entry.event is not None or entry.flags & Flag.HOLE or (entry.flags & Flag.PARTIAL and not content(entry)):
        return []  # also for a byte order mark with nothing behind it yet
    if entry.flags:
        return [bare(content(entry))]
    return [bare(line + b"\n") for line in content(entry).split(b"\n")[:-1]]


def passes(chosen: LineFilter, line: str) -> bool:
    return chosen.matches(line.encode())


def show(entries: Sequence[Entry], view: View, begin: Positions = ()) -> Encoded:
    """Encode, and see that where the reader is and how far it came agree."""
    encoded = encode(view, "a.log", entries, begin)
    positions = begin
    for entry in entries[: encoded.count]:
        positions = advance(positions, entry)
    assert encoded.end == positions
    assert encoded.size == len(encoded.frames + encoded.body)
    return encoded


def until_gap(entries: Sequence[Entry]) -> list[Entry]:
    """The entries up to the first loss, with it."""
    at = next((i for i, e in enumerate(entries) if e.event is not None and e.event.kind is EventKind.GAP), len(entries))
    return list(entries[: at + 1])


# -- text -------------------------------------------------------------------------------------------------------------


@given(logs(), st.sampled_from(FILTERS))
@example(Log().write(b"b\r").die().entries, FILTERS[0])
@example(Log().write(BOM).silence().entries, FILTERS[0])
@example(Log().write(b"l" * (LIMIT - 1) + b"\rl\n").entries, FILTERS[0])
@example(Log().write(b"a").silence().write(b"\nb").silence().write(b"\r\n").entries, FILTERS[0])
def test_text_is_one_frame_a_line(entries: list[Entry], chosen: LineFilter) -> None:
    encoded = show(entries, View(Format.TEXT, chosen))
    wanted = []
    for entry in until_gap(entries):
        # Of a line that went out before, its mere end is nothing to see.
        if not (entry.flags & Flag.CONTINUED and content(entry) in (b"\n", b"\r\n")):
            wanted += [line for line in lines_of(entry) if passes(chosen, line)]
    messages = parse_server_frames(encoded.frames + encoded.body)
    assert all(message.opcode is Opcode.TEXT for message in messages)
    assert [message.payload.decode() for message in messages] == wanted
    assert encoded.lines == len(wanted)


@given(logs())
def test_a_loss_ends_what_a_plain_reader_gets(entries: list[Entry]) -> None:
    for format_ in (Format.TEXT, Format.RAW):
        encoded = show(entries, View(format_, LineFilter(("",))))
        stop = until_gap(entries)
        if encoded.needs_file is None:
            assert encoded.count == len(stop)
            assert encoded.gap == (stop[-1].event if stop and stop[-1].event == GAP else None)
            assert encoded.losses == ((GAP,) if encoded.gap else ())


@given(logs())
def test_a_json_reader_is_told_of_all_losses_and_none_ends_it(entries: list[Entry]) -> None:
    encoded = show(entries, View(Format.JSON))
    assert encoded.gap is None
    assert encoded.losses == tuple(entry.event for entry in entries if entry.event == GAP)


# -- json -------------------------------------------------------------------------------------------------------------


@given(logs(), st.sampled_from(FILTERS))
@example(Log().write(BOM + b"a").silence().entries, FILTERS[0])
def test_json_tells_every_line_with_its_remarks(entries: list[Entry], chosen: LineFilter) -> None:
    encoded = show(entries, View(Format.JSON, chosen))
    assert encoded.count == len(entries)
    wanted: list[tuple[Any, ...]] = []
    for entry in entries:
        if entry.event is not None:
            if entry.event.kind is EventKind.GAP:
                wanted.append(("gap", 17))
            elif entry.event.kind is not EventKind.RETIRED:
                wanted.append(("event", entry.event.kind.value))
            continue
        remarks = (
            bool(entry.flags & Flag.PARTIAL),
            bool(entry.flags & Flag.CONTINUED),
            [[0, entry.end - entry.start]] if entry.flags & Flag.CUT else None,
        )
        wanted += [(line, *remarks) for line in lines_of(entry) if passes(chosen, line)]
    got: list[tuple[Any, ...]] = []
    for opcode, payload in parse_server_frames(encoded.frames + encoded.body):
        assert opcode is Opcode.TEXT
        message = json.loads(payload)
        assert message["stream"] == "a.log"
        if message["type"] == "gap":
            got.append(("gap", message["bytes"]))
        elif message["type"] == "event":
            got.append(("event", message["event"]))
        else:
            assert message["lines"], "a batch without lines says nothing"
            remarks = (message.get("partial", False), message.get("continued", False), message.get("cut"))
            got += [(line, *remarks) for line in message["lines"]]
    assert got == wanted
    assert encoded.lines == sum(1 for each in wanted if each[0] not in ("gap", "event") or len(each) > 2)


@given(logs())
def test_each_json_message_carries_the_cursor_behind_it(entries: list[Entry]) -> None:
    """A client that comes back with it gets what followed, so no cursor may be ahead of what was said, nor behind."""
    encoded = show(entries, View(Format.JSON))
    wanted = []
    positions: Positions = ()
    for entry, following in zip_longest(entries, entries[1:]):
        positions = advance(positions, entry)
        joined = (
            following is not None
            and not (entry.flags or following.flags)
            and entry.event is None is following.event
            and following.generation is entry.generation
        )
        silent = not entry.data if entry.event is None else entry.event.kind is EventKind.RETIRED
        silent = silent or (entry.start == 0 and entry.data == BOM)  # a byte order mark and nothing else yet
        if not joined and not silent:
            wanted.append(cursor_at("a.log", positions))
    messages = [json.loads(message.payload) for message in parse_server_frames(encoded.frames + encoded.body)]
    assert [parse_cursor(message["cursor"]) for message in messages] == wanted


def test_a_batch_tells_where_its_first_line_begins() -> None:
    log = Log().write(b"a\nb\n").write(b"c\n").silence().write(b"d").silence().write(b"e\nf\n")
    messages = [json.loads(m.payload) for m in parse_server_frames(show(log.entries, View(Format.JSON)).frames)]
    assert [(m["offset"], m["lines"]) for m in messages] == [(0, ["a", "b", "c"]), (6, ["d"]), (7, ["e"]), (9, ["f"])]


# -- raw --------------------------------------------------------------------------------------------------------------


@given(logs())
@example(Log().write(bytes(5000) + b"a\n").entries)
def test_raw_is_the_files_own_bytes(entries: list[Entry]) -> None:
    """As far as they are in memory: of a line that was cut the rest is only in the file."""
    encoded = show(entries, View(Format.RAW))
    stop = until_gap(entries)
    at = next((i for i, entry in enumerate(stop) if entry.flags & Flag.CUT), None)
    assert encoded.needs_file is (None if at is None else stop[at])
    assert encoded.count == (len(stop) if at is None else at)
    payload = b"".join(entry.data for entry in stop[: encoded.count])
    assert parse_server_frames(encoded.frames + encoded.body) == ([(Opcode.BINARY, payload)] if payload else [])


@given(logs(), st.sampled_from(FILTERS[1:]))
@example(Log().write(b"l" * 20 + b"\nx\n").entries, LineFilter((), ("l",)))
@example(Log().write(b"xy").die().write(b"z\n").entries, LineFilter(("x",)))
def test_raw_with_a_filter_is_the_bytes_of_the_lines_that_pass(entries: list[Entry], chosen: LineFilter) -> None:
    """Of a line that was cut, its beginning; it ends nevertheless, or the next would be part of it."""
    encoded = show(entries, View(Format.RAW, chosen))
    payload = b""
    for entry in until_gap(entries):
        pieces = [entry.data] if entry.flags else [line + b"\n" for line in entry.data.split(b"\n")[:-1]]
        for piece in pieces:
            if piece and passes(chosen, piece.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")):
                payload += piece
                if entry.flags & Flag.CUT and not entry.flags & Flag.PARTIAL:
                    payload += b"\n"
    assert parse_server_frames(encoded.frames + encoded.body) == ([(Opcode.BINARY, payload)] if payload else [])
    assert encoded.needs_file is None


# -- one by one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", Format)
def test_nothing_to_say_is_no_frame(format_: Format) -> None:
    assert show([], View(format_)) == Encoded(b"", (), 0)
    assert show(Log().write(b"a\n").entries, View(format_, LineFilter(("x",)))).frames == b""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"a\r\nb\n", b"a\nb\n", id="a carriage return before the newline goes"),
        pytest.param(b"a\r\r\n", b"a\r\n", id="one of them"),
        pytest.param(b"a\rb\n", b"a\rb\n", id="one within a line stays"),
        pytest.param("zwölf €\n".encode(), "zwölf €\n".encode(), id="UTF-8 stays"),
        pytest.param(b"\xff\n", "\ufffd\n".encode(), id="what is not UTF-8 is replaced"),
        pytest.param(b"\xe2\x82\n", "\ufffd\n".encode(), id="half a character"),
        pytest.param(b"\xed\xa0\x80\n", "\ufffd\ufffd\ufffd\n".encode(), id="a surrogate"),
        pytest.param(b"a\0b\n", b"a\0b\n", id="a NUL is a character like others"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_text_is_clean(data: bytes, text: bytes) -> None:
    assert clean_text(data) == text
    text.decode()


@given(st.binary(max_size=30))
def test_clean_text_can_be_sent_as_text(data: bytes) -> None:
    clean_text(data).decode()


def test_text_that_is_clean_is_not_copied() -> None:
    data = "zwölf\n".encode()
    assert clean_text(data) is data


def test_lines_are_split_at_newlines_only() -> None:
    assert split_lines(b"") == []
    assert split_lines(b"a\n\nb\x0b\x0c\r\x85\n") == [b"a", b"", b"b\x0b\x0c\r\x85"]


@pytest.mark.parametrize(
    ("start", "text"),
    [
        pytest.param(0, b"a\n", id="at the start of the file it is a mark"),
        pytest.param(3, BOM + b"a\n", id="elsewhere it is a character"),
    ],
)
def test_a_byte_order_mark_is_not_shown_as_text(start: int, text: bytes) -> None:
    _, entry = Log().write(BOM + b"a\n").entries
    moved = Entry(0, entry.generation, start, start + 5, entry.data, b"", Flag.LINES, None, None, 5)
    assert entry_text(moved) == text
    assert show([moved], View(Format.TEXT)).frames[2:] == text[:-1]


def test_equal_views_are_equal() -> None:
    """They share a channel."""
    assert View(Format.TEXT, LineFilter(("a",))) == View(Format.TEXT, LineFilter(("a",)))
    assert hash(View(Format.JSON)) == hash(View(Format.JSON))
    assert View(Format.JSON) != View(Format.TEXT)
