"""Fixtures of the server's tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .followed import Follow, Followed
from .process import Server, start_server
from .tls import Authority


class Serve:
    """Starts servers that end with the test: `serve(path, "--tail", "3")`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self.servers: list[Server] = []

    def __call__(self, *arguments: str | Path, open_files: int | None = None) -> Server:
        """A server with these paths and options, on a free port; it has printed its address."""
        path = self._folder / f"server-{next(self._numbers)}.log"
        server = start_server(path, *arguments, open_files=open_files)
        self.servers.append(server)
        return server

    def dispose(self) -> None:
        """End all; none may have raised inside."""
        for server in self.servers:
            server.dispose()
        assert not [server.log for server in self.servers if "Traceback" in server.log]


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a server for one test; see Serve."""
    factory = Serve(tmp_path_factory.mktemp("servers"))
    yield factory
    factory.dispose()


@pytest.fixture(scope="module")
def serve_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a server for all tests of a module: only for tests that leave it and its files as they are."""
    factory = Serve(tmp_path_factory.mktemp("servers"))
    yield factory
    factory.dispose()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Follow a file in the test's folder, by hand; see Followed."""
    made: list[Followed] = []

    def start(content: bytes = b"", **options: Any) -> Followed:
        made.append(Followed(tmp_path, content, **options))
        return made[-1]

    yield start
    for followed in made:
        followed.close()
