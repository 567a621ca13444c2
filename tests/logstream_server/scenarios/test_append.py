"""C: how a writer may write: in pieces, in bursts, byte by byte, or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import Site, Writer, append, append_bytes, as_bytes, glance, numbered, run, write


def test_c1_a_begun_line_is_held_until_it_is_whole(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--partial-after", "0")
    clients = [server.client(), server.json()]
    with Writer(log) as writer:
        writer.write_bytes(b"one ")
        for client in clients:
            client.expect(["before"], quiet_s=0.3)
        writer.write_bytes(b"line\nthe n")
        for client in clients:
            client.expect(["before", "one line"], quiet_s=0.1)
        writer.write_bytes(b"ext\n")
        for client in clients:
            client.expect(["before", "one line", "the next"], quiet_s=0.1)
    assert not [m for m in clients[1].messages if m.get("partial") or m.get("continued")]


def test_c1_a_client_that_comes_meanwhile_gets_the_whole_line(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--partial-after", "0")
    with Writer(log) as writer:
        writer.write_bytes(b"one ")
        glance()
        client = server.json()
        client.expect(["before"], quiet_s=0.1)
        writer.write_bytes(b"line\n")
        client.expect(["before", "one line"], quiet_s=0.1)


def test_c2_a_long_line_in_many_pieces(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--partial-after", "0")
    client = server.client()
    client.expect(["before"])
    pieces = [f"{number} ".encode() * 20_000 for number in range(8)]
    with Writer(log) as writer:
        for piece in pieces:
            writer.write_bytes(piece)
            glance()
        writer.write_bytes(b"\nafter\n")
    client.expect(["before", b"".join(pieces).decode(), "after"])


def test_c3_a_last_line_without_newline_is_sent_after_a_silence_once(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    plain, json, raw = server.client(), server.json(), server.raw()
    json.expect(["before"])
    raw.expect_bytes(b"before\n")
    append_bytes(log, b"the writer died he")
    plain.expect(["before", "the writer died he"], quiet_s=0.6)
    assert json.wait_message("lines", partial=True)["lines"] == ["the writer died he"]
    append_bytes(log, b"re, or so it seemed\nnext\n")
    plain.expect(["before", "the writer died he", "re, or so it seemed", "next"], quiet_s=0.1)
    assert json.wait_message("lines", continued=True)["lines"] == ["re, or so it seemed"]
    json.expect(["before", "the writer died here, or so it seemed", "next"])
    raw.expect_bytes(log.read_bytes())


def test_c3_a_line_that_only_got_its_newline_late_is_not_told_again(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    plain, json = server.client(), server.json()
    json.expect(["before"])
    append_bytes(log, b"late")
    plain.expect(["before", "late"])
    append_bytes(log, b"\n")
    plain.expect(["before", "late"], quiet_s=0.3)
    append(log, "next")
    plain.expect(["before", "late", "next"])
    json.expect(["before", "late", "next"])
    late = server.client()
    late.expect(["before", "late", "next"], quiet_s=0.1)


def test_c3_the_beginning_of_a_file_that_never_had_a_newline(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    log.write_bytes(b"x")
    client = serve(site.read / "app.log").client()
    client.expect(["x"], quiet_s=0.4)
    append_bytes(log, b"y")
    client.expect(["x", "y"], quiet_s=0.4)


def test_c4_a_burst_of_200_000_lines_then_silence(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    client = serve(site.read / "app.log").client()
    client.expect(["before"])
    lines = numbered("a line of some length", 200_000)
    for begin in range(0, len(lines), 5000):
        append(log, *lines[begin : begin + 5000])
    client.expect(["before", *lines], timeout_s=60, quiet_s=0.2)


def test_c5_a_writer_that_goes_byte_by_byte(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--partial-after", "0")
    plain, json = server.client(), server.json()
    for client in (plain, json):
        client.expect(["before"])
    lines = [*numbered("ein Wörtchen", 20), "", "…"]
    with Writer(log) as writer:
        for byte in as_bytes(lines):
            writer.write_bytes(bytes((byte,)))
            time.sleep(0.001)
    plain.expect(["before", *lines], quiet_s=0.1)
    json.expect(["before", *lines])


def test_c6_a_new_time_without_new_bytes_tells_nothing(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 3))
    server = serve(site.read / "app.log")
    clients = [server.client(), server.json()]
    for client in clients:
        client.expect(numbered("old", 3))
    for _ in range(3):
        os.utime(log)
        for client in clients:
            client.quiet(0.15)
    os.utime(log, (0, 0))
    for client in clients:
        client.quiet(0.2)
    append(log, "new")
    for client in clients:
        client.expect([*numbered("old", 3), "new"])


@contextlib.contextmanager
def append_only(path: Path) -> Iterator[None]:
    """The file may only grow, for everybody."""
    if failure := run("chattr", "+a", str(path)):
        pytest.skip(f"chattr +a needs root and a file system like ext4; here: {failure}")
    try:
        yield
    finally:
        run("chattr", "-a", str(path))


def test_c7_an_append_only_file(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    with append_only(log):
        client = serve(site.read / "app.log").client()
        client.expect(["before"])
        append(log, "after")
        client.expect(["before", "after"])
