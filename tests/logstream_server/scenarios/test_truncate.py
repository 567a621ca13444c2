"""E: the file is cut, emptied, or written anew under the reader, by copytruncate or by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .checker import assert_exact, assert_never_twice
from .conftest import Serve
from .harness import (
    Site,
    Writer,
    append,
    append_bytes,
    as_bytes,
    copytruncate,
    glance,
    numbered,
    run,
    write,
)
from .wire import Client

Via = Callable[[str], Path]


def test_e1_emptied_then_written_to_after_a_pause(serve: Serve, site: Site, via: Via) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 5))
    server = serve(via("app.log"))
    plain, json = server.client(), server.json()
    for client in (plain, json):
        client.expect(numbered("old", 5))
    os.truncate(log, 0)
    json.wait_event("truncated")
    append(log, "new 1")
    for client in (plain, json):
        client.expect([*numbered("old", 5), "new 1"])
    append(log, "new 2", "new 3")
    for client in (plain, json):
        client.expect([*numbered("old", 5), *numbered("new", 3)], quiet_s=0.1)
    assert "gap" not in json.events


def test_e1_written_to_at_once(serve: Serve, site: Site, via: Via) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 5))
    json = serve(via("app.log")).json()
    json.expect(numbered("old", 5))
    os.truncate(log, 0)
    append(log, "new 1")
    json.expect([*numbered("old", 5), "new 1"], quiet_s=0.1)
    assert json.events == ["truncated"]


def test_e2_a_writer_that_goes_on_at_its_old_offset_leaves_no_nul_to_see(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    with Writer(log, "wb") as writer:
        writer.write("old 1")
        server = serve(site.read / "app.log")
        plain, json = server.client(), server.json()
        for client in (plain, json):
            client.expect(["old 1"])
        copytruncate(log)
        writer.write("new 1")
        for client in (plain, json):
            client.expect(["old 1", "new 1"])
        writer.write("new 2")
        for client in (plain, json):
            client.expect(["old 1", "new 1", "new 2"], quiet_s=0.1)


def test_e2_a_hole_of_a_gigabyte_costs_next_to_nothing(serve: Serve, site: Site) -> None:
    size = 1 << (24 if site.is_remote else 30)  # a remote file system does not tell where its holes are
    log = site.write / "app.log"
    with Writer(log, "wb") as writer:
        os.truncate(log, size)
        writer.seek(size)
        writer.write("", "old 1")
        server = serve(site.read / "app.log")
        client = server.client(tail=1)
        client.expect(["old 1"])
        os.truncate(log, 0)
        glance()
        read, rss = server.read_bytes, server.rss_bytes
        writer.write("new 1")
        client.expect(["old 1", "new 1"])
        writer.write("new 2")
        client.expect(["old 1", "new 1", "new 2"], quiet_s=0.1)
        assert server.rss_bytes - rss < 24 << 20
        if not site.is_remote:
            assert server.read_bytes - read < 16 << 20
        late = server.client(tail=5)
        late.expect(["new 1", "new 2"], quiet_s=0.1)


def test_e3_emptied_and_grown_past_the_old_size_between_two_looks(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 100))
    json = serve(site.read / "app.log", "--poll-interval", "0.3").json(tail=100)
    json.expect(numbered("old", 100))
    write(log, *numbered("a line of the new content", 200))
    json.expect(numbered("old", 100) + numbered("a line of the new content", 200), quiet_s=0.7)
    assert json.events == ["truncated"]


def test_e3_grown_to_exactly_the_old_size(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 9))
    json = serve(site.read / "app.log", "--poll-interval", "0.3").json()
    json.expect(numbered("old", 9))
    write(log, *numbered("new", 9))
    json.expect(numbered("old", 9) + numbered("new", 9), quiet_s=0.7)
    assert json.events == ["truncated"]


def test_e5_ten_lines_then_written_anew_with_five(serve: Serve, site: Site) -> None:
    log = site.write / "f"
    write(log, *map(str, range(1, 11)))
    client = serve(site.read / "f").client()
    client.expect([str(number) for number in range(1, 11)])
    write(log, *map(str, range(11, 16)))
    client.expect([str(number) for number in range(1, 16)], quiet_s=0.2)


def test_e7_cut_in_the_middle_of_a_line_that_was_read(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "first line", "second line", "third line")
    server = serve(site.read / "app.log")
    plain, json = server.client(), server.json()
    for client in (plain, json):
        client.expect(["first line", "second line", "third line"])
    os.truncate(log, len("first line\nsecond"))
    event = json.wait_event("truncated")
    assert "17" in event["detail"]
    append(log, " half", "fourth line")
    plain.expect(["first line", "second line", "third line", " half", "fourth line"], quiet_s=0.1)
    assert json.wait_message("lines", continued=True)["lines"] == [" half"]


def test_e7_cut_at_the_edge_of_a_line(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "first line", "second line", "third line")
    json = serve(site.read / "app.log").json()
    json.expect(["first line", "second line", "third line"])
    os.truncate(log, len("first line\n"))
    json.wait_event("truncated")
    append(log, "fourth line")
    json.expect(["first line", "second line", "third line", "fourth line"], quiet_s=0.1)
    assert not [m for m in json.messages if m.get("continued")]


def test_e7_who_comes_after_a_cut_sees_what_is_left(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "first line", "second line", "third line")
    server = serve(site.read / "app.log")
    json = server.json()
    json.expect(["first line", "second line", "third line"])
    os.truncate(log, len("first line\nsecond"))
    json.wait_event("truncated")
    for client in (server.client(tail=10), server.json(tail=10), server.client(from_="start")):
        client.expect(["first line", "second"])
    assert server.rest("app.log", "lines", tail=10)["lines"] == ["first line", "second"]
    append(log, " half")
    json.wait_message("lines", continued=True)
    late = server.json(tail=3)
    late.wait_message("lines", continued=True)
    late.expect(["first line", "second half"], quiet_s=0.1)


def test_e9_a_client_that_was_blocked_is_told_what_it_lost(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    options = ("--ring-bytes", "64KiB", "--max-line-bytes", "4KiB", "--ping-timeout", "60")
    server = serve(site.read / "app.log", *options)
    plain = server.client(receive_buffer=4096)
    json = server.json(receive_buffer=4096)
    quick = server.json()
    for client in (plain, json, quick):
        client.expect(["before"])
    lines = numbered("old", 30_000, width=600)
    for begin in range(0, len(lines), 1000):
        append(log, *lines[begin : begin + 1000])
        quick.wait_lines(begin + 1001)
    write(log, "new 1")
    quick.wait_event("truncated")
    quick.expect(["before", *lines, "new 1"])
    json.wait_last("new 1")
    lost = assert_never_twice(json.lines, ["before", *lines, "new 1"])
    assert lost, "nothing was lost: the client was not blocked"
    assert json.events.count("gap") == 1
    gap = json.wait_message("gap")
    assert gap["bytes"] == len(as_bytes(list(lost)))
    assert "truncated" in gap["detail"]
    reason = plain.wait_closed(4005)
    assert "truncated" in reason
    assert_exact(plain.lines, ["before", *lines][: len(plain.lines)])


@pytest.mark.parametrize("rounds", [1, 3])
def test_e10_a_shell_loop_that_overwrites_every_tenth_time(serve: Serve, site: Site, rounds: int) -> None:
    log = site.write / "f"
    write(log, "0")
    json = serve(site.read / "f").json()
    json.expect(["0"])
    script = """
    i=%d; end=$((i + 100))
    while [ $i -lt $end ]; do
        if [ $((i %% 10)) = 0 ]; then echo $i >f; else echo $i >>f; fi
        i=$((i + 1))
    done"""
    for number in range(rounds):
        assert run("sh", "-c", script % (1 + number * 100), folder=site.write) is None
    last = 100 * rounds
    json.wait_last(str(last))
    written = [str(number) for number in range(last + 1)]
    lost = assert_never_twice(json.lines, written)
    assert set(json.events) <= {"truncated", "gap"}
    if lost:
        assert "truncated" in json.events
    append(log, "after")
    json.wait_last("after")


def test_e10_copies_that_were_truncated_away_are_read_from_the_copy(serve: Serve, site: Site) -> None:
    """The copy is made right after a burst: what was not read yet is in the copy."""
    log = site.write / "app.log"
    write(log, *numbered("read", 20))
    json = serve(site.read / "app.log", "--poll-interval", "0.3").json(tail=100)
    json.expect(numbered("read", 20))
    append(log, *numbered("unread", 20))
    copytruncate(log)
    append(log, *numbered("new", 20))
    json.expect(numbered("read", 20) + numbered("unread", 20) + numbered("new", 20), quiet_s=0.7)
    assert "gap" not in json.events


def test_e10_a_save_by_an_editor_tells_nothing_again(serve: Serve, site: Site) -> None:
    """The same content and one more line, in a new file that is renamed over the old one."""
    log = site.write / "app.log"
    lines = numbered("a line that was there", 50)
    write(log, *lines)
    client = serve(site.read / "app.log").client(tail=100)
    client.expect(lines)
    beside = site.write / ".app.log.swp"
    shutil.copyfile(log, beside)
    append(beside, "one more")
    beside.rename(log)
    client.expect([*lines, "one more"], quiet_s=0.2)
    append(log, "and another")
    client.expect([*lines, "one more", "and another"])


def test_e10_a_partial_line_and_a_truncation_keep_what_was_begun(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    client: Client = serve(site.read / "app.log", "--partial-after", "0").client()
    append_bytes(log, b"begun")
    client.expect(["before"], quiet_s=0.2)
    os.truncate(log, 0)
    glance()
    append(log, "new")
    client.expect(["before", "begun", "new"], quiet_s=0.1)
