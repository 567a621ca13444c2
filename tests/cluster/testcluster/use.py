"""Who uses this machine's cluster: one run of tests at a time, as each installs the operator and removes it again.

A cluster that a person started (`make cluster-up`) is not marked as the tests' own, and stays.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcluster import cluster, settings
from testcluster.commands import say

LOCK = Path("/run/logstream-cluster.use")
FOR_TESTS = settings.STATE / "for-tests"


def up(cache: settings.Cache) -> bool:
    """Brings the cluster up for tests unless it is up, and returns whether it was started now."""
    started = cluster.up(cache)
    if started:
        FOR_TESTS.touch()
    return started


def end() -> None:
    """Removes the cluster if tests started it."""
    if FOR_TESTS.exists():
        cluster.down()


@contextmanager
def alone() -> Iterator[None]:
    """Waits until no other run of tests uses the cluster."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting: other tests use the cluster")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
