"""tape: what stands where, and that old content goes."""

from __future__ import annotations

from logstream_server.bench.tape import Mark, Tape


def filled(count: int, limit_bytes: int = 1 << 20, width: int = 10) -> Tape:
    """A tape of lines 0, 1, ..., each a frame of `width` bytes, written at second 0, 1, ..."""
    tape = Tape(0, "c", limit_bytes)
    for seq in range(count):
        frame = str(seq).rjust(width).encode()
        tape.append(frame, Mark(tape.last.stamped + 1, 0, seq + 1, None, b""), [seq * 10**9])
    return tape


def test_bytes_are_found_at_their_place_only() -> None:
    tape = filled(3)
    assert tape.end == 30
    assert tape.has(b"         1", 10)
    assert tape.has(memoryview(b"   1      "), 16)
    assert not tape.has(b"         1", 11)
    assert not tape.has(b"         2 ", 20)


def test_a_mark_is_the_end_of_a_frame() -> None:
    tape = filled(3)
    assert [tape.mark_at(place)[0] for place in (0, 9, 10, 11, 30)] == [0, 0, 10, 10, 30]
    assert tape.mark_at(25)[1].next_seq == 2


def test_the_place_before_a_line_is_found() -> None:
    tape = filled(3)
    assert [tape.find(seq) for seq in (0, 1, 3, 4)] == [0, 10, 30, None]


def test_nobody_joins_inside_a_line() -> None:
    tape = filled(1)
    tape.append(b"half", Mark(1, 0, 1, None, b"half"), [])
    tape.append(b"rest", Mark(2, 0, 2, None, b""), [5])
    assert [tape.find(seq) for seq in (1, 2)] == [10, 18]
    assert tape.mark_at(14)[1].half == b"half"


def test_old_content_is_forgotten() -> None:
    tape = filled(1000, limit_bytes=100)
    assert len(tape._data) <= 200
    assert len(tape._ends) <= 21
    assert tape.find(3) is None
    assert not tape.has(b"         3", 30)
    assert tape.find(999) == 9990
    tape.time_lines(995, 1000, 1000 * 10**9)
    assert (tape.ages.count, tape.ages.max_ns) == (5, 5 * 10**9)


def test_a_jump_separates() -> None:
    """A client that stands before it cannot be taken for one that is behind."""
    tape = filled(2)
    tape.jump(5)
    tape.append(b"         5", Mark(3, 0, 6, None, b""), [0])
    assert not tape.has(b"         5", 20)
    place = tape.find(5)
    assert place is not None
    assert tape.has(b"         5", place)
    assert tape.find(2) == 20


def test_ages_are_counted_by_when_lines_were_written() -> None:
    tape = filled(4)
    tape.time_lines(0, 2, 2 * 10**9)
    assert (tape.ages.count, tape.ages.max_ns) == (2, 2 * 10**9)


def test_many_ages_are_counted_together() -> None:
    """As if each had been counted by itself, to a millisecond."""
    tape = filled(50)
    for first, end in ((0, 50), (0, 50), (10, 40), (45, 50)):
        tape.time_lines(first, end, 100 * 10**9)
    tape.count_rest()
    assert tape.ages.count == 50 + 50 + 30 + 5
    assert abs(tape.ages.max_ns - 100 * 10**9) < 2 << 20
    before = tape.ages.count
    tape.count_rest()
    assert tape.ages.count == before
