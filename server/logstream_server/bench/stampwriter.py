"""Writes the log of `logstream bench`: stamped lines at an even rate, in a process of its own.

A process, since the reading of thousands of clients would hold up a thread. It appends until its standard input ends
(so it never outlives the bench), then says on standard output what it has done. Called by `bench`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from subprocess import PIPE, Popen
from typing import Final, NamedTuple

from .stamps import Stamp, encode_stamped, padding

_READY: Final = b"R"
_BEGIN: Final = b"B"
_TICK_S: Final = 0.002
"""The lines that are due within this time are written at once, as a busy program's buffered log is."""


class Written(NamedTuple):
    """What the writer has done; `late_s` is how far it was behind its rate at the end."""

    lines: int
    seconds: float
    late_s: float


class StampWriter:
    """The process, seen from `bench`."""

    def __init__(self, path: str, run: str, rate: float, line_bytes: int) -> None:
        """Start it; it waits for `begin`."""
        words = [sys.executable, "-m", "logstream_server.bench.stampwriter", path, run, str(rate), str(line_bytes)]
        package_folder = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
        search = os.pathsep.join(filter(None, (package_folder, os.environ.get("PYTHONPATH"))))
        self._process = Popen(words, stdin=PIPE, stdout=PIPE, env=os.environ | {"PYTHONPATH": search})  # noqa: S603 - our own module

    def begin(self) -> None:
        """Let it write, as soon as it is ready to."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdout.read(len(_READY))
        with suppress(BrokenPipeError):  # it has failed: `stop` says so
            self._process.stdin.write(_BEGIN)
            self._process.stdin.flush()

    def stop(self) -> Written:
        """End it; what it has written. Raises OSError when it has failed."""
        out, _ = self._process.communicate()
        if self._process.returncode:
            raise OSError("the process that writes the log has failed")
        return Written(*json.loads(out.removeprefix(_READY)))


def write_stamped(path: str, run: bytes, rate: float, line_bytes: int) -> Written:
    """Append `rate` lines a second until standard input ends."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    padded = padding(line_bytes)
    tick_s = max(_TICK_S, 1 / rate)
    os.write(1, _READY)
    if os.read(0, len(_BEGIN)) != _BEGIN:
        return Written(0, 0.0, 0.0)
    start = time.monotonic()
    seq = ticks = 0
    while not _ended(start + ticks * tick_s - time.monotonic()):
        ticks = max(ticks + 1, int((time.monotonic() - start) / tick_s))
        due = int((time.monotonic() - start) * rate) + 1
        if due > seq:
            now_ns = time.time_ns()
            _write(file, b"".join(encode_stamped(Stamp(run, each, now_ns), padded) for each in range(seq, due)))
            seq = due
    seconds = time.monotonic() - start
    return Written(seq, seconds, max(0.0, seconds - seq / rate))


def _ended(within_s: float) -> bool:
    return bool(select.select([0], [], [], max(within_s, 0))[0])


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def main() -> None:
    """Run the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends our standard input
    path, run, rate, line_bytes = sys.argv[1:]
    try:
        written = write_stamped(path, run.encode(), float(rate), int(line_bytes))
    except OSError as error:
        sys.exit(f"logstream: cannot write {path}: {error.strerror}")
    os.write(1, json.dumps(written).encode())


if __name__ == "__main__":
    main()
