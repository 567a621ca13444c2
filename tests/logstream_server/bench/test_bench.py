"""bench: the real program at a real server, and at one that lies."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logstream_server.bench.bench import run_bench
from logstream_server.bench.benchoptions import BenchOptions
from logstream_server.errors import CannotFollow, SettingsError

from ..conftest import Serve
from ..liar import Lie, cut_off, damage, drop, lying, repeat, swap
from ..process import DEADLINE_S, command, eventually

QUICK = ("--duration", "0.7", "--rate", "200", "--settle", "10")


def bench(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """The program's result, as JSON."""
    words, environment = command(("bench", "--json", *arguments))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("something old\n")
    return path


@pytest.mark.parametrize("form", ["text", "json", "raw"])
def test_every_client_gets_every_line(serve: Serve, log: Path, form: str) -> None:
    server = serve(log)
    result = bench(server.url, "-c", "20", "--format", form, "--write", log, *QUICK)
    assert result["connections"]["connected"] == 20
    assert result["lines"] == 20 * result["written"]["lines"] > 0
    assert (result["lost"], result["repeated"], result["reordered"], result["damaged"]) == (0, 0, 0, 0)
    assert list(result["latency_ms"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["max"]
    assert (result["ok"], result["faults"], result["others"]) == (True, [], 0)
    assert len(log.read_text().splitlines()) == 1 + result["written"]["lines"]


def test_the_table_says_it_for_people(serve: Serve, log: Path) -> None:
    server = serve(log)
    words, environment = command(("bench", server.url, "-c", "3", "--write", log, *QUICK))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"{server.url}: 3 clients, format text, 0.")
    assert done.stdout.endswith("\nok: every client got every line, once, in order and whole\n")
    assert done.stderr == ""


@pytest.mark.parametrize("form", ["text", "json", "raw"])
@pytest.mark.parametrize(
    ("lie", "faults"),
    [
        pytest.param(drop, {"lost"}, id="a loss"),
        pytest.param(repeat, {"repeated"}, id="a repeat"),
        pytest.param(swap, {"reordered"}, id="a swap"),
        pytest.param(damage, {"damaged"}, id="damage"),
    ],
)
def test_a_lie_is_found(serve: Serve, log: Path, form: str, lie: Callable[[int, int], Lie], faults: set[str]) -> None:
    """Of one client of five, at one frame: the first connection only asks."""
    server = serve(log)
    with lying(server.port, lie(3, 5)) as port:
        result = bench(
            f"http://127.0.0.1:{port}", "-c", "5", "--format", form, "--write", log, *QUICK, "--settle", "1", status=1
        )
    assert {name for name in ("lost", "repeated", "reordered", "damaged") if result[name]} == faults, result
    assert (result["ok"], result["clients_with_faults"]) == (False, 1)


def test_a_connection_that_ends_is_a_fault(serve: Serve, log: Path) -> None:
    server = serve(log)
    with lying(server.port, cut_off(2, 5)) as port:
        result = bench(f"http://127.0.0.1:{port}", "-c", "3", "--write", log, *QUICK, "--settle", "1", status=1)
    assert result["connections"]["connected"] == 2
    assert result["connections"]["dropped"] == {"the connection broke (1006)": 1}
    assert result["lost"] > 0
    assert "1 of 3 clients not connected at the end" in result["faults"]


def test_clients_that_reconnect_lose_and_repeat_nothing(serve: Serve, log: Path) -> None:
    server = serve(log)
    result = bench(
        server.url, "-c", "20", "--write", log, "-d", "2", "--rate", "300", "--reconnect", "300ms", "--settle", "2"
    )
    assert result["format"] == "json"
    assert result["connections"]["reconnects"] > 20
    assert (result["ok"], result["connections"]["connected"]) == (True, 20)
    assert result["lines"] == 20 * result["written"]["lines"]


def test_a_server_that_restarts_is_come_back_to(serve: Serve, log: Path) -> None:
    """With --reconnect; the log goes on meanwhile."""
    server = serve(log)
    port = server.port
    words, environment = command(
        ("bench", "--json", server.url, "-c", "5", "--write", log, "-d", "3", "--reconnect", "10s", "--settle", "60")
    )
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: log.stat().st_size > 10_000)
        server.kill()
        serve("--port", str(port), log)
        out, _ = process.communicate(timeout=60)
    result = json.loads(out)
    assert (result["ok"], process.returncode) == (True, 0), result
    assert sum(result["connections"]["dropped"].values()) == 5
    assert result["lines"] == 5 * result["written"]["lines"]


def test_without_a_file_to_write_it_listens(serve: Serve, log: Path) -> None:
    """To lines of whoever writes; those without a stamp are counted, and that is all."""
    server = serve(log)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.01):
            with log.open("a") as file:
                file.write("hello\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        result = bench(server.url, "-c", "4", "-d", "0.5")
    finally:
        stop.set()
        writer.join()
    assert (result["lines"], result["latency_ms"], result["written"]) == (0, {}, None)
    assert result["others"] > 4
    assert result["ok"] is True


def test_a_second_bench_can_listen_to_the_first(serve: Serve, log: Path) -> None:
    server = serve(log)
    words, environment = command(("bench", server.url, "-c", "1", "--write", log, "-d", "30", "--rate", "200"))
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as writing:
        eventually(lambda: log.stat().st_size > 10_000)
        result = bench(server.url, "-c", "5", "-d", "0.5", "--settle", "2")
        writing.send_signal(signal.SIGINT)
        assert writing.wait(DEADLINE_S) == 130
    assert result["ok"] is True, result
    assert result["lines"] > 5
    assert result["latency_ms"]["p50"] > 0


def test_ctrl_c_gives_the_result_so_far(serve: Serve, log: Path) -> None:
    """To the whole group, as a terminal does; the lines on their way are no loss."""
    server = serve(log)
    words, environment = command(("bench", "--json", server.url, "-c", "5", "--write", log, "-d", "1h"))
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        eventually(lambda: log.stat().st_size > 10_000)
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=DEADLINE_S)
    result = json.loads(out)
    assert (process.returncode, errors) == (130, "")
    assert (result["interrupted"], result["ok"], result["connections"]["connected"]) == (True, True, 5)
    assert result["lines"] > 0
    size = log.stat().st_size
    time.sleep(0.1)
    assert log.stat().st_size == size, "the writer goes on"


def test_ctrl_c_after_the_server_has_died_is_no_success(serve: Serve, log: Path) -> None:
    server = serve(log)
    words, environment = command(("bench", "--json", server.url, "-c", "5", "--write", log, "-d", "1h"))
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        eventually(lambda: log.stat().st_size > 10_000)
        server.kill()
        size = log.stat().st_size
        eventually(lambda: log.stat().st_size > size + 10_000)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE_S)
    result = json.loads(out)
    assert (process.returncode, result["ok"], result["interrupted"]) == (1, False, True)
    assert result["faults"] == ["5 of 5 clients not connected at the end"]


def test_a_bench_that_is_killed_takes_its_writer_along(serve: Serve, log: Path) -> None:
    server = serve(log)
    words, environment = command(("bench", server.url, "-c", "1", "--write", log, "-d", "1h"))
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
        eventually(lambda: log.stat().st_size > 10_000)
        process.kill()

    def is_still() -> bool:
        size = log.stat().st_size
        time.sleep(0.05)
        return log.stat().st_size == size

    eventually(is_still)


def test_a_file_that_the_server_does_not_follow_is_named_as_the_likely_mistake(
    serve: Serve, log: Path, tmp_path: Path
) -> None:
    result = bench(
        serve(log).url, "-c", "2", "--write", tmp_path / "other.log", "-d", "0.2", "--settle", "0.2", status=1
    )
    assert "none of these lines arrived: does the server follow that file?" in result["faults"]


def test_the_stream_of_the_file_that_it_writes_is_found(serve: Serve, log: Path, tmp_path: Path) -> None:
    """When it is not the server's first."""
    first = tmp_path / "aaa.log"
    first.write_text("")
    result = bench(serve(first, log).url, "-c", "2", "--write", log, *QUICK)
    assert result["lines"] > 0


def test_refusals_are_counted_with_the_server_s_reason(serve: Serve, log: Path) -> None:
    server = serve("--max-clients", "4", log)
    result = bench(server.url, "-c", "10", "--write", log, *QUICK, "--settle", "1", status=1)
    refused = result["connections"]["refused"]
    assert sum(refused.values()) == 10 - result["connections"]["connected"] >= 6
    assert all("(HTTP 503)" in reason or "(HTTP 429)" in reason for reason in refused)


def test_clients_connect_from_several_addresses(serve: Serve, log: Path) -> None:
    server = serve(log)
    words, environment = command(
        (
            "bench",
            server.url,
            "-c",
            "4",
            "--source-address",
            "127.0.0.7",
            "--source-address",
            "127.0.1.0/24",
            "-d",
            "1m",
        )
    )
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:

        def peers() -> bool:
            rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            mine = {row[1].split(":")[0] for row in rows if row[2].endswith(f":{server.port:04X}")}
            return {"0700007F", "0101007F"} <= mine

        eventually(peers)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130


def test_a_ramp_spreads_the_connecting(serve: Serve, log: Path) -> None:
    result = bench(serve(log).url, "-c", "10", "--ramp", "0.5", "-d", "0.1")
    assert result["connections"]["connected"] == 10
    assert result["connections"]["seconds"] >= 0.4


def test_a_token_and_headers_go_along(serve: Serve, log: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    server = serve("--token-file", token, log)
    assert bench(server.url, "-c", "2", "--token-file", token, "--header", "X-Team: logs", *QUICK, "--write", log)["ok"]
    header = "Authorization: Bearer s3cret"
    assert bench(server.url, "-c", "2", "--header", header, *QUICK, "--write", log)["ok"]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("http://127.0.0.1:1", id="nobody listens"),
        pytest.param("http://no.such.host.invalid", id="no such host"),
    ],
)
def test_a_server_that_is_not_there_is_an_error(target: str) -> None:
    with pytest.raises(CannotFollow, match=f"cannot follow {target}: "):
        run_bench(BenchOptions(target=target))


def test_more_clients_than_descriptors_are_refused_with_what_to_do() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(
        SettingsError, match=r"--clients '\d+': more than this process may have open .* raise `ulimit -n`"
    ):
        run_bench(BenchOptions(target="http://127.0.0.1:1", clients=hard + 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
