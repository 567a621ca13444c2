"""pages: what a server has now, as events, and every way in which it cannot be had."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from logstream_server.client import pages
from logstream_server.client.client import Subscription
from logstream_server.client.pages import Pages
from logstream_server.client.trust import Access, open_access
from logstream_server.encoding.events import Gap, Hello, Lines
from logstream_server.errors import CannotFollow

from ..conftest import Serve
from ..process import eventually
from ..tls import make_certificate

NOTHING = Access({}, None)
PAGE = {"cursor": "c1", "more": False, "recovered": None, "reason": None, "lines": []}
Answering = Callable[..., tuple[str, list[bytes]]]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """A server that gives these answers, one a connection; its address, and the requests that came."""
    with ExitStack() as stack:

        def start(*answers: bytes) -> tuple[str, list[bytes]]:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            asked: list[bytes] = []

            def run() -> None:
                for answer in answers:
                    connection, _ = listener.accept()
                    with connection:
                        asked.append(connection.recv(65536))
                        connection.sendall(answer)

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            stack.callback(thread.join, 20)
            return f"127.0.0.1:{listener.getsockname()[1]}", asked

        yield start


def answer(body: object, status: str = "200 OK", headers: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_a_stream_comes_to_its_end(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several pages, below a base path, whatever the name; from the last lines, the start or a cursor."""
    monkeypatch.setattr(pages, "PAGE_LINES", 3)
    log = tmp_path / "a b%2Fc.log"
    log.write_text("".join(f"line {number}\n" for number in range(10)))
    url = serve("--base-path", "/team/app", f"x~ü={log}", log).url
    server = Pages(url, NOTHING)
    assert server.streams() == ["x~ü", "a b%2Fc.log"]
    assert server.first_lines("x~ü")[:2] == ["line 0", "line 1"]
    for stream in server.streams():
        hello, *batches = server.events(Subscription(stream, from_start=True))
        assert isinstance(hello, Hello)
        assert (hello.stream, hello.recovered, hello.streams[0]["state"]) == (stream, None, "following")
        assert all(isinstance(each, Lines) for each in batches)
        assert [len(each.lines) for each in batches if isinstance(each, Lines)] == [3, 3, 3, 1]
    last = list(server.events(Subscription("x~ü", tail=2, grep=("[13579]$",))))[-1]
    assert isinstance(last, Lines)
    assert last.lines == ["line 7", "line 9"]
    with log.open("a") as file:
        file.write("line 10\n")
    eventually(lambda: next(server.events(Subscription("x~ü"))).streams[0]["size"] == log.stat().st_size)  # type: ignore[union-attr]
    hello, *batches = server.events(Subscription("x~ü", cursor=last.cursor))
    assert isinstance(hello, Hello)
    assert (hello.recovered, [each.lines for each in batches if isinstance(each, Lines)]) == (True, [["line 10"]])


def test_what_an_answer_remarks_on_is_told(answering: Answering) -> None:
    page = PAGE | {"lines": ["a", "b"], "partial": True, "continued": True, "cut": [[0, 99]], "recovered": False}
    gap = {"gap": {"reason": "lost", "detail": "gone", "bytes": 7}, "reason": "it was another file"}
    host, _ = answering(answer({"name": "s"}), answer(page | gap))
    assert list(Pages(f"http://{host}", NOTHING).events(Subscription("s", cursor="c0"))) == [
        Hello("s", "c0", False, "it was another file", streams=[{"name": "s"}]),
        Lines("s", "c1", None, ["a", "b"], True, True, ((0, 99),)),
        Gap("s", "lost", "gone", 7, "c1"),
    ]


def test_it_shows_who_it_is(answering: Answering) -> None:
    """A token, or the user of the address; what the address's own query says counts where it can."""
    host, asked = answering(*[answer({"streams": []})] * 3, answer({"name": "s"}), answer(PAGE))
    Pages(f"http://{host}", Access({"Authorization": "Bearer t"}, None)).streams()
    Pages(f"ws://u:p%40@{host}/ws", NOTHING).streams()
    own = Pages(f"http://{host}?access_token=t&tail=3&format=json&stream=s", NOTHING)
    own.streams()
    list(own.events(Subscription("s", tail=10, grep=("g",))))
    assert b"\r\nAuthorization: Bearer t\r\n" in asked[0]
    assert b"\r\nAuthorization: Basic " + b64encode(b"u:p@") + b"\r\n" in asked[1]
    assert asked[2].startswith(b"GET /api/v1/streams?access_token=t HTTP/1.1\r\n")
    assert asked[4].startswith(b"GET /api/v1/streams/s/lines?access_token=t&tail=3&grep=g HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (answer({"detail": "a valid token is needed"}, "401 Unauthorized"), r"a valid token is needed \(HTTP 401\)"),
        (answer(b"<html>", "502 Bad Gateway"), r"Bad Gateway \(HTTP 502\)"),
        (answer(b"hello"), "it sent no answer of the API; is it a logstream server"),
        (answer(["hello"]), "it sent no answer of the API; is it a logstream server"),
        (answer({"hello": []}), "it sent no answer of the API; is it a logstream server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_a_refusal_is_told_in_the_server_s_words(answering: Answering, given: bytes, words: str) -> None:
    host, _ = answering(given)
    with pytest.raises(CannotFollow, match=words):
        Pages(f"http://{host}", NOTHING).streams()


def test_a_token_is_not_carried_elsewhere(answering: Answering) -> None:
    elsewhere, asked = answering()
    to = f"Location: http://{elsewhere}/api/v1/streams?secret\r\n"
    host, _ = answering(answer(b"", "308 Permanent Redirect", to))
    with pytest.raises(CannotFollow, match=rf"it is at http://{elsewhere}/api/v1/streams \(HTTP 308\)"):
        Pages(f"http://{host}", Access({"Authorization": "Bearer t"}, None)).streams()
    assert asked == []


def test_nobody_there_is_told_as_the_system_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(CannotFollow, match=f"cannot follow {url}: Connection refused"):
        Pages(url, NOTHING).streams()


def test_a_certificate_is_trusted_as_told(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "a.log").touch()
    certificate = make_certificate(tmp_path)
    url = serve(tmp_path / "a.log", "--tls-cert", certificate).url
    for trust, insecure in ((str(certificate), False), (None, True)):
        access = open_access([url], None, trust, insecure)[url]
        assert Pages(url, access).streams() == ["a.log"]
    with pytest.raises(CannotFollow, match="its certificate is not trusted: self-signed certificate"):
        Pages(url, open_access([url], None, None, False)[url]).streams()
