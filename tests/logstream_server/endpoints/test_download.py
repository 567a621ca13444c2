"""download: the file's own bytes over HTTP, whole or a part, as they were at the beginning or not at all."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Serve
from ..process import Answer, Server, eventually
from ..scenarios.harness import Mount, mounted, why_no_mount

QUICK = ("--poll-interval", "0.02", "--rotate-wait", "0.3", "--partial-after", "0.1")
RAW = "/api/v1/streams/a.log/raw"
CONTENT = b"".join(b"line %d \xff\r\n" % number for number in range(5000))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def server(serve: Serve, log: Path) -> Server:
    return serve(*QUICK, log)


def detail(answer: Answer, status: int) -> str:
    """What is wrong."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    text: str = answer.json["detail"]
    return text


def test_the_whole_file_comes_as_it_is(server: Server) -> None:
    answer = server.get(RAW)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == "attachment; filename=\"a.log\"; filename*=UTF-8''a.log"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_says_what_get_would_send(server: Server) -> None:
    """A range is for GET alone."""
    got, head = server.get(RAW), server.get(RAW, method="HEAD", range="bytes=0-9")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize(
    ("range_", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=60000-", 60000, len(CONTENT)), ("bytes=-7", len(CONTENT) - 7, len(CONTENT))],
)
def test_a_range_is_a_part(server: Server, range_: str, start: int, end: int) -> None:
    answer = server.get(RAW, range=range_)
    assert (answer.status, answer.body) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert ("logstream-cursor" in answer.headers) == (end == len(CONTENT))


@pytest.mark.parametrize("range_", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-1"])
def test_other_ranges_are_answered_with_everything(server: Server, range_: str) -> None:
    answer = server.get(RAW, range=range_)
    assert (answer.status, answer.body) == (200, CONTENT)


def test_a_range_behind_the_end_is_told_the_size(server: Server) -> None:
    answer = server.get(RAW, range=f"bytes={len(CONTENT)}-")
    assert f"the file has {len(CONTENT)} bytes" in detail(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_a_download_is_finished_although_the_file_has_grown(server: Server, log: Path) -> None:
    """If-Range and If-Match choose the bytes that there were; without them, it is the file as it is now."""
    etag = server.get(RAW, range="bytes=0-999").headers["etag"]
    with log.open("ab") as file:
        file.write(b"more\n")
    for condition in ({"if_range": etag}, {"if_match": etag}, {"if_match": f'"other", {etag}'}):
        rest = server.get(RAW, range="bytes=1000-", **condition)
        assert (rest.status, rest.body, rest.headers["etag"]) == (206, CONTENT[1000:], etag)
        assert rest.headers["content-range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"
    now = server.get(RAW, range="bytes=1000-")
    assert (now.body, now.headers["etag"] != etag) == (CONTENT[1000:] + b"more\n", True)


@pytest.mark.parametrize("condition", ['"other"', "W/{etag}", "Tue, 24 Nov 2026 03:13:40 GMT"])
def test_a_condition_that_proves_nothing_gets_everything(server: Server, condition: str) -> None:
    etag = server.get(RAW).headers["etag"]
    answer = server.get(RAW, range="bytes=1000-", if_range=condition.format(etag=etag))
    assert (answer.status, answer.body) == (200, CONTENT)


def test_bytes_of_another_file_are_never_a_rest(server: Server, log: Path) -> None:
    etag = server.get(RAW).headers["etag"]
    log.rename(log.with_name("a.log.1"))
    log.write_bytes(b"new\n" * 20_000)
    answer = server.get(RAW, range="bytes=1000-", if_range=etag)
    assert (answer.status, answer.body) == (200, b"new\n" * 20_000)
    assert "If-Match" in detail(server.get(RAW, range="bytes=1000-", if_match=etag), 412)
    log.unlink()
    assert "there is no file" in detail(server.get(RAW), 404)


def test_who_has_the_file_as_it_is_gets_nothing_again(server: Server, log: Path) -> None:
    etag = server.get(RAW).headers["etag"]
    for method in ("GET", "HEAD"):
        for condition in (etag, f'"x", W/{etag}', "*"):
            answer = server.get(RAW, method=method, if_none_match=condition)
            assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    assert server.get(RAW, if_match="*", if_none_match='"x"').status == 200
    with log.open("ab") as file:
        file.write(b"more\n")
    assert server.get(RAW, if_none_match=etag).body == CONTENT + b"more\n"


def test_the_socket_goes_on_where_the_download_ends(server: Server, log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"half")
    cursor = server.get(RAW, range="bytes=-3").headers["logstream-cursor"]
    with log.open("ab") as file:
        file.write(b" a line\nnews\n")

    def rest() -> Any:
        return server.get(f"/api/v1/streams/a.log/lines?cursor={cursor}").json

    page = eventually(lambda: (p := rest())["lines"] == [" a line", "news"] and p)
    assert (page["recovered"], page["continued"]) == (True, True)


def test_an_empty_file_is_an_empty_answer(server: Server, log: Path) -> None:
    os.truncate(log, 0)
    answer = server.get(RAW, range="bytes=0-")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


def test_a_file_of_16_bit_characters_comes_as_it_is(serve: Serve, log: Path) -> None:
    log.write_bytes("text\n".encode("utf-16"))
    assert serve(*QUICK, log).get(RAW).body == "text\n".encode("utf-16")


def test_nothing_outside_the_root_and_nothing_but_files(serve: Serve, tmp_path: Path) -> None:
    """Also when the name leads elsewhere only after the start."""
    (tmp_path / "secret").write_text("secret\n")
    root = tmp_path / "root"
    root.mkdir()
    log = root / "a.log"
    log.write_text("one\n")
    server = serve(*QUICK, "--root", root, log)
    assert server.get(RAW).body == b"one\n"
    log.unlink()
    log.symlink_to(tmp_path / "secret")
    assert "outside" in detail(server.get(RAW), 503)
    log.unlink()
    os.mkfifo(log)
    assert "FIFO" in detail(server.get(RAW), 503)
    assert detail(server.get("/api/v1/streams/..%2F..%2Fsecret/raw"), 404)


def test_an_unknown_parameter_is_refused(server: Server) -> None:
    assert "unknown parameter 'range'" in detail(server.get(RAW + "?range=1-2"), 400)


# -- while it is sent -------------------------------------------------------------------------------------------------


LARGE = b"".join(b"%015d\n" % number for number in range(2_000_000))
"""32 MB: far more than sockets hold."""


@contextmanager
def begun(server: Server, path: str = RAW) -> Iterator[tuple[http.client.HTTPResponse, bytes]]:
    """An answer of which a MiB was read, and then nothing."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    try:
        yield response, response.read(1 << 20)
    finally:
        response.close()
        connection.close()


def rest_of(response: http.client.HTTPResponse) -> bytes:
    """Everything until the transfer is complete, or broken off."""
    return b"".join(iter(lambda: response.read1(1 << 20), b""))


@pytest.mark.parametrize("change", ["grow", "rename", "delete"])
def test_what_happens_to_the_name_or_behind_the_end_changes_nothing(serve: Serve, log: Path, change: str) -> None:
    log.write_bytes(LARGE)
    server = serve(*QUICK, log)
    with begun(server) as (response, start):
        if change == "grow":
            with log.open("ab") as file:
                file.write(b"more\n" * 1000)
        elif change == "rename":
            log.rename(log.with_name("a.log.1"))
            log.write_bytes(b"new\n")
        else:
            log.unlink()
        assert start + response.read() == LARGE


@pytest.mark.parametrize("size", [0, 20_000_000, 40_000_000])
def test_a_truncation_breaks_the_transfer_off(serve: Serve, log: Path, size: int) -> None:
    """However much is written afterwards: what came is the beginning of what there was, and it is not whole."""
    log.write_bytes(LARGE)
    server = serve(*QUICK, log)
    with begun(server) as (response, start):
        os.truncate(log, 0)
        with log.open("ab") as file:
            file.write((b"other\n" * (size // 6 + 1))[:size])
        with pytest.raises(http.client.IncompleteRead) as broken:
            response.read()
        came = start + broken.value.partial
        assert len(came) < len(LARGE)
        assert LARGE.startswith(came)
    eventually(lambda: "an answer was broken off: a.log: the file was truncated" in server.log)


def test_a_large_file_takes_no_memory(serve: Serve, log: Path) -> None:
    with log.open("wb") as file:
        file.truncate(400 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b"end\n")
    server = serve(*QUICK, log)

    def most_kib() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    assert server.get(RAW, range="bytes=-4").body == b"end\n"
    before = most_kib()
    with begun(server) as (response, _):
        size = sum(map(len, iter(lambda: response.read(1 << 20), b"")))
    assert size == (399 << 20) + 4
    assert most_kib() - before < 16 << 10


def test_clients_that_do_not_read_cost_little_and_hold_nobody_up(serve: Serve, log: Path) -> None:
    log.write_bytes(LARGE)
    server = serve(*QUICK, log)
    stalled = [begun(server) for _ in range(20)]
    for each in stalled:
        each.__enter__()
    assert server.get(RAW).body == LARGE
    for each in stalled:
        each.__exit__(None, None, None)

    def open_files() -> int:
        folder = Path(f"/proc/{server.pid}/fd")
        return sum(os.path.realpath(entry) == str(log) for entry in folder.iterdir() if entry.is_symlink())

    eventually(lambda: open_files() <= 1)  # the follower's own


def test_as_many_at_a_time_as_there_are_turns(serve: Serve, log: Path) -> None:
    """Those beyond wait for theirs."""
    log.write_bytes(LARGE)
    server = serve(*QUICK, log)
    stalled = [begun(server) for _ in range(64)]
    for each in stalled:
        each.__enter__()
    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(server.get(RAW, range="bytes=0-3")))
    waiting.start()
    assert server.get("/api/v1/streams/a.log/lines?tail=1").status == 200
    assert answers == []
    for each in stalled:
        each.__exit__(None, None, None)
    waiting.join()
    assert answers[0].body == b"0000"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """A folder with a log, seen through a file system that can be made to hang."""
    if reason := why_no_mount():
        pytest.skip(reason)
    folder = tmp_path / "far"
    folder.mkdir()
    (folder / "a.log").write_bytes(LARGE)
    with mounted(folder, tmp_path / "mount") as mount:
        yield mount


def test_a_file_system_that_hangs_holds_up_no_other_stream(serve: Serve, mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "near.log").write_bytes(CONTENT)
    server = serve(*QUICK, mount.target / "a.log", tmp_path / "near.log")
    with begun(server) as (response, start):
        mount.hang()
        assert "no answer from the file system" in detail(server.get(RAW), 503)
        for _ in range(3):
            assert server.get("/api/v1/streams/near.log/raw").body == CONTENT
        with pytest.raises(http.client.IncompleteRead) as broken:
            response.read()
        assert LARGE.startswith(start + broken.value.partial)
    mount.go_on()
    eventually(lambda: server.get(RAW).body == LARGE)
