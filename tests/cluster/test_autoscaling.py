"""Load adds servers, on figures that metrics-server measured, and quiet takes them away: no line is lost on the way."""

from __future__ import annotations

import asyncio
import time

import pytest
from logstreams import LogStream
from readers import Crowd, Progress, Reader, numbered

CLIENTS = 60
LOUD_LINES, QUIET_LINES = 300, 1
"""In each step."""
STEP_S = 0.1
UP_S, DOWN_S = 150.0, 240.0
"""Figures come every 15 s, and the autoscaler looks every 5 s here; it takes one server away in a minute."""


def servers(stream: LogStream) -> int:
    found: int = stream.get("deployment", "app-logstream")["spec"]["replicas"]
    return found


def write_until(stream: LogStream, lines: list[str], per_step: int, wanted: range, within_s: float) -> int:
    """On a thread: write some of the lines in each step until so many servers are wanted; how many lines that took."""
    end, written, looked = time.monotonic() + within_s, 0, 0.0
    with (stream.folder / "app.log").open("a") as log:
        while True:
            part = lines[written : written + per_step]
            assert part, "there were too few lines for so long a time"
            log.writelines(f"{line}\n" for line in part)
            log.flush()
            written += len(part)
            if time.monotonic() > looked + 1:
                looked = time.monotonic()
                if servers(stream) in wanted:
                    return written
                assert looked < end, f"{servers(stream)} servers after {within_s:.0f} s: {stream.get('hpa')}"
            time.sleep(STEP_S)


@pytest.mark.timeout(900)
def test_servers_come_with_the_load_and_go_with_it(stream: LogStream) -> None:
    stream.write()
    scaling = {
        "minReplicas": 1,
        "maxReplicas": 3,
        "targetCPUUtilizationPercentage": 50,
        "scaleDown": {"stabilizationWindowSeconds": 0},
    }
    stream.apply(autoscaling=scaling, server={"resources": {"requests": {"cpu": "100m"}}})
    stream.wait("AutoscalingActive", "True", timeout_s=150)
    stream.wait("Ready", "True", "Serving")
    lines = numbered(0, int(UP_S / STEP_S) * LOUD_LINES + int(DOWN_S / STEP_S) * QUIET_LINES)
    unknown = len(lines) + 1
    readers = [
        Reader(stream.status["url"], stream.cluster.address, "app.log", Progress(lines, total=unknown))
        for _ in range(CLIENTS)
    ]

    def drive() -> None:
        up = write_until(stream, lines, LOUD_LINES, range(2, 4), UP_S)
        all_in_all = up + write_until(stream, lines[up:], QUIET_LINES, range(1, 2), DOWN_S)
        for reader in readers:
            reader.progress.total = all_in_all + 1
        stream.write(lines[all_in_all])

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(Crowd(readers).run(UP_S + DOWN_S + 60))
            await asyncio.to_thread(drive)

    asyncio.run(run())
    assert all(reader.progress.is_complete for reader in readers)
    assert [reason for reader in readers for reason in reader.unrecovered] == []
