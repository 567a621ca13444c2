"""Programs that outlive the command that started them: etcd, the API server, the kubelet and their like.

Each gets a log and a record of its process id together with its start time, so that an id which meanwhile belongs to
another process is never taken for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from testcluster import settings
from testcluster.commands import Argument, environment
from testcluster.errors import CommandFailed, ProgramEnded

PROC = Path("/proc")


def start(name: str, command: Sequence[Argument]) -> None:
    """Starts a program in a session of its own, with its output in LOGS/NAME.log.

    It gets no descriptor of ours and a plain environment: no proxy or KUBECONFIG of the caller's may reach it. Not by
    `subprocess`, which takes a program that outlives us for a mistake.

    Raises:
        CommandFailed: there is no such program.
    """
    settings.LOGS.mkdir(parents=True, exist_ok=True)
    env = {key: value for key, value in environment().items() if key in {"PATH", "HOME", "LANG", "TZ"}}
    words = [str(word) for word in command]
    program = shutil.which(words[0], path=env["PATH"])
    if not program:
        raise CommandFailed(words, 127, "there is no such program")
    log = str(settings.LOGS / f"{name}.log")
    pid = os.posix_spawn(
        program,
        words,
        env,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    _record(name).parent.mkdir(parents=True, exist_ok=True)
    _record(name).write_text(json.dumps({"pid": pid, "started": _start_time(pid)}))


def is_running(name: str) -> bool:
    """Whether the program of that name, as we started it, is still there."""
    return _pid(name) is not None


def check_running(name: str) -> bool:
    """True, for use in a wait.

    Raises:
        ProgramEnded: waiting for it is in vain.
    """
    if is_running(name):
        return True
    raise ProgramEnded(name, (settings.LOGS / f"{name}.log").read_text(errors="replace"))


def recorded() -> dict[str, int]:
    """The process ids of all programs that we started and that still run."""
    names = sorted(path.stem for path in (settings.STATE / "pids").glob("*.json"))
    return {name: pid for name in names if (pid := _pid(name)) is not None}


def last_words(lines: int = 20) -> str:
    """The end of every program's log."""
    logs = sorted(settings.LOGS.glob("*.log"))
    return "\n".join(
        "\n".join([f"== {log.name}", *log.read_text(errors="replace").splitlines()[-lines:]]) for log in logs
    )


def kill(pids: Iterable[int], *, timeout_s: float = 10) -> None:
    """Kills processes and waits until they have gone, or until it gives up on one that the kernel holds."""
    left = list(pids)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while (left := [pid for pid in left if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process is there and not a zombie, which only waits for its parent."""
    _reap(pid)
    try:
        return _stat(pid)[0] not in {"Z", "X"}
    except OSError:
        return False


def all_pids() -> Iterator[int]:
    """Every process that can be seen."""
    return (int(path.name) for path in PROC.iterdir() if path.name.isdigit())


def command_line(pid: int) -> list[str]:
    """The words of a process's command line; empty for kernel threads and for processes that have gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _reap(pid: int) -> None:
    """Takes the status of a child of this very process, which otherwise stays a zombie until we end."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _record(name: str) -> Path:
    return settings.STATE / "pids" / f"{name}.json"


def _pid(name: str) -> int | None:
    try:
        record = json.loads(_record(name).read_text())
        pid, started = int(record["pid"]), int(record["started"])
        return pid if _start_time(pid) == started and is_alive(pid) else None
    except (OSError, ValueError, KeyError):
        return None


def _stat(pid: int) -> list[str]:
    """The fields of proc(5)'s stat from the third, the state, on: the second is a name that may hold anything."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _start_time(pid: int) -> int:
    """Clock ticks after boot at which a process started: field 22 of stat."""
    return int(_stat(pid)[19])
