"""Threads for work that may hang: every look at a file system runs here, nothing else does.

A few workers take jobs as they come due. A call into a dead mount keeps its worker for as long as the kernel likes; the
watchdog then adds a worker, so that the other jobs go on, and tells the stuck job's owner. However many jobs there are
on a dead mount, they get only so many workers (WORKERS_PER_MOUNT); the rest of them wait and are told as well. Workers
that are no longer needed end. A job never runs twice at once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar

from .patience import LEAST_S

T = TypeVar("T")

log = logging.getLogger(__name__)

WATCHDOG_S: Final = 0.1
"""How often the watchdog looks; a hang costs the other jobs at most this much once all workers are taken."""
SPARE_WORKERS: Final = 2
MAX_WORKERS: Final = 256
WORKERS_PER_MOUNT: Final = 16
"""Enough for a disk to be busy, and for sixteen mounts to be dead at one time."""


class Placed(Protocol):
    """What is worked on: `mount` names the file system that it would hang with (see mounts), "" for none."""

    mount: str


class Job(Protocol):
    """Something to do again and again."""

    @property
    def patience_s(self) -> float:
        """How long a run, or the wait for its turn, may take before it counts as stuck."""

    def run(self, now: float) -> float | None:
        """Do a bounded piece of work at monotonic time `now`; return in how many seconds to run again, None for
        never."""

    def stuck(self, seconds: float) -> None:
        """Called from the watchdog, once per run, when it is stuck. Afterwards the mount is asked for again: a link may
        have led elsewhere meanwhile."""


class _Task:
    __slots__ = ("due", "job", "mount", "place", "removed", "running", "started", "told", "woken")

    def __init__(self, job: Job, place: Placed | None) -> None:
        self.job = job
        self.place = place
        self.mount = ""  # that it counts for while it runs
        self.due: float | None = None
        self.running = False
        self.woken = False
        self.removed = False
        self.told = False
        self.started = 0.0


class _Once:
    """A job that calls a function once and gives its result to a future."""

    patience_s = LEAST_S

    def __init__(self, call: Callable[[], T], future: Future[T]) -> None:
        self._call, self._future = call, future

    def run(self, _now: float) -> float | None:
        if self._future.set_running_or_notify_cancel():
            try:
                self._future.set_result(self._call())
            except BaseException as error:  # noqa: BLE001 - the outermost frame of the call: whoever waits gets it
                self._future.set_exception(error)
        return None

    def stuck(self, seconds: float) -> None:
        pass


class Scheduler:
    """Runs jobs on an elastic set of daemon threads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._tasks: dict[Job, _Task] = {}
        self._heap: list[tuple[float, int, _Task]] = []
        self._order = itertools.count()
        self._workers = 0
        self._alarms: list[float] = []  # of each idle worker: when it looks again by itself
        self._running: set[_Task] = set()
        self._busy: Counter[str] = Counter()  # running tasks by mount
        # Due, but their mount has all the workers that it may have; jobs, and (True) what was submitted.
        self._parked: dict[tuple[str, bool], deque[_Task]] = {}
        self._stopped = threading.Event()
        self._started = False

    def start(self) -> None:
        """Start the workers and the watchdog."""
        with self._lock:
            self._started = True
            for _ in range(SPARE_WORKERS):
                self._add_worker()
        threading.Thread(target=self._watch, name="logstream-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Let no job begin any more. Does not wait for jobs that hang."""
        self._stopped.set()
        with self._lock:
            self._ready.notify_all()

    def add(self, job: Job, place: Placed | None = None) -> None:
        """Run `job`, which works on `place`, now and then as it asks."""
        with self._lock:
            task = self._tasks[job] = _Task(job, place)
            self._push(task, time.monotonic())

    def remove(self, job: Job) -> None:
        """Run `job` no more; a run under way ends by itself."""
        with self._lock:
            task = self._tasks.pop(job, None)
            if task is not None:
                task.removed = True

    def wake(self, job: Job) -> None:
        """Run `job` as soon as possible, again if it is running."""
        with self._lock:
            task, now = self._tasks.get(job), time.monotonic()
            if task is None:
                return
            if task.running:
                task.woken = True
            elif task.due is None or task.due > now:
                self._push(task, now)

    def submit(self, call: Callable[[], T], place: Placed | None = None) -> Future[T]:
        """Call a function, which works on `place`, on a worker."""
        future: Future[T] = Future()
        with self._lock:
            self._push(_Task(_Once(call, future), place), time.monotonic())
        return future

    @property
    def _idle(self) -> int:
        return len(self._alarms)

    # -- inside, all with the lock held but the runs themselves --------------------------------------------------------

    def _push(self, task: _Task, due: float) -> None:
        task.due = due
        heapq.heappush(self._heap, (due, next(self._order), task))
        if self._heap[0][2] is task:
            self._ready.notify()

    def _add_worker(self) -> None:
        self._workers += 1
        threading.Thread(target=self._work, name="logstream-files", daemon=True).start()

    def _next(self) -> _Task | None:
        """Wait for a task that is due; None when this worker shall end."""
        while not self._stopped.is_set():
            now = time.monotonic()
            while self._heap and (self._heap[0][2].removed or self._heap[0][2].due != self._heap[0][0]):
                heapq.heappop(self._heap)
            if self._heap and self._heap[0][0] <= now:
                task = heapq.heappop(self._heap)[2]
                if self._park_if_crowded(task):
                    continue
                if self._heap and self._idle and self._heap[0][0] < min(self._alarms):
                    self._ready.notify()  # this worker is busy now: one that waits must see to the next in time
                return task
            if self._idle >= SPARE_WORKERS:
                return None
            alarm = self._heap[0][0] if self._heap else math.inf
            self._alarms.append(alarm)
            self._ready.wait(None if alarm == math.inf else alarm - now)
            self._alarms.remove(alarm)
        return None

    def _park_if_crowded(self, task: _Task) -> bool:
        mount = task.place.mount if task.place is not None else ""
        lane = mount, isinstance(task.job, _Once)
        if not mount or self._room(lane) > 0:
            return False
        self._parked.setdefault(lane, deque()).append(task)
        return True

    def _room(self, lane: tuple[str, bool]) -> int:
        """How many workers more its mount may have. What clients ask for may take long, and gets half of them: the
        files must be looked at all the same."""
        mount, is_asked_for = lane
        return (WORKERS_PER_MOUNT // 2 if is_asked_for else WORKERS_PER_MOUNT) - self._busy[mount]

    def _enter(self, task: _Task) -> None:
        task.mount = task.place.mount if task.place is not None else ""
        self._busy[task.mount] += 1

    def _leave(self, task: _Task) -> None:
        self._busy[task.mount] -= 1
        self._refill(task.mount)
        if not self._busy[task.mount]:
            del self._busy[task.mount]

    def _refill(self, mount: str) -> None:
        """Call as many of those who wait for this mount as it has workers left."""
        for lane in ((mount, False), (mount, True)):
            parked = self._parked.get(lane, ())
            for _ in range(min(len(parked), self._room(lane))):
                self._call(self._parked[lane].popleft())
            if parked == deque():
                self._parked.pop(lane, None)

    def _call(self, task: _Task) -> None:
        """It may try again; whether there is a place for it is seen when it is its turn."""
        if not task.removed:
            assert task.due is not None
            heapq.heappush(self._heap, (task.due, next(self._order), task))
            self._ready.notify()

    def _work(self) -> None:
        with self._lock:
            while (task := self._next()) is not None:
                task.running, task.woken, task.due, task.told = True, False, None, False
                task.started = now = time.monotonic()
                self._running.add(task)
                self._enter(task)
                self._lock.release()
                delay: float | None = None
                try:
                    delay = task.job.run(now)
                except Exception:  # a worker's outermost frame: a defect in one job must not stop the others
                    log.exception("job failed, it is tried again: %r", task.job)
                    delay = 1.0
                finally:
                    self._lock.acquire()
                    self._running.discard(task)
                    self._leave(task)
                    task.running = False
                if task.removed or (delay is None and not task.woken):
                    continue
                # Without a notice: this very worker looks for work next, and calls others if there is more than one
                # task.
                task.due = time.monotonic() + (0.0 if task.woken or delay is None else delay)
                heapq.heappush(self._heap, (task.due, next(self._order), task))
            self._workers -= 1
            self._ready.notify()

    def _watch(self) -> None:
        while not self._stopped.wait(WATCHDOG_S):
            with self._lock:
                now = time.monotonic()
                waiting = self._heap and self._heap[0][0] <= now - WATCHDOG_S / 2
                if waiting and not self._idle and self._workers < MAX_WORKERS:
                    self._add_worker()
                for mount in {
                    mount for mount, _ in self._parked
                }:  # one that was called may have been removed, or have gone elsewhere
                    self._refill(mount)
                stuck = self._late(now)
            for task, seconds in stuck:
                try:
                    task.job.stuck(seconds)
                except Exception:  # the watchdog's outermost frame: the other jobs need it
                    log.exception("job could not be told that it hangs: %r", task.job)
            if stuck:
                self._sort_by_mount()

    def _late(self, now: float) -> list[tuple[_Task, float]]:
        """Those who have not been told yet that they hang, or that they wait behind those who do, and for how long."""
        running = ((task, task.started) for task in self._running)
        parked = ((task, task.due) for tasks in self._parked.values() for task in tasks if not task.removed)
        late = [
            (task, now - since)
            for task, since in itertools.chain(running, parked)
            if since is not None and now - since > task.job.patience_s and not task.told
        ]
        for task, _ in late:
            task.told = True
        return late

    def _sort_by_mount(self) -> None:
        """Count each task for the mount that it is on by now."""
        with self._lock:
            for task in self._running:
                if task.place is not None and task.place.mount != task.mount:
                    self._leave(task)
                    self._enter(task)
            for tasks in list(self._parked.values()):
                for _ in range(len(tasks)):
                    self._call(tasks.popleft())
            self._parked.clear()
