"""report: what is said of a result, and when it is no success."""

from __future__ import annotations

import json

import msgspec
import pytest

from logstream_server.bench.histogram import Histogram
from logstream_server.bench.report import Connections, Log, Result, encode_result, latencies, render_result

GOOD = Result(
    url="http://h:8080",
    format="text",
    seconds=10.0,
    connections=Connections(wanted=1000, connected=1000, seconds=0.5),
    written=Log(lines=1000, seconds=10.0, line_bytes=200, late_s=0.0),
    lines=1_000_000,
    others=0,
    bytes=200_000_000,
    lost=0,
    repeated=0,
    reordered=0,
    damaged=0,
    gaps=0,
    clients_with_faults=0,
    latency_ms={"p50": 3.21, "max": 150.4},
    cpu=0.25,
)


def test_a_good_result_as_a_table() -> None:
    assert render_result(GOOD) == (
        "http://h:8080: 1,000 clients, format text, 10.0 s\n"
        "  connected       1,000 in 0.50 s, 2,000 a second\n"
        "  written         1,000 lines of 200 bytes, 100 a second\n"
        "  received        1,000,000 lines, 100,000 a second, 20.0 MB/s\n"
        "  lost            0\n"
        "  repeated        0\n"
        "  out of order    0\n"
        "  damaged         0\n"
        "  latency in ms   p50 3.2   max 150\n"
        "  this process    25 % of a core\n"
        "ok: every client got every line, once, in order and whole\n"
    )


def test_the_json_has_all_of_it_and_the_verdict() -> None:
    told = json.loads(encode_result(GOOD))
    assert told == {**msgspec.to_builtins(GOOD), "ok": True, "faults": []}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"lost": 1, "clients_with_faults": 1}, "1 line lost"),
        ({"repeated": 2000}, "2,000 lines repeated"),
        ({"reordered": 2}, "2 lines out of order"),
        ({"damaged": 3}, "3 lines damaged"),
        ({"gaps": 4}, "the server told of missing lines 4 times"),
        ({"lines": 0}, "none of these lines arrived: does the server follow that file?"),
        (
            {"connections": Connections(wanted=1000, connected=998, seconds=1, refused={"full (HTTP 503)": 2})},
            "2 of 1,000 clients not connected at the end",
        ),
    ],
)
def test_what_makes_it_no_success(fields: dict[str, object], fault: str) -> None:
    result = msgspec.structs.replace(GOOD, **fields)
    assert result.faults == [fault]
    assert render_result(result).endswith(f"\nFAILED: {fault}\n")
    assert json.loads(encode_result(result))["ok"] is False


def test_all_that_a_person_should_know_is_in_the_table() -> None:
    connections = Connections(10, 8, 0.0, 5, {"full (HTTP 503)": 1}, {"the connection broke (1006)": 2})
    log = Log(lines=1000, seconds=10.0, line_bytes=200, late_s=2.0)
    result = msgspec.structs.replace(
        GOOD, connections=connections, written=log, others=7, cpu=0.97, lost=3, interrupted=True
    )
    table = render_result(msgspec.structs.replace(result, clients_with_faults=2))
    for row in (
        "  connected       8 in 0.00 s\n",
        "    refused       1: full (HTTP 503)\n",
        "    ended         2: the connection broke (1006)\n",
        "  reconnected     5 times\n",
        "; the writer was 2.0 s behind its rate\n",
        "  received        1,000,007 lines, 100,001 a second, 20.0 MB/s\n",
        "  not checked     7 of them without a stamp of ours\n",
        "                  at 2 clients\n",
        "97 % of a core; so this process may be what made lines late\n",
        "interrupted; this is the result so far\n",
    ):
        assert row in table


def test_a_run_without_lines_says_that_nothing_was_checked() -> None:
    result = msgspec.structs.replace(GOOD, written=None, lines=0, others=50, latency_ms={})
    assert "  received        50 lines, 5 a second, 20.0 MB/s\n" in render_result(result)
    assert "  not checked     all of them: none has a stamp of ours\n" in render_result(result)
    assert "latency" not in render_result(result)
    assert render_result(result).endswith("ok: connected, but no line with a stamp came to be checked\n")


def test_clients_that_were_not_connected_when_it_was_interrupted_are_no_fault() -> None:
    connections = Connections(10, 8, 0.1)
    assert msgspec.structs.replace(GOOD, connections=connections, interrupted=True).faults == []


def test_clients_whose_connection_broke_are_a_fault_also_when_it_was_interrupted() -> None:
    connections = Connections(10, 8, 0.1, dropped={"the connection broke (1006)": 2})
    result = msgspec.structs.replace(GOOD, connections=connections, interrupted=True)
    assert result.faults == ["2 of 10 clients not connected at the end"]


def test_latencies_are_those_of_the_histogram() -> None:
    histogram = Histogram()
    assert latencies(histogram) == {}
    histogram.record(5_000_000)
    assert latencies(histogram) == {"p50": 5.0, "p90": 5.0, "p99": 5.0, "p99.9": 5.0, "max": 5.0}
