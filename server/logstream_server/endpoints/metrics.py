"""`/metrics`: what the server has done and how it is, for Prometheus.

Nothing is counted here: when it is asked, a collector reads the counters that hub, service and streams keep anyway.
Each application has its own registry. Names: https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from logstream_server import __version__
from logstream_server.encoding.view import Format
from logstream_server.encoding.wire import WIRES
from logstream_server.fanout.channel import Place
from logstream_server.fanout.tally import LAG_BOUNDS_S
from logstream_server.lines.catchup import distance_bytes
from logstream_server.service import Service
from logstream_server.tailing.stream import Stream, StreamStatus

PREFIX: Final = "logstream_"

_PER_STREAM: Final = (
    ("lines_read", "Lines read from the file.", "lines"),
    ("bytes_read", "Bytes read from the file.", "bytes"),
    ("rotations", "Times that another file has taken the followed name.", "rotations"),
    ("truncations", "Times that the file was truncated.", "truncations"),
    ("cut_lines", "Lines that were cut because they are over the limit.", "cut_lines"),
    ("reopen_errors", "Times that the file or its file system refused to be read.", "reopen_errors"),
)

_NO_GAPS: Final = {"lost": [0, 0], "slow": [0, 0]}
_NO_RESUMES: Final = {"recovered": 0, "reset": 0}
"""There before the first one: Prometheus sees a counter rise only from a value that it has seen."""


def create_registry(service: Service) -> CollectorRegistry:
    """All metrics of one server."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(ServiceCollector(service))
    return registry


def metrics_routes(service: Service) -> list[BaseRoute]:
    """`/metrics`."""
    registry = create_registry(service)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        body = await asyncio.to_thread(encode, registry)  # a thousand streams take a while to write down
        return Response(body, headers={"Content-Type": content_type})

    return [Route("/metrics", metrics)]


class ServiceCollector(Collector):
    """Reads the counters of a running server. Called on a thread: sets and dicts are copied before they are walked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        streams = list(self._service.monitor.streams.values())
        yield InfoMetricFamily(PREFIX + "build", "The version of the server.", {"version": __version__})
        yield from self._streams(streams)
        yield from self._clients()
        yield from self._lagging(streams)
        yield from self._hub()
        yield from self._by_reason()
        if self._service.certificate is not None:
            yield GaugeMetricFamily(
                PREFIX + "certificate_expiry_timestamp_seconds",
                "When the certificate ends, in seconds since 1970; 0 for one that clients refuse.",
                self._service.certificate.certificate.expires_s,
            )

    def _streams(self, streams: list[Stream]) -> Iterator[Metric]:
        for name, text, field in _PER_STREAM:
            counter = CounterMetricFamily(PREFIX + name, text, labels=["stream"])
            for stream in streams:
                counter.add_metric([stream.name], getattr(stream.counters, field))
            yield counter
        lag = GaugeMetricFamily(PREFIX + "tail_lag_bytes", "Bytes of the file not read yet.", labels=["stream"])
        mode = GaugeMetricFamily(
            PREFIX + "watcher_mode", "How changes of the file are noticed: notify or poll.", labels=["stream", "mode"]
        )
        states = Counter(stream.state.status for stream in streams)
        for stream in streams:
            state = stream.state
            lag.add_metric([stream.name], max(0, state.size - state.offset) if state.size is not None else 0)
            if state.watch:
                mode.add_metric([stream.name, state.watch], 1)
        total = GaugeMetricFamily(PREFIX + "streams", "Streams by their state.", labels=["state"])
        for status in StreamStatus:
            total.add_metric([status.value], states[status])
        yield from (lag, mode, total)

    def _clients(self) -> Iterator[Metric]:
        clients = GaugeMetricFamily(PREFIX + "clients", "Connected clients.", labels=["format"])
        formats = Counter(str(connection.format) for connection in list(self._service.hub.connections))
        for name in (*(format_.value for format_ in Format), *(wire.name for wire in WIRES)):
            clients.add_metric([name], formats[name])
        yield clients

    def _lagging(self, streams: list[Stream]) -> Iterator[Metric]:
        """Of the clients that are not live: the rest has no lag."""
        lags: defaultdict[str, list[int]] = defaultdict(list)
        heads = {stream.name: stream.ring.head()[1] for stream in streams}
        for connection in list(self._service.hub.connections):
            for name, subscription in list(connection.subscriptions.items()):
                if subscription.place in (Place.BEHIND, Place.READING) and name in heads:
                    lags[name].append(distance_bytes(subscription.positions, heads[name])[0])
        number = GaugeMetricFamily(
            PREFIX + "lagging_clients", "Clients that are behind and catch up.", labels=["stream"]
        )
        most = GaugeMetricFamily(
            PREFIX + "client_lag_bytes", "How far the client that lags most is behind the stream.", labels=["stream"]
        )
        for name in heads:
            number.add_metric([name], len(lags[name]))
            most.add_metric([name], max(lags[name], default=0))
        yield from (number, most)

    def _hub(self) -> Iterator[Metric]:
        tally = self._service.hub.tally
        for name, text, value in (
            ("lines_sent", "Lines sent, over all clients.", tally.lines_sent),
            ("bytes_sent", "Bytes of frames sent, over all clients.", tally.bytes_sent),
            (
                "slow_disconnects",
                "Clients that wanted to be closed when they lag, and were.",
                tally.slow_disconnects,
            ),
            (
                "catchups",
                "Times that a client fell behind what is in memory, and the file was read for it.",
                tally.catchups,
            ),
            ("aborted_clients", "Clients cut off because they neither read nor answered.", tally.aborted),
        ):
            yield CounterMetricFamily(PREFIX + name, text, value)
        yield SummaryMetricFamily(
            PREFIX + "flush_duration_seconds",
            "Time from reading a batch of lines to the last client's write.",
            tally.flushes,
            tally.flush_seconds,
        )
        yield HistogramMetricFamily(
            PREFIX + "event_loop_lag_seconds",
            "How late the event loop's clock ticks came, two a second.",
            list(zip((*map(str, LAG_BOUNDS_S), "+Inf"), itertools.accumulate(tally.lag.counts), strict=True)),
            tally.lag.sum_s,
        )

    def _by_reason(self) -> Iterator[Metric]:
        gaps = CounterMetricFamily(PREFIX + "gaps", "Losses that clients were told of.", labels=["reason"])
        lost = CounterMetricFamily(PREFIX + "gap_bytes", "Bytes in those losses, where known.", labels=["reason"])
        for reason, (count, size) in (_NO_GAPS | self._service.hub.tally.gaps).items():
            gaps.add_metric([reason], count)
            lost.add_metric([reason], size)
        resumes = CounterMetricFamily(PREFIX + "resumes", "Cursors that clients came back with.", labels=["result"])
        for result, times in (_NO_RESUMES | self._service.resumes).items():
            resumes.add_metric([result], times)
        refused = CounterMetricFamily(
            PREFIX + "refused", "Requests and connections that were not let in, by the reason.", labels=["reason"]
        )
        for why, times in self._service.gate.refusals.items():
            refused.add_metric([why.value], times)
        yield from (gaps, lost, resumes, refused)
