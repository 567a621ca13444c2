"""The operator's own metrics, for Prometheus; `/metrics` of the operator's port shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from . import __version__

PREFIX: Final = "logstream_operator_"


class Metrics:
    """One registry with everything in it; counted by who does the work."""

    def __init__(self, queue_depth: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info(PREFIX + "build", "The version of the operator.", registry=self.registry).info({"version": __version__})
        self.reconciles = Counter(
            PREFIX + "reconciles", "Looks at a LogStream.", labelnames=["result"], registry=self.registry
        )
        for result in ("done", "failed"):
            self.reconciles.labels(result)
        self.duration = Histogram(
            PREFIX + "reconcile_duration_seconds", "How long a look took.", registry=self.registry
        )
        self.managed = Gauge(PREFIX + "managed", "LogStreams that are looked after.", registry=self.registry)
        depth = Gauge(PREFIX + "queue_depth", "LogStreams that wait to be looked at.", registry=self.registry)
        depth.set_function(lambda: float(queue_depth()))
