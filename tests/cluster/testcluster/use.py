"""Who uses this machine's cluster: several runs of tests may share it, and none ends it under the others.

A lock that every user holds together; whoever ends the cluster takes it alone. A cluster that a person started
(`make cluster-up`) is not marked as the tests' own, and stays.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from testcluster import cluster, settings
from testcluster.commands import say

LOCK = Path("/run/logstream-cluster.use")
FOR_TESTS = settings.STATE / "for-tests"


class Use:
    """One run of tests that uses the cluster."""

    def __init__(self, lock: TextIO) -> None:
        self._lock = lock

    def up(self, cache: settings.Cache) -> bool:
        """Brings the cluster up unless it is, and returns whether it was started now."""
        started = cluster.up(cache)
        if started:
            FOR_TESTS.touch()
        return started

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For a test that ends the cluster: waits until nobody else uses it, and lets nobody in."""
        if not _try_alone(self._lock):
            say("waiting: other tests use the cluster")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def end(self) -> None:
        """Removes the cluster if tests started it and no others use it; the last of them does."""
        if FOR_TESTS.exists() and _try_alone(self._lock):
            cluster.down()


@contextmanager
def using() -> Iterator[Use]:
    """Counts as a user for as long as it lasts, and then ends the cluster if that is nobody else's matter."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        use = Use(lock)
        try:
            yield use
        finally:
            use.end()


def _try_alone(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
