"""tally: what is counted is counted once, by what it was."""

from __future__ import annotations

import pytest

from logstream_server.fanout.tally import LAG_BOUNDS_S, LagHistogram, Tally
from logstream_server.lines.ring import EventKind, StreamEvent


def test_what_was_sent_is_counted_for_each_client() -> None:
    tally = Tally()
    tally.sent(3, 100)
    tally.sent(2, 50, clients=10)
    tally.sent(2, 50, clients=0)
    assert (tally.lines_sent, tally.bytes_sent) == (23, 600)


def test_losses_are_counted_by_reason_with_the_bytes_that_are_known() -> None:
    tally = Tally()
    tally.lost("lost", 10)
    tally.lost("lost", None)
    tally.lost("slow", 5)
    assert tally.gaps == {"lost": [2, 10], "slow": [1, 5]}


def test_losses_of_the_file_are_counted_one_by_one() -> None:
    tally = Tally()
    tally.told((StreamEvent(EventKind.GAP, "truncated", 7), StreamEvent(EventKind.GAP, "deleted", None)))
    tally.told(())
    assert tally.gaps == {"lost": [2, 7]}


@pytest.mark.parametrize(
    ("late_s", "bucket"),
    [(0.0, 0), (LAG_BOUNDS_S[0], 0), (0.006, 1), (LAG_BOUNDS_S[-1], len(LAG_BOUNDS_S) - 1), (60.0, len(LAG_BOUNDS_S))],
    ids=["in time", "at the first bound", "behind it", "at the last bound", "beyond all"],
)
def test_a_tick_counts_in_the_bucket_that_holds_it(late_s: float, bucket: int) -> None:
    lag = LagHistogram()
    lag.add(late_s)
    assert lag.counts.index(1) == bucket
    assert sum(lag.counts) == 1
    assert lag.sum_s == late_s
