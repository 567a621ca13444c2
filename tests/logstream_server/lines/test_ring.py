"""ring: the newest entries within its bytes, and a reader's positions at both of its ends; against a plain list."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.lines.cursor import Generation, Position, Positions
from logstream_server.lines.framing import Flag
from logstream_server.lines.ring import (
    ENDED_KEPT,
    ENTRY_OVERHEAD_BYTES,
    Base,
    Entry,
    EventKind,
    Ring,
    StreamEvent,
    advance,
)

RETIRED = StreamEvent(EventKind.RETIRED)


@dataclass
class Source:
    """Writes to a ring, and keeps all that it ever wrote in a list."""

    ring: Ring
    entries: list[Entry] = field(default_factory=list)
    open: list[Generation] = field(default_factory=list)
    offsets: dict[Generation, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = count(1)

    def begin(self, start: int = 0) -> Generation:
        """A file is found, of which `start` bytes are history."""
        generation = Generation(next(self._ids))
        self.open.append(generation)
        self.offsets[generation] = start
        self.entries.append(self.ring.append(generation, start, start, marker=b"%d" % start))
        return generation

    def write(self, generation: Generation, size: int) -> Entry:
        start = self.offsets[generation]
        end = self.offsets[generation] = start + size
        entry = self.ring.append(generation, start, end, bytes(size), b"%d" % end, lines=1)
        self.entries.append(entry)
        return entry

    def retire(self, generation: Generation) -> None:
        self.open.remove(generation)
        generation.end = self.offsets[generation]
        self.entries.append(self.ring.append(None, 0, 0, event=RETIRED, retires=generation))


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """Files that begin, grow and end; a small ring."""
    source = Source(Ring(draw(st.sampled_from([1, 1000, 3000, 1 << 20]))))
    source.begin(draw(st.sampled_from([0, 50])))
    for step in draw(st.lists(st.tuples(st.sampled_from("wwwwwbr"), st.integers(0, 600)), max_size=30)):
        kind, number = step
        if kind == "b" and len(source.open) < 3:
            source.begin()
        elif kind == "r" and len(source.open) > 1:
            source.retire(source.open[number % (len(source.open) - 1)])
        elif kind == "w":
            source.write(source.open[number % len(source.open)], number)
    return source


def kept(source: Source) -> list[Entry]:
    """What a ring of this capacity must still hold: the newest entries that fit, but at least one."""
    size, out = 0, list[Entry]()
    for entry in reversed(source.entries):
        size += len(entry.data) + ENTRY_OVERHEAD_BYTES
        if out and size > source.ring.capacity_bytes:
            break
        out.insert(0, entry)
    return out


# -- against the list -------------------------------------------------------------------------------------------------


@given(sources())
def test_the_newest_entries_that_fit_are_there(source: Source) -> None:
    assert source.ring.entries() == kept(source)
    assert [entry.seq for entry in source.entries] == list(range(len(source.entries)))
    total = 0
    for entry in source.entries:
        total += len(entry.data)
        assert entry.total == total
    assert source.ring.total_bytes == total


@given(sources(), st.integers(0, 40), st.integers(0, 1000))
def test_readers_get_entries_in_order_from_where_they_are(source: Source, behind: int, max_bytes: int) -> None:
    """At least one, as long as there is one, and no more bytes than they asked for beyond that."""
    seq = max(0, len(source.entries) - behind)
    got = source.ring.since(seq, max_bytes)
    first = kept(source)[0].seq
    if seq < first:
        assert got is None
        return
    assert got is not None
    assert got == source.entries[seq : seq + len(got)]
    assert got or seq == len(source.entries)
    assert len(got) <= 1 or sum(len(entry.data) for entry in got) <= max_bytes
    following = source.entries[seq + len(got) : seq + len(got) + 1]
    assert not following or sum(len(entry.data) for entry in (*got, *following)) > max_bytes


@given(sources(), st.integers(0, 40))
def test_the_same_entries_come_backwards(source: Source, behind: int) -> None:
    end = max(0, len(source.entries) - behind)
    first = kept(source)[0].seq
    assert list(source.ring.newest_first(end)) == source.entries[first:end][::-1]


def walk(entries: list[Entry]) -> Positions:
    positions: Positions = ()
    for entry in entries:
        positions = advance(positions, entry)
    return positions


@given(sources())
def test_the_head_is_where_a_reader_of_everything_is(source: Source) -> None:
    assert source.ring.head() == (len(source.entries), walk(source.entries))
    assert source.ring.newest() == next(reversed(walk(source.entries)), None)


@given(sources())
def test_the_base_is_what_a_reader_must_have_before_the_ring_can_serve_it(source: Source) -> None:
    """Of each file that goes on: everything before its first entry that is still here, or of which it was let go."""
    base = source.ring.base()
    first = kept(source)[0].seq
    gone = source.entries[:first]
    wanted: dict[Generation, Position] = {}
    for generation in source.offsets:
        own = [entry for entry in source.entries if entry.generation is generation]
        before = [entry for entry in own if entry.seq < first]
        if before:
            wanted[generation] = Position(generation, before[-1].end, before[-1].marker)
        elif own[0].start:
            wanted[generation] = Position(generation, own[0].start, own[0].marker)
    over = {entry.retires for entry in gone if entry.retires is not None}
    assert base.seq == first
    assert {p.generation: p for p in base.positions if p.generation not in over} == {
        generation: position for generation, position in wanted.items() if generation not in over
    }
    assert base.ended == tuple(entry.retires for entry in gone if entry.retires is not None)
    ids = [p.generation.id for p in base.positions]
    assert ids == sorted(ids)


@given(sources())
def test_the_goal_is_the_head_as_the_base_of_a_ring_that_has_let_go_of_everything(source: Source) -> None:
    goal = source.ring.goal()
    assert (goal.seq, goal.positions) == source.ring.head()
    assert goal.ended == tuple(entry.retires for entry in source.entries if entry.retires is not None)


@given(sources())
def test_a_generation_that_is_over_says_so_from_the_entry_that_ended_it(source: Source) -> None:
    for entry in source.entries:
        if entry.retires is not None:
            assert entry.retires.retired_seq == entry.seq
    assert all(generation.retired_seq is None for generation in source.open)


@given(sources())
def test_positions_list_what_goes_on_and_the_newest(source: Source) -> None:
    """Of those that are over only the newest stays, for what it says about older ones."""
    _, positions = source.ring.head()
    listed = [p.generation for p in positions]
    newest = max(listed, key=lambda generation: generation.id)
    assert [g for g in listed if g.retired_seq is None] == [g for g in source.offsets if g in source.open]
    assert all(g is newest for g in listed if g.retired_seq is not None)
    assert all(p.offset == source.offsets[p.generation] for p in positions)


# -- one by one -------------------------------------------------------------------------------------------------------


def test_a_ring_that_nothing_was_written_to() -> None:
    ring = Ring(1000)
    assert ring.head() == (0, ())
    assert ring.newest() is None
    assert ring.base() == ring.goal() == Base(0, (), ())
    assert ring.since(0, 100) == []
    assert list(ring.newest_first(0)) == ring.entries() == []


def test_an_entry_larger_than_the_ring_is_there_until_the_next_one() -> None:
    source = Source(Ring(1000))
    generation = source.begin()
    large = source.write(generation, 5000)
    assert source.ring.entries() == [large]
    small = source.write(generation, 1)
    assert source.ring.entries() == [small]


def test_a_reader_gets_its_entries_in_portions() -> None:
    source = Source(Ring(1 << 20))
    generation = source.begin()
    for size in (50, 50, 1, 200, 3):
        source.write(generation, size)
    assert [len(source.ring.since(seq, 100) or ()) for seq in range(7)] == [3, 2, 2, 1, 1, 1, 0]


def test_many_tiny_entries_take_no_more_memory_than_the_ring_has() -> None:
    """Each counts with what it costs besides its data, and slots that were let go of are given back."""
    source = Source(Ring(100 * ENTRY_OVERHEAD_BYTES))
    generation = source.begin()
    for _ in range(1000):
        source.ring.append(generation, 0, 0)
        assert len(source.ring.entries()) <= 100
        assert len(source.ring._entries) <= 202


def test_so_many_generations_that_were_over_are_remembered() -> None:
    source = Source(Ring(1))
    for _ in range(ENDED_KEPT + 5):
        source.retire(source.begin())
    source.begin()
    assert [generation.id for generation in source.ring.base().ended] == list(range(6, ENDED_KEPT + 6))


def test_walking_back_survives_what_is_let_go_of_meanwhile() -> None:
    source = Source(Ring(1 << 20))
    generation = source.begin()
    for _ in range(200):
        source.write(generation, 1)
    backwards = source.ring.newest_first(source.ring.head()[0])
    assert next(backwards).seq == 200
    source.ring.capacity_bytes = 1
    source.write(generation, 1)
    rest = [entry.seq for entry in backwards]
    assert rest == list(range(199, 199 - len(rest), -1))
    assert len(rest) < 64


def test_a_source_learns_how_far_its_slowest_reader_is() -> None:
    source = Source(Ring(1000))
    generation = source.begin()
    ring = source.ring
    assert not ring.is_watched
    assert ring.backlog_bytes == 0
    ring.consumed(0)
    source.write(generation, 300)
    assert ring.is_watched
    assert ring.backlog_bytes == 300
    ring.consumed(source.write(generation, 20).total)
    assert ring.backlog_bytes == 0
    ring.consumed(None)
    assert not ring.is_watched


@pytest.mark.parametrize(
    ("entry", "offsets"),
    [
        pytest.param((1, 5, None), {1: 5, 2: 20}, id="the older grows"),
        pytest.param((2, 25, None), {1: 10, 2: 25}, id="the newer grows"),
        pytest.param((3, 7, None), {1: 10, 2: 20, 3: 7}, id="another begins"),
        pytest.param((None, 0, 1), {2: 20}, id="the older is over"),
        pytest.param((None, 0, 2), {1: 10, 2: 20}, id="the newest is over: it stays"),
        pytest.param((3, 0, 2), {1: 10, 3: 0}, id="the newest is over, and another begins"),
        pytest.param((None, 0, None), {1: 10, 2: 20}, id="something else happened"),
    ],
)
def test_an_entry_moves_its_reader(entry: tuple[int | None, int, int | None], offsets: dict[int, int]) -> None:
    generations = {number: Generation(number) for number in (1, 2, 3)}
    begun, end, over = entry
    if over is not None:
        generations[over].retired_seq = 4
    positions = (Position(generations[1], 10), Position(generations[2], 20))
    found = advance(
        positions,
        Entry(
            4,
            None if begun is None else generations[begun],
            0,
            end,
            b"",
            b"",
            Flag.LINES,
            None,
            None if over is None else generations[over],
            0,
        ),
    )
    assert {p.generation.id: p.offset for p in found} == offsets


def test_readers_on_other_threads_see_whole_entries_in_order() -> None:
    """While the source writes and the ring lets go, `since` and both ends are always of one moment."""
    source = Source(Ring(20_000))
    generation = source.begin()
    failures: list[BaseException] = []
    done = threading.Event()
    begun = threading.Barrier(5)

    def read() -> None:
        seq = 0
        try:
            begun.wait()
            while not done.is_set() or seq < source.ring.head()[0]:
                entries = source.ring.since(seq, 1000)
                if entries is None:
                    base = source.ring.base()
                    assert base.seq > seq
                    seq = base.seq
                    continue
                assert [entry.seq for entry in entries] == list(range(seq, seq + len(entries)))
                seq += len(entries)
                head_seq, head = source.ring.head()
                assert head[0].offset == 10 * (head_seq - 1)
                backwards = [entry.seq for entry in source.ring.newest_first(head_seq)]
                assert backwards == list(range(head_seq - 1, head_seq - 1 - len(backwards), -1))
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    for _ in range(2000):
        source.write(generation, 10)
    done.set()
    for thread in threads:
        thread.join(20)
    assert not failures, failures[0]
