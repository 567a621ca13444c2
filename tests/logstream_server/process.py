"""The real server as a process, for tests that look at it from outside; the fixture that starts it is in conftest."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

SERVER = Path(__file__).parents[2] / "server"
DEADLINE_S = 20.0
"""How long anything may take before a test gives up: far more than it needs on a busy machine."""


def eventually(check: Callable[[], T], what: str = "", within_s: float = DEADLINE_S) -> T:
    """What `check` returns as soon as that is true (an AssertionError counts as not yet); fails after the deadline."""
    end = time.monotonic() + within_s
    while True:
        failure: AssertionError | None = None
        try:
            found = check()
        except AssertionError as error:
            failure = error
        else:
            if found:
                return found
        if time.monotonic() > end:
            raise failure or AssertionError(f"not within {within_s:g} s: {what or check}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class Server:
    """One process of `logstream serve`. `url` ends with a slash; `log_path`: what it writes to standard error; `trust`:
    whom its visitors trust, where it speaks TLS."""

    url: str
    process: subprocess.Popen[bytes]
    log_path: Path
    trust: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        """Where it listens."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.url).port or 0

    @property
    def metrics_port(self) -> int:
        """Where it answers about its health, when that is a port of its own."""
        line = eventually(lambda: next((x for x in self.log.splitlines() if "health and metrics at" in x), ""))
        return urlsplit(line.rpartition(" ")[2]).port or 0

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self.log_path.read_text(errors="replace")

    @property
    def ws_url(self) -> str:
        """The address of its socket."""
        return "ws" + self.url.removeprefix("http") + "ws"

    def get(
        self, path: str, *, method: str = "GET", port: int | None = None, body: str | None = None, **headers: str
    ) -> Answer:
        """Ask for a path as it is, from the root. Headers: `if_none_match="..."`."""
        connection = http.client.HTTPConnection(self.host, port or self.port, timeout=DEADLINE_S)
        if self.trust is not None and port in (None, self.port):
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=DEADLINE_S, context=self.trust)
        with contextlib.closing(connection):
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def stop(self) -> int:
        """SIGTERM; returns the exit status when it has ended by itself."""
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def dispose(self) -> None:
        """After the test."""
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


def command(arguments: Iterable[str | Path]) -> tuple[list[bytes], dict[str, str]]:
    """The command line and the environment of `logstream` with these arguments."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOGSTREAM_")}
    environment["PYTHONPATH"] = str(SERVER)
    return [os.fsencode(word) for word in (sys.executable, "-m", "logstream_server", *arguments)], environment


@contextlib.contextmanager
def few_descriptors(left: int = 0) -> Iterator[None]:
    """At most so many more files can be open at one time in this process: the fault itself, not a picture of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        open_now = {int(name) for name in os.listdir("/proc/self/fd")}
        while (number := os.dup(0)) < max(open_now):  # no number below is free
            taken.callback(os.close, number)
        os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (number + left, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def start_server(log_path: Path, *arguments: str | Path, open_files: int | None = None) -> Server:
    """Start `logstream serve` on a free port with these paths and options; returns once it has printed its address.
    `open_files`: how many it may have."""
    words, environment = command(("serve", "--port", "0", "--drain", "0.2", *arguments))
    if open_files is not None:
        words = [b"sh", b"-c", b'ulimit -n "$1"; shift; exec "$@"', b"sh", b"%d" % open_files, *words]
    with log_path.open("wb") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env=environment)
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    if not url.startswith(("http://", "https://")):
        process.kill()
        process.wait()
        process.stdout.close()
        raise AssertionError(f"the server did not start: {log_path.read_text(errors='replace')}")
    return Server(url, process, log_path)
