"""metrics: the operator's own."""

from __future__ import annotations

from prometheus_client import generate_latest

from logstream_operator.metrics import PREFIX, Metrics


def test_everything_is_there_from_the_start() -> None:
    """A rate over a counter that comes into being with its first failure does not show that failure."""
    text = generate_latest(Metrics(lambda: 0).registry).decode()
    for line in ('reconciles_total{result="done"} 0.0', 'reconciles_total{result="failed"} 0.0', "managed 0.0"):
        assert PREFIX + line in text
    for name in ("reconcile_duration_seconds_bucket", "queue_depth", "build_info"):
        assert PREFIX + name in text


def test_two_operators_in_one_process_share_nothing() -> None:
    first, second = Metrics(lambda: 0), Metrics(lambda: 0)
    first.managed.set(5)
    assert second.registry.get_sample_value(PREFIX + "managed") == 0
