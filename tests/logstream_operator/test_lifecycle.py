"""lifecycle: what must be there before the operator runs; the rest is shown on a cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from logstream_operator import names
from logstream_operator.errors import CannotStart, Refused, Unreachable
from logstream_operator.lifecycle import Operator
from logstream_operator.names import Key, Kind
from logstream_operator.settings import Settings

from .examples import until


class NoCluster:
    """An API server that cannot be reached."""

    async def get(self, *_: Any) -> None:
        raise Unreachable("LogStream", None, "no route")

    async def list(self, *_: Any, **__: Any) -> None:
        raise Unreachable("LogStreams", None, "no route")


class Undefined:
    """A cluster that knows no LogStreams, and has the volume of one from when it did."""

    def __init__(self) -> None:
        labels = {names.LABEL_NAMESPACE: "team", names.LABEL_NAME: "app", names.LABEL_UID: "1"}
        self.volumes = [{"metadata": {"name": "v", "labels": labels}, "status": {"phase": "Released"}}]

    async def knows(self, *_: Any) -> bool:
        return False

    async def get(self, *_: Any) -> None:
        return None

    async def list(self, kind: Kind, *_: Any, **__: Any) -> list[Any]:
        return list(self.volumes) if kind is names.VOLUME else []

    async def delete(self, manifest: Any) -> None:
        self.volumes.remove(manifest)


def operator(cluster: Any = None, **settings: Any) -> Operator:
    session: Any = None
    return Operator(Settings(server_image="x", **settings), cluster or NoCluster(), session)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]

        async def run() -> None:
            await operator(port=port).run()

        with pytest.raises(CannotStart, match=f"port {port} cannot be listened on"):
            asyncio.run(run())


def test_without_the_definition_volumes_are_swept_and_a_signal_ends_it() -> None:
    cluster = Undefined()

    async def run() -> None:
        found = operator(cluster, port=0)
        task = asyncio.create_task(found.run())
        await until(lambda: not cluster.volumes)
        assert not task.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 20)

    asyncio.run(run())


def test_failures_are_counted_and_tried_again() -> None:
    async def run() -> None:
        found = operator()
        task = asyncio.create_task(found.queue.run(1))
        found.queue.add(Key("team", "app"), 0)
        sample = ("logstream_operator_reconciles_total", {"result": "failed"})
        await until(lambda: found.metrics.registry.get_sample_value(*sample) == 1)
        await until(lambda: len(found.queue) == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


class SomeNamespaces(NoCluster):
    """An API server that lets one namespace be read."""

    async def knows(self, _kind: Any, namespace: str | None) -> bool:
        if namespace != "team":
            raise Refused("LogStream", "list", 403, "forbidden")
        return True


def test_a_namespace_that_may_not_be_read_is_not_watched() -> None:
    """Kopf would end, and with it the work for all others."""
    session: Any = None
    cluster: Any = SomeNamespaces()
    found = Operator(Settings(server_image="x", namespaces=("gone", "team")), cluster, session)
    assert asyncio.run(found._look_for_definition()) == (True, ["team"])
    found = Operator(Settings(server_image="x", namespaces=("gone",)), cluster, session)
    assert asyncio.run(found._look_for_definition()) == (False, [])


def test_a_trouble_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """It is looked for every few seconds."""
    session: Any = None
    cluster: Any = SomeNamespaces()
    found = Operator(Settings(server_image="x", namespaces=("gone", "team")), cluster, session)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            asyncio.run(found._look_for_definition())
        assert [record.getMessage() for record in caplog.records] == [
            "watching gone: LogStream list was refused (403): forbidden"
        ]
        cluster.knows = Undefined().knows
        for _ in range(2):
            asyncio.run(found._look_for_definition())
        undefined = "the cluster does not know logstreams.logstream.dev yet: apply its definition"
        assert caplog.messages[1:] == [f"watching gone: {undefined}", f"watching team: {undefined}"]
        cluster.knows = lambda *_: asyncio.sleep(0, True)
        for _ in range(2):
            asyncio.run(found._look_for_definition())
        assert caplog.messages[3:] == ["watching gone: goes on", "watching team: goes on"]


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        pytest.param(["--port", "x"], {}, "--port 'x': must be a whole number", id="a bad value"),
        pytest.param(["--server-image", "x"], {"KUBECONFIG": "/none"}, "KUBECONFIG names none", id="no cluster"),
        pytest.param(["--help"], {}, "LOGSTREAM_OPERATOR_PORT", id="the help page"),
    ],
)
def test_the_program_says_why_it_cannot_start(
    argv: list[str], environ: dict[str, str], words: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "logstream_operator", *argv]
    ended = subprocess.run(
        program, env={"HOME": str(tmp_path), **environ}, capture_output=True, text=True, timeout=60, check=False
    )
    assert words in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    assert ended.returncode == (0 if "--help" in argv else 2 if "--port" in argv else 1)
