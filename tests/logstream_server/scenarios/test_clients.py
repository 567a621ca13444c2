"""J: clients that leave and come back, that stall, that are many, or that send what nobody asked for."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .checker import assert_exact, assert_never_twice
from .conftest import Serve
from .harness import (
    Site,
    Writer,
    also_tls,
    append,
    append_bytes,
    as_bytes,
    copytruncate,
    numbered,
    one_mode,
    replace_by_rename,
    rotate,
    two_modes,
    two_modes_and_tls,
    wait_until,
    write,
)
from .wire import DEADLINE_S, pump_all, wait_all_last

pytestmark = two_modes


def test_j1_a_client_goes_on_behind_the_line_that_it_got_last(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "line 0")
    server = serve(site.read / "app.log")
    watcher = server.json()
    watcher.expect(["line 0"])
    for number in range(1, 30):
        append(log, *numbered("line", 1 + number % 3, first=len(watcher.lines)))
        watcher.wait_lines(len(watcher.lines) + 1 + number % 3)
    lines = list(watcher.lines)
    assert_exact(lines, numbered("line", len(lines), first=0))
    places = watcher.cursors()
    assert len(places) >= 10
    back = [(count, server.client(format=form, cursor=c)) for c, count in places for form in ("text", "json")]
    append(log, "a new line")
    for count, client in back:
        client.expect([*lines[count:], "a new line"])
    for _, client in back:
        client.quiet(0.01)


def test_j1_a_cursor_of_a_client_with_a_filter(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("noise", 50), "signal 1", *numbered("more noise", 50))
    server = serve(site.read / "app.log", "--ping-interval", "0.2")
    client = server.json(grep="^signal", tail=5)
    client.expect(["signal 1"])
    append(log, *numbered("still more noise", 500))
    before = client.cursor
    client.wait(lambda: client.cursor != before, "a cursor without lines")
    cursor = client.cursor
    client.cut()
    append(log, "signal 2")
    back = server.json(grep="^signal", cursor=cursor)
    back.expect(["signal 2"], quiet_s=0.1)
    answer = server.rest("app.log", "lines", cursor=cursor)
    assert answer["lines"][-1] == "signal 2"
    assert len(answer["lines"]) <= 501


@pytest.mark.parametrize("size", [2, 200])
@pytest.mark.parametrize("rotations", [1, 3])
def test_j2_after_rotations_the_rest_of_the_old_file_comes_first(
    serve: Serve, site: Site, size: int, rotations: int
) -> None:
    log = site.write / "app.log"
    write(log, *numbered("before", size))
    server = serve(site.read / "app.log", "--rotate-wait", "0.1")
    client = server.json(tail=size)
    client.expect(numbered("before", size))
    cursor = client.cursor
    expected = numbered("rest", size)
    append(log, *expected)
    for number in range(rotations):
        rotate(log)
        lines = numbered(f"file {number} line", size)
        append(log, *lines)
        expected += lines
        client.expect(numbered("before", size) + expected)
    time.sleep(0.3)  # the old files are let go of
    back = server.json(cursor=cursor)
    if site.is_remote and size == 2 and not back.hello["recovered"]:
        return  # so few bytes prove nothing where inodes do not; the server may have followed the file, or not
    plain = server.client(cursor=cursor)
    assert back.hello["recovered"] is True, back.hello["reason"]
    for each in (back, plain):
        each.expect(expected, quiet_s=0.1)
    assert server.rest("app.log", "lines", cursor=cursor, limit=10_000)["lines"] == expected


def test_j2_a_cursor_taken_while_both_files_grow(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--rotate-wait", "2")
    client = server.json()
    client.expect(["before"])
    with Writer(log) as old:
        rotate(log)
        append(log, "new 1")
        old.write("old 1")
        client.expect(["before", "old 1"], ["new 1"])
        cursor = client.cursor
        client.cut()
        old.write("old 2")
        append(log, "new 2")
        back = server.json(cursor=cursor)
        assert back.hello["recovered"] is True
        back.expect(["old 2"], ["new 2"], quiet_s=0.1)
        old.write("old 3")
        append(log, "new 3")
        back.expect(["old 2", "old 3"], ["new 2", "new 3"], quiet_s=0.1)


def shorten(log: Path) -> None:
    """Cut off most of what the cursor has seen, in the middle of a line."""
    os.truncate(log, log.stat().st_size // 4)


def rewrite(log: Path) -> None:
    """Other content of the same length, in the same file."""
    log.write_bytes(log.read_bytes().upper())


def replace(log: Path) -> None:
    """Another file under the name; the old one is gone."""
    replace_by_rename(log, *numbered("another file", 60))


@pytest.mark.parametrize("damage", [shorten, rewrite])
@pytest.mark.parametrize("size", [1, 50])
def test_j3_a_cursor_into_content_that_is_gone_is_honoured_in_full_or_refused(
    serve: Serve, site: Site, damage: Callable[[Path], None], size: int
) -> None:
    """The server may still have in memory what the file has not; if not, it says so and begins anew."""
    log = site.write / "app.log"
    write(log, *numbered("a line", size))
    server = serve(site.read / "app.log")
    client = server.json(tail=size)
    client.expect(numbered("a line", size))
    append(log, "unread by then")
    client.wait_last("unread by then")
    cursor = client.cursors()[-2][0]
    client.cut()
    damage(log)
    server.wait_seen("app.log", log)
    content = log.read_text().splitlines()
    back = server.json(cursor=cursor)
    if back.hello["recovered"]:
        new = content if damage is rewrite else []
        back.expect(["unread by then", *new], quiet_s=0.1)
        back.wait_event("truncated")
        server.client(cursor=cursor).expect(["unread by then", *new], quiet_s=0.1)
    else:
        assert back.hello["reason"]
        back.expect(content, quiet_s=0.1)
        server.json(cursor=cursor, tail=2).expect(content[-2:], quiet_s=0.1)
        plain = server.client(cursor=cursor)
        assert "cursor" in plain.wait_closed(4005)
        assert plain.lines == []


@pytest.mark.parametrize("damage", [shorten, rewrite, replace])
@pytest.mark.parametrize("size", [1, 50])
def test_j3_also_after_a_restart(serve: Serve, site: Site, damage: Callable[[Path], None], size: int) -> None:
    log = site.write / "app.log"
    write(log, *numbered("a line", size))
    first = serve(site.read / "app.log")
    client = first.json()
    client.wait_last(f"a line {size}")
    first.stop()
    damage(log)
    content = log.read_text().splitlines()
    second = serve(site.read / "app.log")
    # A last line without its newline is one of the last lines only once it was sent.
    second.json(tail=1).wait_last(content[-1])
    back = second.json(cursor=client.cursor, tail=2)
    assert back.hello["recovered"] is False
    back.expect(content[-2:], quiet_s=0.1)
    assert "cursor" in second.client(cursor=client.cursor).wait_closed(4005)


def test_j3_a_file_that_the_server_still_holds_is_told_to_its_end(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("a line", 50))
    server = serve(site.read / "app.log")
    client = server.json(tail=50)
    client.expect(numbered("a line", 50))
    append(log, "the last of the old file")
    client.wait_last("the last of the old file")
    before = client.cursors()[-2][0]
    replace(log)
    client.wait_last("another file 60")
    back = server.json(cursor=before)
    assert back.hello["recovered"] is not site.is_remote
    rest = [] if site.is_remote else ["the last of the old file"]
    back.expect([*rest, *numbered("another file", 60)], quiet_s=0.1)


def test_j4_a_foreign_cursor_never_brings_data_of_another_file(serve: Serve, site: Site) -> None:
    for name in ("one", "two"):
        write(site.write / f"{name}.log", *numbered(f"{name} line", 20))
    server = serve(site.read)
    mine = server.json(stream="one.log", tail=5)
    mine.expect(numbered("one line", 20)[-5:])
    back = server.json(stream="two.log", cursor=mine.cursor)
    assert back.hello["recovered"] is False
    assert "one.log" in back.hello["reason"]
    back.expect(numbered("two line", 20), quiet_s=0.1)
    plain = server.client(stream="two.log", cursor=mine.cursor)
    plain.wait_closed(4005)
    assert plain.lines == []
    server.stop()
    # Another file under the stream's name: not the name but the content decides.
    (site.write / "two.log").rename(site.write / "one.log")
    moved = serve(site.read).json(stream="one.log", tail=1, cursor=mine.cursor)
    assert moved.hello["recovered"] is False
    moved.expect(["two line 20"], quiet_s=0.1)


def test_j4_a_cursor_of_the_very_beginning(serve: Serve, site: Site) -> None:
    """It proves nothing by content: whatever is in the file since then is news."""
    log = site.write / "app.log"
    write(log)
    server = serve(site.read / "app.log")
    cursor = server.json().cursor
    append(log, *numbered("line", 3))
    back = server.json(cursor=cursor)
    back.expect(numbered("line", 3), quiet_s=0.1)


@also_tls
def test_j5_a_client_that_never_reads_harms_nobody_and_is_gone_in_time(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--ping-interval", "1", "--ping-timeout", "3")
    readers = [server.client() for _ in range(30)]
    stalled = [server.client(receive_buffer=4096) for _ in range(10)]
    wait_all_last([*readers, *stalled], "before")
    rss, descriptors = server.rss_bytes, server.descriptors
    lines = numbered("line", 600, width=20_000)
    for line in lines:  # each comes while ten clients are in the way
        append(log, line)
        readers[0].wait_last(line)
        pump_all(readers, 0)
    wait_all_last(readers, lines[-1])
    for client in readers:
        assert_exact(client.lines, ["before", *lines])
    assert server.rss_bytes - rss < 32 << 20
    wait_until(lambda: server.descriptors <= descriptors - len(stalled), "the stalled clients are cut off")


@pytest.mark.parametrize("form", ["text", "json"])
@two_modes_and_tls
def test_j5_a_client_that_stalls_for_a_while_gets_all_of_it_later(serve: Serve, site: Site, form: str) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--ring-bytes", "1MiB")
    client = server.client(format=form, receive_buffer=65536)
    client.expect(["before"])
    lines = numbered("line", 20_000, width=500)
    for begin in range(0, len(lines), 500):
        append(log, *lines[begin : begin + 500])
        client.pump()
    client.expect(["before", *lines])
    append(log, "after")
    client.expect(["before", *lines, "after"], quiet_s=0.1)


@two_modes_and_tls
def test_j5_who_chose_to_skip_is_told_how_much(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--ring-bytes", "1MiB")
    client = server.client(format="json", lag="skip", receive_buffer=4096)
    closer = server.client(lag="close", receive_buffer=4096)
    reader = server.client()
    for each in (client, closer, reader):
        each.expect(["before"])
    lines = numbered("line", 40_000, width=500)
    for begin in range(0, len(lines), 1000):
        append(log, *lines[begin : begin + 1000])
    reader.wait_lines(1 + len(lines))  # so the server has read it all, and holds far less in memory
    client.wait_message("gap")
    append(log, "the end")  # the client may still be behind: then a second gap has this line, too

    def gaps() -> list[dict[str, Any]]:
        return [m for m in client.messages if m["type"] == "gap"]

    def told_bytes() -> int:
        return len(as_bytes(client.lines)) + sum(gap["bytes"] for gap in gaps())

    client.wait(lambda: told_bytes() == log.stat().st_size, "every byte of the file, as a line or in a gap")
    append(log, "after")
    client.wait_last("after")  # whoever has been told all is live again
    written = ["before", *lines, "the end", "after"]
    lost = assert_never_twice(client.lines, written)
    assert {gap["reason"] for gap in gaps()} == {"slow"}
    assert sum(gap["bytes"] for gap in gaps()) == len(as_bytes(list(lost)))
    assert "slow" in closer.wait_closed(4001)
    assert_exact(closer.lines, written[: len(closer.lines)])


@two_modes_and_tls
def test_j7_all_clients_come_back_at_once(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "line 0")
    server = serve(site.read / "app.log")
    clients = [server.json() for _ in range(150)]
    lines = ["line 0"]
    for storm in range(3):
        more = numbered(f"storm {storm} line", 200)
        append(log, *more[:100])
        lines += more
        wait_all_last(clients, more[99])
        cursors = [client.cursor for client in clients]
        had = [client.lines for client in clients]
        for client in clients:
            client.cut()
        append(log, *more[100:])
        clients = [server.client(format="json", cursor=cursor) for cursor in cursors]
        wait_all_last(clients, more[199])
        for client, before in zip(clients, had, strict=True):
            assert client.hello["recovered"] is True
            client.lines[:0] = before
    for client in clients:
        assert_exact(client.lines, lines)


@also_tls
def test_j8_an_idle_client_is_kept_alive_and_a_dead_one_is_not(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--ping-interval", "0.5", "--ping-timeout", "3")
    alive = [server.client(), server.json(), server.raw()]
    dead = server.client()
    dead.expect(["before"])
    dead.answers_pings = False
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and dead.closed is None:
        pump_all([*alive, dead], 0.1)
    assert dead.closed is not None, "a client that answers nothing is still there"
    assert all(client.closed is None for client in alive)
    assert all(client.pings >= 2 for client in alive)
    append(log, "after")
    alive[0].expect(["before", "after"])


def client_frame(opcode: int, payload: bytes, *, masked: bool = True, fin: bool = True) -> bytes:
    """A frame as a client sends it (RFC 6455, 5.2), or should not."""
    first = opcode | (0x80 if fin else 0)
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack(">BB", first, bit | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", first, bit | 126, size)
    else:
        head = struct.pack(">BBQ", first, bit | 127, size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


GARBAGE = {
    "unmasked": (client_frame(1, b"hello", masked=False), 1002),
    "reserved opcode": (client_frame(3, b"x"), 1002),
    "reserved bit": (b"\xf1\x80\0\0\0\0", 1002),
    "too long": (client_frame(1, b"x" * (1 << 17)), 1009),
    "too long by its head": (struct.pack(">BBQ", 0x82, 0xFF, 1 << 40) + bytes(4), 1009),
    "too long in pieces": (client_frame(1, b"x" * 60_000, fin=False) + client_frame(0, b"x" * 60_000), 1009),
    "a long ping": (client_frame(9, b"x" * 126), 1002),
    "a ping in pieces": (client_frame(9, b"x", fin=False), 1002),
    "a continuation of nothing": (client_frame(0, b"x"), 1002),
    "no UTF-8": (client_frame(1, b"\xff\xfe"), 1007),
}


@pytest.mark.parametrize("form", ["text", "json"])
@also_tls
def test_j9_garbage_closes_the_one_who_sent_it_and_nobody_else(serve: Serve, site: Site, form: str) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    other = server.client()
    clients = {name: server.client(format=form) for name in GARBAGE}
    wait_all_last([*clients.values()], "before")
    for name, (garbage, _) in GARBAGE.items():
        clients[name].send_bytes(garbage)
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and not all(client.closed for client in clients.values()):
        pump_all(clients.values(), 0.2)
    for name, (_, code) in GARBAGE.items():
        closed = clients[name].closed
        assert closed is not None, name
        assert closed.code == code, (name, closed)
    append(log, "after")
    other.expect(["before", "after"])


@one_mode
def test_j9_messages_that_make_no_sense_are_answered(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    client = server.json()
    nonsense = ("", "{", "[]", "1", '{"type":"x"}', '{"type":"subscribe"}', '{"type":"subscribe","stream":"none"}')
    for message in nonsense:
        before = len(client.messages)
        client.send(message)
        assert client.wait_message("error", before)["reason"]
    client.send(b"binary")
    append(log, "after")
    client.expect(["before", "after"])
    plain = server.client()
    plain.send("whatever this is")
    plain.send(b"or that")
    plain.expect(["before", "after"], quiet_s=0.1)


@one_mode
def test_j9_ten_thousand_pings_are_not_a_full_time_job(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    other, pinger = server.client(), server.client()
    pinger.expect(["before"])
    other.expect(["before"])
    pinger.answers_pings = False
    cpu = server.cpu_s
    pinger.send_bytes(client_frame(9, b"") * 10_000)
    assert "many" in pinger.wait_closed(1008)
    assert pinger.pongs <= 10_000
    assert server.cpu_s - cpu < 2
    append(log, "after")
    other.expect(["before", "after"])


@one_mode
def test_j9_a_message_in_many_small_pieces(serve: Serve, site: Site) -> None:
    write(site.write / "app.log", "before")
    append_bytes(site.write / "other.log", b"other\n")
    client = serve(site.read).json(stream="app.log")
    message = b'{"type":"subscribe","stream":"other.log"}'
    frames = [client_frame(1 if i == 0 else 0, message[i : i + 1], fin=False) for i in range(len(message))]
    for byte in b"".join(frames) + client_frame(0, b""):
        client.send_bytes(bytes((byte,)))
    client.wait_message("subscribed", stream="other.log")
    client.wait(lambda: "other" in client.lines, "its line")


def test_j2_a_cursor_into_a_copy_that_copytruncate_left(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("a line of the old file", 50))
    server = serve(site.read / "app.log")
    client = server.json(tail=50)
    client.expect(numbered("a line of the old file", 50))
    cursor = client.cursor
    append(log, *numbered("rest", 20))
    client.expect(numbered("a line of the old file", 50) + numbered("rest", 20))
    copytruncate(log)
    append(log, *numbered("new", 20))
    client.wait_last("new 20")
    back = server.json(cursor=cursor)
    assert back.hello["recovered"] is True, back.hello["reason"]
    back.expect(numbered("rest", 20) + numbered("new", 20), quiet_s=0.1)
