"""search: what is found in a whole file over HTTP, newest first, while the client wants it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from ..conftest import Serve
from ..process import Answer, Server, eventually
from ..scenarios.harness import Mount, mounted, why_no_mount

QUICK = ("--poll-interval", "0.02", "--rotate-wait", "0.3", "--partial-after", "0.1")
PATH = "/api/v1/streams/a.log/search"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {number} {'odd' if number % 2 else 'even'}\n" for number in range(1, 1001)))
    return path


@pytest.fixture
def server(serve: Serve, log: Path) -> Server:
    return serve(*QUICK, log)


def ask(server: Server, **query: Any) -> Answer:
    return server.get(f"{PATH}?{urlencode(query, doseq=True)}")


def search(server: Server, **query: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The matches, and how it ended."""
    answer = ask(server, **query)
    assert answer.status == 200, answer.body
    begin, *records, end = [json.loads(line) for line in answer.body.splitlines()]
    assert (begin["type"], end["type"]) == ("begin", "end")
    matches = [record for record in records if record["type"] == "match"]
    assert end["matches"] == len(matches)
    return matches, end


def texts(matches: list[dict[str, Any]]) -> list[str]:
    return [match["line"] for match in matches]


def detail(answer: Answer, status: int) -> str:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    text: str = answer.json["detail"]
    return text


def test_matches_come_newest_first_with_their_places(server: Server, log: Path) -> None:
    matches, end = search(server, grep="99 odd$")
    assert texts(matches) == [f"line {number} odd" for number in range(999, 0, -100)]
    assert (end["complete"], end["before"], end["reason"]) == (True, None, None)
    content = log.read_bytes()
    for match in matches:
        assert content[match["offset"] :].startswith(match["line"].encode() + b"\n")


def test_the_log_can_be_read_on_from_each_match(server: Server) -> None:
    matches, _ = search(server, grep="line 50. even")
    page = server.get(f"/api/v1/streams/a.log/lines?limit=2&cursor={matches[-1]['cursor']}").json
    assert (page["lines"], page["recovered"]) == (["line 500 even", "line 501 odd"], True)


def test_a_search_and_the_live_log_behind_it_have_no_hole(server: Server, log: Path) -> None:
    begin = json.loads(ask(server, grep="odd").body.splitlines()[0])
    assert (begin["stream"], begin["size"]) == ("a.log", log.stat().st_size)
    with log.open("a") as file:
        file.write("news\n")
    eventually(lambda: server.get(f"/api/v1/streams/a.log/lines?cursor={begin['cursor']}").json["lines"] == ["news"])


@pytest.mark.parametrize("change", ["nothing", "growth", "rotation", "restart"])
def test_a_search_goes_on_where_it_ended(serve: Serve, log: Path, change: str) -> None:
    """Until there is nothing more; whatever has become of the file meanwhile."""
    server = serve(*QUICK, log)
    found: list[str] = []
    before: dict[str, str] = {}
    for _ in range(100):
        matches, end = search(server, grep="odd", limit=37, **before)
        found += texts(matches)
        if end["complete"]:
            break
        before = {"before": end["before"]}
        if change != "nothing":
            with log.open("a") as file:
                file.write("news odd\n")
        if change == "rotation" and len(found) == 37:
            log.rename(log.with_name("a.log.1"))
            log.write_text("another odd\n")
        if change == "restart" and len(found) == 37:
            server.kill()
            server = serve(*QUICK, log)
    assert found == [f"line {number} odd" for number in range(999, 0, -2)]


def test_the_same_lines_as_by_grep(server: Server) -> None:
    for query in ({"grep": ["even", "5"]}, {"grep": "1", "exclude": ["0", "(?i)ODD"]}, {"exclude": "odd"}, {}):
        matches, _ = search(server, limit=1000, **query)
        page = server.get("/api/v1/streams/a.log/lines?from=start&" + urlencode(query, doseq=True)).json
        assert texts(matches)[::-1] == page["lines"]


def test_what_is_found_is_shown_as_everywhere(serve: Serve, log: Path) -> None:
    log.write_bytes(b"crlf\r\nbad \xff\n" + b"x" * 100 + b"\nunfinished")
    matches, _ = search(serve(*QUICK, "--max-line-bytes", "64", log))
    assert [{k: v for k, v in match.items() if k not in ("type", "cursor", "offset")} for match in matches] == [
        {"line": "unfinished", "partial": True},
        {"line": "x" * 64, "cut": 101},
        {"line": "bad \ufffd"},
        {"line": "crlf"},
    ]


def test_the_search_is_in_the_file_that_is_there_now(server: Server, log: Path) -> None:
    log.rename(log.with_name("a.log.1"))
    log.write_text("new\n")
    assert texts(search(server)[0]) == ["new"]
    log.write_text("")
    assert search(server) == ([], {"type": "end", "matches": 0, "complete": True, "before": None, "reason": None})
    log.unlink()
    assert "there is no file" in detail(ask(server), 404)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"tail": 1}, "unknown parameter 'tail'; there are before, exclude, grep, limit"),
        ({"limit": 0}, "limit='0': a whole number from 1 to 1000000 is needed"),
        ({"grep": "("}, "grep: missing )"),
        ({"before": "x"}, "before: cursor 'x' is not valid"),
    ],
)
def test_what_is_refused(server: Server, query: dict[str, Any], words: str) -> None:
    assert words in detail(ask(server, **query), 400)


def test_places_that_are_nowhere(serve: Serve, log: Path) -> None:
    other = log.with_name("b.log")
    server = serve(*QUICK, log, other)
    nowhere = server.get("/api/v1/streams/b.log").json["cursor"]
    assert "before: it belongs to the stream 'b.log'" in detail(ask(server, before=nowhere), 400)
    place = search(server, limit=1)[1]["before"]
    log.write_text("another file\n" * 1000)
    assert "is not here any more" in detail(ask(server, before=place), 410)


def test_other_forms_and_other_files(serve: Serve, log: Path) -> None:
    server = serve(*QUICK, log)
    assert "application/x-ndjson" in detail(server.get(PATH, accept="application/json"), 406)
    head = server.get(PATH, method="HEAD")
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", "application/x-ndjson")
    assert head.headers["x-accel-buffering"] == "no"
    log.write_bytes("text\n".encode("utf-16"))
    assert serve(*QUICK, log).get(PATH).status == 415


# -- large files ------------------------------------------------------------------------------------------------------


@contextmanager
def begun(server: Server, **query: Any) -> Iterator[socket.socket]:
    """A search of which nothing is read."""
    with socket.socket() as sock:
        sock.settimeout(20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((server.host, server.port))
        path = f"{PATH}?{urlencode(query)}"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode())
        yield sock


def grow(log: Path, mib: int) -> None:
    with log.open("wb") as file:
        for _ in range(mib):
            file.write((b"x" * 1023 + b"\n") * 1024)


def read_bytes(server: Server) -> int:
    """What the server has read, from whatever."""
    counters = Path(f"/proc/{server.pid}/io").read_text()
    return int(next(line.split()[1] for line in counters.splitlines() if line.startswith("rchar")))


def test_a_client_that_goes_or_does_not_read_stops_its_search(serve: Serve, log: Path) -> None:
    """A whole search would read the file; and there are only so many at a time."""
    grow(log, 512)
    server = serve(*QUICK, log)
    before = read_bytes(server)
    with begun(server, limit=1_000_000) as first, begun(server, limit=1_000_000) as second:
        assert first.recv(1)
        assert second.recv(1)
        answer = ask(server)
        assert "busy with 2 requests of this kind" in detail(answer, 503)
        assert answer.headers["retry-after"].isdecimal()
    assert texts(search(server, limit=1)[0]) == ["x" * 1023]
    assert read_bytes(server) - before < 64 << 20


def test_others_are_served_meanwhile_and_progress_is_told(serve: Serve, log: Path) -> None:
    with log.open("wb") as file:
        file.truncate(0)
    grow(log, 512)
    server = serve(*QUICK, log)
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask(server, grep="(a|b)y{3}(c|d)")))
    thread.start()
    while thread.is_alive():
        assert server.get("/api/v1/streams/a.log/lines?tail=1").json["lines"] == ["x" * 1023]
    records = [json.loads(line) for line in answers[0].body.splitlines()]
    assert records[-1]["complete"]
    for record in records[1:-1]:
        assert (record["type"], record["searched"] + record["left"]) == ("progress", 512 << 20)


def test_a_file_that_is_truncated_meanwhile_ends_the_search(serve: Serve, log: Path) -> None:
    grow(log, 64)
    server = serve(*QUICK, log)
    with begun(server, limit=1_000_000) as sock:
        data = sock.recv(1)
        log.write_text("new\n")
        data += b"".join(drained(sock))
    _, kind, rest = data.rpartition(b'{"type":"end"')
    end = json.loads(kind + rest.split(b"\n")[0])
    assert not end["complete"]
    assert "was truncated" in end["reason"]


def drained(sock: socket.socket) -> Iterator[bytes]:
    """Until the last chunk."""
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        data = sock.recv(1 << 16)
        assert data
        yield data


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A folder with a log, seen through a file system that can be made to hang."""
    if reason := why_no_mount():
        pytest.skip(reason)
    folder = tmp_path / "far"
    folder.mkdir()
    (folder / "a.log").write_text("one\ntwo\n")
    with mounted(folder, tmp_path / "mount") as mount:
        yield mount


def test_a_file_system_that_hangs_is_a_503(serve: Serve, mount: Mount) -> None:
    server = serve(*QUICK, mount.target / "a.log")
    assert texts(search(server)[0]) == ["two", "one"]
    mount.hang()
    assert "no answer from the file system" in detail(ask(server), 503)
    mount.go_on()
    eventually(lambda: ask(server).status == 200)
