"""live: each line exactly once over plain HTTP, whatever happens to server, file and connection."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Serve
from ..process import Server, eventually
from ..proxied import nginx
from ..scenarios.checker import assert_exact, judge
from ..viewer import NDJSON, SSE, SseParser, Viewer

QUICK = ("--poll-interval", "0.02", "--rotate-wait", "0.3", "--partial-after", "0.1")
EVENTS = "/api/v1/streams/a.log/events"
KINDS = pytest.mark.parametrize("kind", [SSE, NDJSON])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n")
    return path


@pytest.fixture
def server(serve: Serve, log: Path) -> Server:
    return serve(*QUICK, log)


def append(path: Path, *lines: str) -> list[str]:
    with path.open("a") as file:
        file.write("".join(line + "\n" for line in lines))
    return list(lines)


def clients(server: Server) -> int:
    number: int = server.get("/api/v1/streams/a.log").json["clients"]
    return number


def ask(server: Server, path: str = EVENTS, **headers: str) -> socket.socket:
    """Ask for events and read nothing."""
    sock = socket.socket()
    sock.settimeout(20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((server.host, server.port))
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n{more}\r\n".encode())
    return sock


# -- exactly once ------------------------------------------------------------------------------------------------------


@KINDS
def test_every_line_comes_once_whatever_happens(serve: Serve, log: Path, kind: str) -> None:
    """Broken connections, kills, a rotation while nobody looks, a server that ends in order; the ring is tiny."""
    options = (*QUICK, "--ring-bytes", "4KiB", "--max-line-bytes", "1KiB")
    server = serve(*options, log)
    numbers = itertools.count(1)
    written = ["one", "two", "three"]

    def write(count: int) -> None:
        written.extend(append(log, *(f"line {next(numbers)} {'x' * 50}" for _ in range(count))))

    with Viewer(server, "a.log", kind, from_="start") as viewer:
        for round_ in range(4):
            write(500)
            viewer.until(len(written) - 200)
            viewer.cut()
            write(500)
            if round_ % 2:
                server.kill()
            else:
                server.stop()
            write(300)
            log.rename(log.with_name(f"a.log.{9 - round_}"))
            log.write_text("")
            write(300)
            server = serve(*options, "--port", str(server.port), log)
        viewer.until(len(written))
        assert_exact(viewer.lines, written)
        assert viewer.connections >= 5
        assert not [m for m in viewer.messages if m["type"] == "gap" or m.get("recovered") is False]


@KINDS
def test_the_check_sees_a_message_that_is_lost_on_purpose(server: Server, log: Path, kind: str) -> None:
    written = ["one", "two", "three"]
    with Viewer(server, "a.log", kind, from_="start") as viewer:
        viewer.until(3)
        viewer.dropped = "line 7"
        for number in range(20):
            written += append(log, f"line {number}")
            eventually(lambda number=number: viewer.messages[-1].get("lines", [])[-1:] == [f"line {number}"])  # type: ignore[misc]
        assert judge(viewer.lines, written).lost == ("line 7",)


@KINDS
def test_a_reader_that_stalls_gets_everything_and_costs_little(serve: Serve, log: Path, kind: str) -> None:
    server = serve(*QUICK, "--ring-bytes", "64KiB", "--max-line-bytes", "1KiB", log)
    sock = ask(server, EVENTS + "?from=start", Accept=kind)
    eventually(lambda: clients(server) == 1)

    def rss_kib() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    before = rss_kib()
    lines = append(log, *(f"{number:010} {'x' * 500}" for number in range(60_000)))
    eventually(lambda: server.get("/api/v1/streams/a.log/lines?tail=1").json["lines"] == lines[-1:])
    assert rss_kib() - before < 16 << 10
    got: list[str] = []
    with sock, sock.makefile("rb") as file:
        for line in file:  # chunks are whole slices, whose edges are anywhere: let the standard library undo them
            if line == b"\r\n":
                break
        body = unchunked(file)
        parser = SseParser() if kind == SSE else None
        buffer = b""
        while len(got) < 60_003:
            data = next(body)
            texts: list[str]
            if parser is not None:
                texts = [text for _, text in parser.feed(data)]
            else:
                *whole, buffer = (buffer + data).split(b"\n")
                texts = [line.decode() for line in whole]
            for message in map(json.loads, texts):
                got += message.get("lines", [])
    assert_exact(got, ["one", "two", "three", *lines])


def unchunked(file: Any) -> Iterator[bytes]:
    """The body of a chunked answer (RFC 9112, 7.1)."""
    while size := int(file.readline(), 16):
        yield file.read(size)
        assert file.read(2) == b"\r\n"


@KINDS
def test_lines_of_all_kinds_survive(serve: Serve, log: Path, kind: str) -> None:
    """Carriage returns inside, nothing at all, what is not UTF-8, line separators of Unicode, and very long ones."""
    log.write_bytes(
        b"\n\none\rtwo\r\rthree\r\n\r\n: x\ndata: x\n\xff\xfe\x00\n\xe2\x80\xa8\xc2\x85\n" + b"x" * 300_000 + b"\n"
    )
    expected = ["", "", "one\rtwo\r\rthree", "", ": x", "data: x", "\ufffd\ufffd\x00", "\u2028\x85", "x" * 300_000]
    with Viewer(serve(*QUICK, log), "a.log", kind, from_="start") as viewer:
        assert viewer.until(len(expected)) == expected


@KINDS
def test_an_unfinished_line_comes_in_two_parts(server: Server, log: Path, kind: str) -> None:
    with Viewer(server, "a.log", kind, tail="1") as viewer:
        for part in ("half ", "a line\n"):
            with log.open("a") as file:
                file.write(part)
            eventually(lambda part=part: viewer.lines[-1:] == ["half a line" if part.endswith("\n") else part])  # type: ignore[misc]
            viewer.cut()


@KINDS
def test_a_cursor_that_cannot_be_honoured_is_said_so(serve: Serve, log: Path, kind: str) -> None:
    server = serve(*QUICK, log)
    with Viewer(server, "a.log", kind, from_="start") as viewer:
        viewer.until(3)
        server.kill()
        log.write_text("another\n")
        serve(*QUICK, "--port", str(server.port), log)
        hello = eventually(lambda: next((m for m in viewer.messages if m.get("recovered") is False), None))
        assert hello is not None
        assert "truncated" in hello["reason"]
        assert viewer.until(4)[3:] == ["another"]


@KINDS
def test_what_happens_to_the_file_is_told(server: Server, log: Path, kind: str) -> None:
    with Viewer(server, "a.log", kind) as viewer:
        viewer.until(3)
        log.write_text("")
        assert viewer.message("event")["event"] == "truncated"
        append(log, "new")
        assert viewer.until(4)[3:] == ["new"]
        # Never without a file of that name: one that looks in between would say "deleted" and "appeared".
        log.with_name("a.log.1").hardlink_to(log)
        append(log.with_name("new"), "newer")
        log.with_name("new").replace(log)
        eventually(lambda: "rotated" in [m["event"] for m in viewer.messages if m["type"] == "event"])
        assert viewer.until(5)[4:] == ["newer"]


# -- how it begins and ends -------------------------------------------------------------------------------------------


def test_no_proxy_holds_it_back(server: Server) -> None:
    for accept, expected in (("", SSE), ("*/*", SSE), (SSE, SSE), (NDJSON, NDJSON)):
        answer = server.get(EVENTS, method="HEAD", accept=accept)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"].startswith(expected)
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-length" not in answer.headers
    assert clients(server) == 0


def test_where_it_begins(server: Server) -> None:
    cursor = server.get("/api/v1/streams/a.log/lines?from=start&limit=1").json["cursor"]
    for query, expected in (
        ({}, ["one", "two", "three"]),
        ({"tail": 1}, ["three"]),
        ({"from": "start", "grep": "t"}, ["two", "three"]),
        ({"exclude": "w"}, ["one", "three"]),
        ({"cursor": cursor}, ["two", "three"]),
        ({"lastEventId": cursor, "from": "start"}, ["two", "three"]),
        ({"lastEventId": "", "cursor": cursor}, ["two", "three"]),
    ):
        with Viewer(server, "a.log", NDJSON, **query) as viewer:
            assert viewer.until(len(expected)) == expected


def test_the_place_in_the_header_counts_before_the_query(server: Server, log: Path) -> None:
    """A browser comes back to the address that it first asked for."""
    last = server.get("/api/v1/streams/a.log").json["cursor"]
    viewer = Viewer(server, "a.log", SSE, from_="start")
    viewer.last_id = last
    with viewer:
        append(log, "new")
        assert viewer.until(1) == ["new"]
        assert viewer.message("hello")["recovered"] is True


def test_a_silent_stream_shows_signs_of_life(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, "--ping-interval", "0.1", log)
    with Viewer(server, "a.log", SSE) as events, Viewer(server, "a.log", NDJSON) as objects:
        eventually(lambda: isinstance(events.parser, SseParser) and events.parser.comments >= 3)
        place = eventually(lambda: [m for m in objects.messages if m["type"] == "lines" and not m["lines"]])[0]
        assert (place["offset"], place["cursor"]) == (None, server.get("/api/v1/streams/a.log").json["cursor"])
        append(log, "new")
        assert events.until(4) == objects.until(4)


@KINDS
def test_a_server_that_ends_says_goodbye(server: Server, kind: str) -> None:
    with Viewer(server, "a.log", kind) as viewer:
        viewer.until(3)
        server.stop()
        bye = viewer.message("bye")
        assert (bye["reason"], bye["reconnect"]) == ("the server is shutting down", True)
        eventually(lambda: viewer.ends[0] == "end")


def test_who_wants_to_be_closed_when_slow_is_told(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, "--ring-bytes", "64KiB", "--max-line-bytes", "1KiB", log)
    with ask(server, EVENTS + "?lag=close", Accept=NDJSON) as sock:
        eventually(lambda: clients(server) == 1)
        append(log, *(["x" * 500] * 60_000))
        eventually(lambda: b'lines_read_total{stream="a.log"} 60000.0' in server.get("/metrics").body)
        data = b"".join(iter(lambda: sock.recv(1 << 20), b""))
        assert b'"type":"bye","reason":"too slow' in data[-300:]
        assert data.endswith(b"0\r\n\r\n")


def test_a_client_that_goes_is_one_no_longer(server: Server) -> None:
    with ask(server), ask(server):
        eventually(lambda: clients(server) == 2)
        metrics = server.get("/metrics").body.decode()
        assert 'logstream_clients{format="sse"} 2.0' in metrics
    eventually(lambda: clients(server) == 0)


def test_a_client_that_reads_nothing_is_cut_off(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, "--ping-interval", "0.2", "--ping-timeout", "0.2", log)
    append(log, *(["x" * 1000] * 20_000))
    with ask(server, EVENTS + "?from=start"):
        eventually(lambda: clients(server) == 1)
        eventually(lambda: clients(server) == 0)
    assert b"logstream_aborted_clients_total 1.0" in server.get("/metrics").body


def test_a_full_server_says_when_to_come_back(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, "--max-clients", "1", log)
    with ask(server):
        eventually(lambda: clients(server) == 1)
        answer = server.get(EVENTS)
        assert (answer.status, answer.json["detail"]) == (503, "the server has its 1 clients")
        assert answer.headers["retry-after"].isdecimal()


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/api/v1/streams/b.log/events", {}, 404, "no stream 'b.log'"),
        (EVENTS, {"accept": "text/html"}, 406, "text/event-stream or application/x-ndjson"),
        (EVENTS, {"last_event_id": "x"}, 400, "cursor 'x' is not valid"),
        (EVENTS + "?lastEventId=x", {}, 400, "cursor 'x' is not valid"),
        (EVENTS + "?limit=1", {}, 400, "unknown parameter 'limit'"),
        (EVENTS + "?grep=(", {}, 400, "grep: missing )"),
        (EVENTS + "?lag=never", {}, 400, "lag='never'"),
    ],
)
def test_what_is_refused(server: Server, path: str, headers: dict[str, str], status: int, words: str) -> None:
    answer = server.get(path, **headers)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json["detail"]


def test_a_file_of_16_bit_characters_is_unsupported(serve: Serve, log: Path) -> None:
    log.write_bytes("text\n".encode("utf-16"))
    assert serve(*QUICK, log).get(EVENTS).status == 415


# -- on the way --------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """NGINX as it comes: it speaks HTTP/1.0 to us, and buffers."""
    with nginx(tmp_path, f"location / {{ proxy_pass {server.url}; {request.param} }}") as port:
        yield port


@KINDS
@pytest.mark.parametrize("proxy", ["", "proxy_http_version 1.1; gzip on; gzip_types *;"], indirect=True)
def test_behind_nginx_each_line_comes_at_once(server: Server, log: Path, proxy: int, kind: str) -> None:
    behind = Server(f"http://127.0.0.1:{proxy}/", server.process, server.log_path)
    with Viewer(behind, "a.log", kind) as viewer:
        viewer.until(3)
        for number in range(5):
            append(log, f"line {number}")
            viewer.until(4 + number)
        viewer.cut()
        append(log, "last")
        assert viewer.until(9)[3:] == [*(f"line {number}" for number in range(5)), "last"]
