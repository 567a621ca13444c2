"""In a flood, pods, operator and NGINX come and go: clients that resume get every line once and in order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from logstreams import OPERATOR, SYSTEM, LogStream, are_all_reached, clients_by_pod
from readers import Crowd, Progress, Reader, Wrong, numbered
from testcluster.commands import wait_for
from testcluster.kubectl import is_ready

CLIENTS = 200
LINES = 100_000
WRITE_S = 60.0
"""The lines are written over this time, so that all disturbances fall into it."""


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda lines: lines.pop(700), id="a loss"),
        pytest.param(lambda lines: lines.insert(700, lines[699]), id="a repeat"),
        pytest.param(lambda lines: lines.insert(700, lines.pop(701)), id="a swap"),
        pytest.param(lambda lines: lines.append("one more"), id="a line too many"),
        pytest.param(lambda lines: lines.__setitem__(700, lines[700][:-1]), id="a line cut short"),
    ],
)
def test_the_checker_finds(change: Any) -> None:
    expected = numbered(0, 1000)
    lines = list(expected)
    change(lines)
    with pytest.raises(Wrong):
        feed(Progress(expected), lines)


def feed(progress: Progress, lines: list[str]) -> None:
    """In batches, as they come from a server."""
    for start in range(0, len(lines), 64):
        progress.accept(lines[start : start + 64])


def test_the_checker_passes_what_is_right() -> None:
    progress = Progress(numbered(0, 1000))
    feed(progress, numbered(0, 1000))
    assert progress.is_complete


def write(stream: LogStream, lines: list[str], stop: threading.Event) -> Iterator[float]:
    """Write the lines in small steps over WRITE_S, unless stopped; yields how much of them is written."""
    steps = 600
    size = len(lines) // steps + 1
    began = time.monotonic()
    with (stream.folder / "app.log").open("a") as log:
        for step in range(steps):
            log.writelines(f"{line}\n" for line in lines[step * size : (step + 1) * size])
            log.flush()
            yield (step + 1) / steps
            if stop.wait(max(0.0, began + (step + 1) * WRITE_S / steps - time.monotonic())):
                return


def one_that_serves(stream: LogStream) -> str:
    """A pod's name. Some end of an earlier harm, and may be gone before one could do them any."""
    return next(
        str(pod["metadata"]["name"])
        for pod in stream.find("pods")
        if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)
    )


def delete_a_pod(stream: LogStream) -> None:
    stream.kubectl("delete", "pod", one_that_serves(stream), "--wait=false")


def kill_a_pod(stream: LogStream) -> None:
    """Without a goodbye."""
    stream.kubectl("delete", "pod", one_that_serves(stream), "--grace-period=0", "--force")


def roll_out(stream: LogStream) -> None:
    stream.patch(server={"tailLines": 11})


def reload_nginx(stream: LogStream) -> None:
    """A new host makes the controller write another configuration, and NGINX read it."""
    other = LogStream(stream.cluster, stream.namespace, "reload")
    other.apply(ingress={"host": "reload.example"}, replicas=0)


def restart_operator(stream: LogStream) -> None:
    stream.cluster.kubectl("rollout", "restart", OPERATOR, f"--namespace={SYSTEM}")


def disturb(stream: LogStream, lines: list[str], stop: threading.Event) -> None:
    """On a thread, until stopped: writes, and does harm on the way."""
    harm = iter(
        [(0.15, delete_a_pod), (0.3, reload_nginx), (0.45, restart_operator), (0.6, roll_out), (0.85, kill_a_pod)]
    )
    at, act = next(harm)
    for written in write(stream, lines, stop):
        if written >= at:
            act(stream)
            at, act = next(harm, (2.0, act))


@pytest.mark.timeout(1200)
def test_every_line_once_and_in_order_through_all_of_it(stream: LogStream) -> None:
    lines = numbered(0, LINES)
    stream.write()
    stream.apply(replicas=3)
    stream.wait("Ready", "True", "Serving")
    stream.wait_rolled_out()
    wait_for("NGINX to know all three", lambda: are_all_reached(stream), timeout_s=30, every_s=1)
    url = stream.status["url"]
    crowd = Crowd([Reader(url, stream.cluster.address, "app.log", Progress(lines)) for _ in range(CLIENTS)])

    stop = threading.Event()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.run(timeout_s=800))
            async with asyncio.timeout(180):
                while not all(reader.live for reader in crowd.readers):  # noqa: ASYNC110 - 200 of them
                    await asyncio.sleep(0.2)
            per_pod = await asyncio.to_thread(clients_by_pod, stream)
            assert len(per_pod) == 3, per_pod
            assert min(per_pod.values()) > CLIENTS / 10, f"shared by three: {per_pod}"
            try:
                await asyncio.to_thread(disturb, stream, lines, stop)
            finally:
                stop.set()  # or a failure would wait for the thread to end

    asyncio.run(run())
    assert all(reader.progress.is_complete for reader in crowd.readers)
    assert [reason for reader in crowd.readers for reason in reader.unrecovered] == []
    assert sum(reader.connections for reader in crowd.readers) > 2 * CLIENTS, "the harm was felt"
