"""rest: streams and lines over HTTP, and the seam between a page of lines and the socket that goes on behind it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import pytest
from websockets.sync.client import connect

from logstream_server.endpoints.rest import JSON, NDJSON, TEXT, choose_type

from ..conftest import Serve
from ..process import Answer, Server, eventually
from ..scenarios.harness import Mount, mounted, why_no_mount

QUICK = ("--poll-interval", "0.02", "--rotate-wait", "0.3", "--partial-after", "0.1")
LINES = "/api/v1/streams/a.log/lines"


def write_log(folder: Path) -> Path:
    """A log of thirty lines."""
    path = folder / "a.log"
    path.write_text("".join(f"line {number}\n" for number in range(1, 31)))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path)


@pytest.fixture
def server(serve: Serve, log: Path) -> Server:
    return serve(*QUICK, log)


@pytest.fixture(scope="module")
def still(serve_for_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose log no test writes to."""
    return serve_for_all(*QUICK, write_log(tmp_path_factory.mktemp("still")))


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


def ask(server: Server, path: str = LINES, accept: str = JSON, **query: Any) -> Answer:
    """GET with a query; `from_` stands for `from`."""
    pairs = {name.removesuffix("_"): value for name, value in query.items()}
    return server.get(path + "?" + urlencode(pairs, doseq=True), accept=accept)


def lines(server: Server, **query: Any) -> dict[str, Any]:
    """A page."""
    answer = ask(server, **query)
    assert answer.status == 200, answer.body
    page: dict[str, Any] = answer.json
    return page


def detail(answer: Answer, status: int) -> str:
    """What is wrong."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    text: str = answer.json["detail"]
    return text


# -- streams ----------------------------------------------------------------------------------------------------------


def test_all_streams_are_listed_with_their_state(serve: Serve, log: Path) -> None:
    other = log.with_name("b.log")
    server = serve(*QUICK, other, log)
    answer = server.get("/api/v1/streams")
    assert answer.headers["content-type"] == "application/json"
    first, second = answer.json["streams"]
    assert (first["name"], first["state"], first["size"]) == ("b.log", "waiting", None)
    assert (second["name"], second["state"], second["size"]) == ("a.log", "following", log.stat().st_size)
    assert second["mtime"] == pytest.approx(log.stat().st_mtime)


def test_one_stream_tells_its_newest_cursor_and_its_clients(server: Server, log: Path) -> None:
    answer = server.get("/api/v1/streams/a.log")
    stream = answer.json
    assert (stream["name"], stream["state"], stream["clients"]) == ("a.log", "following", 0)
    assert answer.headers["logstream-cursor"] == stream["cursor"]
    with connect(server.ws_url), connect(server.ws_url):
        eventually(lambda: server.get("/api/v1/streams/a.log").json["clients"] == 2)
    with log.open("a") as file:
        file.write("news\n")
    eventually(lambda: lines(server, cursor=stream["cursor"])["lines"] == ["news"])


@pytest.mark.parametrize(
    "name",
    [
        "with space.log",
        "new\nline.log",
        "last\n",
        "per%cent%41.log",
        "til~de.log",
        "bad\udcff.log",
        "zwölf.log",
        "q?x#y&z=+.log",
        "back\\slash.log",
        "..log",
        "sub/below.log",
    ],
    ids=repr,
)
def test_any_file_name_is_a_url(serve: Serve, tmp_path: Path, name: str) -> None:
    r"""A name is one segment, percent-encoded; what is not UTF-8 is written as \xff, a slash as ~."""
    folder = tmp_path / "logs"
    (folder / "sub").mkdir(parents=True)
    (folder / name).write_bytes(b"one\n")
    server = serve(*QUICK, folder)
    (stream,) = server.get("/api/v1/streams").json["streams"]
    shown = os.fsencode(name).decode("utf-8", "backslashreplace").replace("/", "~")
    assert stream["name"] == shown
    path = f"/api/v1/streams/{quote(shown, safe='')}"
    assert server.get(path).json["name"] == shown
    assert ask(server, path + "/lines").json["lines"] == ["one"]


# -- which lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ({}, numbered(21, 30), False),
        ({"tail": 3}, numbered(28, 30), False),
        ({"tail": 0}, [], False),
        ({"tail": 1000}, numbered(1, 30), False),
        ({"limit": 4}, numbered(27, 30), False),
        ({"limit": 4, "tail": 10}, numbered(21, 24), True),
        ({"limit": 4, "tail": 4}, numbered(27, 30), False),
        ({"limit": 4, "from_": "start"}, numbered(1, 4), True),
        ({"limit": 30, "from_": "start"}, numbered(1, 30), False),
        ({"limit": 0, "from_": "start"}, [], True),
        ({"from_": "start"}, numbered(1, 30), False),
        ({"from_": "start", "grep": "9$"}, ["line 9", "line 19", "line 29"], False),
        ({"tail": 2, "grep": "9$"}, ["line 19", "line 29"], False),
        ({"tail": 2, "exclude": ["9$", "0$"]}, ["line 27", "line 28"], False),
        ({"from_": "start", "grep": ["1", "2"], "_now": "1234"}, ["line 12", "line 21"], False),
    ],
    ids=str,
)
def test_a_query_says_where_to_begin_and_how_much(
    still: Server, query: dict[str, Any], expected: list[str], more: bool
) -> None:
    page = lines(still, **query)
    assert (page["lines"], page["more"]) == (expected, more)
    assert (page["stream"], page["recovered"], page["reason"]) == ("a.log", None, None)


@pytest.mark.parametrize("accept", [JSON, NDJSON, TEXT])
def test_pages_follow_each_other_by_their_link(still: Server, accept: str) -> None:
    """Without holes and overlaps, with the same filter and limit, until there is no more."""
    path, shown = LINES + "?from=start&limit=4&grep=line+%5B12%5D", ""
    for _ in range(10):
        answer = still.get(path, accept=accept)
        shown += answer.body.decode()
        link = re.fullmatch(r'<(\?[^>]+)>; rel="next"', answer.headers.get("link", ""))
        if link is None:
            break
        path = LINES + link[1]
    expected = [f"line {number}" for number in (1, 2, *range(10, 30))]
    assert re.findall(r"line \d+", shown) == expected


def test_a_page_of_text_ends_with_the_bytes_that_it_may_hold(serve: Serve, log: Path) -> None:
    """Some MiB; the next page goes on."""
    expected = [f"{number:07} " + "x" * 900 for number in range(12_000)]
    log.write_text("".join(line + "\n" for line in expected))
    server = serve(*QUICK, log)
    shown: list[str] = []
    query: dict[str, Any] = {"tail": 12_000}
    sizes = []
    more = True
    while more:
        answer = ask(server, **query)
        sizes.append(len(answer.body))
        shown += answer.json["lines"]
        query, more = {"cursor": answer.json["cursor"], "limit": 12_000}, answer.json["more"]
    assert shown == expected
    assert 2 <= len(sizes) <= 4
    assert max(sizes) < 6 << 20


def test_an_unfinished_line_is_told_and_so_is_its_rest(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, "--max-line-bytes", "64", log)
    with log.open("a") as file:
        file.write("x" * 100 + "\nun")
    page = eventually(lambda: (p := lines(server, tail=2)).get("partial") and p)
    assert (page["lines"], page["cut"]) == (["x" * 64, "un"], [[0, 101]])
    ndjson = [json.loads(line) for line in ask(server, accept=NDJSON, tail=2).body.splitlines()]
    assert ndjson[:2] == [{"line": "x" * 64, "cut": 101}, {"line": "un", "partial": True}]
    with log.open("a") as file:
        file.write("\n")
    rest = eventually(lambda: (p := lines(server, cursor=page["cursor"]))["lines"] and p)
    assert (rest["lines"], rest["continued"]) == ([""], True)
    assert ask(server, accept=TEXT, cursor=page["cursor"]).body == b""
    whole = lines(server, tail=1)
    assert whole["lines"] == ["un"]
    assert "partial" not in whole
    assert "continued" not in whole


def test_a_cursor_that_cannot_be_honoured_is_said_so(server: Server, log: Path) -> None:
    """In JSON with the lines that there are; text cannot say it, so it refuses, as the plain socket does."""
    cursor = lines(server, from_="start", limit=20)["cursor"]
    log.write_text("other\n" * 100)
    eventually(lambda: server.get("/api/v1/streams/a.log").json["size"] == 600)
    page = eventually(lambda: (p := lines(server, cursor=cursor))["recovered"] is False and p)
    assert page["lines"] == ["other"] * 100
    assert "truncated" in page["reason"]
    assert lines(server, cursor=cursor, tail=2)["lines"] == ["other"] * 2
    last = json.loads(ask(server, accept=NDJSON, cursor=cursor).body.splitlines()[-1])
    assert (last["recovered"], last["reason"]) == (False, page["reason"])
    answer = ask(server, accept=TEXT, cursor=cursor)
    assert page["reason"] in detail(answer, 410)
    assert answer.json["code"] == 4005


# -- how it comes -----------------------------------------------------------------------------------------------------


def test_each_form_has_the_same_lines_and_the_same_cursor(still: Server) -> None:
    as_json, as_ndjson, as_text = (ask(still, accept=kind, tail=2) for kind in (JSON, NDJSON, TEXT))
    cursor = as_json.json["cursor"]
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.json["lines"] == ["line 29", "line 30"]
    assert as_ndjson.headers["content-type"] == "application/x-ndjson"
    *objects, end = [json.loads(line) for line in as_ndjson.body.splitlines()]
    assert objects == [{"line": "line 29"}, {"line": "line 30"}]
    assert end == {"cursor": cursor, "more": False, "recovered": None, "reason": None}
    assert as_text.headers["content-type"] == "text/plain; charset=utf-8"
    assert as_text.body == b"line 29\nline 30\n"
    for answer in (as_json, as_ndjson, as_text):
        assert answer.headers["logstream-cursor"] == cursor
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["vary"] == "Accept"
        assert "link" not in answer.headers


def test_head_is_a_get_without_a_body(still: Server) -> None:
    for path in ("/api/v1/streams", "/api/v1/streams/a.log", LINES + "?tail=3"):
        answer = still.get(path, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) == len(still.get(path).body)


def test_text_that_is_not_utf_8_is_shown_with_what_is_wrong_replaced(server: Server, log: Path) -> None:
    with log.open("ab") as file:
        file.write(b'bad \xff "quoted" \x00\x1b[31m\r\n')
    eventually(lambda: lines(server, tail=1)["lines"] == ['bad \ufffd "quoted" \x00\x1b[31m'])
    assert ask(server, accept=TEXT, tail=1).body == b'bad \xef\xbf\xbd "quoted" \x00\x1b[31m\n'


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ("text/plain", TEXT),
        ("TEXT/PLAIN; charset=utf-8", TEXT),
        ("text/*", TEXT),
        ("application/*", JSON),
        ("application/x-ndjson, application/json;q=0.5", NDJSON),
        ("application/json;q=0.5, text/plain;q=0.4", JSON),
        ("application/json;q=0, */*", NDJSON),
        ("*/*;q=0.1, text/plain;q=0.2", TEXT),
        ("image/png", None),
        ("text/plain;q=0", None),
        ("text/plain;q=x", JSON),
        ("application/json;q=nan, text/plain", TEXT),
        ("application/json;q=-1, text/plain;q=0.1", TEXT),
        ("text/plain;q=.5, application/json;q=0.", TEXT),
        (",", JSON),
    ],
)
def test_the_form_is_what_the_client_accepts(accept: str, expected: str | None) -> None:
    assert choose_type(accept, (JSON, NDJSON, TEXT)) == expected


def test_what_a_client_accepts_may_stand_in_several_lines(still: Server) -> None:
    connection = http.client.HTTPConnection(still.host, still.port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest("GET", LINES)
        connection.putheader("Accept", "text/html")
        connection.putheader("Accept", "text/plain")
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("content-type")) == (200, "text/plain; charset=utf-8")


def test_no_form_that_the_client_accepts_is_a_406(still: Server) -> None:
    assert "application/x-ndjson" in detail(ask(still, accept="image/png"), 406)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (LINES + "?gerp=x", "unknown parameter 'gerp'; there are cursor, exclude, from, grep, limit, tail"),
        (LINES + "?stream=a.log", "unknown parameter 'stream'"),
        (LINES + "?lag=skip", "unknown parameter 'lag'"),
        (LINES + "?limit=1&limit=2", "limit is given twice"),
        (LINES + "?limit=-1", "limit='-1': a whole number from 0 to 1000000 is needed"),
        (LINES + "?limit=1e3", "limit='1e3'"),
        (LINES + "?from=end", "from='end': only from=start is known"),
        (LINES + "?from=start&tail=1", "from=start goes with neither tail nor cursor"),
        (LINES + "?cursor=AAAA", "cursor 'AAAA' is not valid"),
        (LINES + "?grep=(", "grep: missing )"),
        ("/api/v1/streams?tail=1", "unknown parameter 'tail'; there are none"),
        ("/api/v1/streams/a.log?limit=1", "unknown parameter 'limit'; there are none"),
    ],
)
def test_a_mistyped_query_is_refused_by_name(still: Server, path: str, words: str) -> None:
    answer = still.get(path)
    assert words in detail(answer, 400)
    assert answer.json["code"] == 4009


def test_a_file_that_has_no_lines_of_bytes_is_unsupported(serve: Serve, log: Path) -> None:
    log.write_bytes("text\n".encode("utf-16"))
    answer = ask(serve(*QUICK, log))
    assert "UTF-16" in detail(answer, 415)
    assert answer.json["code"] == 4010


def test_a_missing_file_has_no_lines_and_a_cursor_before_the_first(serve: Serve, log: Path) -> None:
    log.unlink()
    server = serve(*QUICK, log)
    page = lines(server, tail=5)
    assert (page["lines"], page["more"]) == ([], False)
    log.write_text("first\n")
    eventually(lambda: lines(server, cursor=page["cursor"])["lines"] == ["first"])


def test_a_file_that_is_no_log_is_unavailable(serve: Serve, log: Path) -> None:
    log.unlink()
    os.mkfifo(log)
    answer = ask(serve(*QUICK, log))
    assert "it is a FIFO" in detail(answer, 503)
    assert answer.headers["retry-after"].isdecimal()


def test_a_page_of_another_origin_is_refused(still: Server) -> None:
    for path in ("/api/v1/streams", "/api/v1/streams/a.log", LINES, "/api/v1/nothing"):
        assert "http://evil.example" in detail(still.get(path, origin="http://evil.example"), 403)
    own = f"http://{still.host}:{still.port}"
    assert still.get(LINES, origin=own).status == 200


def test_a_page_of_an_allowed_origin_may_read_the_answers(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, "--allowed-origin", "https://logs.example.com", log)
    answer = server.get(LINES, origin="https://logs.example.com")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://logs.example.com"
    assert "Logstream-Cursor" in answer.headers["access-control-expose-headers"]
    for method, path, status in (
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/streams/no.log", 404),
        ("POST", "/api/v1/streams", 405),
        ("GET", "/api/v1/streams/a.log/lines?tail=x", 400),
    ):
        wrong = server.get(path, method=method, origin="https://logs.example.com")
        assert (wrong.status, wrong.headers["access-control-allow-origin"]) == (status, "https://logs.example.com")
    asked = server.get(
        LINES,
        method="OPTIONS",
        origin="https://logs.example.com",
        access_control_request_method="GET",
        access_control_request_headers="authorization",
    )
    assert asked.status == 200
    assert asked.headers["access-control-allow-origin"] == "https://logs.example.com"
    refused = server.get(LINES, origin="https://evil.example")
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers


def test_without_a_token_nothing_of_a_stream_is_told(serve: Serve, log: Path) -> None:
    """The page itself and the health of the server are for everybody."""
    tokens = log.with_name("tokens")
    tokens.write_text("secret\n")
    server = serve(*QUICK, "--token-file", tokens, log)
    for path in ("/api/v1/streams", "/api/v1/streams/a.log", LINES, "/api/v1/nothing"):
        answer = server.get(path)
        assert "token" in detail(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert server.get(path, authorization="Bearer wrong").status == 401
    for path in ("/api/v1/streams", "/api/v1/streams/a.log", LINES):
        assert server.get(path, authorization="Bearer secret").status == 200
        assert server.get(path + "?access_token=secret").status == 200
    for path in ("/", "/healthz", "/readyz", "/metrics"):
        assert server.get(path).status == 200


# -- a file system that is away ---------------------------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A folder with a log, seen through a file system that can be made to hang and die."""
    if reason := why_no_mount():
        pytest.skip(reason)
    folder = tmp_path / "far"
    folder.mkdir()
    write_log(folder)
    with mounted(folder, tmp_path / "mount") as mount:
        yield mount


def test_a_hung_file_system_is_a_503_and_holds_nobody_else_up(serve: Serve, mount: Mount, tmp_path: Path) -> None:
    near = tmp_path / "near.log"
    near.write_text("near\n")
    server = serve(*QUICK, mount.target / "a.log", near)
    assert lines(server, tail=2)["lines"] == numbered(29, 30)
    mount.hang()
    answer = ask(server, tail=2)
    assert "no answer from the file system" in detail(answer, 503)
    assert answer.headers["retry-after"].isdecimal()
    for _ in range(5):
        assert ask(server, tail=2).status == 503
        assert server.get("/healthz").status == 200
        assert ask(server, "/api/v1/streams/near.log/lines").json["lines"] == ["near"]
    assert server.get("/api/v1/streams/a.log").json["state"] == "hung"
    mount.go_on()
    assert eventually(lambda: (a := ask(server, tail=2)).status == 200 and a).json["lines"] == numbered(29, 30)


def test_a_file_system_that_died_is_a_503_and_no_loss(serve: Serve, mount: Mount) -> None:
    server = serve(*QUICK, mount.target / "a.log")
    cursor = lines(server, tail=1)["cursor"]
    mount.die()
    eventually(lambda: server.get("/api/v1/streams/a.log").json["state"] == "unreadable")
    assert "not connected" in detail(ask(server, from_="start"), 503)
    assert "not connected" in detail(ask(server, tail=3), 503)
    assert (ask(server, cursor=cursor).status, ask(server, cursor=cursor, accept=TEXT).status) == (503, 503)


# -- a server under way -----------------------------------------------------------------------------------------------


class Writer:
    """Writes numbered lines, now and then a rotation, until it is stopped."""

    def __init__(self, path: Path, rotate: Callable[[Path, int], None]) -> None:
        self._path, self._rotate = path, rotate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        rotations = 0
        while not self._stopped.wait(0.002):
            with self._path.open("a") as file:
                for _ in range(10):
                    self.written += 1
                    file.write(f"line {self.written}\n")
            if self.written % 400 == 0:
                rotations += 1
                self._rotate(self._path, rotations)


def rename(path: Path, number: int) -> None:
    path.rename(path.with_name(f"{path.name}.{100 - number}"))


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_page_and_the_socket_behind_it_have_no_hole_and_no_overlap(serve: Serve, log: Path, format_: str) -> None:
    """Under a running writer that rotates its file, with a ring that holds a moment only."""
    log.write_text("")
    server = serve(*QUICK, "--ring-bytes", "4KiB", "--max-line-bytes", "1KiB", log)
    with Writer(log, rename) as writer:
        eventually(lambda: writer.written > 100)
        for tail in (1, 5, 200, 1, 50, 3, 1, 1):
            page = lines(server, tail=tail)
            shown = [int(line.split()[1]) for line in page["lines"]]
            before = writer.written
            eventually(lambda before=before: writer.written > before + 150)  # type: ignore[misc]
            with connect(f"{server.ws_url}?format={format_}&cursor={page['cursor']}", max_queue=None) as client:
                while not shown or shown[-1] < before + 100:
                    message = client.recv(timeout=20)
                    assert isinstance(message, str)
                    shown += [int(number) for number in re.findall(r"line (\d+)", message)]
            assert shown == list(range(shown[0], shown[0] + len(shown)))


def test_pages_by_cursor_have_every_line_through_rotations(serve: Serve, log: Path) -> None:
    log.write_text("")
    server = serve(*QUICK, "--ring-bytes", "4KiB", "--max-line-bytes", "1KiB", log)
    cursor = lines(server, tail=0)["cursor"]
    shown: list[int] = []
    limits = [1, 7, 1000, 33, 250]

    def collect() -> None:
        nonlocal cursor
        page = lines(server, cursor=cursor, limit=limits[len(shown) % len(limits)])
        assert page["recovered"], page["reason"]
        assert "gap" not in page
        cursor = page["cursor"]
        shown.extend(int(line.split()[1]) for line in page["lines"])

    with Writer(log, rename) as writer:
        while len(shown) < 3000:
            collect()
        writer.stop()
    eventually(lambda: (collect(), len(shown) >= writer.written)[1])
    assert shown == list(range(1, writer.written + 1))


def test_a_page_from_before_a_restart_goes_on_after_it(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, log)
    page = lines(server, tail=1)
    server.kill()
    with log.open("a") as file:
        file.write("news\n")
    rename(log, 1)
    log.write_text("more news\n")
    rest = lines(serve(*QUICK, log), cursor=page["cursor"])
    assert (rest["recovered"], rest["lines"]) == (True, ["news", "more news"])


@pytest.fixture
def stalled(server: Server) -> Iterator[Callable[[str], socket.socket]]:
    """Ask for a path and never read the answer."""
    sockets = []

    def ask_only(path: str) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((server.host, server.port))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode())
        sockets.append(sock)
        return sock

    yield ask_only
    for sock in sockets:
        sock.close()


def test_a_client_that_does_not_read_its_answer_delays_nobody(
    server: Server, log: Path, stalled: Callable[[str], socket.socket]
) -> None:
    with log.open("a") as file:
        file.write(("x" * 1000 + "\n") * 4000)
    eventually(lambda: len(lines(server, tail=4000)["lines"]) == 4000)
    for _ in range(20):
        with closing(stalled(LINES + "?tail=4000")) as sock:
            assert sock.recv(1)
        stalled(LINES + "?tail=4000")
    assert lines(server, tail=1)["lines"] == ["x" * 1000]
