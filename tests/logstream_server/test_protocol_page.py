"""docs/protocol.md: its clients run as they stand there, its examples are what a server says, its codes are all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from logstream_server.encoding.messages import gap_message
from logstream_server.errors import CloseCode

from .conftest import Serve
from .pages import QUICK, Running, blocks, javascript_program, live_through, python_program
from .process import DEADLINE_S, eventually

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def examples(*types: str) -> list[dict[str, Any]]:
    """The page's JSON objects with one of these types."""
    objects = [json.loads(line) for block in blocks(PAGE, "json") for line in block.splitlines()]
    return [found for found in objects if found.get("type") in types]


# -- the clients ------------------------------------------------------------------------------------------------------


def python_client(folder: Path) -> list[str]:
    """The command that runs the page's Python client; it takes the address as its last word."""
    return python_program(PAGE, folder)


def javascript_client(folder: Path) -> list[str]:
    """The same for JavaScript."""
    use = "follow(process.argv[2], { tail: 100 }, (text) => process.stdout.write(text), console.error);"
    return javascript_program(PAGE, folder, "WebSocket", use)


@pytest.mark.parametrize("client", [python_client, javascript_client])
def test_a_client_of_the_page_prints_every_line_once(
    serve: Serve, tmp_path: Path, client: Callable[[Path], list[str]]
) -> None:
    """Whatever happens; and where lines are lost, it says so."""
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\n")
    server = serve(*QUICK, log)
    running = Running(client(tmp_path), server.ws_url, tmp_path)
    try:
        server = live_through(running, log, "one\ntwo\n", server, serve)
        server.kill()
        log.write_text("another file\n")
        (tmp_path / "app.log.1").unlink()
        serve(*QUICK, "--port", str(server.port), log)
        eventually(lambda: "lines are missing here: " in running.err.read_text())
    finally:
        running.end()


@pytest.mark.parametrize("client", [python_client, javascript_client])
def test_a_client_of_the_page_gives_up_when_asking_again_cannot_help(
    serve: Serve, tmp_path: Path, client: Callable[[Path], list[str]]
) -> None:
    server = serve(tmp_path / "app.log")
    running = Running(client(tmp_path), f"{server.ws_url}?stream=other.log&_=", tmp_path)
    try:
        running.process.wait(DEADLINE_S)
    finally:
        running.end()
    assert server.process.poll() is None


# -- the examples -----------------------------------------------------------------------------------------------------


class Dialogue:
    """A JSON client of a server that is asked for each kind of message."""

    def __init__(self, url: str) -> None:
        self.client: ClientConnection = connect(
            f"{url}?tail=1", subprotocols=[Subprotocol("logstream.json.v1")], compression=None
        )

    def message(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; events of other kinds may come between."""
        while True:
            found: dict[str, Any] = json.loads(self.client.recv(timeout=DEADLINE_S))
            if found["type"] == kind:
                return found
            assert found["type"] != "error", found

    def send(self, message: dict[str, Any]) -> None:
        self.client.send(json.dumps(message))


def told(serve: Serve, folder: Path) -> Iterator[dict[str, Any]]:
    """What a real server says when the things happen that the page shows; a gap is made by its own function."""
    log = folder / "app.log"
    log.write_text("one\n")
    (folder / "web.log").write_text("GET / 200\n")
    server = serve(*QUICK, "--max-line-bytes", "64", "--ping-interval", "0.2", log, folder / "web.log")
    with ExitStack() as clients:
        dialogue = Dialogue(server.ws_url)
        clients.enter_context(dialogue.client)
        yield dialogue.message("hello")
        yield dialogue.message("lines")
        for text in ("half ", "a line\n", "x" * 100 + "\n"):
            with log.open("a") as file:
                file.write(text)
            yield dialogue.message("lines")
        log.write_text("")
        yield dialogue.message("event")
        yield json.loads(gap_message("app.log", "", "lost", "gone", 1))
        for message in examples("subscribe", "filter", "unsubscribe"):
            dialogue.send(message)
            if message["type"] != "filter":
                yield dialogue.message(message["type"] + "d")
        dialogue.send({"type": "subscribe", "stream": "app.log", "tail": 0, "grep": "nothing has this"})
        dialogue.message("subscribed")
        with log.open("a") as file:
            file.write("other\n")
        found = dialogue.message("lines")
        assert (found["lines"], found["offset"]) == ([], None)
        yield found
        dialogue.send({"type": "subscribe", "stream": "nope.log"})
        error = json.loads(dialogue.client.recv(timeout=DEADLINE_S))
        assert (error["type"], error["stream"]) == ("error", "nope.log")
        yield error
        server.process.terminate()
        yield dialogue.message("bye")


def shape(message: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Type and fields of a message, in their order."""
    return message["type"], tuple(message)


def test_the_examples_are_what_a_server_says(serve: Serve, tmp_path: Path) -> None:
    """Each example has the fields of a real message, and each kind of message that a server sends has its example."""
    kinds = ("hello", "lines", "event", "gap", "subscribed", "unsubscribed", "error", "bye")
    shown = {shape(message) for message in examples(*kinds)}
    assert {shape(message) for message in told(serve, tmp_path)} == shown


# -- the tables -------------------------------------------------------------------------------------------------------


def test_every_close_code_of_ours_is_in_the_table() -> None:
    listed = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for code in row.split(", ")}
    assert {code for code in listed if code >= 4000} == {int(code) for code in CloseCode}
