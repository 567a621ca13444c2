"""H: many files: globs and folders whose files come and go, flood each other, or are hundreds."""

from __future__ import annotations

import os
import shutil
import time
from urllib.parse import quote

import pytest

from .checker import assert_exact
from .conftest import Serve
from .harness import Server, Site, append, as_bytes, copytruncate, numbered, one_mode, rotate, wait_until, write
from .wire import Client

SOCKET_STREAMS = 60
"""Streams that one client of these tests looks at: a few less than a socket may have."""


class Watchers:
    """JSON clients that look at many streams between them, each at its share, and know which line was whose."""

    def __init__(self, server: Server, names: list[str], **begin: object) -> None:
        self.names = names
        self._clients: list[Client] = []
        for at in range(0, len(names), SOCKET_STREAMS):
            client = server.json(stream="")
            for name in names[at : at + SOCKET_STREAMS]:
                client.subscribe(name, **{key.rstrip("_"): value for key, value in begin.items()})
            self._clients.append(client)

    def lines(self) -> dict[str, list[str]]:
        """What came of each stream so far."""
        found: dict[str, list[str]] = {name: [] for name in self.names}
        for client in self._clients:
            for message in client.messages:
                if message["type"] == "lines":
                    found[message["stream"]] += message["lines"]
        return found

    def expect(self, written: dict[str, list[str]]) -> None:
        """Wait for all of it: of each stream its lines, once, in order, and nothing else."""
        count = sum(map(len, written.values()))

        def all_came() -> bool:
            for client in self._clients:
                while client.pump():
                    pass
            return sum(len(client.lines) for client in self._clients) >= count

        wait_until(all_came, f"{count} lines")
        for name, lines in self.lines().items():
            assert_exact(lines, written[name])

    def events(self) -> set[str]:
        """The kinds of events that came of any."""
        return {event for client in self._clients for event in client.events}


def names_of(server: Server) -> list[str]:
    """Of its streams, in its order."""
    return [stream["name"] for stream in server.streams()]


# -- H1: files that appear, and go ---------------------------------------------------------------


def test_h1_a_file_that_appears_in_a_glob_is_told_from_its_first_line(serve: Serve, site: Site) -> None:
    write(site.write / "old.log", "old 1")
    server = serve(f"{site.read}/*.log")
    assert names_of(server) == ["old.log"]
    write(site.write / "new.log", *numbered("new", 50))
    write(site.write / "new.txt", "not in the glob")
    server.wait_streams("new.log", "old.log")
    wait_until(lambda: server.state("new.log")["size"] is not None, "it is followed")
    # The ring holds its lines, so they can be had by those who come later, from the first on or only the last.
    client, late = server.client(stream="new.log", from_="start"), server.client(stream="new.log", tail=3)
    client.expect(numbered("new", 50))
    late.expect(numbered("new", 50)[-3:])
    append(site.write / "new.log", "new 51")
    client.expect(numbered("new", 51))
    late.expect(numbered("new", 51)[-4:])
    assert server.client(stream="old.log", from_="start").lines in ([], ["old 1"])


def test_h1_a_file_that_is_made_empty_and_written_to_later(serve: Serve, site: Site) -> None:
    server = serve(f"{site.read}/*.log")
    assert names_of(server) == []
    write(site.write / "app.log")
    server.wait_streams("app.log")
    client = server.client()
    client.quiet(0.1)
    append(site.write / "app.log", "line 1")
    client.expect(["line 1"])


def test_h1_folders_within_folders_that_come_later(serve: Serve, site: Site) -> None:
    server = serve(site.read)
    deep = site.write / "a" / "b" / "c"
    deep.mkdir(parents=True)
    write(deep / "app.log", "deep 1")
    write(site.write / "a" / "app.log", "shallow 1")
    server.wait_streams("a~app.log", "a~b~c~app.log")
    watchers = Watchers(server, ["a~app.log", "a~b~c~app.log"], from_="start")
    append(deep / "app.log", "deep 2")
    watchers.expect({"a~app.log": ["shallow 1"], "a~b~c~app.log": ["deep 1", "deep 2"]})
    # A whole tree is renamed: its files are others from now on, with their own names.
    (site.write / "a").rename(site.write / "z")
    wait_until(lambda: {"z~app.log", "z~b~c~app.log"} <= set(names_of(server)), "they have new names")
    append(site.write / "z" / "b" / "c" / "app.log", "deep 3")
    moved = server.client(stream="z~b~c~app.log", tail=1)
    moved.wait_last("deep 3")


def test_h1_a_file_that_goes_and_comes_again_is_the_same_stream(serve: Serve, site: Site) -> None:
    for name in ("one.log", "two.log"):
        write(site.write / name, f"{name} before")
    server = serve(site.read)
    one, two = server.json(stream="one.log"), server.json(stream="two.log")
    one.expect(["one.log before"])
    two.expect(["two.log before"])
    (site.write / "one.log").unlink()
    one.wait_event("deleted")
    append(site.write / "two.log", "two.log meanwhile")
    two.expect(["two.log before", "two.log meanwhile"])
    write(site.write / "one.log", "one.log after")
    one.wait_event("appeared")
    one.expect(["one.log before", "one.log after"], quiet_s=0.1)
    assert names_of(server) == ["one.log", "two.log"]


def test_h1_a_stream_that_nobody_looks_at_goes_with_its_file(serve: Serve, site: Site) -> None:
    """By name at once; a file that is held open may be written to without a name, and is forgotten after a minute."""
    for name in ("one.log", "two.log"):
        write(site.write / name, f"{name} before")
    server = serve(site.read)
    (site.write / "one.log").unlink()
    if site.is_remote:
        server.wait_streams("two.log")
    else:
        server.wait_state("one.log", "waiting")
    write(site.write / "one.log", "one.log after")
    server.wait_streams("one.log", "two.log")
    client = server.client(stream="one.log", from_="start")
    client.wait_last("one.log after")


def test_h1_a_named_file_is_waited_for_whatever_becomes_of_the_globs_beside_it(serve: Serve, site: Site) -> None:
    """All below one root, as in a pod."""
    write(site.write / "here.log", "here 1")
    server = serve("--root", site.read, site.read / "later.txt", f"{site.read}/*.log", f"{site.read}/*.out")
    write(site.write / "there.out", "there 1")
    server.wait_streams("later.txt", "here.log", "there.out")
    (site.write / "there.out").unlink()
    write(site.write / "there.log", "another 1")
    wait_until(lambda: "there.log" in names_of(server), "the next look at the folder")
    assert "later.txt" in names_of(server)
    write(site.write / "later.txt", "later 1")
    server.client(stream="later.txt", from_="start").expect(["later 1"])


# -- H2: what is left out ------------------------------------------------------------------------


def test_h2_what_is_to_be_ignored_is_left_out_however_its_path_is_written(serve: Serve, site: Site) -> None:
    for name in ("app.log", "app.log.bak", "debug.log", "old/app.log", "sub/app.log", "sub/noise.log"):
        (site.write / name).parent.mkdir(exist_ok=True)
        write(site.write / name, f"{name} 1")
    ignored = ("*.bak", "old/**", f"{site.read}//debug.log", f"{site.read}/sub//noise.log")
    options = [word for pattern in ignored for word in ("--ignore", pattern)]
    server = serve(f"{site.read}//", *options)
    assert names_of(server) == ["app.log", "sub~app.log"]
    write(site.write / "later.bak", "1")
    write(site.write / "old" / "later.log", "1")
    write(site.write / "later.log", "1")
    server.wait_streams("app.log", "later.log", "sub~app.log")


# -- H3: fairness --------------------------------------------------------------------------------


def test_h3_a_file_that_is_flooded_starves_none_of_the_others(serve: Serve, site: Site) -> None:
    """Both on one socket: the quiet file's line must not wait until the flood has been read."""
    for name in ("flood.log", "quiet.log"):
        write(site.write / name, f"{name} before")
    server = serve(site.read)
    client = server.json(stream="flood.log")
    client.subscribe("quiet.log", tail=1)
    client.wait_lines(2)
    flood = numbered("flood", 3000, width=10_000)
    with server.asleep():
        append(site.write / "flood.log", *flood)
        append(site.write / "quiet.log", "one line")
    client.wait_lines(2 + len(flood) + 1)
    of_flood = [line for m in client.messages if m.get("stream") == "flood.log" for line in m.get("lines", ())]
    assert_exact(of_flood, ["flood.log before", *flood])
    assert "one line" in client.lines[: -len(flood) // 2], "it came behind the flood"


# -- H5: hundreds --------------------------------------------------------------------------------


def test_h5_eleven_hundred_files_at_rest_cost_next_to_nothing(serve: Serve, site: Site) -> None:
    for number in range(1100):
        write(site.write / f"{number:04}.log", *numbered("line", 100))
    server = serve("--poll-interval", "1", site.read)
    wait_until(lambda: len(names_of(server)) == 1000, "as many as a greeting lists")
    wait_until(lambda: all(s["state"] == "following" for s in server.streams()), "each was looked at")
    cpu, began = server.cpu_s, time.monotonic()
    client = server.client(stream="1099.log", tail=0)
    client.quiet(3.0)
    assert (server.cpu_s - cpu) / (time.monotonic() - began) < 0.3
    append(site.write / "1099.log", "after")
    client.expect(["after"])


def test_h5_hundreds_of_files_that_are_written_to_rotated_and_emptied_at_once(serve: Serve, site: Site) -> None:
    names = [f"{number:03}.log" for number in range(200)]
    written = {name: [f"{name} line 0"] for name in names}
    for name in names:
        write(site.write / name, *written[name])
    server = serve(f"{site.read}/*.log", "--rotate-wait", "2")
    descriptors, watches = server.descriptors, server.watches
    watchers = Watchers(server, names, tail=1)
    watchers.expect(written)

    def append_to_all(word: str, count: int) -> None:
        for name in names:
            lines = numbered(f"{name} {word}", count)
            append(site.write / name, *lines)
            written[name] += lines

    for turn in range(3):
        append_to_all(f"turn {turn} line", 5)
    watchers.expect(written)
    with server.asleep():
        append_to_all("unread", 5)
        for number, name in enumerate(names):
            if number % 2:
                rotate(site.write / name)
            else:
                copytruncate(site.write / name)
        append_to_all("after", 5)
    watchers.expect(written)
    assert "gap" not in watchers.events()
    wait_until(lambda: server.watches <= watches + 2, "the watches are given back")
    # Each keeps its rotated file open for a minute, for readers behind.
    assert server.descriptors <= descriptors + 2 * len(names)


@one_mode
def test_h5_files_that_come_and_go_by_the_hundred_leave_nothing_behind(serve: Serve, site: Site) -> None:
    write(site.write / "stays.log", "before")
    server = serve(f"{site.read}/*.log")
    client = server.client(stream="stays.log")
    for turn in range(3):
        for number in range(100):
            write(site.write / f"turn-{turn}-{number}.log", "1")
        wait_until(lambda turn=turn: f"turn-{turn}-99.log" in names_of(server), "they are found")  # type: ignore[misc]
        for number in range(100):
            (site.write / f"turn-{turn}-{number}.log").unlink()
    append(site.write / "stays.log", "after")
    client.expect(["before", "after"])


# -- H6: names -----------------------------------------------------------------------------------

NAMES = {
    b"a space.log": "a space.log",
    b"new\nline.log": "new\nline.log",
    b"per%cent&?#.log": "per%cent&?#.log",
    "Wörter….log".encode(): "Wörter….log",
    b"latin-\xe4.log": "latin-\\xe4.log",
    b"-dash.log": "-dash.log",
    b"'quote\".log": "'quote\".log",
    b"[1]{a,b}*.log": "[1]{a,b}*.log",
}


def test_h6_any_name_that_a_file_can_have(serve: Serve, site: Site) -> None:
    for raw, name in NAMES.items():
        with open(os.path.join(os.fsencode(site.write), raw), "wb") as file:
            file.write(as_bytes([f"{name!r} 1"]))
    server = serve(site.read)
    assert sorted(names_of(server)) == sorted(NAMES.values())
    for raw, name in NAMES.items():
        client = server.client(stream=name)
        client.expect([f"{name!r} 1"])
        with open(os.path.join(os.fsencode(site.write), raw), "ab") as file:
            file.write(as_bytes([f"{name!r} 2"]))
        client.expect([f"{name!r} 1", f"{name!r} 2"])
        assert server.rest(name, "lines", tail=1)["lines"] == [f"{name!r} 2"]
        assert server.get(f"/api/v1/streams/{quote(name, safe='')}")[0] == 200


def test_h6_a_file_with_such_a_name_on_the_command_line(serve: Serve, site: Site) -> None:
    """Named as it is, even where it looks like a glob; it is rotated, too."""
    log = site.write / "[1]{a,b} *.log"
    write(log, "before")
    write(site.write / "1a x.log", "another")
    server = serve(site.read / log.name)
    assert names_of(server) == [log.name]
    client = server.client()
    client.expect(["before"])
    rotate(log)
    write(log, "after")
    client.expect(["before", "after"], quiet_s=0.1)


# -- H7: globs -----------------------------------------------------------------------------------

TREE = ("a.log", "b.log", "A.LOG", "c.txt", ".hidden.log", "sub/d.log", "sub/deep/e.log", "sub/deep/f.txt", "g.log.gz")
GLOBS = {
    "*.log": ["a.log", "b.log", ".hidden.log"],
    "*.LOG": ["A.LOG"],
    "{a,c}.{log,txt}": ["a.log", "c.txt"],
    "**/*.log": ["a.log", "b.log", ".hidden.log", "sub~d.log", "sub~deep~e.log"],
    "sub/**": ["d.log", "deep~e.log", "deep~f.txt"],
    "s?b/*/[e-f].*": ["sub~deep~e.log", "sub~deep~f.txt"],
    "": ["a.log", "b.log", "A.LOG", "c.txt", ".hidden.log", "sub~d.log", "sub~deep~e.log", "sub~deep~f.txt"],
}


@pytest.mark.parametrize("pattern", GLOBS)
@one_mode
def test_h7_what_a_glob_means(serve: Serve, site: Site, pattern: str) -> None:
    for name in TREE:
        (site.write / name).parent.mkdir(parents=True, exist_ok=True)
        write(site.write / name, f"{name} 1")
    server = serve(f"{site.read}/{pattern}")
    assert sorted(names_of(server)) == sorted(GLOBS[pattern])


@one_mode
def test_h7_sources_that_overlap_bring_no_line_twice_in_one_stream(serve: Serve, site: Site) -> None:
    write(site.write / "app.log", "before")
    server = serve(site.read / "app.log", f"{site.read}/*.log", site.read)
    append(site.write / "app.log", "after")
    for name in names_of(server):
        server.client(stream=name, from_="start").expect(["before", "after"], quiet_s=0.05)


def test_h7_a_folder_that_is_removed_and_made_again(serve: Serve, site: Site) -> None:
    folder = site.write / "folder"
    folder.mkdir()
    write(folder / "one.log", "one 1")
    server = serve(f"{site.read / 'folder'}/")
    one = server.json(stream="one.log")
    one.expect(["one 1"])
    shutil.rmtree(folder)
    one.wait_event("deleted")
    folder.mkdir()
    write(folder / "one.log", "one 2")
    write(folder / "two.log", "two 1")
    one.expect(["one 1", "one 2"])
    wait_until(lambda: "two.log" in names_of(server), "the other one")
    server.client(stream="two.log", from_="start").expect(["two 1"])
