"""The checker itself: it must see a loss, a repeat, a swap and a stranger that are put in on purpose."""

from __future__ import annotations

import pytest

from .checker import Verdict, assert_exact, assert_never_twice, assert_run, judge

WRITTEN = [f"line {number}" for number in range(20)]


def test_exact_lines_are_exact() -> None:
    assert judge(WRITTEN, WRITTEN).is_exact
    assert_run(WRITTEN[3:9], WRITTEN)


@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_lost_line_is_seen(at: int) -> None:
    got = WRITTEN[:at] + WRITTEN[at + 1 :]
    assert judge(got, WRITTEN) == Verdict(lost=(WRITTEN[at],))
    assert assert_never_twice(got, WRITTEN) == (WRITTEN[at],)
    with pytest.raises(AssertionError, match="1 lost"):
        assert_exact(got, WRITTEN)


@pytest.mark.parametrize(("at", "to"), [(0, 1), (7, 8), (7, 20), (19, 20)])
def test_a_repeated_line_is_seen(at: int, to: int) -> None:
    got = [*WRITTEN[:to], WRITTEN[at], *WRITTEN[to:]]
    assert judge(got, WRITTEN).repeated == (WRITTEN[at],)
    with pytest.raises(AssertionError, match="1 repeated"):
        assert_never_twice(got, WRITTEN)


@pytest.mark.parametrize("at", [0, 7, 18])
def test_two_swapped_lines_are_seen(at: int) -> None:
    got = [*WRITTEN[:at], WRITTEN[at + 1], WRITTEN[at], *WRITTEN[at + 2 :]]
    assert judge(got, WRITTEN).swapped == (WRITTEN[at],)
    with pytest.raises(AssertionError, match="1 swapped"):
        assert_never_twice(got, WRITTEN)


def test_a_foreign_line_is_seen() -> None:
    got = [*WRITTEN, "half of a li"]
    assert judge(got, WRITTEN) == Verdict(foreign=("half of a li",))
    with pytest.raises(AssertionError, match="1 foreign"):
        assert_never_twice(got, WRITTEN)


def test_two_writers_may_mingle_but_each_keeps_its_order() -> None:
    other = ["other 1", "other 2"]
    assert judge(["other 1", *WRITTEN, "other 2"], WRITTEN, other).is_exact
    assert judge(["other 2", *WRITTEN, "other 1"], WRITTEN, other).swapped == ("other 1",)


@pytest.mark.parametrize("got", [[], WRITTEN[3:5] + WRITTEN[6:8], WRITTEN[3:6] + WRITTEN[5:8], ["x"]])
def test_a_run_with_a_hole_is_no_run(got: list[str]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        assert_run(got, WRITTEN)


def test_lines_that_are_alike_are_refused() -> None:
    with pytest.raises(AssertionError, match="alike"):
        judge([], ["same", "same"])
