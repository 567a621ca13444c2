"""D: the file is renamed and another takes its name, by logrotate or by hand, while writers go on."""

from __future__ import annotations

import gzip
import shutil
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

import pytest

from logstream_server.lines.cursor import parse_cursor

from .checker import assert_exact, assert_never_twice
from .conftest import Serve
from .harness import (
    Server,
    Site,
    Writer,
    append,
    append_bytes,
    as_bytes,
    copytruncate,
    numbered,
    replace_by_rename,
    rotate,
    seeded,
    wait_until,
    write,
)
from .wire import DEADLINE_S, Client

Via = Callable[[str], Path]


def test_d1_lines_written_to_both_files_after_a_rename_all_arrive(serve: Serve, site: Site, via: Via) -> None:
    log = site.write / "app.log"
    write(log, "before 1")
    client = serve(via("app.log")).client()
    client.expect(["before 1"])
    with Writer(log) as old:
        old.write("before 2")
        rotate(log)
        old.write("old 1", "old 2")
        append(log, "new 1")
        old.write("old 3")
        append(log, "new 2")
        client.expect(["before 1", "before 2", "old 1", "old 2", "old 3"], ["new 1", "new 2"])
        old.write("old 4")
        client.expect(["before 1", "before 2", *numbered("old", 4)], ["new 1", "new 2"], quiet_s=0.2)


def test_d1_a_json_client_is_told_of_the_rotation(serve: Serve, site: Site, via: Via) -> None:
    log = site.write / "app.log"
    write(log, *numbered("before", 3))
    client = serve(via("app.log")).json()
    client.expect(numbered("before", 3))
    rotate(log)
    append(log, "new 1")
    client.expect([*numbered("before", 3), "new 1"])
    # It depends on the moment whether the server sees the name without a file.
    assert client.events in (["rotated"], ["deleted", "appeared"])


def test_d2_two_rotations_in_a_row_with_all_writers_alive(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "first 0")
    client = serve(site.read / "app.log").client()
    client.expect(["first 0"])
    with Writer(log) as first:
        first.write("first 1")
        rotate(log)
        with Writer(log) as second:
            second.write("second 1")
            rotate(log)
            with Writer(log) as third:
                third.write("third 1")
                first.write("first 2")
                second.write("second 2")
                client.expect(numbered("first", 3, first=0), ["second 1", "second 2"], ["third 1"], quiet_s=0.2)


def test_d2_files_that_begin_alike_are_told_apart(serve: Serve, site: Site) -> None:
    """Most programs begin each log with the same lines; two rotations between two looks at them."""
    log = site.write / "app.log"
    write(log, "program started")
    server = serve(site.read / "app.log")
    client = server.client()
    client.wait_lines(1)
    for number in range(1, 4):
        with server.asleep():
            rotate(log)
            write(log, "program started", f"missed {number}")
            rotate(log)
            write(log, "program started")
        client.wait_lines(1 + 3 * number)
    append(log, "the end")
    client.wait_last("the end")
    expected = ["program started"]
    for number in range(1, 4):
        expected += ["program started", f"missed {number}", "program started"]
    assert client.lines == [*expected, "the end"]


def test_d2_the_inode_of_a_deleted_file_is_anothers(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    old = site.write / "app.log.1"
    write(old, "long ago")
    write(log, "before")
    server = serve(site.read / "app.log")
    client = server.client()
    client.expect(["before"])
    with server.asleep():
        inode = old.stat().st_ino
        old.unlink()
        rotate(log)
        for number in range(50):  # until one has got it
            write(log, "missed")
            if log.stat().st_ino == inode:
                break
            log.rename(site.write / f"other {number}")
        else:  # the file system gives it to nobody: then this is a file like any other
            write(log, "missed")
        rotate(log)
        write(log, "after")
    client.expect(["before", "missed", "after"], quiet_s=0.1)


def test_d2_a_rotation_and_no_new_file_yet(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    json = server.json()
    json.expect(["before"])
    with Writer(log) as writer:
        rotate(log)
        json.wait_event("deleted")
        writer.write("old 1")
        json.expect(["before", "old 1"])
    append(log, "new 1")
    json.expect(["before", "old 1", "new 1"], quiet_s=0.1)
    assert json.events == ["deleted", "appeared"]


def test_d14_copied_and_emptied_twice_between_two_looks(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("read", 3))
    server = serve(site.read / "app.log")
    client = server.client()
    client.expect(numbered("read", 3))
    with server.asleep():
        append(log, *numbered("first", 30))
        copytruncate(log, "app.log-1")
        append(log, *numbered("second", 30))
        copytruncate(log, "app.log-2")
        append(log, *numbered("third", 30))
    expected = numbered("read", 3) + numbered("first", 30) + numbered("second", 30) + numbered("third", 30)
    client.expect(expected, quiet_s=0.1)


def test_d14_a_copy_that_somebody_makes_is_no_news(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    lines = numbered("line", 100)
    write(log, *lines)
    client = serve(site.read / "app.log").client(tail=100)
    client.expect(lines)
    shutil.copyfile(log, site.write / "app.log.1")
    append(log, "after the copy")
    client.expect([*lines, "after the copy"], quiet_s=0.2)
    rotate(log)
    write(log, "new")
    client.expect([*lines, "after the copy", "new"], quiet_s=0.2)


def files_named(server: Server) -> int:
    """In a cursor of now, of which something may still come."""
    return sum(not mark.is_over for mark in parse_cursor(server.rest("app.log")["cursor"]).marks)


def test_d4_a_rotated_file_is_read_to_its_end_however_long_that_takes_and_then_let_go_of(
    serve: Serve, site: Site
) -> None:
    log = site.write / "app.log"
    write(log, "old 0")
    server = serve(site.read / "app.log", "--rotate-wait", "0.1")
    client = server.raw()
    client.expect_bytes(b"old 0\n")
    old_lines = ["old 0", *numbered("old", 60_000, width=500)]
    with Writer(log) as old:
        old.write_bytes(as_bytes(old_lines[1:]))
        rotate(log)
        append(log, "new 1")
        expected = as_bytes([*old_lines, "new 1"])
        client.expect_bytes(expected)
        wait_until(lambda: files_named(server) == 1, "the old file is let go of")
        old.write("too late")
        append(log, "new 2")
        client.expect_bytes(expected + b"new 2\n")
        client.quiet()


def test_d5_a_large_backlog_that_is_rotated_away_unread_arrives_whole(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "first")
    client = serve(site.read / "app.log").raw()
    client.expect_bytes(b"first\n")
    chunk = as_bytes(numbered("x", 1000, width=1000))
    with Writer(log) as old:
        for _ in range(150):
            old.write_bytes(chunk)
        rotate(log)
    append(log, "new 1")
    expected = b"first\n" + chunk * 150 + b"new 1\n"
    client.expect_bytes(expected, timeout_s=60)


def test_d6_the_begun_line_of_the_old_file_goes_out_before_the_new_file(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", "--partial-after", "0")
    plain, json = server.client(), server.json()
    json.expect(["before"])
    with Writer(log) as old:
        old.write_bytes(b"begun")
        plain.expect(["before"], quiet_s=0.2)
        rotate(log)
        append(log, "new 1")
        plain.expect(["before", "begun", "new 1"])
        old.write_bytes(b" and finished\n")
        plain.expect(["before", "begun", "new 1", " and finished"], quiet_s=0.2)
        json.wait_message("lines", lines=["begun"], partial=True)
        json.wait_message("lines", lines=[" and finished"], continued=True)


def test_d6_also_before_a_file_that_came_and_went_unseen(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    old = numbered("old", 30)
    write(log, *old)
    server = serve(site.read / "app.log")
    client = server.client(tail=100)
    client.expect(old)
    with server.asleep():
        append_bytes(log, b"begun")
        rotate(log)
        write(log, *numbered("between", 30))
        rotate(log)
        log.touch()
    client.expect([*old, "begun", *numbered("between", 30)], quiet_s=0.1)
    append(log, "new")
    client.expect([*old, "begun", *numbered("between", 30), "new"])


def test_d7_fifty_files_moved_over_the_name(serve: Serve, site: Site) -> None:
    log = site.write / "k"
    write(log, "line 0")
    client = serve(site.read / "k", "--poll-interval", "0.02").client()
    client.expect(["line 0"])
    for number in range(1, 51):
        replace_by_rename(log, f"line {number}")
        client.wait_lines(number + 1)
    client.expect(numbered("line", 51, first=0), quiet_s=0.2)


def test_d9_replaced_two_hundred_times_at_once_leaks_nothing(serve: Serve, site: Site) -> None:
    log = site.write / "f"
    write(log, "before")
    server = serve(site.read / "f")
    client = server.client()
    client.expect(["before"])
    descriptors, watches = server.descriptors, server.watches
    for number in range(200):
        beside = site.write / "g"
        write(beside, f"version {number}")
        beside.rename(log)
    client.wait_last("version 199")
    assert_never_twice(client.lines, ["before"], [f"version {number}" for number in range(200)])
    append(log, "after")
    client.wait_last("after")
    # What was replaced stays open until --rotate-wait has passed, and eight of them a minute for readers behind.
    wait_until(lambda: server.descriptors <= descriptors + 10, "the descriptors are given back")
    wait_until(lambda: server.watches <= watches + 2, "the watches are given back")


def test_d10_files_replaced_while_the_server_starts_are_followed_by_name(serve: Serve, site: Site) -> None:
    names = [f"{number:02}.log" for number in range(30)]
    for name in names:
        write(site.write / name, f"{name} version 0")
    done = threading.Event()
    versions = dict.fromkeys(names, 0)

    def replace_all() -> None:
        while not done.is_set():
            for name in names:
                versions[name] += 1
                replace_by_rename(site.write / name, f"{name} version {versions[name]}")
                time.sleep(0.0005)

    replacer = threading.Thread(target=replace_all)
    replacer.start()
    try:
        server = serve("--ignore", "new-*", site.read)
    finally:
        done.set()
        replacer.join()
    client = server.json(stream=names[0], tail=1)
    for name in names[1:]:
        client.subscribe(name, tail=1)

    def last_of(name: str) -> str | None:
        found = [m["lines"] for m in client.messages if m["type"] == "lines" and m["stream"] == name]
        return found[-1][-1] if found else None

    client.wait(lambda: all(last_of(n) == f"{n} version {versions[n]}" for n in names), "each file's last version")
    for name in names:
        append(site.write / name, f"{name} after")
    client.wait(lambda: all(last_of(n) == f"{n} after" for n in names), "each file's next line")


def test_d11_a_file_moved_out_of_the_glob_is_read_as_long_as_its_writer_writes(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    client = serve(f"{site.read}/*.log").client(stream="app.log")
    client.expect(["before"])
    with Writer(log) as writer:
        log.rename(site.write / "app.moved")
        writer.write("after 1")
        client.expect(["before", "after 1"])
        writer.write("after 2")
        client.expect(["before", "after 1", "after 2"], quiet_s=0.2)
        write(log, "new 1")
        client.expect(["before", "after 1", "after 2", "new 1"])


def test_d12_a_rename_within_the_glob_tells_no_line_again(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("old", 3))
    server = serve(f"{site.read}/app.log*")
    live = server.json(stream="app.log")
    live.expect(numbered("old", 3))
    rotate(log)
    append(log, "new 1")
    live.expect([*numbered("old", 3), "new 1"])
    server.wait_streams("app.log", "app.log.1")
    rotated = server.json(stream="app.log.1")
    rotated.expect(numbered("old", 3))
    append(log, "new 2")
    live.expect([*numbered("old", 3), "new 1", "new 2"], quiet_s=0.2)
    rotated.expect(numbered("old", 3), quiet_s=0.1)


def test_d14_a_rotated_file_that_is_compressed_later_is_not_told_again(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("first", 30))
    server = serve(f"{site.read}/*")
    client = server.json(stream="app.log", tail=100)
    client.expect(numbered("first", 30))
    rotate(log)
    append(log, *numbered("second", 30))
    client.expect(numbered("first", 30) + numbered("second", 30))
    server.wait_streams("app.log", "app.log.1")
    rotate(log)
    append(log, *numbered("third", 30))
    old = site.write / "app.log.2"
    with gzip.open(site.write / "app.log.2.gz", "wb") as packed:
        packed.write(old.read_bytes())
    old.unlink()
    client.expect(numbered("first", 30) + numbered("second", 30) + numbered("third", 30), quiet_s=1.2)
    assert "app.log.2.gz" not in [stream["name"] for stream in server.streams()]


# -- D15: random rotation, compared with what was written ----------------------------------------


def by_sequence(log: Path, number: int) -> None:
    """app.log.1, app.log.2, …, all kept."""
    del number
    rotate(log)


def by_date(log: Path, number: int) -> None:
    """A name for ever."""
    log.rename(log.with_name(f"{log.name}-20261123-{number:06}"))


def by_sequence_with_deletion(log: Path, number: int) -> None:
    """Only two are kept: some go before anybody has read them."""
    del number
    rotate(log, kept=2)


def by_copy(log: Path, number: int) -> None:
    """Copy and truncate, to dated names."""
    copytruncate(log, f"{log.name}-20261123-{number:06}")


def by_copy_with_deletion(log: Path, number: int) -> None:
    """Copy and truncate, over the one copy there is."""
    del number
    copytruncate(log)


def number_of(reader: Client) -> int:
    """Of the last whole line that it has."""
    numbers = (line[:8] for line in reversed(reader.lines))
    return next((int(number) for number in numbers if len(number) == 8 and number.isdecimal()), 0)


def write_and_rotate(log: Path, rotation: Callable[[Path, int], None], random: Random, reader: Client) -> list[str]:
    """Some seconds of a busy log that begins with "the first line"; its lines are numbered.

    However busy the machine, at most two rotations are ahead of what the reader has.
    """
    written = ["the first line"]
    rotations = count(1)
    rotated: list[int] = [0, 0]
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        first = len(written)
        lines = [f"{first + i:08} {'.' * random.randrange(120)}" for i in range(random.randrange(1, 60))]
        append(log, *lines)
        written += lines
        if random.random() < 0.15:
            reader.wait(lambda: number_of(reader) >= rotated[-2], "the lines before the last rotations")
            rotation(log, next(rotations))
            rotated.append(first)
        time.sleep(random.choice((0, 0, 0.001, 0.01, 0.03)))
    append(log, "the last line")
    return [*written, "the last line"]


@pytest.mark.parametrize("rotation", [by_sequence, by_date])
def test_d15_random_rotation_without_deletion_loses_nothing(
    serve: Serve, site: Site, rotation: Callable[[Path, int], None]
) -> None:
    log = site.write / "app.log"
    write(log, "the first line")
    server = serve(site.read / "app.log")
    plain, json = server.client(), server.json()
    plain.expect(["the first line"])
    written = write_and_rotate(log, rotation, seeded(15), json)
    json.wait_last("the last line")
    assert_exact(json.lines, written)
    assert "gap" not in json.events
    plain.expect(written)


@pytest.mark.parametrize("rotation", [by_sequence_with_deletion, by_copy, by_copy_with_deletion])
def test_d15_random_rotation_with_deletion_repeats_nothing_and_says_so(
    serve: Serve, site: Site, rotation: Callable[[Path, int], None]
) -> None:
    log = site.write / "app.log"
    write(log, "the first line")
    json = serve(site.read / "app.log").json()
    written = write_and_rotate(log, rotation, seeded(16), json)
    json.wait_last("the last line")
    whole = set(written)
    missing = whole - set(json.lines)
    # A file that is gone before its last line was read to its end: what was read of that goes out.
    begun = {line for line in json.lines if line not in whole and any(w.startswith(line) for w in missing)}
    lost = assert_never_twice([line for line in json.lines if line not in begun], written)
    if lost:
        assert {"gap", "truncated", "rotated", "appeared"} & set(json.events), "lost, and nothing was said"


def test_d16_many_rotations_cost_no_second_reading(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "first")
    # No client can be so far behind that it reads the files for itself.
    server = serve(site.read / "app.log", "--ring-bytes", "256MiB")
    client = server.raw()
    client.expect_bytes(b"first\n")
    before = server.read_bytes
    rotations = 200 if site.is_remote else 1000
    expected = bytearray(client.data)
    for number in range(rotations):
        data = as_bytes(numbered(f"file {number} line", 50, width=2000))
        with Writer(log) as writer:
            writer.write_bytes(data)
        expected += data
        log.rename(log.with_name(f"app.log.{number:06}"))
        log.touch()
        if number >= 20:
            log.with_name(f"app.log.{number - 20:06}").unlink()
        ahead = 1 if site.is_remote else 10  # files: not so many that they go unread
        while len(client.data) < len(expected) - ahead * len(data):
            assert client.pump(DEADLINE_S), str(client)
    append(log, "the end")
    expected += b"the end\n"
    client.expect_bytes(expected)
    # Each rotation is a look at the table of mounts, which may be long, and a hundred at the first bytes of files.
    # A file has 98 KiB.
    other = rotations * (64 << 10)
    assert server.read_bytes - before <= len(expected) * 1.1 + other
