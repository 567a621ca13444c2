"""server: how the process begins and ends: its ports, its exit status, what it prints."""

from __future__ import annotations

import contextlib
import errno
import http.client
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from logstream_server.app import create_app
from logstream_server.commandline.forms import NamedPath
from logstream_server.encoding.frames import Opcode
from logstream_server.errors import CannotListen
from logstream_server.fanout.connection import Connection
from logstream_server.server import Server, listen, make_config, url_of
from logstream_server.service import Service
from logstream_server.settings import Settings

from .conftest import Serve
from .inside import Inside, RawClient
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
    assert f"cannot listen on 127.0.0.1 port {taken}: Address already in use; {option} takes another" in ended.stderr
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


@pytest.mark.parametrize("ports", [(), ("--metrics-port", "0")], ids=["one port", "two ports"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain_at_once(
    serve: Serve, tmp_path: Path, first: signal.Signals, second: signal.Signals, ports: tuple[str, ...]
) -> None:
    """Whatever the two are, and without a complaint."""
    server = serve("--drain", "3600", "--ping-interval", "3600", *ports, tmp_path / "a.log")
    with RawClient(server.port, "/ws") as client:
        client.open()
        server.process.send_signal(first)
        (goodbye,) = client.frames()
        assert goodbye[0] is Opcode.CLOSE
        assert server.process.poll() is None
        server.process.send_signal(second)
        assert server.process.wait(DEADLINE_S) in (-signal.SIGTERM, 130)
    assert "Traceback" not in server.log


class Settled(Connection):
    """A client that does not leave before it is cut off."""

    __slots__ = ("asked",)

    def finish(self, _code: int, _reason: str) -> None:
        """Heard, and nothing done."""
        self.asked = True

    def abort(self) -> None:
        """The end."""
        self.connection_lost(None)


def test_a_second_signal_does_not_wait_for_clients(tmp_path: Path) -> None:
    settings = Settings(paths=(NamedPath(str(tmp_path / "a.log")),), drain_s=3600)
    service = Service.build(settings)
    server = Server(make_config(create_app(settings, service), settings), service)
    inside = Inside(lambda: server)
    client = Settled(service.hub, "text")
    client.asked = False
    inside.call(lambda: service.hub.add(client))
    inside.call(lambda: server.handle_exit(signal.SIGTERM, None))
    eventually(lambda: client.asked)
    assert not client.is_gone
    inside.call(lambda: server.handle_exit(signal.SIGTERM, None))
    inside.stop()
    assert client.is_gone


def test_a_connection_without_a_request_is_closed(serve: Serve, tmp_path: Path) -> None:
    """On both ports, after the time that a silent client has."""
    server = serve("--ping-timeout", "0.2", "--metrics-port", "0", tmp_path / "a.log")
    for port in (server.port, server.metrics_port):
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
            assert sock.recv(1) == b""


def test_standard_output_is_the_address_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    server = serve("--metrics-port", "0", "--base-path", "/app", tmp_path / "a.log")
    assert server.url == f"http://127.0.0.1:{server.port}/app/"
    assert server.get("/app/").status == 200
    assert server.get("/healthz", port=server.metrics_port).status == 200
    server.stop()
    assert server.process.stdout is not None
    assert server.process.stdout.read() == b""


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "127.0.0.1")]
)
def test_the_address_is_one_to_click_on(host: str, shown: str) -> None:
    try:
        sock = listen(host, 0)
    except CannotListen as error:
        pytest.skip(f"this machine has no such address: {error}")
    with sock:
        assert url_of(sock, "/app/") == f"http://{shown}:{sock.getsockname()[1]}/app/"
        assert url_of(sock, "/", "https") == f"https://{shown}:{sock.getsockname()[1]}/"


def has_ipv6() -> bool:
    """Whether this machine's own address of that kind works."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_all_addresses_are_those_of_both_kinds_on_both_ports(serve: Serve, tmp_path: Path, host: str) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    (tmp_path / "a.log").write_text("one\n")
    server = serve("--host", host, "--insecure-open", "--metrics-port", "0", tmp_path / "a.log")
    assert server.url == f"http://127.0.0.1:{server.port}/"
    for address in ("127.0.0.1", "::1"):
        for port, path in ((server.port, "/api/v1/streams"), (server.metrics_port, "/readyz")):
            connection = http.client.HTTPConnection(address, port, timeout=DEADLINE_S)
            with contextlib.closing(connection):
                connection.request("GET", path)
                assert connection.getresponse().status == 200
        shown = f"[{address}]" if ":" in address else address
        with connect(f"ws://{shown}:{server.port}/ws", origin=Origin(f"http://{shown}:{server.port}")) as client:
            assert client.recv(timeout=DEADLINE_S) == "one"


def test_the_address_of_one_kind_is_of_one_kind(serve: Serve, tmp_path: Path) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    server = serve("--host", "::1", tmp_path / "a.log")
    assert server.url == f"http://[::1]:{server.port}/"
    assert server.get("/").status == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


class WithoutIPv6(socket.socket):
    """Of a machine whose kernel knows only the older kind."""

    def __init__(self, family: int, *arguments: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *arguments)


def test_all_addresses_are_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logstream_server.server.socket.socket", WithoutIPv6)
    with listen("::", 0) as sock:
        assert sock.family == socket.AF_INET
        port = sock.getsockname()[1]
        assert url_of(sock, "/") == f"http://127.0.0.1:{port}/"
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(CannotListen, match=r"cannot listen on ::1 port 0: Address family not supported"):
        listen("::1", 0)


def test_a_name_is_listened_on_and_one_that_is_none_says_so() -> None:
    with listen("localhost", 0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
    with pytest.raises(CannotListen, match=r"cannot listen on no-such-name\.invalid port 0: "):
        listen("no-such-name.invalid", 0)


def test_a_peer_that_takes_nothing_is_ended_by_the_kernel() -> None:
    """What the listening socket is told holds for each connection: nobody else ends a stalled HTTP client."""
    with listen("127.0.0.1", 0, 12.5) as sock, socket.create_connection(sock.getsockname()):
        sock.setblocking(True)
        with sock.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_500
