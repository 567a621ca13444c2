"""metrics: what Prometheus reads is what has happened, under names that its users expect."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from logstream_server import __version__
from logstream_server.access import throttle
from logstream_server.access.gate import Why
from logstream_server.app import create_app
from logstream_server.commandline.forms import NamedPath
from logstream_server.endpoints.metrics import create_registry
from logstream_server.fanout.hub import CLOCK_S
from logstream_server.service import Service
from logstream_server.settings import Settings

from ..conftest import Serve
from ..inside import serve_app
from ..process import Server, eventually

EXPECTED = (
    *("lines_read", "bytes_read", "tail_lag_bytes", "rotations", "truncations", "cut_lines", "reopen_errors"),
    *("watcher_mode", "clients", "lines_sent", "bytes_sent", "client_lag_bytes", "gaps", "gap_bytes", "resumes"),
    *("slow_disconnects", "catchups", "flush_duration_seconds", "event_loop_lag_seconds", "build_info", "refused"),
)
"""What design and dashboards know by name; a counter's samples have _total behind it."""


def families(server: Server) -> list[Metric]:
    return list(text_string_to_metric_families(server.get("/metrics").body.decode()))


def value(server: Server, name: str, **labels: str) -> float | None:
    """One sample, None when there is none."""
    for family in families(server):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("old\nolder\n")
    return path


@pytest.fixture
def server(serve: Serve, log: Path) -> Server:
    return serve("--poll-interval", "0.02", "--max-line-bytes", "64", log)


def test_what_was_read_and_sent_is_counted(server: Server, log: Path) -> None:
    with connect(server.ws_url + "?tail=0") as first, connect(server.ws_url + "?tail=0&format=json") as second:
        second.recv(timeout=20)
        assert value(server, "logstream_clients", format="text") == 1
        assert value(server, "logstream_clients", format="json") == 1
        assert value(server, "logstream_clients", format="raw") == 0
        with log.open("a") as file:
            file.write("one\ntwo\n" + "x" * 100 + "\n")
        assert [first.recv(timeout=20) for _ in range(2)] == ["one", "two"]
        eventually(lambda: value(server, "logstream_lines_sent_total") == 6)
    assert value(server, "logstream_lines_read_total", stream="a.log") == 3
    assert value(server, "logstream_bytes_read_total", stream="a.log") == 109
    assert value(server, "logstream_cut_lines_total", stream="a.log") == 1
    assert (value(server, "logstream_bytes_sent_total") or 0) > 2 * 72
    assert (value(server, "logstream_flush_duration_seconds_count") or 0) >= 2
    assert value(server, "logstream_tail_lag_bytes", stream="a.log") == 0
    assert value(server, "logstream_lagging_clients", stream="a.log") == 0
    assert value(server, "logstream_client_lag_bytes", stream="a.log") == 0
    eventually(lambda: value(server, "logstream_clients", format="text") == 0)


def test_what_happens_to_the_file_is_counted(server: Server, log: Path) -> None:
    assert value(server, "logstream_watcher_mode", stream="a.log", mode="notify") == 1 or (
        value(server, "logstream_watcher_mode", stream="a.log", mode="poll") == 1
    )
    assert value(server, "logstream_streams", state="following") == 1
    log.write_text("")
    eventually(lambda: value(server, "logstream_truncations_total", stream="a.log") == 1)
    log.rename(log.with_name("a.log.1"))
    log.write_text("new\n")
    eventually(lambda: value(server, "logstream_rotations_total", stream="a.log") == 1)


def test_cursors_and_losses_are_counted_by_how_they_ended(server: Server, log: Path) -> None:
    cursor = server.get("/api/v1/streams/a.log/lines?from=start&limit=1").json["cursor"]
    assert server.get(f"/api/v1/streams/a.log/lines?cursor={cursor}").json["recovered"]
    assert value(server, "logstream_resumes_total", result="recovered") == 1
    log.write_text("something else\n")
    eventually(lambda: not server.get(f"/api/v1/streams/a.log/lines?cursor={cursor}").json["recovered"])
    assert (value(server, "logstream_resumes_total", result="reset") or 0) >= 1


def refused(server: Server) -> dict[str, float]:
    """How many were refused for each reason that there was."""
    (family,) = [family for family in families(server) if family.name == "logstream_refused"]
    return {sample.labels["reason"]: sample.value for sample in family.samples if sample.value}


def socket_status(server: Server, query: str = "", **headers: str) -> int:
    """The status with which a socket is refused."""
    with pytest.raises(InvalidStatus) as caught:
        connect(server.ws_url + query, additional_headers=headers)
    return caught.value.response.status_code


def test_each_refusal_is_counted_by_its_reason(serve: Serve, log: Path, tmp_path: Path) -> None:
    """And by nothing that a client could choose: all reasons are there from the start."""
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text("a-token-for-everybody-1\n")
    server = serve("--token-file", tokens, "--max-clients", "3", "--max-clients-per-address", "1", log)
    (family,) = [family for family in families(server) if family.name == "logstream_refused"]
    assert {sample.labels["reason"] for sample in family.samples} == set(Why)
    assert refused(server) == {}
    good = {"Authorization": "Bearer a-token-for-everybody-1"}
    assert server.get("/api/v1/streams").status == 401
    assert socket_status(server, "?access_token=wrong") == 401
    assert server.get("/api/v1/streams", cookie="logstream_0=1.0.x.y").status == 401
    assert server.get("/api/v1/streams", origin="http://evil.example", **good).status == 403
    with connect(server.ws_url, additional_headers=good):
        assert socket_status(server, **good) == 429
    assert refused(server) == {"token": 2, "session": 1, "origin": 1, "address": 1}
    form = {"content_type": "application/x-www-form-urlencoded"}
    for _ in range(throttle.VISITOR.tries):
        server.get("/login", method="POST", body="token=wrong", **form)
    after = refused(server)
    assert after["tries"] >= 1
    assert after["login"] + after["tries"] == throttle.VISITOR.tries


def test_who_finds_no_place_is_counted(serve: Serve, log: Path) -> None:
    server = serve("--max-clients", "1", log)
    with connect(server.ws_url):
        assert socket_status(server) == 503
        assert server.get("/api/v1/streams/a.log/events").status == 503
    assert server.get("/", host="evil.example").status == 403
    assert refused(server) == {"clients": 2, "host": 1}
    assert "ERROR" not in server.log


def test_the_process_and_its_version_are_told(server: Server) -> None:
    assert value(server, "logstream_build_info", version=__version__) == 1
    assert (value(server, "process_resident_memory_bytes") or 0) > 1 << 20
    assert value(server, "process_open_fds") is not None


def test_a_stall_of_the_event_loop_is_seen_however_late_somebody_looks(tmp_path: Path) -> None:
    """Two scrapers, or one that comes after a hundred quiet ticks, see it all the same."""
    settings = Settings(paths=(NamedPath(str(tmp_path / "a.log")),))
    service = Service.build(settings)
    inside = serve_app(create_app(settings, service), lifespan="on")
    try:
        inside.call(lambda: time.sleep(2 * CLOCK_S + 0.2))  # a whole tick and more is late by then
        stalled = sum(service.hub.tally.lag.counts)
        eventually(lambda: sum(service.hub.tally.lag.counts) > stalled + 1)
        registry = create_registry(service)
        name = "logstream_event_loop_lag_seconds"
        ticks = registry.get_sample_value(f"{name}_count")
        in_time = registry.get_sample_value(f"{name}_bucket", {"le": "0.25"})
        assert ticks is not None
        assert in_time is not None
        assert in_time < ticks
        assert registry.get_sample_value(f"{name}_bucket", {"le": "+Inf"}) == ticks
        assert (registry.get_sample_value(f"{name}_sum") or 0) > CLOCK_S
    finally:
        inside.stop()


def test_the_names_are_what_the_field_expects(server: Server) -> None:
    """As `promtool check metrics` has it: help for each, counters end in _total, base units, no unit but at the end."""
    found = families(server)
    names = {family.name for family in found}
    for name in EXPECTED:
        assert f"logstream_{name}" in names
    for family in found:
        assert family.documentation, family.name
        assert family.documentation.endswith("."), family.name
        assert re.fullmatch(r"(logstream|process)_[a-z_]+", family.name)
        assert not re.search(r"_(milliseconds|ms|kilobytes|kb|count|total_.*)$", family.name), family.name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name


def test_openmetrics_is_spoken_to_those_who_ask(server: Server) -> None:
    answer = server.get("/metrics", accept="application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "logstream_clients" in {family.name for family in parse_openmetrics(answer.body.decode())}
    plain = server.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_a_stream_of_any_name_is_a_label(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / 'quo"te\\new\nline.log').write_text("one\n")
    server = serve(tmp_path)
    assert value(server, "logstream_lines_read_total", stream='quo"te\\new\nline.log') == 0


def test_each_application_has_its_own_metrics() -> None:
    services = [Service.build(Settings(paths=(NamedPath("/no/such/file"),))) for _ in range(2)]
    services[0].hub.tally.lines_sent = 7
    registries = [create_registry(service) for service in services]
    assert [registry.get_sample_value("logstream_lines_sent_total") for registry in registries] == [7, 0]


def test_losses_are_counted_with_their_bytes_from_nought_on() -> None:
    """An alert on the increase of a counter that is not there yet misses the first."""
    service = Service.build(Settings(paths=(NamedPath("/no/such/file"),)))
    registry = create_registry(service)
    for reason in ("lost", "slow"):
        assert registry.get_sample_value("logstream_gaps_total", {"reason": reason}) == 0
    for result in ("recovered", "reset"):
        assert registry.get_sample_value("logstream_resumes_total", {"result": result}) == 0
    service.hub.tally.gaps["lost"] = [2, 300]
    assert registry.get_sample_value("logstream_gaps_total", {"reason": "lost"}) == 2
    assert registry.get_sample_value("logstream_gap_bytes_total", {"reason": "lost"}) == 300
