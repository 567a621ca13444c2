"""server: how the process begins and ends: its ports, its exit status, what it prints."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from logstream_server.errors import CannotListen
from logstream_server.server import listen, url_of

from .conftest import Serve
from .process import DEADLINE_S, command, eventually


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end by itself."""
    words, environment = command(("serve", *arguments))
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_a_port_in_use_says_which(tmp_path: Path, taken: int, option: str) -> None:
    other = "--metrics-port" if option == "--port" else "--port"
    ended = run(option, str(taken), other, "0", tmp_path / "a.log")
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {taken}: Address already in use" in ended.stderr
    assert ended.stdout == ""


def test_an_address_that_is_not_ours_says_which() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 203\.0\.113\.1 port 0"):
        listen("203.0.113.1", 0)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
@pytest.mark.parametrize("ports", [(), ("--metrics-port", "0")], ids=["one port", "two ports"])
def test_a_signal_ends_it_as_it_ends_other_programs(
    serve: Serve, tmp_path: Path, ports: tuple[str, ...], sent: signal.Signals, status: int
) -> None:
    server = serve(*ports, tmp_path / "a.log")
    eventually(lambda: server.get("/").status == 200)
    server.process.send_signal(sent)
    assert server.process.wait(DEADLINE_S) == status


def test_standard_output_is_the_address_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    server = serve("--metrics-port", "0", "--base-path", "/app", tmp_path / "a.log")
    assert server.url == f"http://127.0.0.1:{server.port}/app/"
    assert server.get("/app/").status == 200
    assert server.get("/healthz", port=server.metrics_port).status == 200
    server.stop()
    assert server.process.stdout is not None
    assert server.process.stdout.read() == b""


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_the_address_is_one_to_click_on(host: str, shown: str) -> None:
    try:
        sock = listen(host, 0)
    except CannotListen as error:
        pytest.skip(f"this machine has no such address: {error}")
    with sock:
        assert url_of(sock, "/app/") == f"http://{shown}:{sock.getsockname()[1]}/app/"


def test_a_peer_that_takes_nothing_is_ended_by_the_kernel() -> None:
    """What the listening socket is told holds for each connection: nobody else ends a stalled HTTP client."""
    with listen("127.0.0.1", 0, 12.5) as sock, socket.create_connection(sock.getsockname()):
        sock.setblocking(True)
        with sock.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_500
