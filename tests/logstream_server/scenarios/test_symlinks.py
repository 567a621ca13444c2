"""G: names that lead elsewhere, and change where they lead to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import Site, Writer, append, glance, numbered, write


def link_to(target: Path, link: Path) -> None:
    """Swap atomically."""
    beside = link.with_name(f".{link.name}.new")
    beside.symlink_to(target)
    beside.rename(link)


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """A folder for links, beside the logs."""
    folder = tmp_path / "links"
    folder.mkdir()
    return folder


def test_g1_a_link_that_is_swapped_while_the_old_target_still_grows(serve: Serve, site: Site, links: Path) -> None:
    old, new = site.write / "first.log", site.write / "second.log"
    write(old, "before")
    link_to(site.read / "first.log", links / "current")
    client = serve(links / "current").client()
    client.expect(["before"])
    with Writer(old) as writer:
        writer.write("old 1")
        write(new, "new 1")
        link_to(site.read / "second.log", links / "current")
        writer.write("old 2")
        client.expect(["before", "old 1", "old 2"], ["new 1"])
        append(new, "new 2")
        client.expect(["before", "old 1", "old 2"], ["new 1", "new 2"], quiet_s=0.1)


def test_g2_a_dangling_link_whose_target_appears(serve: Serve, site: Site, links: Path) -> None:
    target = site.write / "target.log"
    link_to(site.read / "target.log", links / "current")
    server = serve(links / "current")
    assert server.state("current")["state"] == "waiting"
    client = server.client()
    client.quiet(0.1)
    write(target, "line 1")
    client.expect(["line 1"])
    append(target, "line 2")
    client.expect(["line 1", "line 2"], quiet_s=0.1)


def test_g2_a_link_to_what_is_made_later(serve: Serve, site: Site, links: Path) -> None:
    first, second = site.write / "first.log", site.write / "second.log"
    write(first, "first 1")
    link_to(site.read / "first.log", links / "current")
    json = serve(links / "current").json()
    json.expect(["first 1"])
    link_to(site.read / "second.log", links / "current")
    json.wait_event("deleted")
    write(second, "second 1")
    json.expect(["first 1", "second 1"])
    append(second, "second 2")
    json.expect(["first 1", "second 1", "second 2"], quiet_s=0.1)


def test_g4_as_kubernetes_links_and_rotates_container_logs(serve: Serve, site: Site, links: Path) -> None:
    """/var/log/containers/x.log leads to /var/log/pods/…/0.log, which is renamed and made again."""
    pod = site.write / "pods" / "app"
    pod.mkdir(parents=True)
    log = pod / "0.log"
    write(log, "before")
    link_to(site.read / "pods" / "app" / "0.log", links / "app.log")
    client = serve("--root", links.parent, f"{links}/*.log").client()
    client.expect(["before"])
    expected = ["before"]
    for number in range(3):
        with Writer(log) as writer:
            writer.write(f"round {number} old 1")
            log.rename(pod / f"0.log.20261123-12000{number}")
            writer.write(f"round {number} old 2")
            write(log, f"round {number} new 1")
            expected += [f"round {number} old 1", f"round {number} old 2", f"round {number} new 1"]
            client.wait_lines(len(expected))
    client.expect(expected, quiet_s=0.1)


def test_g5_a_link_is_removed_and_its_target_goes_on(serve: Serve, site: Site, links: Path) -> None:
    target = site.write / "target.log"
    write(target, "before")
    link_to(site.read / "target.log", links / "current")
    json = serve(links / "current").json()
    json.expect(["before"])
    (links / "current").unlink()
    json.wait_event("deleted")
    link_to(site.read / "target.log", links / "current")
    json.wait_event("appeared")
    append(target, "after")
    json.expect(["before", "after"], quiet_s=0.1)


def test_g6_two_names_of_one_file_are_two_streams_without_doubles(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, *numbered("line", 3))
    os.link(log, site.write / "hard.log")
    (site.write / "soft.log").symlink_to("app.log")
    server = serve(f"{site.read}/*.log")
    names = ["app.log", "hard.log", "soft.log"]
    server.wait_streams(*names)
    clients = [server.client(stream=name) for name in names]
    for client in clients:
        client.expect(numbered("line", 3))
    append(log, "line 4")
    for client in clients:
        client.expect(numbered("line", 4), quiet_s=0.1)
    os.truncate(log, 0)
    glance()
    append(log, "new")
    for client in clients:
        client.expect([*numbered("line", 4), "new"], quiet_s=0.1)


@pytest.mark.parametrize("way", ["to a file", "to a folder", "relative"])
def test_g7_a_link_out_of_the_root_is_refused(serve: Serve, site: Site, tmp_path: Path, way: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write(outside / "secret.log", "secret")
    write(site.write / "app.log", "before")
    if way == "to a folder":
        (site.write / "evil").symlink_to(outside)
        name, path = "evil~secret.log", site.read / "evil" / "secret.log"
    else:
        target = outside / "secret.log"
        (site.write / "evil.log").symlink_to(target if way == "to a file" else Path("..") / "outside" / "secret.log")
        name, path = "evil.log", site.read / "evil.log"
    server = serve("--root", site.read, site.read / "app.log", f"{name}={path}")
    state = server.state(name)
    assert state["state"] in ("refused", "waiting"), state
    json = server.json(stream=name, tail=10)
    json.quiet(0.2)
    append(outside / "secret.log", "more")
    json.quiet(0.2)
    assert json.lines == []
    assert server.get(f"/api/v1/streams/{name}/lines", tail=5)[1].find(b"secret\\n") < 0
    server.client(stream="app.log").expect(["before"])


def test_g7_a_link_that_is_swapped_to_the_outside_is_refused(serve: Serve, site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "secret.log"
    write(outside, "secret")
    write(site.write / "app.log", "before")
    (site.write / "current").symlink_to("app.log")
    server = serve("--root", site.read, site.read / "current")
    json = server.json()
    json.expect(["before"])
    link_to(outside, site.write / "current")
    json.wait_event("unreadable")
    append(outside, "more")
    json.expect(["before"], quiet_s=0.3)
    link_to(Path("app.log"), site.write / "current")
    append(site.write / "app.log", "after")
    json.expect(["before", "after"], quiet_s=0.1)
