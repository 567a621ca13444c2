"""Fixtures of the tailing suite: three ways in which a server may look at files, and servers to look at them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from .harness import Server, Site, mounted, start_server, why_no_mount
from .spawner import Spawner

Serve = Callable[..., Server]


MODES = ("notify", "poll", "remote")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test in every mode, or in those that its mark `modes`, or its module's, names."""
    if "mode" in metafunc.fixturenames:
        chosen = metafunc.definition.get_closest_marker("modes")
        metafunc.parametrize("mode", chosen.args if chosen else MODES, indirect=True)


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    """How the server looks at the files.

    `notify`: inotify wakes it; `poll`: the same files, by time only; `remote`: through a FUSE mount, which it polls
    by itself, opening each file by name for each look. `tls`, where a test asks for it: as `notify`, and over TLS.
    """
    chosen: str = request.param
    if chosen == "remote" and (reason := why_no_mount()):
        pytest.skip(reason)
    return chosen


@pytest.fixture
def site(mode: str, tmp_path: Path) -> Iterator[Site]:
    """A folder for logs, seen by the server as the mode says."""
    folder = tmp_path / "logs"
    folder.mkdir()
    if mode != "remote":
        yield Site(folder, folder)
        return
    with mounted(folder, tmp_path / "mount") as mount:
        yield Site(folder, mount.target, mount)


@pytest.fixture(scope="session")
def spawner() -> Iterator[Spawner]:
    """What all servers of the run are started by."""
    spawner = Spawner()
    yield spawner
    spawner.close()


@pytest.fixture
def serve(mode: str, site: Site, tmp_path: Path, spawner: Spawner, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Start a server with these paths and options; each ends with the test, and none may have raised inside."""
    servers: list[Server] = []
    numbers = itertools.count(1)
    options: list[str | Path] = ["--watch", "auto" if site.is_remote else "notify" if mode == "tls" else mode]
    trust = None
    if mode == "tls":
        authority = request.getfixturevalue("authority")
        chain, key = authority.issue()
        options += ["--tls-cert", chain, "--tls-key", key]
        trust = authority.trust

    def start(*arguments: str | Path, prefix: Sequence[str] = ()) -> Server:
        log_path = tmp_path / f"server-{next(numbers)}.log"
        server = start_server(spawner, log_path, *options, *arguments, prefix=prefix, trust=trust)
        servers.append(server)
        return server

    yield start
    failures = []
    for server in servers:
        try:
            server.dispose()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, failures


@pytest.fixture(params=["direct", "symlink"])
def via(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Callable[[str], Path]:
    """The server's path to a log of the site: its own, or a symlink in another folder."""

    def path(name: str) -> Path:
        if request.param == "direct":
            return site.read / name
        links = tmp_path / "links"
        links.mkdir(exist_ok=True)
        link = links / name
        if not link.is_symlink():
            link.symlink_to(site.read / name)
        return link

    return path
