"""I: the server ends and comes back. It keeps no state: what a client has is in the client's cursor."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from .checker import assert_exact
from .conftest import Serve
from .harness import (
    Server,
    Site,
    append,
    append_bytes,
    as_bytes,
    copytruncate,
    free_port,
    numbered,
    rotate,
    two_modes,
    write,
)
from .wire import DEADLINE_S, Client

pytestmark = two_modes


def test_i1_what_was_written_meanwhile_is_all_that_a_client_gets(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("before", 20))
    first = serve(site.read / "app.log")
    client = first.json(tail=5)
    client.expect(numbered("before", 20)[-5:])
    cursor = client.cursor
    first.stop()
    append(log, *numbered("meanwhile", 5))
    second = serve(site.read / "app.log")
    append(log, "after 1")
    json, plain, raw = second.json(cursor=cursor), second.client(cursor=cursor), second.raw(cursor=cursor)
    assert json.hello["recovered"] is True
    expected = [*numbered("meanwhile", 5), "after 1"]
    for each in (json, plain):
        each.expect(expected, quiet_s=0.1)
    raw.expect_bytes(as_bytes(expected))
    answer = second.rest("app.log", "lines", cursor=cursor)
    assert answer["lines"] == expected


def test_i1_nothing_was_written_meanwhile(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("before", 20))
    first = serve(site.read / "app.log")
    client = first.json()
    client.expect(numbered("before", 20)[-10:])
    first.stop()
    again = serve(site.read / "app.log").json(cursor=client.cursor)
    assert again.hello["recovered"] is True
    again.quiet(0.2)
    append(log, "after")
    again.expect(["after"])


def test_i1_a_client_that_saw_the_file_emptied_goes_on_after_a_restart(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 3))
    first = serve(site.read / "app.log")
    client = first.json()
    client.expect(numbered("old", 3))
    write(log, "new 1")
    client.expect([*numbered("old", 3), "new 1"])
    first.stop()
    append(log, "new 2")
    again = serve(site.read / "app.log").json(cursor=client.cursor)
    assert again.hello["recovered"] is True, again.hello["reason"]
    again.expect(["new 2"], quiet_s=0.1)


def test_i1_a_client_that_saw_a_rotation_goes_on_after_a_restart(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 3))
    first = serve(site.read / "app.log")
    client = first.json()
    client.expect(numbered("old", 3))
    rotate(log)
    append(log, "new 1")
    client.expect([*numbered("old", 3), "new 1"])
    first.stop()
    (site.write / "app.log.1").unlink()
    append(log, "new 2")
    again = serve(site.read / "app.log").json(cursor=client.cursor)
    again.expect(["new 2"], quiet_s=0.1)


def test_i2_a_line_that_was_held_is_completed_over_a_restart(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    first = serve(site.read / "app.log", "--partial-after", "0")
    client = first.json()
    append_bytes(log, b"one ")
    client.expect(["before"], quiet_s=0.2)
    first.stop()
    append_bytes(log, b"line\nnext\n")
    again = serve(site.read / "app.log", "--partial-after", "0").json(cursor=client.cursor)
    again.expect(["one line", "next"], quiet_s=0.1)


def test_i2_a_line_whose_beginning_was_sent_goes_on_after_it(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    first = serve(site.read / "app.log")
    client = first.json()
    append_bytes(log, b"one ")
    client.expect(["before", "one "])
    first.stop()
    append_bytes(log, b"line\nnext\n")
    again = serve(site.read / "app.log").json(cursor=client.cursor)
    again.expect(["line", "next"], quiet_s=0.1)
    assert again.wait_message("lines", continued=True)["lines"][0] == "line"


@pytest.mark.parametrize("size", [3, 300])
def test_i4_the_file_was_rotated_meanwhile(serve: Serve, site: Site, size: int) -> None:
    log = site.write / "app.log"
    write(log, *numbered("before", size))
    first = serve(site.read / "app.log")
    client = first.json(tail=size)
    client.expect(numbered("before", size))
    first.stop()
    append(log, *numbered("old", size))
    rotate(log)
    append(log, *numbered("between", size))
    rotate(log)
    append(log, *numbered("new", size))
    second = serve(site.read / "app.log")
    expected = numbered("old", size) + numbered("between", size) + numbered("new", size)
    json = second.json(cursor=client.cursor)
    if site.is_remote and size == 3:
        # Inodes prove nothing there, and so few bytes may be the beginning of any file: that is said, and not guessed.
        assert json.hello["recovered"] is False
        json.expect(numbered("new", size), quiet_s=0.1)
        return
    plain = second.client(cursor=client.cursor)
    assert json.hello["recovered"] is True, json.hello["reason"]
    for each in (json, plain):
        each.expect(expected, quiet_s=0.1)
    append(log, "after")
    for each in (json, plain):
        each.expect([*expected, "after"], quiet_s=0.1)


def test_i4_the_file_was_copied_and_truncated_meanwhile(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("a line from before", 50))
    first = serve(site.read / "app.log")
    client = first.json(tail=50)
    client.expect(numbered("a line from before", 50))
    first.stop()
    append(log, *numbered("old", 5))
    copytruncate(log)
    append(log, *numbered("new", 5))
    again = serve(site.read / "app.log").json(cursor=client.cursor)
    assert again.hello["recovered"] is True, again.hello["reason"]
    again.expect(numbered("old", 5) + numbered("new", 5), quiet_s=0.1)


def test_i5_a_cursor_that_was_damaged_is_refused_with_a_reason(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("line", 3))
    server = serve(site.read / "app.log")
    cursor = server.json().cursor
    changed = cursor[:10] + ("A" if cursor[10] != "A" else "B") + cursor[11:]
    damaged = [cursor[:-1], changed, "", "x", "!!", "A" * 5000]
    for token in damaged:
        for form in ("text", "json", "raw"):
            client = server.client(format=form, cursor=token)
            assert "cursor" in client.wait_closed(4009)
            assert not client.lines
            assert not client.data
    server.client().expect(numbered("line", 3))


class Resuming:
    """A client that comes back with its cursor whenever it is cut off; each line is kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.resumed = 0
        self._client: Client | None = None
        self._cursor: str | None = None

    def connect(self, server: Server) -> None:
        """Go on where it was."""
        begin: dict[str, Any] = {"from_": "start"} if self._cursor is None else {"cursor": self._cursor}
        self._client = server.json(**begin)
        hello = self._client.hello
        if self._cursor is not None:
            assert hello["recovered"] is True, hello["reason"]
            self.resumed += 1

    def read_until(self, last: str | None, seconds: float) -> None:
        """Take lines for so long, or until the connection ends, or until `last` came."""
        assert self._client is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._client.closed is None and self._client.lines[-1:] != [last]:
            self._client.pump(0.05)

    def read_some(self) -> None:
        """Take lines for a moment: some have come then, and more are on their way."""
        assert self._client is not None
        self._client.wait_lines(1)
        self.read_until(None, 0.15)

    def gone(self) -> None:
        """The connection has ended: keep what came before the end."""
        assert self._client is not None
        while self._client.pump(0.05):
            pass
        self.lines += self._client.lines
        if self._client.cursors():
            self._cursor = self._client.cursor
        self._client.cut()


def test_i6_killed_in_a_flood_again_and_again(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "the first line")
    done = threading.Event()
    written = ["the first line"]

    def flood() -> None:
        while not done.is_set():
            lines = numbered("line", 200, first=len(written), width=80)
            append(log, *lines)
            written.extend(lines)
            time.sleep(0.004)

    writer = threading.Thread(target=flood)
    writer.start()
    port = str(free_port())
    clients = [Resuming() for _ in range(3)]
    try:
        for _ in range(4):
            server = serve("--port", port, site.read / "app.log")
            for client in clients:
                client.connect(server)
            for client in clients:
                client.read_some()
            server.kill()
            for client in clients:
                client.gone()
    finally:
        done.set()
        writer.join()
    append(log, "the last line")
    written.append("the last line")
    server = serve("--port", port, site.read / "app.log")
    for client in clients:
        client.connect(server)
        client.read_until("the last line", DEADLINE_S)
        client.gone()
        assert client.resumed >= 3
        assert_exact(client.lines, written)


def test_i6_a_restart_while_the_file_is_rotated_again_and_again(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "the first line")
    written = ["the first line"]
    client = Resuming()
    port = str(free_port())
    for number in range(4):
        server = serve("--port", port, "--rotate-wait", "5", site.read / "app.log")
        client.connect(server)
        if number == 0:  # of so short a file, by name, nothing is known that proves what it was
            client.read_until("the first line", DEADLINE_S)
        for part in range(3):
            lines = numbered(f"round {number} part {part} line", 30)
            append(log, *lines)
            written += lines
            if part:
                rotate(log)
                log.touch()
            client.read_until(None, 0.05)
        server.kill()
        client.gone()
    append(log, "the last line")
    client.connect(serve("--port", port, site.read / "app.log"))
    client.read_until("the last line", DEADLINE_S)
    client.gone()
    assert_exact(client.lines, [*written, "the last line"])
