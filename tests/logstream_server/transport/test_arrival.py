"""arrival: a request comes whole within its time and its bytes, or the connection is closed; nobody else is."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from logstream_server.encoding.frames import Opcode
from logstream_server.transport.arrival import MAX_HEAD_BYTES, BoundedHttpProtocol, http_protocol

from ..inside import PATIENCE_S, Inside, RawClient, serve_app

SHORT_S, LONG_S = 0.2, 3600.0
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = REQUEST.replace(
    b"\r\n\r\n",
    b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
)
Serving = Callable[[float], Inside]


class App:
    """Answers every request with its path, `/slow` only when it is told to, `/parts` in three, and what is posted when
    all of it is there, but for `/begun`; sockets are accepted and echo."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waiting = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """Of the last request."""
        self.sockets: list[tuple[str, bytes]] = []
        """What was asked for."""

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "websocket":
            self.sockets.append((scope["path"], scope["query_string"]))
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        self.headers = list(scope["headers"])
        if scope["path"] == "/slow":
            self.waiting += 1
            await self.go_on.wait()
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if scope["path"] == "/parts":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one ", b"two ", b"three"):
                await send({"type": "http.response.body", "body": part, "more_body": part != b"three"})
            return
        if scope["method"] == "POST":
            while (message := await receive()).get("more_body"):
                pass
            if message["type"] == "http.disconnect":
                return
        body = scope["path"].encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def serving(app: App) -> Iterator[Serving]:
    """Start a server in which a request may take so many seconds."""
    servers: list[Inside] = []

    def start(request_timeout_s: float) -> Inside:
        servers.append(serve_app(app, http=http_protocol(request_timeout_s), timeout_keep_alive=3600))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def connection(server: Inside) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)


def parts(answer: bytes) -> tuple[list[bytes], bytes]:
    """Lines of the head, without those that uvicorn is told to leave out, and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return [line for line in head.splitlines() if not line.startswith((b"date:", b"server:"))], body


def rest(sock: socket.socket) -> bytes:
    """All that comes until the server closes; fails when it does not."""
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def let_time_pass(server: Inside) -> None:
    """Until the time of one who came later is over."""
    with connection(server) as idle:
        assert rest(idle) == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"GET / HT", b"HTTP/1.1 408 ", id="half a request line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n", b"HTTP/1.1 408 ", id="headers without an end"),
    ],
)
def test_who_does_not_send_a_whole_request_is_closed(serving: Serving, sent: bytes, status: bytes) -> None:
    with connection(serving(SHORT_S)) as sock:
        sock.sendall(sent)
        assert rest(sock).startswith(status)


@pytest.mark.parametrize("path", [b"/", b"/begun"])
def test_a_body_must_come_in_the_same_time(serving: Serving, path: bytes) -> None:
    """Where the answer has begun, it ends without its end."""
    with connection(serving(SHORT_S)) as sock:
        sock.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
        answer = rest(sock)
    assert answer.startswith(b"HTTP/1.1 200 " if path == b"/begun" else b"HTTP/1.1 408 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert not answer.endswith(b"\r\n0\r\n\r\n")


def test_bytes_that_come_one_by_one_do_not_buy_time(serving: Serving) -> None:
    """The time is for the whole request, however busy its sender looks."""
    with connection(serving(SHORT_S)) as sock:
        sock.settimeout(0.01)
        answer = b""
        for _ in range(round(PATIENCE_S / 0.01)):
            try:
                sock.sendall(b"G" if not answer else b"")
                answer = sock.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                return
            break
        assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))


def test_an_idle_connection_is_closed_after_its_answer(serving: Serving) -> None:
    with connection(serving(SHORT_S)) as sock:
        sock.sendall(REQUEST)
        assert rest(sock).endswith(b"\r\n\r\n/")


def test_an_answer_may_take_longer_than_a_request(serving: Serving, app: App) -> None:
    server = serving(SHORT_S)
    with connection(server) as slow:
        slow.sendall(REQUEST.replace(b"/ ", b"/slow "))
        let_time_pass(server)
        assert server.call(lambda: app.waiting) == 1
        server.call(app.go_on.set)
        assert rest(slow).endswith(b"/slow")


def test_who_speaks_http_1_0_gets_an_answer_without_chunks_that_ends_with_the_connection(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(b"GET /parts HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, body = parts(rest(sock))
    assert head == [b"HTTP/1.1 200 OK", b"connection: close"]
    assert body == b"one two three"


def test_an_answer_that_says_its_length_is_the_same_for_http_1_0(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        head, body = parts(rest(sock))
    assert head == [b"HTTP/1.1 200 OK", b"content-length: 1", b"connection: close"]
    assert body == b"/"


def test_an_answer_without_a_length_comes_in_chunks_otherwise(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(b"GET /parts HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        head, body = parts(rest(sock))
    assert b"transfer-encoding: chunked" in head
    assert body == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"


HOSTS = [
    pytest.param("1.1", [b"h"], True, id="one"),
    pytest.param("1.1", [], False, id="none"),
    pytest.param("1.1", [b"h", b"h"], False, id="two"),
    pytest.param("1.1", [b""], True, id="an empty one"),
    pytest.param("1.1", [b"127.0.0.1:8080"], True, id="with a port"),
    pytest.param("1.1", [b"[fe80::1%25eth0]:8080"], True, id="IPv6"),
    pytest.param("1.1", [b"_a-b.example."], True, id="a name"),
    pytest.param("1.1", [b"h:http"], False, id="a port that is none"),
    pytest.param("1.1", [b"h, i"], False, id="a list"),
    pytest.param("1.1", [b"u@h"], False, id="a user"),
    pytest.param("1.1", [b"h/p"], False, id="a path"),
    pytest.param("1.1", [b"[::1"], False, id="half a bracket"),
    pytest.param("1.1", [b"h\xc3\xa4"], False, id="bytes that are no ASCII"),
    pytest.param("1.0", [], True, id="none in HTTP/1.0"),
    pytest.param("1.0", [b"h", b"h"], False, id="two in HTTP/1.0"),
]


@pytest.mark.parametrize("kind", [b"GET", b"POST", b"an upgrade"])
@pytest.mark.parametrize(("version", "hosts", "good"), HOSTS)
def test_a_request_names_one_host(
    serving: Serving, kind: bytes, version: str, hosts: list[bytes], *, good: bool
) -> None:
    head, _, more = UPGRADE.partition(b"Host: h\r\n")
    if kind != b"an upgrade":
        head, more = kind + head.removeprefix(b"GET"), b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    with connection(serving(LONG_S)) as sock:
        hosts_of_it = b"".join(b"Host: " + host + b"\r\n" for host in hosts)
        sock.sendall(head.replace(b"1.1", version.encode()) + hosts_of_it + more)
        status = sock.recv(65536) if good else rest(sock)
    assert status.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 101 ") if good else b"HTTP/1.1 400 ")
    assert good or b"which host" in status


def test_the_request_before_one_without_a_host_is_answered(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(REQUEST + REQUEST.replace(b"Host: h\r\n", b"") + REQUEST)
        answers = rest(sock)
    assert [line for line in answers.splitlines() if b"HTTP/1.1 " in line] == [
        b"HTTP/1.1 200 OK",
        b"/HTTP/1.1 400 Bad Request",
    ]


def test_blanks_around_a_header_s_value_are_no_part_of_it(serving: Serving, app: App) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(
            REQUEST.replace(b"Host: h\r\n", b"Host: \t h \t\r\nX-A:  a  b  \r\nX-B:   \r\nConnection: close \r\n")
        )
        assert rest(sock).startswith(b"HTTP/1.1 200 ")
    assert app.headers[:3] == [(b"host", b"h"), (b"x-a", b"a  b"), (b"x-b", b"")]


def test_requests_one_after_the_other_go_on_over_one_connection(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock, closing(sock.makefile("rb")) as stream:
        for _ in range(3):
            sock.sendall(REQUEST)
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
            assert stream.read(1) == b"/"


def test_headers_without_end_are_not_kept(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        try:
            for _ in range(MAX_HEAD_BYTES // 1024 + 2):
                sock.sendall(b"a" * 1024)
            assert rest(sock).startswith(b"HTTP/1.1 431 ")
        except ConnectionError:  # it was closed while we were still sending
            pass


def test_headers_of_many_requests_are_not_added_up(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock, closing(sock.makefile("rb")) as stream:
        for _ in range(4):
            sock.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nX-A: " + b"a" * (MAX_HEAD_BYTES // 2) + b"\r\n\r\n"))
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
            assert stream.read(1) == b"/"


def test_who_asks_for_another_protocol_is_answered_by_this_one(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """As Java's client does with each request. It is no news for the log."""
    with connection(serving(LONG_S)) as sock, closing(sock.makefile("rb")) as stream:
        for _ in range(2):
            sock.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
            assert stream.read(1) == b"/"
    assert not caplog.records


@pytest.mark.parametrize("behind", [UPGRADE, b"\x00\r\n\r\n"], ids=["a WebSocket", "what is no request"])
def test_nothing_begins_and_nothing_is_refused_within_an_answer(serving: Serving, app: App, behind: bytes) -> None:
    server = serving(LONG_S)
    with connection(server) as sock:
        sock.sendall(REQUEST.replace(b"/ ", b"/slow ") + behind)
        try:
            answer = rest(sock)
        except ConnectionError:
            answer = b""
        assert answer == b""
        server.call(app.go_on.set)


@pytest.mark.parametrize(
    "sent",
    [
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"no header\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(serving: Serving, sent: bytes) -> None:
    """Also where only its body shows that."""
    with connection(serving(LONG_S)) as sock:
        sock.sendall(REQUEST.replace(b"GET", b"POST").removesuffix(b"\r\n") + sent)
        answer = rest(sock)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("request_", [REQUEST, UPGRADE], ids=["plain", "a WebSocket"])
@pytest.mark.parametrize("target", [b"http://[::1/ws", b"http://h:99999999/ws", b"http://"])
def test_an_address_that_is_none_is_refused(serving: Serving, request_: bytes, target: bytes) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(request_.replace(b" / ", b" " + target + b" "))
        assert rest(sock).startswith(b"HTTP/1.1 400 ")


def test_an_address_may_be_a_whole_url(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(REQUEST.replace(b" / ", b" http://h "))
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (b"/a%20b/ws?x=%20", ("/a b/ws", b"x=%20")),
        (b"http://h:80/ws?x=1", ("/ws", b"x=1")),
        (b"http://h", ("/", b"")),
        (b"/ws?", ("/ws", b"")),
    ],
)
def test_a_websocket_s_address_may_be_a_whole_url(
    serving: Serving, app: App, target: bytes, asked: tuple[str, bytes]
) -> None:
    """As a proxy may send it."""
    server = serving(LONG_S)
    with connection(server) as sock:
        sock.sendall(UPGRADE.replace(b" / ", b" " + target + b" "))
        assert sock.recv(65536).startswith(b"HTTP/1.1 101 ")
    assert server.call(lambda: app.sockets) == [asked]


def test_a_websocket_of_another_version_is_told_which_there_is(serving: Serving) -> None:
    with connection(serving(LONG_S)) as sock:
        sock.sendall(UPGRADE.replace(b"Version: 13", b"Version: 8"))
        answer = rest(sock)
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer


def test_a_websocket_has_no_such_time(serving: Serving) -> None:
    server = serving(SHORT_S)
    with RawClient(server.port) as client:
        client.open()
        let_time_pass(server)
        client.sock.settimeout(0.01)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_frames_that_come_with_the_request_are_not_lost(serving: Serving, pieces: int) -> None:
    """In one segment with its end, which came alone or with all of it."""
    with RawClient(serving(LONG_S).port, early=(Opcode.TEXT, b"hasty"), pieces=pieces) as client:
        client.send(Opcode.TEXT, b"sane")
        assert client.open().frames(2) == [(Opcode.TEXT, b"hasty"), (Opcode.TEXT, b"sane")]


def test_what_a_websocket_came_by_is_gone_at_once(serving: Serving) -> None:
    """Without the cycle collector, which would have to look at all clients to find those who came last."""
    inside = serving(LONG_S)
    gc.collect()
    gc.disable()
    try:
        with RawClient(inside.port) as client:
            client.open()
            left = inside.call(lambda: [each for each in gc.get_objects() if isinstance(each, BoundedHttpProtocol)])
            assert left == []
    finally:
        gc.enable()
