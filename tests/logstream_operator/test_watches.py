"""watches: kopf itself, with an API server whose watches fail as a real one's do now and then."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from logstream_operator import handlers, names
from logstream_operator.handlers import create_kopf_settings, create_registry
from logstream_operator.journal import PlainWatches
from logstream_operator.names import Kind
from logstream_operator.watches import run_watches

from .examples import until

DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
WATCHED = {kind.plural for kind in (*handlers.WATCHED, names.NODE, names.LOGSTREAM)}
KINDS = [*names.CHILDREN, names.POD, names.NODE, names.LOGSTREAM, names.NAMESPACE, DEFINITION]
GROUPS = sorted({kind.api_version for kind in KINDS} - {"v1"})


class Api:
    """What each kind's watch is answered: `busy` ones a status of 503, `broken` ones an event that is an error."""

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[str] = []
        self.may_break = threading.Event()
        self.over = threading.Event()
        self.url = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Status and content; None for a watch that goes on."""
        if "watch" in query:
            return self.answer_watch(path.rpartition("/")[2])
        if path == "/api":
            return 200, {"versions": ["v1"]}
        if path == "/apis":
            return 200, {"groups": [a_group(each) for each in GROUPS]}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in {"v1", *GROUPS}:
            return 200, {"resources": [a_resource(kind) for kind in KINDS if kind.api_version == version]}
        return 200, {"items": [], "metadata": {"resourceVersion": "1"}}

    def answer_watch(self, kind: str) -> tuple[int, Any]:
        """Of a watch of this kind."""
        self.asked.append(kind)
        if kind in self.busy:
            return 503, {"kind": "Status", "message": "etcd is busy", "code": 503}
        if kind in self.broken:
            self.may_break.wait(20)
            return 200, {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "no leader"}}
        return 200, None

    async def until_tried_again(self, watching: asyncio.Task[Any]) -> None:
        """Wait until everything is watched, and the busy kind was tried a few times."""
        await until(lambda: watching.done() or (set(self.asked) >= WATCHED and self.asked.count("nodes") > 2))


def a_group(version: str) -> dict[str, Any]:
    group, _, version = version.rpartition("/")
    return {"name": group, "preferredVersion": {"version": version}, "versions": [{"version": version}]}


def a_resource(kind: Kind) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    return {"name": kind.plural, "singularName": "", "kind": kind.kind, "namespaced": kind.namespaced, "verbs": verbs}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    found = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, content = found.answer(parts.path, parse_qs(parts.query))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if content is None:
                self.wfile.flush()
                found.over.wait(60)
            else:
                self.wfile.write(json.dumps(content).encode() + b"\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {
        "current-context": "c",
        "contexts": [context],
        "clusters": [{"name": "c", "cluster": {"server": found.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    yield found
    found.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


async def watch(api: Api) -> set[asyncio.Task[Any]]:
    """Watches until that fails; returns what is left of it."""
    before = asyncio.all_tasks()
    settings = create_kopf_settings(namespaced=True)
    settings.networking.error_backoffs = [0.02] * 100_000
    registry = create_registry(lambda _key: None, lambda: None, lambda: None, api.url)
    async with asyncio.timeout(60):
        await run_watches(registry, settings, ["team"])
    return asyncio.all_tasks() - before


def test_it_ends_when_a_watch_fails_while_another_one_is_tried_again(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.busy, api.broken = {"nodes"}, {"services"}
    caplog.handler.addFilter(plain := PlainWatches())

    async def run() -> None:
        task = asyncio.create_task(watch(api))
        await api.until_tried_again(task)
        api.may_break.set()
        await task

    try:
        with caplog.at_level(logging.WARNING), pytest.raises(Exception, match="no leader"):
            asyncio.run(run())
    finally:
        caplog.handler.removeFilter(plain)
    assert set(api.asked) == WATCHED
    said = [record for record in caplog.records if record.name.startswith("kopf.")]
    assert {record.levelname for record in said} == {"WARNING"}
    for cause in ("etcd is busy", "no leader"):
        assert len([record for record in said if cause in record.getMessage()]) == 1, "each cause once"
    assert "Traceback" not in caplog.text


def test_it_ends_with_all_its_tasks_when_it_is_cancelled(api: Api) -> None:
    api.busy = {"nodes"}

    async def run() -> set[asyncio.Task[Any]]:
        before = asyncio.all_tasks()
        task = asyncio.create_task(watch(api))
        await api.until_tried_again(task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return asyncio.all_tasks() - before

    assert asyncio.run(run()) == set()
