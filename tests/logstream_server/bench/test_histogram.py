"""histogram: percentiles within a hundredth of the real ones, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.bench.histogram import Histogram, bucket_of, lowest_of


def test_an_empty_one_has_no_percentiles() -> None:
    assert Histogram().percentile_ms(50) is None


@given(st.lists(st.integers(1_000, 10**13), min_size=1, max_size=300), st.sampled_from([1, 50, 90, 99, 99.9, 100]))
def test_a_percentile_is_the_time_that_so_many_did_not_exceed(times: list[int], percent: float) -> None:
    """By the nearest rank, within a hundredth, plus the microsecond that is the finest it tells."""
    histogram = Histogram()
    for time_ns in times:
        histogram.record(time_ns)
    rank = max(1, -(-len(times) * percent // 100))
    exact = sorted(times)[int(rank) - 1]
    found = histogram.percentile_ms(percent)
    assert found is not None
    assert exact - 1 <= found * 1e6 <= exact * 1.01 + 1000


def test_equal_times_are_counted_at_once() -> None:
    histogram = Histogram()
    histogram.record(5_000_000, 99)
    histogram.record(80_000_000)
    assert (histogram.count, histogram.max_ns) == (100, 80_000_000)
    assert histogram.percentile_ms(99) == pytest.approx(5, rel=0.01)
    assert histogram.percentile_ms(100) == 80


def test_a_time_before_the_beginning_counts_as_none() -> None:
    """Clocks differ."""
    histogram = Histogram()
    histogram.record(-5_000)
    assert (histogram.count, histogram.percentile_ms(50)) == (1, 0)


def test_a_century_takes_no_more_room_than_a_second() -> None:
    histogram = Histogram()
    histogram.record(100 * 366 * 86400 * 10**9)
    assert histogram.percentile_ms(50) is not None


@given(st.integers(0, 2**38 - 1))
def test_a_bucket_holds_what_it_counts(value_us: int) -> None:
    bucket = bucket_of(value_us)
    assert lowest_of(bucket) <= value_us < lowest_of(bucket + 1)


@given(st.integers(0, 2**50))
def test_recording_takes_that_bucket(value_us: int) -> None:
    histogram = Histogram()
    histogram.record(value_us * 1000)
    assert histogram._counts[bucket_of(value_us)] == 1
