"""Runs other programs to their end, and waits for things to become true. Long-lived programs: `processes`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from testcluster.errors import CommandFailed, NotReady

Argument = str | Path

PATIENCE: Final = 3
"""What is waited for gets so many times as long as an idle machine needs: a test must not fail for a busy one."""


def say(message: str) -> None:
    """Tells the person who waits what is being done; standard error, since standard output is for answers."""
    print(f"cluster: {message}", file=sys.stderr, flush=True)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our own environment with the system folders on PATH, where an unprivileged login may not have them."""
    path = os.environ.get("PATH", "")
    return {**os.environ, "PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin", **(extra or {})}


def run(
    command: Sequence[Argument],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> str:
    """Runs a command and returns its standard output.

    Raises:
        CommandFailed: its status is not 0 (127 where there is no such program), or it took longer than `timeout_s`.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=cwd,
            env=environment(env),
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandFailed(words, 127, str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(words, 124, f"it took longer than {timeout_s} s") from error
    if done.returncode:
        raise CommandFailed(words, done.returncode, done.stdout + done.stderr)
    return done.stdout


def wait_for(what: str, true: Callable[[], bool], *, timeout_s: float, hint: str = "", every_s: float = 0.2) -> None:
    """Looks until `true()` is; an error of a command or a connection is not yet, and is told if it never becomes true.

    Raises:
        NotReady: not within `timeout_s`, which is meant for an idle machine: PATIENCE times as long.
    """
    timeout_s *= PATIENCE
    end = time.monotonic() + timeout_s
    seen = ""
    while True:
        try:
            if true():
                return
            seen = ""
        except (CommandFailed, OSError) as error:
            seen = str(error)[-500:]
        if time.monotonic() > end:
            raise NotReady(what, timeout_s, "; ".join(part for part in (seen, hint) if part))
        time.sleep(every_s)
