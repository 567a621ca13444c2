"""crowd: connections that do not come about, over TLS, and many at once; what they carry is in test_bench."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from logstream_server.bench.crowd import Crowd, Target, find_target, spread
from logstream_server.bench.listener import Run
from logstream_server.bench.tape import Tape
from logstream_server.encoding.view import Format
from logstream_server.errors import CannotFollow

from ..conftest import Serve
from ..process import DEADLINE_S, eventually
from ..tls import make_certificate


def crowd_at(target: Target, count: int = 1, reconnect_s: float | None = None) -> Crowd:
    return Crowd(target, Run(Format.TEXT, Tape(None, "c")), count, None, [], reconnect_s)


def connect(crowd: Crowd) -> dict[str, int]:
    """Until all have connected or failed; the reasons of those that failed."""
    end = time.monotonic() + DEADLINE_S
    while not crowd.is_complete:
        assert time.monotonic() < end
        crowd.connect_more(len(crowd.clients))
        crowd.poll(0.05)
    return dict(crowd.counts.refused)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that answers one request with these bytes, and closes; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
        thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "refused (HTTP 503)"),
        (b'HTTP/1.1 401 X\r\n\r\n{"title":"T","detail":"a token is needed"}', "a token is needed (HTTP 401)"),
        (b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: wrong\r\n\r\n", "it does not speak WebSocket"),
        (b"hello", "closed without an answer"),
        (b"", "closed without an answer"),
        (b"x" * 100_000, "the answer does not end (close code 1002)"),
    ],
)
def test_why_a_connection_did_not_come_about_is_told(answer: bytes, reason: str) -> None:
    with answering(answer) as url:
        crowd = crowd_at(find_target(url, {}, None))
        assert connect(crowd) == {reason: 1}
        assert crowd.counts.open == 0
        crowd.close()


def test_nobody_listening_is_a_refusal() -> None:
    crowd = crowd_at(find_target("ws://127.0.0.1:1/ws", {}, None), 3)
    assert connect(crowd) == {"Connection refused": 3}
    crowd.close()


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        crowd = crowd_at(find_target(f"ws://127.0.0.1:{silent.getsockname()[1]}/ws", {}, None), 100)
        crowd.connect_more(100)
        crowd.poll(0.05)
        assert not crowd.is_complete
        crowd.give_up_connecting()
        assert crowd.is_complete
        assert set(crowd.counts.refused) == {"no answer in time"}
        crowd.close()


def test_a_host_without_an_address_is_an_error() -> None:
    with pytest.raises(CannotFollow, match=r"cannot follow ws://no\.such\.host\.invalid"):
        find_target("ws://no.such.host.invalid/ws", {}, None)


def test_addresses_are_as_many_as_ports_are_needed() -> None:
    network = ip_network("127.0.0.0/8")
    assert spread([network], 1000) == ["127.0.0.1"]
    assert spread([network], 50_000) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert spread([ip_network("127.0.0.9"), network], 10) == ["127.0.0.9", "127.0.0.1"]
    assert spread([], 50_000) == []


def test_over_tls_it_is_the_same(serve: Serve, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    log = tmp_path / "app.log"
    log.write_text("")
    server = serve(log, "--tls-cert", certificate)
    trusting = ssl.create_default_context(cafile=certificate)
    target = find_target(server.ws_url, {}, trusting)
    crowd = Crowd(target, Run(Format.TEXT, Tape(None, "c")), 3, None, [], None)
    assert connect(crowd) == {}
    log.write_text("hello\n" * 3)

    def got() -> bool:
        crowd.poll(0.05)
        return [client.listener.others for client in crowd.clients] == [3, 3, 3]

    eventually(got)
    crowd.close()
    wary = crowd_at(find_target(server.ws_url, {}, ssl.create_default_context()))
    (reason,) = connect(wary)
    assert reason.startswith("its certificate is not trusted: self-signed certificate")
    wary.close()


def test_a_crowd_connects_and_goes(serve: Serve, tmp_path: Path) -> None:
    """Far more than are connected at one time; the server counts them, and counts them out."""
    log = tmp_path / "app.log"
    log.write_text("")
    server = serve(log)
    crowd = crowd_at(find_target(server.ws_url, {}, None), 300)
    assert connect(crowd) == {}
    assert crowd.counts.open == 300
    eventually(lambda: server.get("/api/v1/streams/app.log").json["clients"] == 300)
    crowd.close()
    eventually(lambda: server.get("/api/v1/streams/app.log").json["clients"] == 0)
