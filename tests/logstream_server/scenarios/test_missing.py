"""F: files that are not there yet or no more, that may not be read, that are no files, or whose file system is gone."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from .checker import assert_never_twice
from .conftest import Serve
from .faulty import FaultyFiles
from .harness import (
    Mount,
    Site,
    Writer,
    append,
    append_bytes,
    as_bytes,
    glance,
    mounted,
    numbered,
    one_mode,
    wait_until,
    why_no_mount,
    write,
)


def test_f1_a_file_that_does_not_exist_yet(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    server = serve(site.read / "app.log")
    assert server.state("app.log")["state"] == "waiting"
    plain, json = server.client(), server.json()
    plain.quiet(0.2)
    assert server.rest("app.log", "lines", tail=5)["lines"] == []
    write(log, *numbered("line", 20))
    json.wait_event("appeared")
    for client in (plain, json):
        client.expect(numbered("line", 20), quiet_s=0.1)
    assert server.state("app.log")["state"] == "following"


@pytest.mark.parametrize("was", ["missing", "no file"])
def test_f1_what_was_rotated_away_before_a_file_is_there_is_no_news(serve: Serve, site: Site, was: str) -> None:
    """As when the server starts in the middle of a rotation."""
    log = site.write / "app.log"
    for number in (1, 2):
        write(log.with_name(f"app.log.{number}"), *numbered(f"old {number}", 20))
    if was == "no file":
        os.mkfifo(log)
    json = serve(site.read / "app.log").json(tail=0)
    json.quiet(0.2)
    if was == "no file":
        log.unlink()
    write(log, "new 1")
    json.expect(["new 1"], quiet_s=0.1)
    log.rename(log.with_name("app.log.0"))  # what is rotated away from now on is
    append(log.with_name("app.log.0"), "late")
    write(log, "new 2")
    json.expect(["new 1", "late", "new 2"], quiet_s=0.1)


def test_f1_a_folder_that_does_not_exist_yet(serve: Serve, site: Site) -> None:
    log = site.write / "some" / "where" / "app.log"
    client = serve(site.read / "some" / "where" / "app.log").client()
    client.quiet(0.2)
    log.parent.mkdir(parents=True)
    client.quiet(0.1)
    write(log, "line 1")
    client.expect(["line 1"])
    append(log, "line 2")
    client.expect(["line 1", "line 2"])


def test_f1_a_folder_of_logs_that_does_not_exist_yet(serve: Serve, site: Site) -> None:
    server = serve(f"{site.read / 'later'}/")
    assert server.streams() == []
    (site.write / "later").mkdir()
    write(site.write / "later" / "app.log", "line 1")
    server.wait_streams("app.log")
    client = server.client(from_="start")
    client.expect(["line 1"])


def test_f1_a_folder_that_goes_and_comes_back(serve: Serve, site: Site) -> None:
    folder = site.write / "folder"
    folder.mkdir()
    write(folder / "app.log", "before")
    client = serve(site.read / "folder" / "app.log").client()
    client.expect(["before"])
    shutil.rmtree(folder)
    glance()
    folder.mkdir()
    glance()
    write(folder / "app.log", "after 1")
    client.expect(["before", "after 1"])
    append(folder / "app.log", "after 2")
    client.expect(["before", "after 1", "after 2"], quiet_s=0.1)


@pytest.mark.parametrize("lines", [1, 200])
def test_f2_deleted_and_made_again(serve: Serve, site: Site, lines: int) -> None:
    log = site.write / "app.log"
    expected = numbered("round 0 line", lines)
    write(log, *expected)
    json = serve(site.read / "app.log").json(tail=lines)
    json.expect(expected)
    for number in range(1, 4):
        before = len(json.messages)
        log.unlink()
        json.wait_event("deleted", before)
        new = numbered(f"round {number} line", lines)
        write(log, *new)  # the same inode, as like as not
        expected += new
        json.wait_event("appeared", before)
        json.expect(expected, quiet_s=0.1)
    assert "gap" not in json.events


def test_f2_deleted_and_made_again_at_once(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    expected = numbered("round 0 line", 20)
    write(log, *expected)
    client = serve(site.read / "app.log").client(tail=20)
    client.expect(expected)
    for number in range(1, 6):
        log.unlink()
        new = numbered(f"round {number} line", 20)
        write(log, *new)
        expected += new
        client.expect(expected)
    client.quiet(0.1)


def test_f3_what_is_written_after_the_deletion_still_arrives(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    json = serve(site.read / "app.log").json()
    json.expect(["before"])
    with Writer(log) as writer:
        log.unlink()
        writer.write("after 1")
        json.wait_event("deleted")
        if site.is_remote:  # who opens files by name cannot read one that has none; the event has said so
            json.expect(["before"], quiet_s=0.2)
        else:
            json.expect(["before", "after 1"])
            writer.write("after 2")
            json.expect(["before", "after 1", "after 2"], quiet_s=0.1)
        write(log, "new 1")
        json.wait_last("new 1")
    assert not assert_never_twice(json.lines, ["before", "after 1", "after 2", "new 1"]) or site.is_remote


def as_somebody_else() -> list[str]:
    """What makes a server forbidden to read what it may not: for root that takes two capabilities away."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (apt-get install util-linux), to take the right to read everything from root")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]


def test_f5_a_file_that_may_not_be_read_for_a_while(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    log.chmod(0)
    server = serve(site.read / "app.log", prefix=as_somebody_else())
    json = server.json()
    state = server.wait_state("app.log", "unreadable")
    assert "denied" in state["detail"].lower()
    log.chmod(0o644)
    json.expect(["before"])  # it asked for the last lines, and gets them as soon as they can be read
    server.client().expect(["before"])
    append(log, "after 1")
    json.expect(["before", "after 1"])
    said = len(json.messages)
    log.chmod(0)
    if site.is_remote:  # opened for each look
        json.wait_event("unreadable", said)
        log.chmod(0o644)
        json.wait_event("appeared", said)
        append(log, "after 2")
    else:
        os.chmod(log, 0o200)
        append(log, "after 2")
    json.expect(["before", "after 1", "after 2"], quiet_s=0.1)


def test_f6_the_name_becomes_a_folder_and_then_a_file_again(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    json = server.json()
    json.expect(["before"])
    log.unlink()
    log.mkdir()
    json.wait_event("unreadable")  # a FUSE mount says EIO at first, until it has noticed
    assert "folder" in server.wait_state("app.log", "refused")["detail"]
    log.rmdir()
    write(log, "after")
    json.expect(["before", "after"], quiet_s=0.1)
    assert server.state("app.log")["state"] == "following"


def test_f6_a_name_that_is_a_folder_at_first(serve: Serve, site: Site) -> None:
    """Named with its file in it, so that it is not taken for a folder of logs."""
    log = site.write / "app.log"
    server = serve(site.read / "app.log")
    json = server.json()
    log.mkdir()
    json.wait_event("unreadable")
    log.rmdir()
    write(log, "after")
    json.expect(["after"], quiet_s=0.1)


def test_f7_what_is_no_file_is_refused_and_blocks_nobody(serve: Serve, site: Site) -> None:
    write(site.write / "app.log", "before")
    os.mkfifo(site.write / "fifo.log")
    sock = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(site.write)
    try:
        sock.bind("socket.log")
    finally:
        os.chdir(here)
    server = serve(f"{site.read}/*.log", site.read / "fifo.log", "/dev/zero")
    client = server.client(stream="app.log")
    client.expect(["before"])
    states = {stream["name"]: (stream["state"], stream["detail"]) for stream in server.streams()}
    assert states["app.log"][0] == "following"
    for name, word in (("fifo.log", "FIFO"), ("socket.log", "socket"), ("zero", "device")):
        assert states[name][0] == "refused", states
        assert word in states[name][1]
    assert server.json(stream="zero").lines == []
    append(site.write / "app.log", "after")
    client.expect(["before", "after"])
    sock.close()


needs_mount = pytest.mark.skipif(bool(why_no_mount()), reason=why_no_mount() or "")


@needs_mount
@one_mode
def test_f8_a_file_system_that_dies_and_is_mounted_again(serve: Serve, site: Site, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    log = source / "app.log"
    write(log, *numbered("before", 50))
    write(site.write / "other.log", "other before")
    mount = Mount(source, target)
    try:
        server = serve(target / "app.log", site.read / "other.log")
        json, other = server.json(tail=50), server.client(stream="other.log")
        json.expect(numbered("before", 50))
        mount.die()
        json.wait_event("unreadable")
        append(log, "meanwhile")
        append(site.write / "other.log", "other after")
        other.expect(["other before", "other after"])
        mount.unmount()
        mount = Mount(source, target)
        json.expect([*numbered("before", 50), "meanwhile"])
        append(log, "after")
        json.expect([*numbered("before", 50), "meanwhile", "after"], quiet_s=0.1)
        assert "gap" not in json.events
    finally:
        mount.unmount()


@needs_mount
@one_mode
@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO], ids=errno.errorcode.get)
def test_f8_a_file_system_whose_server_has_lost_the_file_for_a_while(
    serve: Serve, site: Site, tmp_path: Path, error: int
) -> None:
    with FaultyFiles(tmp_path / "target", "app.log").mounted() as files:
        lines = numbered("before", 50)
        files.append(as_bytes(lines))
        server = serve(files.path, "--watch", "auto")
        json, plain = server.json(tail=50), server.client(tail=50)
        for each in (json, plain):
            each.expect(lines)
        cursor = json.cursor
        for number in range(1, 4):
            before = len(json.messages)
            files.error = error
            assert json.wait_event("unreadable", before)["detail"] == os.strerror(error)
            assert server.state("app.log")["state"] == "unreadable"
            files.append(as_bytes([f"meanwhile {number}"]))
            lines.append(f"meanwhile {number}")
            back = server.json(cursor=cursor)  # nothing is proven now, and nothing disproven
            files.error = 0
            json.wait_event("appeared", before)
            for each in (json, plain):
                each.expect(lines)
            back.expect(lines[50:], quiet_s=0.1)
            assert any(message.get("recovered") for message in back.messages)  # of the greeting, or after it
        assert "gap" not in json.events
    del site


@needs_mount
@one_mode
def test_f8_a_file_system_that_is_unmounted_shows_nothing_of_what_is_below(
    serve: Serve, site: Site, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    log = source / "app.log"
    write(log, *numbered("before", 50))
    mount = Mount(source, target)
    try:
        json = serve(target / "app.log").json(tail=50)
        json.expect(numbered("before", 50))
        mount.unmount()
        json.wait_event("deleted")
        append(log, "meanwhile")
        mount = Mount(source, target)
        json.expect([*numbered("before", 50), "meanwhile"], quiet_s=0.1)
    finally:
        mount.unmount()
    del site


@needs_mount
@one_mode
def test_f8_a_file_system_that_hangs_blocks_nobody_else(serve: Serve, site: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    log = source / "app.log"
    write(log, "before")
    write(site.write / "other.log", "other 0")
    with mounted(source, tmp_path / "target") as mount:
        server = serve(mount.target / "app.log", site.read / "other.log")
        json, other = server.json(), server.client(stream="other.log")
        json.expect(["before"])
        other.expect(["other 0"])
        mount.hang()
        append(log, "meanwhile")
        for number in range(1, 20):
            append(site.write / "other.log", f"other {number}")
            other.wait_last(f"other {number}")
        assert "no answer" in json.wait_event("unreadable")["detail"]
        assert server.state("app.log")["state"] == "hung"
        late = server.json(tail=5)
        assert late.hello["stream"] == "app.log"
        mount.go_on()
        json.wait_event("appeared")
        json.expect(["before", "meanwhile"])
        append(log, "after")
        json.expect(["before", "meanwhile", "after"], quiet_s=0.1)
        late.wait_last("after")
        wait_until(lambda: server.state("app.log")["state"] == "following", "it is followed again")


@needs_mount
@one_mode
def test_f8_a_server_that_starts_on_a_file_system_that_hangs(serve: Serve, site: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    log = source / "app.log"
    write(log, "before")
    write(site.write / "other.log", "other before")
    with mounted(source, tmp_path / "target") as mount:
        mount.hang()
        server = serve(site.read / "other.log", mount.target / "app.log")
        client = server.client()
        client.expect(["other before"])
        mount.go_on()
        server.wait_state("app.log", "following")
        json = server.json(stream="app.log", tail=5)
        json.expect(["before"])
        append(log, "after")
        json.expect(["before", "after"])


@needs_mount
@one_mode
def test_f8_a_file_system_with_a_memory_of_a_second(serve: Serve, site: Site, tmp_path: Path) -> None:
    """Sizes and names that it shows may be a second old, as on NFS: late is allowed, lost or twice is not."""
    source = tmp_path / "source"
    source.mkdir()
    log = source / "app.log"
    expected = numbered("before", 50)
    write(log, *expected)
    with mounted(source, tmp_path / "target", fresh=False) as mount:
        json = serve(mount.target / "app.log").json(tail=100)
        json.expect(expected)
        for number in range(3):
            for part in range(4):
                lines = numbered(f"round {number} part {part} line", 30)
                append(log, *lines)
                expected += lines
                time.sleep(0.05)
            log.rename(log.with_name(f"app.log.{3 - number}"))
            write(log)
        append(log, "the last line")
        json.expect([*expected, "the last line"])
    del site


def test_f2_the_begun_line_of_a_deleted_file_goes_out_before_the_next(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    client = serve(site.read / "app.log", "--partial-after", "0").client()
    append_bytes(log, b"begun")
    client.expect(["before"], quiet_s=0.2)
    log.unlink()
    glance()
    write(log, "new")
    client.expect(["before", "begun", "new"], quiet_s=0.1)
