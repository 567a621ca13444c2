"""docs/rest.md: its examples are what a server answers, its commands run as they stand there, its paths are all."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logstream_server.app import create_app
from logstream_server.commandline.forms import NamedPath
from logstream_server.service import Service
from logstream_server.settings import Settings

from .conftest import Serve
from .pages import QUICK, Running, blocks, javascript_program, live_through, python_program
from .process import DEADLINE_S, Server

PAGE = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
ADDRESS = "http://127.0.0.1:8080"


def example(field: str, value: Any = ...) -> dict[str, Any]:
    """The page's JSON object with this field."""
    objects = [json.loads(line) for block in blocks(PAGE, "json") for line in block.splitlines()]
    (found,) = (each for each in objects if field in each and value in (..., each[field]))
    return dict(found)


def run_shell(server: Server, folder: Path, word: str) -> str:
    """Run the page's commands in which `word` stands, against this server; returns what they print."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (block,) = (each for each in blocks(PAGE, "sh") if word in each)
    assert ADDRESS in block
    script = block.replace(ADDRESS + "/", server.url)
    done = subprocess.run(
        ["/bin/sh", "-euc", script], cwd=folder, capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    return done.stdout


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    log = tmp_path / "a.log"
    log.write_text("one\ntwo\nthree\n")
    return log


def test_the_example_of_a_page_of_lines_is_what_a_server_answers(serve: Serve, log: Path) -> None:
    server = serve(log)
    page = example("more")
    answer = server.get("/api/v1/streams/a.log/lines?from=start&limit=2").json
    assert {**answer, "cursor": page["cursor"]} == page
    assert server.get("/api/v1/streams/b.log").json == example("type", "about:blank")


def test_the_commands_that_download_do(serve: Serve, log: Path) -> None:
    """Also in two parts, although the file grows."""
    log.write_text("".join(f"{number}\n" for number in range(1000)))
    server, here = serve(*QUICK, log), log.with_name("here")
    run_shell(server, here, "-OJ")
    assert (here / "a.log").read_bytes() == log.read_bytes()
    run_shell(server, here, "If-Range")
    assert (here / "part").read_bytes() == log.read_bytes()


def test_the_command_that_follows_does(serve: Serve, log: Path) -> None:
    (block,) = (each for each in blocks(PAGE, "sh") if "events?tail" in each)
    server = serve(*QUICK, log)
    command = [*shlex.split(block.replace(ADDRESS + "/", server.url)), "--max-time", "2"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S).stdout
    assert '"lines":["two","three"]' in shown


def test_the_command_that_searches_does(serve: Serve, log: Path) -> None:
    """And what it prints is what the page shows."""
    shown = [json.loads(line) for line in run_shell(serve(*QUICK, log), log.parent, "search").splitlines()]
    assert [record["type"] for record in shown] == ["begin", "match", "end"]
    for record, kind in zip(shown, ("begin", "match", "end"), strict=True):
        places = {key: value for key, value in example("type", kind).items() if key in ("cursor", "before")}
        assert {**record, **places} == example("type", kind)


def python_client(folder: Path) -> list[str]:
    """The command that runs the page's Python client; it takes the address as its last word."""
    return python_program(PAGE, folder)


def javascript_client(folder: Path) -> list[str]:
    """The same for JavaScript."""
    use = "watch(process.argv[2], { tail: 100 }, (text) => process.stdout.write(text), console.error);"
    return javascript_program(PAGE, folder, "EventSource", use)


@pytest.mark.parametrize("client", [python_client, javascript_client])
def test_a_client_of_the_page_prints_every_line_once(
    serve: Serve, log: Path, client: Callable[[Path], list[str]]
) -> None:
    here = log.with_name("here")
    log.write_text("one\ntwo\n")
    server = serve(*QUICK, log)
    running = Running(client(here), f"{server.url}api/v1/streams/a.log/events", here)
    try:
        live_through(running, log, "one\ntwo\n", server, serve)
    finally:
        running.end()


def test_every_path_of_the_api_is_in_the_table(tmp_path: Path) -> None:
    settings = Settings(paths=(NamedPath(str(tmp_path / "a.log")),))
    app = create_app(settings, Service.build(settings))
    api = next(route for route in app.routes if getattr(route, "path", "") == "/api/v1")
    routes = api.app._app.router.routes  # type: ignore[attr-defined]
    paths = {route.path.replace("{name}", "NAME") for route in routes}
    assert paths == set(re.findall(r"^\| `(/[^`]*)` \|", PAGE, re.MULTILINE))
