"""checklist: each fault is seen and called by its name, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.bench.checklist import Checklist, Faults


def checked(*seqs: int | None, last: int | None = None, begin: int | None = 0) -> Faults:
    """The faults in a run of numbers, where None is a damaged line."""
    checklist = Checklist(begin)
    for seq in seqs:
        if seq is None:
            checklist.damage()
        else:
            checklist.take(seq)
    checklist.end(last)
    return checklist.faults


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        pytest.param(checked(0, 1, 2, last=2), Faults(), id="all of them"),
        pytest.param(checked(0, 3, 4), Faults(lost=2), id="two are lost"),
        pytest.param(checked(2, 3), Faults(lost=2), id="the first are lost"),
        pytest.param(checked(7, 8, begin=None), Faults(), id="any may be the first where that is not known"),
        pytest.param(checked(0, 1, last=4), Faults(lost=3), id="the last are lost"),
        pytest.param(checked(last=4), Faults(lost=5), id="all are lost"),
        pytest.param(checked(last=4, begin=None), Faults(lost=5), id="all are lost, whatever the first was"),
        pytest.param(checked(), Faults(), id="there were none"),
        pytest.param(checked(0, 1, 1, 2), Faults(repeated=1), id="one came twice"),
        pytest.param(checked(0, 1, 2, 0, 1, 2, 3), Faults(repeated=3), id="three came again"),
        pytest.param(checked(0, 2, 1, 3), Faults(reordered=1), id="two are swapped"),
        pytest.param(checked(0, 3, 2, 1, 4), Faults(reordered=2), id="three are the other way round"),
        pytest.param(checked(0, 2, 1, 1, 3), Faults(reordered=1, repeated=1), id="late, and then again"),
        pytest.param(checked(0, None, 2), Faults(damaged=1), id="a damaged one is not lost as well"),
        pytest.param(checked(0, None, 3), Faults(damaged=1, lost=1), id="one is damaged and one is lost"),
        pytest.param(checked(0, None, 1), Faults(damaged=1), id="something came in between"),
        pytest.param(checked(5, 3, begin=5), Faults(repeated=1), id="one from before the beginning"),
    ],
)
def test_faults(faults: Faults, expected: Faults) -> None:
    assert faults == expected


@given(st.permutations(range(12)))
def test_in_any_order_nothing_is_lost_or_repeated(order: list[int]) -> None:
    faults = checked(*order, last=11)
    assert (faults.lost, faults.repeated) == (0, 0)
    assert bool(faults) == (order != sorted(order))


@given(st.lists(st.integers(0, 15), max_size=40))
def test_what_is_lost_and_repeated_adds_up(seqs: list[int]) -> None:
    faults = checked(*seqs, last=15)
    assert faults.lost == 16 - len(set(seqs))
    assert faults.repeated == len(seqs) - len(set(seqs))


def test_holes_take_bounded_room() -> None:
    checklist = Checklist(0)
    for seq in range(1, 10_000, 2):
        checklist.take(seq)
    assert checklist.faults.lost == 5000
    assert len(checklist._holes) == 1000
    checklist.take(9998)
    assert checklist.faults == Faults(lost=4999, reordered=1)
    checklist.take(0)
    assert checklist.faults == Faults(lost=4999, reordered=1, repeated=1)


def test_faults_of_several_clients_add_up() -> None:
    total = Faults(lost=1)
    total.add(Faults(lost=2, repeated=3, reordered=4, damaged=5))
    assert total == Faults(3, 3, 4, 5)
    assert (bool(total), bool(Faults())) == (True, False)
