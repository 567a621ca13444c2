"""door: a server whose descriptors are all taken, as a process with a low limit."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import Serve
from ..endpoints.test_metrics import refused, value
from ..inside import RawClient
from ..process import DEADLINE_S, Server, eventually

LIMIT = 64
MANY = 100
NO_ROOM = "no room for more clients"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("one\n")
    return path


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Ends what the test has opened."""
    with contextlib.ExitStack() as stack:
        yield stack


def cpu_ticks(server: Server) -> int:
    """Processor time that it has used, in hundredths of a second."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def fill(server: Server, stack: contextlib.ExitStack) -> list[RawClient]:
    """Clients until one is refused, and many more of those; the ones that came in."""
    clients = []
    for _ in range(MANY):
        client = stack.enter_context(RawClient(server.port, "/ws?tail=0"))
        status, headers = client.answer()
        if status == 101:
            clients.append(client)
        else:
            assert (status, headers["retry-after"], headers["connection"]) == (503, "5", "close")
    assert 10 < len(clients) < LIMIT
    return clients


def lines(client: RawClient, count: int) -> list[bytes]:
    return [payload for _, payload in client.frames(count)]


def test_clients_beyond_the_descriptors_are_refused_and_everything_else_goes_on(
    serve: Serve, log: Path, stack: contextlib.ExitStack
) -> None:
    server = serve("--poll-interval", "0.02", log, open_files=LIMIT)
    clients = fill(server, stack)
    log.rename(log.with_name("a.log.1"))
    with log.with_name("a.log.1").open("a") as old:
        old.write("late\n")
    log.write_text("two\n")
    assert [lines(client, 2) for client in clients] == [[b"late", b"two"]] * len(clients)
    assert server.get("/healthz").status == 200
    assert server.get("/api/v1/streams/a.log/lines?tail=1").json["lines"] == ["two"]
    for path in ("events", "raw", "search"):
        answer = server.get(f"/api/v1/streams/a.log/{path}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "no room" in answer.json["detail"]
    assert refused(server) == {"descriptors": MANY - len(clients) + 3}
    assert value(server, "process_max_fds") == LIMIT
    assert server.log.count(NO_ROOM) == 1
    assert "ERROR" not in server.log


def test_when_clients_leave_others_come_in(serve: Serve, log: Path, stack: contextlib.ExitStack) -> None:
    server = serve("--poll-interval", "0.02", log, open_files=LIMIT)
    for client in fill(server, stack)[:5]:
        client.sock.close()

    def comes_in() -> bool:
        with RawClient(server.port, "/ws?tail=1") as client:
            return client.answer()[0] == 101 and lines(client, 1) == [b"one"]

    eventually(comes_in)


def test_connections_that_say_nothing_leave_the_files_their_descriptors(
    serve: Serve, log: Path, stack: contextlib.ExitStack
) -> None:
    """They take what brief requests have, too; then they are closed at once, and nothing turns in circles."""
    server = serve("--poll-interval", "0.02", log, open_files=LIMIT)
    client = stack.enter_context(RawClient(server.port, "/ws?tail=0")).open()
    silent = [
        stack.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)) for _ in range(MANY)
    ]
    assert silent[-1].recv(1000).startswith(b"HTTP/1.1 503 ")
    assert silent[-1].recv(1000) == b""
    before = cpu_ticks(server)
    for number in range(3):
        log.rename(log.with_name(f"a.log.{number}"))
        log.write_text(f"{number}\n")
        assert lines(client, 1) == [b"%d" % number]
    assert cpu_ticks(server) - before < 50
    assert server.log.count(NO_ROOM) == 1
    for sock in silent:
        sock.close()
    eventually(lambda: server.get("/api/v1/streams").status == 200)


def states(server: Server) -> dict[str, str]:
    return {each["name"]: each["state"] for each in server.get("/api/v1/streams").json["streams"]}


def test_more_files_than_descriptors_are_told_of_and_the_server_answers(serve: Serve, tmp_path: Path) -> None:
    """What it does follow, it follows."""
    for number in range(MANY):
        (tmp_path / f"{number}.log").write_text("one\n")
    server = serve("--poll-interval", "0.02", tmp_path, open_files=LIMIT)
    eventually(lambda: {*states(server).values()} == {"following", "unreadable"})
    found = states(server)
    followed = next(name for name in found if found[name] == "following")
    waiting = next(name for name in found if found[name] == "unreadable")
    assert server.get(f"/api/v1/streams/{waiting}").json["detail"] == "Too many open files"
    assert (value(server, "logstream_reopen_errors_total", stream=waiting) or 0) >= 1
    assert server.log.count(f"{waiting}: Too many open files") == 1
    with (tmp_path / followed).open("a") as file:
        file.write("two\n")
    eventually(lambda: server.get(f"/api/v1/streams/{followed}/lines?tail=1").json["lines"] == ["two"])
    with RawClient(server.port, f"/ws?stream={followed}") as client:
        assert client.answer()[0] == 503


def test_files_have_their_descriptors_before_clients_have_theirs(
    serve: Serve, tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    """Whatever a client leaves is a file's, until each has one."""
    server = serve("--poll-interval", "0.02", tmp_path / "*.log", open_files=LIMIT)
    (tmp_path / "a.log").write_text("one\n")
    eventually(lambda: server.get("/api/v1/streams").json["streams"])
    clients = fill(server, stack)
    for number in range(20):
        (tmp_path / f"{number}.log").write_text("one\n")
    eventually(lambda: len(states(server)) == 21 and {*states(server).values()} == {"following", "unreadable"})
    for client in clients[:-1]:
        client.sock.close()
    eventually(lambda: {*states(server).values()} == {"following"})
    for name in states(server):
        assert server.get(f"/api/v1/streams/{name}/lines").json["lines"] == ["one"]
    with (tmp_path / "a.log").open("a") as file:
        file.write("two\n")
    assert lines(clients[-1], 1) == [b"two"]


def test_clients_that_cannot_fit_are_told_of_at_the_start(serve: Serve, log: Path) -> None:
    server = serve("--max-clients", "50", log, open_files=LIMIT)
    eventually(lambda: "--max-clients 50 does not fit into the limit of 64 open files" in server.log)
    fitting = serve("--max-clients", "5", log, open_files=LIMIT)
    assert fitting.get("/readyz").status == 200
    assert "does not fit" not in fitting.log
