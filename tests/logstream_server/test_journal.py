"""journal: the server's own log, in both forms, without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from logstream_server.journal import configure_log, without_secrets
from logstream_server.settings import LogFormat, LogLevel

from .conftest import Serve
from .process import eventually

log = logging.getLogger("logstream_server.test")


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the log goes; what the process had before comes back after the test."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield io.StringIO()
    logging.captureWarnings(False)
    root.level, root.handlers = before


def objects(text: str) -> list[dict[str, Any]]:
    """Each line, parsed."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_json_line_has_time_level_logger_and_message(out: io.StringIO) -> None:
    configure_log(LogFormat.JSON, LogLevel.INFO, out)
    log.info("%s: %d bytes\nand a \udcff", "app.log", 7)
    log.debug("not mentioned")
    (line,) = objects(out.getvalue())
    when = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(when.tzinfo) - when).total_seconds()) < 60
    assert line == {
        "level": "info",
        "logger": "logstream_server.test",
        "message": "app.log: 7 bytes\nand a \\udcff",
    }


def test_an_exception_stays_on_its_json_line(out: io.StringIO) -> None:
    configure_log(LogFormat.JSON, LogLevel.INFO, out)
    try:
        Path("/no/such/file").read_text()
    except OSError:
        log.exception("it failed", stack_info=True)
    (line,) = objects(out.getvalue())
    assert line["exception"].endswith("[Errno 2] No such file or directory: '/no/such/file'")
    assert "test_an_exception" in line["stack"]


def test_a_text_line_is_for_people(out: io.StringIO) -> None:
    configure_log(LogFormat.TEXT, LogLevel.WARNING, out)
    log.info("not mentioned")
    log.warning("careful")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING careful\n", out.getvalue())


def test_warnings_of_python_are_lines_too(out: io.StringIO) -> None:
    configure_log(LogFormat.JSON, LogLevel.INFO, out)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(False)  # within catch_warnings: it is undone at its end
        logging.captureWarnings(True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    (line,) = objects(out.getvalue())
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "DeprecationWarning: old ways" in line["message"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param('"GET /ws?access_token=s&tail=3 HTTP/1.1"', '"GET /ws HTTP/1.1"', id="a request's target"),
        pytest.param("GET /base/api/v1/streams/a.log/lines?grep=s", "GET /base/api/v1/streams/a.log/lines", id="REST"),
        pytest.param("to https://h/x?y=s failed", "to https://h/x failed", id="a whole URL"),
        pytest.param("query b'tail=3&Access_Token=s'", "query b'tail=3&Access_Token=...'", id="a query by itself"),
        pytest.param("> authorization: bearer s.s-s", "> authorization: bearer ...", id="a header"),
        pytest.param("'/var/log/what?.log' is missing", "'/var/log/what?.log' is missing", id="not the name of a file"),
    ],
)
def test_what_may_be_secret_is_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize("form", LogFormat)
def test_a_server_logs_in_its_form_and_never_a_token_or_a_query(serve: Serve, tmp_path: Path, form: LogFormat) -> None:
    """At its most talkative, whatever is asked of it: with a good token and a bad one, over HTTP and the socket, and in
    requests that are broken."""
    (tmp_path / "tokens").write_text("g00d-token\n")
    log_file = tmp_path / "missing.log"
    server = serve(
        *("--log-format", form.value, "--log-level", "debug", "--token-file", tmp_path / "tokens", log_file),
    )
    for token in ("g00d-token", "b4d-token"):
        for path in ("/", "/ws", "/nowhere", "/api/v1/streams", "/api/v1/streams/missing.log/lines", "/healthz"):
            server.get(f"{path}?access_token={token}&needle=1")
            server.get(path, authorization=f"Bearer {token}")
    with (
        connect(f"{server.ws_url}?access_token=g00d-token&tail=needle") as client,
        pytest.raises(ConnectionClosed, match="tail='needle'"),
    ):
        client.recv(timeout=20)
    with pytest.raises(InvalidStatus):
        connect(f"{server.ws_url}?access_token=b4d-token&tail=needle")
    for headers in (
        "Upgrade: other\r\nConnection: upgrade\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
        ":\r\n",
    ):
        with socket.create_connection((server.host, server.port), timeout=20) as sock:
            sock.sendall(f"GET /ws?access_token=g00d-token&needle HTTP/1.1\r\n{headers}\r\n".encode())
            sock.recv(1000)
    log_file.write_text("there\n")
    eventually(lambda: server.get("/api/v1/streams", authorization="Bearer g00d-token").json["streams"][0]["size"])
    server.stop()
    assert "does not exist yet" in server.log
    for secret in ("g00d", "b4d", "needle", "access_token"):
        assert secret not in server.log
    if form is LogFormat.JSON:
        assert all(line.keys() >= {"time", "level", "logger", "message"} for line in objects(server.log))
        assert "logstream_server.tailing.condition" in {line["logger"] for line in objects(server.log)}


def test_an_answer_that_is_cut_off_at_the_end_is_no_mistake(serve: Serve, tmp_path: Path) -> None:
    with (tmp_path / "a.log").open("wb") as file:
        file.truncate(64 << 20)  # more than all buffers between a server and a client that does not read
    server = serve(tmp_path / "a.log")
    with socket.create_connection((server.host, server.port), timeout=20) as sock:
        sock.sendall(b"GET /api/v1/streams/a.log/raw HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
        server.stop()
    assert "Cancel 1 running task" in server.log
    assert "Traceback" not in server.log


def test_what_strangers_send_is_no_news(serve: Serve, tmp_path: Path) -> None:
    """Whoever reaches the port could fill a disk with it."""
    (tmp_path / "a.log").touch()
    server = serve("--log-level", "debug", "--metrics-port", "0", tmp_path / "a.log")
    for port in (server.port, server.metrics_port):
        for request in (b"no request\r\n\r\n", b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"):
            with socket.create_connection((server.host, port), timeout=20) as sock:
                sock.sendall(request)
                assert sock.recv(1000).startswith(b"HTTP/1.1 4")
    server.stop()
    assert " WARNING " not in server.log


def test_a_server_that_is_to_mention_only_errors_does(serve: Serve, tmp_path: Path) -> None:
    """The libraries under it, too."""
    server = serve("--log-level", "error", tmp_path / "missing.log")
    with socket.create_connection((server.host, server.port), timeout=20) as sock:
        sock.sendall(b"no request\r\n\r\n")
        sock.recv(1000)
    server.stop()
    assert server.log == ""
