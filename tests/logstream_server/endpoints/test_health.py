"""health: what tells a kubelet to restart the server, and a load balancer to send nobody there."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from logstream_server.commandline.forms import NamedPath
from logstream_server.endpoints.health import MOUNT_ERROR_S, sickness, unreadiness
from logstream_server.lines.ring import Ring
from logstream_server.service import Service
from logstream_server.settings import Settings
from logstream_server.tailing.stream import Stream

from ..conftest import Serve
from ..process import Server, eventually


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service with two streams, which follows nothing."""
    service = Service.build(Settings(paths=(NamedPath("/no/such/file"),)))
    streams = {name: Stream(name, f"/{name}", (), Ring(4096)) for name in ("a.log", "b.log")}
    monkeypatch.setattr(service.monitor, "_streams", streams)
    return service


def test_a_mount_that_answers_with_errors_for_a_minute_is_a_sickness(service: Service) -> None:
    stream = service.monitor.streams["b.log"]
    assert sickness(service, 1000.0) is None
    stream.counters.mount_error_since = 1000.0
    assert sickness(service, 1000.0 + MOUNT_ERROR_S) is None
    assert sickness(service, 1075.4) == "b.log: the mount has been answering with errors for 75 s"
    stream.counters.mount_error_since = None
    assert sickness(service, 1075.4) is None


def test_a_server_is_ready_between_its_start_and_its_end(service: Service) -> None:
    assert unreadiness(service) == "the server is starting"
    service.is_started = True
    assert unreadiness(service) is None
    service.is_draining = True
    assert unreadiness(service) == "the server is shutting down"


def test_whether_a_file_exists_says_nothing_about_the_server(serve: Serve, tmp_path: Path) -> None:
    server = serve(tmp_path / "missing.log")
    for path in ("/healthz", "/readyz"):
        answer = server.get(path)
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert server.get(path, method="HEAD").status == 200


def test_neither_token_nor_origin_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    server = serve("--token-file", tmp_path / "tokens", tmp_path / "a.log")
    for path in ("/healthz", "/readyz"):
        assert server.get(path, origin="http://evil.example").status == 200


def hold_on(server: Server) -> socket.socket:
    """A client that does not answer the server's goodbye, so that its drain lasts."""
    sock = socket.create_connection((server.host, server.port), timeout=20)
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert sock.recv(12) == b"HTTP/1.1 101"
    return sock


def test_a_server_that_drains_is_alive_and_not_ready(serve: Serve, tmp_path: Path) -> None:
    """On its own port, which is there as long as the server is."""
    (tmp_path / "a.log").write_text("one\n")
    server = serve("--metrics-port", "0", "--drain", "2", tmp_path / "a.log")
    port = server.metrics_port
    eventually(lambda: server.get("/readyz", port=port).status == 200)
    with hold_on(server):
        server.process.terminate()
        answer = eventually(lambda: (a := server.get("/readyz", port=port)).status == 503 and a)
        assert answer.body == b"the server is shutting down\n"
        assert server.get("/healthz", port=port).status == 200
        assert b"logstream_clients" in server.get("/metrics", port=port).body
    assert server.process.wait(20) == -15


def test_a_client_that_says_goodbye_lets_the_server_end_at_once(serve: Serve, tmp_path: Path) -> None:
    server = serve("--metrics-port", "0", "--drain", "60", tmp_path / "a.log")
    with connect(server.ws_url) as client:
        began = time.monotonic()
        server.process.terminate()
        with pytest.raises(Exception, match="1012"):
            client.recv(timeout=20)
    assert server.process.wait(20) == -15
    assert time.monotonic() - began < 20
