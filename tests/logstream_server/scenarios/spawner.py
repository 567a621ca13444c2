"""Starts servers that begin as copies of one process that has imported all of the server's code.

Importing takes half a second of a core, and this suite starts a server for almost every test. What starts is the
program itself, `logstream` with arguments, in a process of its own; the other end, in the process that is copied, is
nursery.py. With a command in front (`prefix` in the harness) a server goes through the interpreter's own start.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final, Protocol

NURSERY: Final = Path(__file__).with_name("nursery.py")
SERVER: Final = Path(__file__).parents[3] / "server"
MESSAGE_BYTES: Final = 1 << 16


class Process(Protocol):
    """The part of subprocess.Popen that the suite uses."""

    pid: int
    returncode: int | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """The exit status (negative: a signal), None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int) -> None:
        """If it still runs."""

    def terminate(self) -> None:
        """SIGTERM."""

    def kill(self) -> None:
        """SIGKILL."""


def server_environment() -> dict[str, str]:
    """The environment of a server: ours, without what would be options to it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOGSTREAM_")}
    environment["PYTHONPATH"] = str(SERVER)
    return environment


class Spawner:
    """The process that servers are copied from; one for a whole run of tests."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command: list[str | Path] = [sys.executable, NURSERY]
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), env=server_environment())
        self._ended: dict[int, int] = {}

    def start(self, arguments: list[bytes], log: IO[bytes]) -> Process:
        """Start `logstream` with these arguments; its standard error goes to `log`."""
        reading, writing = os.pipe()
        request = json.dumps([os.fsdecode(argument) for argument in arguments]).encode()
        socket.send_fds(self._socket, [request], [writing, log.fileno()])
        os.close(writing)
        while (pid := self._receive()) is None:
            pass
        self._ended.pop(pid, None)
        return _Spawned(self, pid, os.fdopen(reading, "rb"))

    def status(self, pid: int, timeout_s: float) -> int | None:
        """The exit status of a process, None when it has not ended within the time."""
        end = time.monotonic() + timeout_s
        while pid not in self._ended:
            left = max(0.0, end - time.monotonic())
            if not select.select([self._socket], [], [], left)[0]:
                break
            self._receive()
        return self._ended.get(pid)

    def _receive(self) -> int | None:
        """The next answer: the number of a process that began, which is returned, or the status of one that ended."""
        message = self._socket.recv(MESSAGE_BYTES)
        assert message, "the process that starts servers has ended"
        answer: dict[str, int] = json.loads(message)
        if "began" in answer:
            return answer["began"]
        self._ended[answer["ended"]] = answer["status"]
        return None

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()


class _Spawned:
    """A process that the spawner started and waits for."""

    def __init__(self, spawner: Spawner, pid: int, stdout: IO[bytes]) -> None:
        self._spawner = spawner
        self.pid = pid
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._spawner.status(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = self._spawner.status(self.pid, 1e9 if timeout is None else timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(["logstream"], timeout or 0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
