"""catchup: file first, then ring, and wherever a reader begins it gets what it lacks, once and in order.

Checked against what was written: a model of files that grow, are rotated, truncated and let go of, with a ring that
holds little of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.lines.catchup import (
    Leg,
    distance_bytes,
    first_needed,
    is_ahead,
    moved,
    plan,
    same_place,
    undelivered,
    walk,
)
from logstream_server.lines.cursor import Generation, Position, Positions
from logstream_server.lines.framing import MARKER_BYTES, Flag, LineFramer, Segment
from logstream_server.lines.ring import Base, Entry, EventKind, Ring, StreamEvent

LIMIT = 1 << 20


@dataclass
class Files:
    """Files and the stream that was made of them; what was in files that are gone is kept, as a rotation keeps it."""

    ring: Ring
    contents: dict[Generation, bytes] = field(default_factory=dict)
    open: list[Generation] = field(default_factory=list)
    framers: dict[Generation, LineFramer] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ids = count(1)

    def _append(self, generation: Generation | None, start: int, *, event: StreamEvent | None, over: object) -> None:
        marker = b"" if generation is None else self.framers[generation].marker
        retires = over if isinstance(over, Generation) else None
        self.entries.append(self.ring.append(generation, start, start, marker=marker, event=event, retires=retires))

    def _add(self, generation: Generation, segments: list[Segment]) -> None:
        for s in segments:
            self.entries.append(self.ring.append(generation, s.start, s.end, s.data, s.marker, s.flags))

    def begin(self, kept: bytes = b"", *, history: bool = False, over: Generation | None = None) -> None:
        """A file is at the path. `kept`: it has these bytes already; `history`: and they are to be had from it."""
        generation = Generation(next(self._ids), begin=0 if history else len(kept))
        self.contents[generation] = kept
        self.framers[generation] = LineFramer(LIMIT, len(kept), kept[-MARKER_BYTES:])
        if over is not None:
            self.open.remove(over)
        self.open.append(generation)
        self._append(generation, len(kept), event=StreamEvent(EventKind.ROTATED), over=over)

    def write(self, generation: Generation, data: bytes) -> None:
        self.contents[generation] += data
        self._add(generation, self.framers[generation].feed(data))

    def silence(self, generation: Generation) -> None:
        self._add(generation, self.framers[generation].flush_partial())

    def _finish(self, generation: Generation) -> None:
        self._add(generation, self.framers[generation].finish())
        generation.end = self.framers[generation].start

    def truncate(self, to: int) -> None:
        """The newest is cut off, or emptied: a new generation of the same name."""
        old = self.open[-1]
        self._finish(old)
        self.begin(self.contents[old][:to], over=old)

    def retire(self, generation: Generation) -> None:
        self._finish(generation)
        self.open.remove(generation)
        self._append(None, 0, event=StreamEvent(EventKind.RETIRED), over=generation)

    def act(self, kind: str, number: int) -> None:
        """One thing happens."""
        generation = self.open[number % len(self.open)]
        if kind == "write":
            self.write(generation, (b"a\n", b"bc\nde\n", b"f", b"\n", b"gh\ni" * 20)[number % 5])
        elif kind == "silence":
            self.silence(generation)
        elif kind == "rotate" and len(self.open) < 3:
            self.begin()
        elif kind == "truncate":
            self.truncate(min(number, self.framers[self.open[-1]].start) if number % 2 else 0)
        elif kind == "retire" and len(self.open) > 1:
            self.retire(self.open[number % (len(self.open) - 1)])
        elif kind == "event":
            self._append(None, 0, event=StreamEvent(EventKind.DELETED), over=None)

    def known(self, generation: Generation) -> int:
        """How far the stream tells of a generation."""
        return self.framers[generation].start

    def marker(self, generation: Generation, offset: int) -> bytes:
        return self.contents[generation][max(0, offset - MARKER_BYTES) : offset]

    def begins(self, positions: Positions, generation: Generation) -> int:
        """The first byte of a generation that a reader at `positions` lacks."""
        for position in positions:
            if position.generation is generation:
                return position.offset
        newest = max((p.generation.id for p in positions), default=0)
        return generation.begin if generation.id > newest else self.known(generation)


actions = st.tuples(
    st.sampled_from(["write"] * 6 + ["silence", "rotate", "rotate", "truncate", "retire", "retire", "event"]),
    st.integers(0, 40),
)


@st.composite
def histories(draw: st.DrawFn) -> Files:
    files = Files(Ring(draw(st.sampled_from([1, 900, 2500, 1 << 20]))))
    files.begin(draw(st.sampled_from([b"", b"old\nolder\n", b"x"])), history=True)
    for kind, number in draw(st.lists(actions, max_size=30)):
        files.act(kind, number)
    return files


@st.composite
def readers(draw: st.DrawFn) -> tuple[Files, Positions]:
    """Somebody who was told of everything up to some moment, or of a little less."""
    files = draw(histories())
    positions = walk(files.entries[: draw(st.integers(0, len(files.entries)))], ())
    out = []
    for position in positions:
        generation = position.generation
        offset = draw(st.integers(0, position.offset) | st.just(position.offset))
        out.append(Position(generation, offset, files.marker(generation, offset)))
    return files, tuple(out)


def read_chunk(files: Files, leg: Leg, max_bytes: int) -> list[Entry]:
    """As a server reads a file again."""
    generation = leg.position.generation
    content = files.contents[generation]
    assert leg.position.marker in (b"", files.marker(generation, leg.position.offset))
    framer = LineFramer(LIMIT, leg.position.offset, files.marker(generation, leg.position.offset))
    segments: list[Segment] = []
    while not segments:
        assert framer.offset < leg.until
        segments = framer.feed(content[framer.offset : min(framer.offset + max_bytes, leg.until)])
        if framer.offset >= leg.until:
            segments += framer.finish()
    return [Entry(-1, generation, s.start, s.end, s.data, s.marker, s.flags, None, None, 0) for s in segments]


def catch_up(files: Files, positions: Positions, data: st.DataObject) -> tuple[list[Entry], Positions]:
    """What a reader gets until it has everything, as the hub serves it, while the files go on."""
    got: list[Entry] = []
    while True:
        positions, leg = plan(positions, files.ring.base())
        if leg is not None:
            chunk = read_chunk(files, leg, data.draw(st.sampled_from([1, 7, 1000])))
            got += chunk
            positions = walk(chunk, moved(positions, leg.position))
        else:
            base_seq = files.ring.base().seq
            head_seq, head = files.ring.head()
            seq = max(base_seq, first_needed(files.ring.newest_first(head_seq), positions, head_seq, head))
            if data.draw(st.booleans()):
                files.act(*data.draw(actions))
            while (entries := files.ring.since(seq, 300)) is not None:
                wanted = undelivered(entries, positions)
                got += wanted
                positions = walk(wanted, positions)
                if not entries:
                    return got, positions
                seq = entries[-1].seq + 1
        if data.draw(st.booleans()):
            files.act(*data.draw(actions))


# -- the model --------------------------------------------------------------------------------------------------------


@given(readers(), st.data())
def test_a_reader_gets_exactly_what_it_lacks_once_and_in_order(
    reader: tuple[Files, Positions], data: st.DataObject
) -> None:
    files, positions = reader
    got, end = catch_up(files, positions, data)
    reached = {generation: files.begins(positions, generation) for generation in files.contents}
    for entry in got:
        generation = entry.generation
        if generation is None or entry.event is not None:
            continue
        content = files.contents[generation]
        assert entry.start == reached[generation], "a line is missing, or comes twice"
        assert entry.data == content[entry.start : entry.end]
        assert entry.marker == files.marker(generation, entry.end)
        begins_a_line = entry.start == 0 or content[entry.start - 1 : entry.start] == b"\n"
        assert bool(entry.flags & Flag.CONTINUED) != begins_a_line
        assert bool(entry.flags & Flag.PARTIAL) != entry.data.endswith(b"\n")
        reached[generation] = entry.end
    assert reached == {generation: files.known(generation) for generation in files.contents}
    assert {p.generation: p.offset for p in end if p.generation in files.open} == {
        p.generation: p.offset for p in files.ring.head()[1] if p.generation in files.open
    }


@given(readers(), st.data())
def test_what_ended_before_another_file_began_comes_before_it(
    reader: tuple[Files, Positions], data: st.DataObject
) -> None:
    files, positions = reader
    got, _ = catch_up(files, positions, data)
    began = {}
    for entry in files.entries:
        if entry.generation is not None:
            began.setdefault(entry.generation, entry.seq)
    order = [entry.generation for entry in got if entry.generation is not None and entry.end > entry.start]
    for place, generation in enumerate(order):
        later = order[place:]
        assert not [g for g in later if g.retired_seq is not None and g.retired_seq < began[generation]]


@given(readers())
def test_a_reader_near_the_head_costs_little(reader: tuple[Files, Positions]) -> None:
    """The ring is walked back only as far as something is missing."""
    files, positions = reader
    positions, leg = plan(positions, files.ring.base())
    if leg is not None:
        return
    head_seq, head = files.ring.head()
    looked: list[Entry] = []

    def newest_first() -> object:
        for entry in files.ring.newest_first(head_seq):
            looked.append(entry)
            yield entry

    seq = first_needed(newest_first(), positions, head_seq, head)  # type: ignore[arg-type]
    lacking = [e for e in undelivered(files.ring.entries(), positions) if e.generation is not None and e.end > e.start]
    assert all(entry.seq >= seq for entry in lacking)
    if same_place(positions, head):
        assert len(looked) <= 1


@given(histories(), st.integers(0, 60), st.integers(0, 60))
def test_who_has_something_that_the_other_has_not_is_ahead(files: Files, one: int, other: int) -> None:
    a, b = (walk(files.entries[:number], ()) for number in (one, other))
    more = any(files.begins(a, generation) > files.begins(b, generation) for generation in files.contents)
    knows = {p.generation for p in a} - {p.generation for p in b}
    if more or not knows:
        assert is_ahead(a, b) is more
    assert not is_ahead(a, a)


@given(histories(), st.integers(0, 60), st.integers(0, 60))
def test_readers_who_have_the_same_are_in_the_same_place(files: Files, one: int, other: int) -> None:
    a, b = (walk(files.entries[:number], ()) for number in (one, other))
    if same_place(a, b):
        assert all(files.begins(a, generation) == files.begins(b, generation) for generation in files.contents)
        assert [p.marker for p in a] == [p.marker for p in b]
    assert same_place(a, walk(files.entries[:one], ()))
    assert same_place(a, a)


# -- one by one -------------------------------------------------------------------------------------------------------

OLD, CURRENT, NEXT = Generation(1), Generation(2), Generation(3)


@pytest.fixture(autouse=True)
def fresh_generations() -> None:
    OLD.end = OLD.retired_seq = CURRENT.end = CURRENT.retired_seq = None


def line(generation: Generation | None, start: int, data: bytes, flags: Flag = Flag.LINES, seq: int = 0) -> Entry:
    return Entry(seq, generation, start, start + len(data), data, data[-MARKER_BYTES:], flags, None, None, 0)


def test_what_the_ring_has_is_not_read_from_the_file() -> None:
    base = Base(5, (Position(CURRENT, 100),), ())
    assert plan((Position(CURRENT, 100),), base) == ((Position(CURRENT, 100),), None)
    assert plan((Position(CURRENT, 250),), base) == ((Position(CURRENT, 250),), None)
    assert plan((Position(CURRENT, 40),), base)[1] == Leg(Position(CURRENT, 40), 100)


def test_a_rotated_file_is_read_to_its_end_and_then_forgotten() -> None:
    OLD.end, OLD.retired_seq = 70, 3
    base = Base(5, (Position(CURRENT, 100),), (OLD,))
    positions, leg = plan((Position(OLD, 50),), base)
    assert (positions, leg) == ((Position(OLD, 50), Position(CURRENT, 0)), Leg(Position(OLD, 50), 70))
    positions, leg = plan(moved(positions, Position(OLD, 70)), base)
    assert leg == Leg(Position(CURRENT, 0), 100)
    positions, leg = plan(moved(positions, Position(CURRENT, 100)), base)
    assert (positions, leg) == ((Position(CURRENT, 100),), None)


def test_files_that_came_and_went_unseen_are_read_in_their_order() -> None:
    CURRENT.end, CURRENT.retired_seq = 30, 4
    base = Base(5, (Position(NEXT, 10),), (CURRENT,))
    positions, leg = plan((Position(OLD, 50),), base)
    assert [p.generation for p in positions] == [OLD, CURRENT, NEXT]
    assert leg == Leg(Position(CURRENT, 0), 30)


def test_what_a_file_kept_when_its_end_was_cut_off_is_read_from_it() -> None:
    kept = Generation(9, begin=50)
    assert plan((Position(kept, 20),), Base(5, (), ()))[1] == Leg(Position(kept, 20), 50)
    assert plan((Position(kept, 50),), Base(5, (), ()))[1] is None


def test_an_end_that_the_ring_still_tells_is_not_read_from_the_file() -> None:
    OLD.end, OLD.retired_seq = 70, 6
    assert plan((Position(OLD, 50),), Base(5, (), ()))[1] is None


def test_positions_move_in_the_order_of_their_files() -> None:
    begin = (Position(OLD, 1), Position(NEXT, 3))
    assert moved(begin, Position(NEXT, 4)) == (Position(OLD, 1), Position(NEXT, 4))
    assert moved(begin, Position(CURRENT, 2)) == (Position(OLD, 1), Position(CURRENT, 2), Position(NEXT, 3))


@pytest.mark.parametrize(
    ("at", "left"),
    [
        pytest.param(0, [(0, b"ab\ncd\n", Flag.LINES)], id="at its start"),
        pytest.param(3, [(3, b"cd\n", Flag.LINES)], id="between two lines"),
        pytest.param(1, [(1, b"b\n", Flag.CONTINUED), (3, b"cd\n", Flag.LINES)], id="within a line"),
        pytest.param(4, [(4, b"d\n", Flag.CONTINUED)], id="within its last line"),
        pytest.param(6, [], id="at its end"),
        pytest.param(9, [], id="beyond it"),
    ],
)
def test_an_entry_is_cut_to_what_is_missing(at: int, left: list[tuple[int, bytes, Flag]]) -> None:
    got = undelivered([line(CURRENT, 0, b"ab\ncd\n")], (Position(CURRENT, at),))
    assert [(entry.start, entry.data, entry.flags) for entry in got] == left
    assert all(entry.end == entry.start + len(entry.data) for entry in got)


def test_within_a_line_the_place_is_proven_by_what_precedes_it() -> None:
    """The cursor of a message that ends there must be good; also where no more is known than the entry says."""
    for before, marker in ((b"x" * 30, b"x" * 29 + b"ab\n"), (b"", b"ab\n")):
        entry = line(CURRENT, 100, b"ab\ncd\n")
        middle, rest = undelivered([entry], (Position(CURRENT, 101, before and before + b"a"),))
        assert (middle.end, middle.marker) == (103, marker)
        assert (rest.end, rest.marker) == (106, entry.marker)


def test_a_line_with_a_remark_stays_one() -> None:
    got = undelivered([line(CURRENT, 0, b"abcd", Flag.PARTIAL)], (Position(CURRENT, 2),))
    assert [(entry.start, entry.end, entry.data) for entry in got] == [(2, 4, b"cd")]
    assert got[0].flags & Flag.PARTIAL


def test_events_between_delivered_lines_are_not_told_again() -> None:
    event = StreamEvent(EventKind.ROTATED)
    begun = replace(line(CURRENT, 0, b""), event=event)
    unrelated = replace(line(None, 0, b""), event=event)
    assert undelivered([begun, unrelated], (Position(CURRENT, 10),)) == [unrelated]
    assert undelivered([begun, unrelated], (Position(CURRENT, 0),)) == [begun, unrelated]
    assert undelivered([begun, unrelated], (Position(NEXT, 0),)) == [unrelated]


def test_a_reader_of_nothing_gets_everything() -> None:
    entries = [line(OLD, 5, b"a\n"), line(CURRENT, 0, b"b\n")]
    assert undelivered(entries, ()) == entries
    assert walk(entries, ()) == (Position(OLD, 7, b"a\n"), Position(CURRENT, 2, b"b\n"))


def test_a_reader_from_another_server_may_be_ahead() -> None:
    here = (Position(CURRENT, 100),)
    assert is_ahead((Position(CURRENT, 101),), here)
    assert is_ahead((Position(CURRENT, 100), Position(NEXT, 1)), here)
    assert is_ahead((Position(NEXT, 0),), here)
    OLD.end = 10
    assert not is_ahead((Position(OLD, 10), Position(CURRENT, 100)), here)


def test_a_distance_counts_the_rest_of_old_files_and_all_of_new_ones() -> None:
    old, current = Generation(1, end=1000), Generation(2)
    behind = (Position(old, 900),)
    assert distance_bytes(behind, (Position(current, 50),)) == (150, True)
    assert distance_bytes((Position(current, 30),), (Position(current, 50),)) == (20, True)
    assert distance_bytes((Position(current, 50),), (Position(current, 30),)) == (0, True)


def test_of_a_file_whose_end_nobody_knows_a_distance_is_not_all() -> None:
    current = Generation(3)
    assert distance_bytes((Position(Generation(2), 10),), (Position(current, 5),)) == (5, False)
    assert distance_bytes((Position(Generation(1, end=1, forgotten=True), 0),), (Position(current, 5),)) == (5, False)
