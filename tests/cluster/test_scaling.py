"""How many servers there are: by hand, by load on figures of a real metrics-server, and from the one to the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from logstreams import LogStream, are_all_reached
from readers import Crowd, Numbered, Progress, Reader, numbered
from testcluster.commands import wait_for
from testcluster.errors import CommandFailed, NotReady

EARLY, LATE = 30, 12
"""Clients that make the load, and more that come when there is a second server."""
LOUD, QUIET = 1000, 1
"""Lines per second that the clients get."""
NOISE, NOISE_PER_LINE, MORE_S = "noise", 9, 20.0
"""What they leave out, and how much of it for each line. Servers and machines differ in how much they take: until there
is a second server, the noise is doubled every so often."""
MAX_NOISE = 16 * NOISE_PER_LINE
UP_S, DOWN_S = 300.0, 400.0
"""Figures come every 15 s, and the autoscaler looks every 5 s here; it takes one server away in a minute."""
STEP_S = 0.1


def test_scale_and_autoscaler_hand_over_without_a_drop(stream: LogStream) -> None:
    stream.apply(replicas=1)
    stream.wait("Available", "True")
    stream.kubectl("scale", "logstream", "app", "--replicas=3")
    stream.wait("Available", "True")
    stream.wait_rolled_out()
    wanted = stream.cluster.kubectl.watch(
        "deployment", "app-logstream", f"--namespace={stream.namespace}", field="{.spec.replicas}"
    )
    with wanted as seen:
        wait_for("the watch to begin", lambda: seen() != [], timeout_s=30)
        stream.patch(autoscaling={"minReplicas": 3, "maxReplicas": 4})
        wait_for("the autoscaler", lambda: stream.find("hpa") != [], timeout_s=30)
        stream.wait("Accepted", "True")
        stream.patch(autoscaling=None)
        wait_for("the autoscaler's end", lambda: stream.find("hpa") == [], timeout_s=30)
        stream.wait("Accepted", "True")
        stream.kubectl("scale", "logstream", "app", "--replicas=2")  # ends what is looked at below
        wait_for("what was scaled last", lambda: seen()[-1] == "2", timeout_s=30)
        values = seen()
    assert set(values) == {"3", "2"}, "never fewer than before"
    assert values == sorted(values, reverse=True), "and two only in the end"


class Writer:
    """Writes numbered lines as fast as it is told, as a task: it ends with the others of its group."""

    def __init__(self, stream: LogStream) -> None:
        self.per_second = QUIET
        self.written = 0
        self.noise = 0
        """Lines for each line."""
        self._stream = stream

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self.write(max(1, int(self.per_second * STEP_S)))
            await asyncio.sleep(max(STEP_S, 1 / self.per_second))

    def write(self, count: int) -> None:
        """The next lines."""
        self._stream.write(*numbered(self.written, count), *[f"{NOISE} that nobody asks for"] * (count * self.noise))
        self.written += count

    async def grow_louder(self) -> None:
        """More and more, until it is cancelled."""
        self.per_second, self.noise = LOUD, NOISE_PER_LINE
        while True:
            await asyncio.sleep(MORE_S)
            self.noise = min(2 * self.noise, MAX_NOISE)

    def grow_quiet(self) -> None:
        """Hardly anything."""
        self.per_second, self.noise = QUIET, 0


async def until(what: str, true: Callable[[], bool], *, timeout_s: float) -> None:
    """As `wait_for`, beside other tasks: where one of them fails, this ends at once."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            if await asyncio.to_thread(true):
                return
        except (CommandFailed, OSError):  # as there
            pass
        if time.monotonic() > end:
            raise NotReady(what, timeout_s)
        await asyncio.sleep(0.5)


def is_settled(stream: LogStream, count: int) -> bool:
    """Whether so many are wanted, so many are ready, and no other is left."""
    deployment = stream.get("deployment", "app-logstream")
    ready = deployment["status"].get("readyReplicas", 0)
    return bool(deployment["spec"]["replicas"] == ready == len(stream.find("pods")) == count)


@pytest.mark.timeout(1800)
def test_servers_come_with_the_load_and_go_with_it(stream: LogStream) -> None:
    """Each client has a view of its own, whose lines are filtered and encoded for it alone: that is the load."""
    stream.write()
    scaling = {
        "minReplicas": 1,
        "maxReplicas": 2,
        "targetCPUUtilizationPercentage": 50,
        "scaleDown": {"stabilizationWindowSeconds": 15},
    }
    stream.apply(autoscaling=scaling, server={"resources": {"requests": {"cpu": "90m"}}})
    stream.wait("Ready", "True", "Serving")
    stream.wait("AutoscalingActive", "True", timeout_s=120)
    wait_for("one server", lambda: is_settled(stream, 1), timeout_s=90, every_s=1)
    url = stream.status["url"]
    others = f"&exclude={NOISE}"
    readers = [
        Reader(url, stream.cluster.address, "app.log", Progress(Numbered()), query=f"{others}&exclude=never-{number}")
        for number in range(EARLY + LATE)
    ]

    def all_live(some: list[Reader]) -> Callable[[], bool]:
        return lambda: all(reader.live for reader in some)

    async def drive(writer: Writer) -> None:
        early, late = readers[:EARLY], readers[EARLY:]
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(writer.run())
            group.create_task(Crowd(early).run(UP_S + DOWN_S + 600))
            await until("the first clients", all_live(early), timeout_s=180)
            louder = group.create_task(writer.grow_louder())
            await until("a second server", lambda: is_settled(stream, 2), timeout_s=UP_S)
            louder.cancel()
            # It has no clients yet: who is connected stays where he is.
            await until("NGINX to know both", lambda: are_all_reached(stream), timeout_s=90)
            group.create_task(Crowd(late).run(DOWN_S + 400))
            await until("more clients", all_live(late), timeout_s=180)
            writer.grow_quiet()
            came = sum(reader.connections for reader in readers)
            await until("one server less", lambda: is_settled(stream, 1), timeout_s=DOWN_S)
            assert sum(reader.connections for reader in readers) > came, "its clients had to go elsewhere"
            writing.cancel()
            for reader in readers:
                reader.progress.total = writer.written + 1
            writer.write(1)

    asyncio.run(drive(Writer(stream)))
    assert all(reader.progress.is_complete for reader in readers)
    assert [reason for reader in readers for reason in reader.unrecovered] == []
