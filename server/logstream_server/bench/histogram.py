"""How long things took: any number of times in a few kilobytes, and the percentiles of them.

A histogram with logarithmic buckets, each divided linearly, as in HdrHistogram: a percentile is off by less than 1 %
from 1 us to 76 hours. Why it is our own: docs/decisions/0009-bench.md. No I/O.
"""

from __future__ import annotations

from typing import Final

_BITS: Final = 7
_FINE: Final = 1 << _BITS
"""Buckets per doubling: 1/128 of a value is the most by which its bucket misses it."""
_DOUBLINGS: Final = 32
_LAST: Final = (_DOUBLINGS << _BITS) - 1


def bucket_of(value_us: int) -> int:
    """The bucket that counts a time in microseconds."""
    if value_us < _FINE:
        return max(value_us, 0)
    shift = value_us.bit_length() - _BITS - 1
    return min((shift << _BITS) + (value_us >> shift), _LAST)


def lowest_of(bucket: int) -> int:
    """The shortest time that the bucket counts, in microseconds."""
    if bucket < 2 * _FINE:
        return bucket
    shift = (bucket >> _BITS) - 1
    return (bucket - (shift << _BITS)) << shift


class Histogram:
    """Counts times in nanoseconds."""

    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self._counts = [0] * (_LAST + 1)

    def record(self, value_ns: int, times: int = 1) -> None:
        """Count one time, or the same one several times. One below zero (clocks differ) counts as zero."""
        us = value_ns // 1000
        if us < _FINE:
            bucket = max(0, us)
        else:
            shift = us.bit_length() - _BITS - 1
            bucket = min((shift << _BITS) + (us >> shift), _LAST)
        self._counts[bucket] += times
        self.count += times
        self.max_ns = max(self.max_ns, value_ns)

    def percentile_ms(self, percent: float) -> float | None:
        """The time in milliseconds that so many percent did not exceed; None when nothing was counted."""
        if not self.count:
            return None
        wanted = max(1, -(-self.count * percent // 100))  # rounded up
        passed = 0
        for bucket, count in enumerate(self._counts):
            passed += count
            if passed >= wanted:
                return min(lowest_of(bucket + 1) / 1000, self.max_ns / 1e6)
        raise AssertionError("the counts add up to `count`")
