"""The result of `logstream bench`: as a value, as JSON, as a table for people, and whether it is good. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from .histogram import Histogram

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
_BUSY: Final = 0.9
"""The share of a core from which on the bench itself may be what makes lines late."""
_WIDTH: Final = 15


class Connections(msgspec.Struct, frozen=True):
    """`seconds`: how long it took until the last was connected. Reasons are sentences, each with how often it came."""

    wanted: int
    connected: int
    seconds: float
    reconnects: int = 0
    refused: dict[str, int] = {}
    dropped: dict[str, int] = {}


class Log(msgspec.Struct, frozen=True):
    """What the bench wrote; `late_s` is how far it was behind its rate at the end."""

    lines: int
    seconds: float
    line_bytes: int
    late_s: float


class Result(msgspec.Struct, frozen=True):
    """All of it. Lines are counted over all clients: `lines` with a stamp, which are checked, and `others`, which no
    bench has written.

    `latency_ms`: from the writing of a line to its arrival; empty when no line carried its time. `cpu`: the share of a
    core that the clients of this process took.
    """

    url: str
    format: str
    seconds: float
    connections: Connections
    written: Log | None
    lines: int
    others: int
    bytes: int
    lost: int
    repeated: int
    reordered: int
    damaged: int
    gaps: int
    clients_with_faults: int
    latency_ms: dict[str, float]
    cpu: float
    interrupted: bool = False

    @property
    def faults(self) -> list[str]:
        """Why this is no success, as clauses; none when it is one."""
        counted = {
            "lost": self.lost,
            "repeated": self.repeated,
            "out of order": self.reordered,
            "damaged": self.damaged,
        }
        found = [
            f"{_count(number)} {'line' if number == 1 else 'lines'} {word}"
            for word, number in counted.items()
            if number
        ]
        if self.gaps:
            found.append(f"the server told of missing lines {_count(self.gaps)} times")
        missing = self.connections.wanted - self.connections.connected
        never_tried = self.interrupted and not (self.connections.refused or self.connections.dropped)
        if missing and not never_tried:
            found.append(f"{_count(missing)} of {_count(self.connections.wanted)} clients not connected at the end")
        if (
            self.written
            and self.written.lines
            and not self.lines
            and self.connections.connected
            and not self.interrupted
        ):
            found.append("none of these lines arrived: does the server follow that file?")
        return found


def latencies(histogram: Histogram) -> dict[str, float]:
    """The percentiles that are shown, in milliseconds."""
    found = {name: histogram.percentile_ms(percent) for name, percent in PERCENTILES.items()}
    found["max"] = histogram.max_ns / 1e6 if histogram.count else None
    return {name: round(value, 3) for name, value in found.items() if value is not None}


def encode_result(result: Result) -> bytes:
    """The result as JSON, with what is to be seen from it: whether it is good, and why not."""
    fields = msgspec.to_builtins(result) | {"ok": not result.faults, "faults": result.faults}
    return msgspec.json.format(msgspec.json.encode(fields), indent=2)


def render_result(result: Result) -> str:
    """The result for people."""
    rows = "".join(f"  {name:{_WIDTH}} {value}\n" for name, value in _rows(result))
    mode = f"{_count(result.connections.wanted)} clients, format {result.format}, {result.seconds:.1f} s"
    verdict = "; ".join(result.faults)
    if result.faults:
        verdict = f"FAILED: {verdict}\n"
    elif not result.lines:
        verdict = "ok: connected, but no line with a stamp came to be checked\n"
    else:
        verdict = "ok: every client got every line, once, in order and whole\n"
    stopped = "interrupted; this is the result so far\n" if result.interrupted else ""
    return f"{result.url}: {mode}\n{rows}{stopped}{verdict}"


def _rows(result: Result) -> Iterator[tuple[str, str]]:
    connections, seconds = result.connections, result.seconds or 1
    pace = f", {connections.connected / connections.seconds:,.0f} a second" if connections.seconds >= 0.001 else ""
    yield "connected", f"{_count(connections.connected)} in {connections.seconds:.2f} s{pace}"
    for reason, times in connections.refused.items():
        yield "  refused", f"{_count(times)}: {reason}"
    for reason, times in connections.dropped.items():
        yield "  ended", f"{_count(times)}: {reason}"
    if connections.reconnects:
        yield "reconnected", f"{_count(connections.reconnects)} times"
    if (log := result.written) is not None:
        behind = f"; the writer was {log.late_s:.1f} s behind its rate" if log.late_s > 0.1 * log.seconds > 0 else ""
        pace = f"{log.lines / (log.seconds or 1):,.0f} a second"
        yield "written", f"{_count(log.lines)} lines of {log.line_bytes} bytes, {pace}{behind}"
    received = result.lines + result.others
    pace = f"{received / seconds:,.0f} a second, {result.bytes / seconds / 1e6:,.1f} MB/s"
    yield "received", f"{_count(received)} lines, {pace}"
    if result.others:
        which = "all of them: none has" if not result.lines else f"{_count(result.others)} of them without"
        yield "not checked", f"{which} a stamp of ours"
    yield "lost", _count(result.lost)
    yield "repeated", _count(result.repeated)
    yield "out of order", _count(result.reordered)
    yield "damaged", _count(result.damaged)
    if result.clients_with_faults:
        yield "", f"at {_count(result.clients_with_faults)} clients"
    if result.latency_ms:
        yield "latency in ms", "   ".join(f"{name} {_short(value)}" for name, value in result.latency_ms.items())
    busy = "; so this process may be what made lines late" if result.cpu > _BUSY else ""
    yield "this process", f"{result.cpu * 100:.0f} % of a core{busy}"


def _count(number: int) -> str:
    return f"{number:,}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
