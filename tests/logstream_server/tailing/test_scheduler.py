"""scheduler: every job gets its turn, however many others hang; real threads, and events instead of waiting."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest

from logstream_server.tailing.scheduler import MAX_WORKERS, SPARE_WORKERS, WATCHDOG_S, WORKERS_PER_MOUNT, Scheduler

from ..process import eventually

PATIENCE_S = 20.0
"""How long a test waits for what must come."""


class Work:
    """A job that does as it is told, and says when it does."""

    patience_s = 3.0

    def __init__(self, run: Callable[[int], float | None] = lambda _run: None) -> None:
        self._run = run
        self._changed = threading.Condition()
        self.runs = 0
        self.times: list[float] = []
        self.stuck_for: list[float] = []
        self.was_told = threading.Event()

    def run(self, now: float) -> float | None:
        with self._changed:
            self.runs += 1
            self.times.append(now)
            self._changed.notify_all()
        return self._run(self.runs)

    def stuck(self, seconds: float) -> None:
        self.stuck_for.append(seconds)
        self.was_told.set()

    def wait_for(self, runs: int, within_s: float = PATIENCE_S) -> bool:
        """Wait until it has begun so many times."""
        with self._changed:
            return self._changed.wait_for(lambda: self.runs >= runs, within_s)


class Hanging(Work):
    """A job in a dead mount: each run lasts until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        super().__init__(lambda _run: self.let_go.wait(PATIENCE_S) and None)


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()
    eventually(lambda: scheduler._workers == 0, "the end of all workers")


# -- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_runs_again_when_it_asks_to(scheduler: Scheduler) -> None:
    job = Work(lambda run: 0.02 if run < 4 else None)
    begun = time.monotonic()
    scheduler.add(job)
    assert job.wait_for(4)
    assert job.times == sorted(job.times)
    assert job.times[0] >= begun - 0.001
    assert job.times[3] - job.times[0] >= 0.06
    assert not job.wait_for(5, 0.05)


def test_a_job_with_more_to_do_lets_the_others_have_their_turn(scheduler: Scheduler) -> None:
    busy = [Work(lambda run: 0.0 if run < 5000 else None) for _ in range(8)]
    for job in busy:
        scheduler.add(job)
    late = Work()
    scheduler.add(late)
    assert late.wait_for(1)
    for job in busy:
        assert job.wait_for(5000)


def test_a_job_that_asks_for_nothing_waits_to_be_woken(scheduler: Scheduler) -> None:
    job = Work()
    scheduler.add(job)
    assert job.wait_for(1)
    eventually(lambda: not scheduler._running)
    for runs in (2, 3):
        scheduler.wake(job)
        assert job.wait_for(runs)
        eventually(lambda: not scheduler._running)


def test_a_wake_comes_before_the_time_that_the_job_asked_for(scheduler: Scheduler) -> None:
    job = Work(lambda _run: 3600.0)
    scheduler.add(job)
    assert job.wait_for(1)
    eventually(lambda: not scheduler._running)
    scheduler.wake(job)
    assert job.wait_for(2)


def test_a_wake_does_not_push_a_job_back_that_is_due(scheduler: Scheduler) -> None:
    """Nor does it count twice."""
    blockers = [Hanging() for _ in range(SPARE_WORKERS)]
    for blocker in blockers:
        scheduler.add(blocker)
        assert blocker.wait_for(1)
    job = Work()
    scheduler.add(job)
    for _ in range(10):
        scheduler.wake(job)
    for blocker in blockers:
        blocker.let_go.set()
    assert job.wait_for(1)
    assert not job.wait_for(2, 0.05)


def test_a_job_that_is_woken_while_it_runs_runs_once_more(scheduler: Scheduler) -> None:
    """What it was woken for may have come after it looked; ten times are one reason."""
    job = Hanging()
    scheduler.add(job)
    assert job.wait_for(1)
    for _ in range(10):
        scheduler.wake(job)
    job.let_go.set()
    assert job.wait_for(2)
    assert not job.wait_for(3, 0.05)


def test_a_job_never_runs_twice_at_once(scheduler: Scheduler) -> None:
    busy = threading.Lock()
    overlaps = []

    def run(_number: int) -> float | None:
        if not busy.acquire(blocking=False):
            overlaps.append(1)
            return None
        time.sleep(0.0005)
        busy.release()
        return 0.0005

    job = Work(run)
    scheduler.add(job)
    done = threading.Event()

    def wake() -> None:
        while not done.is_set():
            scheduler.wake(job)

    threads = [threading.Thread(target=wake) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert job.wait_for(200)
    done.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not overlaps


def test_a_job_that_fails_is_tried_again_and_stops_no_other(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    def run(number: int) -> float | None:
        if number == 1:
            raise ValueError("no luck")
        return None

    job, other = Work(run), Work(lambda run: 0.01 if run < 20 else None)
    scheduler.add(job)
    scheduler.add(other)
    assert other.wait_for(20)
    assert job.wait_for(2)
    assert job.times[1] - job.times[0] >= 1.0
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "no luck" in caplog.text


def test_jobs_that_are_there_before_the_start_begin_with_it() -> None:
    scheduler, job = Scheduler(), Work()
    scheduler.add(job)
    assert not job.wait_for(1, 0.02)
    scheduler.start()
    assert job.wait_for(1)
    scheduler.stop()
    eventually(lambda: scheduler._workers == 0)


# -- removing ---------------------------------------------------------------------------------------------------------


def test_a_job_that_was_removed_runs_no_more(scheduler: Scheduler) -> None:
    job = Work(lambda _run: 0.001)
    scheduler.add(job)
    assert job.wait_for(3)
    scheduler.remove(job)
    eventually(lambda: not scheduler._running)
    runs = job.runs
    scheduler.wake(job)
    assert not job.wait_for(runs + 1, 0.05)


def test_a_job_that_is_removed_while_it_runs_ends_with_that_run(scheduler: Scheduler) -> None:
    job = Hanging()
    scheduler.add(job)
    assert job.wait_for(1)
    scheduler.wake(job)
    scheduler.remove(job)
    scheduler.remove(job)
    job.let_go.set()
    assert not job.wait_for(2, 0.05)


def test_a_job_that_was_never_added_is_not_run() -> None:
    scheduler, job = Scheduler(), Work()
    scheduler.wake(job)
    scheduler.remove(job)
    assert not scheduler._heap


# -- hanging ----------------------------------------------------------------------------------------------------------


def test_jobs_that_hang_do_not_stop_the_others_and_leave_no_threads_behind(scheduler: Scheduler) -> None:
    """As many mounts may be dead as they like: it costs the others a look of the watchdog each."""
    hanging = [Hanging() for _ in range(10)]
    for job in hanging:
        scheduler.add(job)
    for job in hanging:
        assert job.wait_for(1)
    healthy = Work(lambda run: 0.01 if run < 20 else None)
    begun = time.monotonic()
    scheduler.add(healthy)
    assert healthy.wait_for(20)
    assert time.monotonic() - begun < 10 * WATCHDOG_S + 2.0
    assert scheduler.submit(lambda: "read").result(PATIENCE_S) == "read"
    assert scheduler._workers > len(hanging)
    for job in hanging:
        job.let_go.set()
    eventually(lambda: scheduler._workers <= SPARE_WORKERS, "the end of workers that are not needed")
    scheduler.wake(healthy)
    assert healthy.wait_for(21)


def test_a_job_that_hangs_is_told_once_a_run_and_so_is_every_other(scheduler: Scheduler) -> None:
    """Also when one of them cannot bear to be told. A call that hangs is nobody's job: whoever waits for it knows."""

    class Sensitive(Hanging):
        def stuck(self, seconds: float) -> None:
            super().stuck(seconds)
            raise ValueError("not now")

    jobs = [Sensitive(), Hanging(), Sensitive()]
    jobs[0].patience_s = 1.0
    quick = Work(lambda _run: 0.01)
    let_go = threading.Event()
    call = scheduler.submit(lambda: let_go.wait(PATIENCE_S))
    for job in (*jobs, quick):
        scheduler.add(job)
    for job in jobs:
        assert job.was_told.wait(PATIENCE_S)
    assert quick.wait_for(quick.runs + 20)
    for job in jobs:
        assert len(job.stuck_for) == 1
        assert job.patience_s < job.stuck_for[0] < job.patience_s + 5.0
        job.let_go.set()
    assert not quick.stuck_for
    let_go.set()
    assert call.result(PATIENCE_S)


class Place:
    """What jobs work on."""

    def __init__(self, mount: str) -> None:
        self.mount = mount


def test_one_dead_mount_takes_no_more_than_its_share_of_the_workers(scheduler: Scheduler) -> None:
    """However many jobs hang there, and however many more wait for their turn; all of them are told, and all go on
    when it answers."""
    dead, well = Place("0:66"), Place("8:1")
    hanging = [Hanging() for _ in range(MAX_WORKERS + 50)]
    for job in hanging:
        scheduler.add(job, dead)
    eventually(lambda: sum(job.runs for job in hanging) == WORKERS_PER_MOUNT)
    healthy = Work(lambda run: 0.01 if run < 20 else None)
    scheduler.add(healthy, well)
    assert healthy.wait_for(20)
    assert scheduler.submit(lambda: "read", well).result(PATIENCE_S) == "read"
    for job in hanging:
        assert job.was_told.wait(PATIENCE_S)
    assert scheduler._workers <= WORKERS_PER_MOUNT + SPARE_WORKERS + 1
    assert sum(job.runs for job in hanging) == WORKERS_PER_MOUNT
    for job in hanging[: len(hanging) // 2]:
        scheduler.remove(job)
    for job in hanging:
        job.let_go.set()
    for job in hanging[len(hanging) // 2 :]:
        assert job.wait_for(1)
    eventually(lambda: scheduler._workers <= SPARE_WORKERS)
    assert not scheduler._parked
    assert not scheduler._busy


def test_calls_to_a_dead_mount_wait_as_jobs_do(scheduler: Scheduler) -> None:
    let_go = threading.Event()
    calls = [scheduler.submit(lambda: let_go.wait(PATIENCE_S), Place("0:66")) for _ in range(100)]
    assert scheduler.submit(lambda: 7, Place("8:1")).result(PATIENCE_S) == 7
    assert sum(call.running() for call in calls) <= WORKERS_PER_MOUNT
    let_go.set()
    assert all(call.result(PATIENCE_S) for call in calls)


def test_a_job_that_hangs_elsewhere_than_it_was_thought_to_be_frees_its_place(scheduler: Scheduler) -> None:
    """A link was changed, so that the jobs of a healthy mount hang in a dead one: once they are told, those who are
    really on the healthy one go on."""

    class Mistaken(Hanging):
        mount = "8:1"

        def stuck(self, seconds: float) -> None:
            self.mount = "0:66"
            super().stuck(seconds)

    mistaken = [Mistaken() for _ in range(3 * WORKERS_PER_MOUNT)]
    for job in mistaken:
        scheduler.add(job, job)
    eventually(lambda: sum(job.runs for job in mistaken) == WORKERS_PER_MOUNT)
    healthy = Work(lambda run: 0.01 if run < 20 else None)
    scheduler.add(healthy, Place("8:1"))
    assert healthy.wait_for(20)
    eventually(lambda: all(job.mount == "0:66" for job in mistaken) and not scheduler._busy["8:1"])
    assert sum(job.runs for job in mistaken) <= 2 * WORKERS_PER_MOUNT  # some followed before they were told
    for job in mistaken:
        job.let_go.set()
    for job in mistaken:
        assert job.wait_for(1)


# -- calls ------------------------------------------------------------------------------------------------------------


def test_a_call_gives_its_result_or_its_error(scheduler: Scheduler) -> None:
    def fail() -> None:
        raise OSError(5, "the mount is gone")

    assert scheduler.submit(lambda: 42).result(PATIENCE_S) == 42
    with pytest.raises(OSError, match="the mount is gone"):
        scheduler.submit(fail).result(PATIENCE_S)
    assert scheduler.submit(lambda: 43).result(PATIENCE_S) == 43


def test_calls_run_beside_each_other(scheduler: Scheduler) -> None:
    meeting = threading.Barrier(SPARE_WORKERS + 2)
    calls: list[Future[int]] = [scheduler.submit(lambda: meeting.wait(PATIENCE_S)) for _ in range(SPARE_WORKERS + 2)]
    assert sorted(call.result(PATIENCE_S) for call in calls) == list(range(SPARE_WORKERS + 2))


def test_a_call_that_nobody_wants_any_more_is_not_made() -> None:
    scheduler = Scheduler()
    made: list[int] = []
    call = scheduler.submit(lambda: made.append(1))
    last = scheduler.submit(lambda: made.append(2))
    assert call.cancel()
    scheduler.start()
    last.result(PATIENCE_S)
    assert made == [2]
    with pytest.raises(CancelledError):
        call.result(0)
    scheduler.stop()
    eventually(lambda: scheduler._workers == 0)


# -- the end ----------------------------------------------------------------------------------------------------------


def test_after_the_end_nothing_begins_and_nothing_is_waited_for() -> None:
    scheduler = Scheduler()
    scheduler.start()
    hanging = Hanging()
    scheduler.add(hanging)
    assert hanging.wait_for(1)
    scheduler.stop()
    late = Work()
    scheduler.add(late)
    assert not late.wait_for(1, 0.05)
    hanging.let_go.set()
    eventually(lambda: scheduler._workers == 0)
    assert hanging.runs == 1


def test_what_clients_ask_for_leaves_a_mount_to_those_who_look_at_its_files(scheduler: Scheduler) -> None:
    """However many slow reads there are, and however long they take."""
    go_on, look = threading.Event(), Work(lambda _run: 0.001)
    place = Place("8:1")
    reads = [scheduler.submit(lambda: go_on.wait(PATIENCE_S), place) for _ in range(3 * WORKERS_PER_MOUNT)]
    try:
        scheduler.add(look, place)
        assert look.wait_for(10)
        assert not any(read.done() for read in reads)
    finally:
        go_on.set()
    assert all(read.result(PATIENCE_S) for read in reads)
    scheduler.remove(look)
