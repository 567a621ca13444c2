"""A: the last N lines, found from the end of the file, and the seam between them and the live view."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from .checker import assert_run
from .conftest import Serve
from .harness import Site, append, as_bytes, glance, numbered, write
from .wire import Client, wait_all_last

ELEVEN = "\n".join(numbered("line", 11))
CONTENTS = {"empty": "", "x": "x", "x-y": "x\ny", "x-y-": "x\ny\n", "eleven": ELEVEN}


def last(content: str, count: int) -> list[str]:
    """What `tail -n count` would print, as lines."""
    lines = content.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines[-count:] if count else []


def write_old(path: Path, content: str) -> None:
    """A file whose writer has been silent for a minute: its unfinished line is not waited for."""
    path.write_bytes(content.encode())
    os.utime(path, (time.time() - 60,) * 2)


def test_a1_last_lines_of_small_files(serve: Serve, site: Site) -> None:
    for name, content in CONTENTS.items():
        write_old(site.write / name, content)
    server = serve(site.read)
    for name, content in CONTENTS.items():
        for count in (0, 1, 10, 50):
            expected = last(content, count)
            clients = [server.client(stream=name, tail=count), server.json(stream=name, tail=count)]
            raw = server.raw(stream=name, tail=count)
            for client in clients:
                client.expect(expected)
            if expected:
                raw.expect_bytes(("\n".join(expected) + "\n" * content.endswith("\n")).encode())
            for each in (*clients, raw):
                each.quiet(0.02)


def test_a1_last_lines_by_rest(serve: Serve, site: Site) -> None:
    for name, content in CONTENTS.items():
        write_old(site.write / name, content)
    server = serve(site.read)
    for name, content in CONTENTS.items():
        for count in (0, 1, 10, 50):
            answer = server.rest(name, "lines", tail=count)
            assert answer["lines"] == last(content, count), (name, count)
            assert answer["cursor"]


def test_a3_a_sparse_file_of_four_gigabytes(serve: Serve, site: Site) -> None:
    size = 1 << (24 if site.is_remote else 32)  # a remote file system does not tell where its holes are
    log = site.write / "app.log"
    with log.open("wb") as file:
        file.write(b"begin 1\n")
        file.truncate(size - 8)
        file.seek(size - 8)
        file.write(b"the end\n")
    assert log.stat().st_size == size
    server = serve(site.read / "app.log")
    rss, read = server.rss_bytes, server.read_bytes
    server.client(tail=1).expect(["the end"], quiet_s=0.05)
    client = server.client(tail=10)
    client.expect(["begin 1", "the end"], quiet_s=0.05)
    append(log, "after")
    client.expect(["begin 1", "the end", "after"])
    assert server.rss_bytes - rss < 32 << 20
    if not site.is_remote:
        assert server.read_bytes - read < 32 << 20


def test_a4_the_last_hundred_lines_of_ten_gigabytes(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    lines = numbered("line", 20_000, width=100)
    with log.open("wb") as file:
        file.truncate(10 << 30)
        file.seek(10 << 30)
        file.write(b"\n" + as_bytes(lines))
    server = serve(site.read / "app.log")
    glance()
    rss, read = server.rss_bytes, server.read_bytes
    clients = [server.client(tail=100) for _ in range(5)]
    for client in clients:
        client.expect(lines[-100:])
    assert server.read_bytes - read < 1 << 20, "more was read than was asked for"
    assert server.rss_bytes - rss < 8 << 20


@pytest.mark.parametrize("block", [8192, 65536])
def test_a5_newlines_at_the_edges_of_blocks(serve: Serve, site: Site, block: int) -> None:
    contents = {}
    for shift in (-1, 0, 1):
        # From the end, as blocks are read backwards: a newline one before, at, and one after each block's edge.
        lines, left = [], 6 * block + shift
        number = 0
        while left > 0:
            length = min(block if number else block + shift, left)
            lines.append(f"{number} ".ljust(length - 1, "x"))
            left -= length
            number += 1
        lines.reverse()
        contents[f"shift{shift}.log"] = lines
        write(site.write / f"shift{shift}.log", *lines)
    server = serve(site.read)
    for name, lines in contents.items():
        for count in range(1, len(lines) + 2):
            client = server.client(stream=name, tail=count)
            client.expect(lines[-count:])
            client.cut()


def test_a8_nothing_old_then_only_what_is_new_and_no_busy_loop(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 20))
    server = serve(site.read / "app.log", "--poll-interval", "0.25")
    clients = [server.client(tail=0), server.json(tail=0)]
    for client in clients:
        client.quiet(0.2)
    cpu = server.cpu_s
    clients[0].quiet(1.0)
    assert server.cpu_s - cpu <= 0.1
    append(log, "new")
    for client in clients:
        client.expect(["new"], quiet_s=0.1)


def test_a9_no_line_is_lost_or_repeated_at_the_seam(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    lines = numbered("line", 4000)
    write(log, *lines[:100])
    server = serve(site.read / "app.log")

    def keep_writing() -> None:
        for begin in range(100, len(lines), 3):
            append(log, *lines[begin : begin + 3])
            time.sleep(0.001)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    clients: list[Client] = []
    while writer.is_alive():
        number = len(clients)
        form = ("text", "json")[number % 2]
        clients.append(server.client(format=form, tail=(0, 1, 5, 1000)[number // 2 % 4]))
        for client in clients[-20:]:
            client.pump()
        time.sleep(0.02)
    writer.join()
    append(log, "the last line")
    wait_all_last(clients, "the last line")
    for client in clients:
        assert client.closed is None
        assert_run(client.lines, [*lines, "the last line"])


def test_a9_no_line_between_an_answer_and_the_socket_that_follows_it(serve: Serve, site: Site) -> None:
    """REST gives the last lines and a cursor; the socket goes on from there."""
    log = site.write / "app.log"
    lines = numbered("line", 600)
    write(log, *lines[:50])
    server = serve(site.read / "app.log")
    for begin in range(50, 600, 50):
        answer = server.rest("app.log", "lines", tail=20)
        append(log, *lines[begin : begin + 50])
        client = server.client(cursor=answer["cursor"])
        client.wait_last(lines[begin + 49])
        assert_run([*answer["lines"], *client.lines], lines)
