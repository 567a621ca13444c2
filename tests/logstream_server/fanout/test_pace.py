"""pace: at once while there is time, later and together when there is not, and never later than the bound."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.fanout.pace import FAN_OUT_SHARE, MAX_DELAY_S, SATURATED_SHARE, Pacer

NOW = 1000.0


def run(pacer: Pacer, now: float, flushes: Iterable[tuple[float, float]]) -> float:
    """Flushes, each `(wait, took)` seconds: how long after it was due the next began, and how long it lasted."""
    for wait, took in flushes:
        began = max(now, pacer.due()) + wait
        now = began + took
        pacer.flushed(began, now)
    return now


def test_the_first_flush_is_due_at_once() -> None:
    assert Pacer().due() <= NOW


@pytest.mark.parametrize("took", [1e-6, 1e-3, 0.04, 3.0], ids=lambda took: f"{took:g} s a flush")
def test_a_server_with_time_to_spare_never_waits(took: float) -> None:
    """Half of the core, however long a flush takes."""
    pacer = Pacer()
    now = NOW
    for _ in range(50):
        now = run(pacer, now, [(took, took)])
        assert pacer.due() <= now


def test_a_busy_server_does_not_wait_before_it_must() -> None:
    """Nine tenths of the core, unevenly: a hundred lines a second to a thousand clients are about so much."""
    pacer = Pacer()
    now = NOW
    for number in range(200):
        now = run(pacer, now, [(0.001, 0.008 + 0.001 * (number % 3 - 1))])
        assert pacer.due() <= now


def test_one_burst_is_no_load() -> None:
    pacer = Pacer()
    now = run(pacer, NOW, [(0.1, 0.001)] * 10)
    now = run(pacer, now, [(0.0, 0.01)] * 3)
    assert pacer.due() <= now


def test_a_saturated_server_waits_about_as_long_as_a_flush_takes() -> None:
    """So that as much again can be collected while it waits, and half of the core is left for other work."""
    pacer = Pacer()
    now = NOW
    for _ in range(50):
        began = now
        now += 0.01
        pacer.flushed(began, now)  # one after the other, as if the wait were not kept
    assert pacer.due() - now == pytest.approx(0.01)


@given(st.lists(st.tuples(st.floats(0, 0.01), st.floats(0, 100)), max_size=60))
def test_no_line_waits_longer_than_the_bound(flushes: list[tuple[float, float]]) -> None:
    pacer = Pacer()
    now = NOW
    for wait, took in flushes:
        now = run(pacer, now, [(wait, took)])
        assert 0.0 <= pacer.delay_s <= MAX_DELAY_S
        assert pacer.due() == now + pacer.delay_s


def test_the_load_settles_at_the_share_and_not_below_it() -> None:
    """Waiting lowers the load, which ends the waiting: between the two fan-out keeps about its share of the core."""
    pacer = Pacer()
    now = run(pacer, NOW, [(0.0, 0.01)] * 200)
    busy = 0.01 * 100
    began = now
    now = run(pacer, now, [(0.0, 0.01)] * 100)
    assert FAN_OUT_SHARE - 0.05 < busy / (now - began) < SATURATED_SHARE


def test_a_server_that_has_time_again_stops_waiting() -> None:
    pacer = Pacer()
    now = NOW
    for _ in range(50):
        began = now
        now += 0.01
        pacer.flushed(began, now)
    assert pacer.delay_s > 0
    now = run(pacer, now, [(1.0, 0.001)] * 3)
    assert pacer.due() <= now


def test_a_clock_that_stands_still_does_not_matter() -> None:
    """Its ticks may be longer than a flush."""
    pacer = Pacer()
    pacer.flushed(NOW, NOW)
    pacer.flushed(NOW, NOW)
    assert pacer.due() <= NOW
