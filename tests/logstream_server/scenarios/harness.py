"""The real server as a process, and a folder to write logs into: what the tests of this suite work with.

A `Site` is one folder seen from two sides. Where the server reads a local file system they are one folder; where it
reads a remote one, the writer works on the folder itself and the server sees it through a FUSE mount, as a pod sees
its host's.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import random
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self
from urllib.parse import quote, urlencode

import pytest

from .spawner import Process, Spawner, server_environment
from .wire import DEADLINE_S, Client

QUICK: Final = ("--poll-interval", "0.05", "--rotate-wait", "0.5", "--partial-after", "0.3", "--drain", "0.2")
"""Options that make waits short; a test that needs another value gives the option again."""
GLANCE_S: Final = 0.15
"""Three looks at a polled file: so that it is seen as it is now. No wait for lines: those have to come."""


two_modes = pytest.mark.modes("notify", "remote")
"""For what has little to do with how a server learns that it should look: a remote file is polled, too."""
one_mode = pytest.mark.modes("notify")
"""For what has nothing to do with how files are looked at, or brings a file system of its own."""

also_tls = pytest.mark.modes("notify", "tls")
two_modes_and_tls = pytest.mark.modes("notify", "remote", "tls")
"""For what becomes of clients between the hub and the wire, with and without a remote file."""


@dataclass(frozen=True)
class Site:
    """`write`: the folder for the writer; `read`: for the server; `mount`: the FUSE mount between them, if any."""

    write: Path
    read: Path
    mount: Mount | None = None

    @property
    def is_remote(self) -> bool:
        """Whether the server reads through a remote file system: files are opened by name for each look."""
        return self.mount is not None


# -- the server ----------------------------------------------------------------------------------


@dataclass
class Server:
    """One process of `logstream serve` and the clients that the test has opened. `trust`: whom they trust, with TLS."""

    process: Process
    address: tuple[str, int]
    log_path: Path
    trust: ssl.SSLContext | None = None
    clients: list[Client] = field(default_factory=list)

    # -- clients ----------------------------------------------------------------------------------

    def client(self, **options: Any) -> Client:
        """A new client; see Client. Plain, unless the options say otherwise."""
        client = Client(self.address, trust=self.trust, **options)
        self.clients.append(client)
        return client

    def json(self, **options: Any) -> Client:
        """A new client that speaks JSON and has got its hello."""
        client = self.client(format="json", **options)
        assert client.hello["type"] == "hello"
        return client

    def raw(self, **options: Any) -> Client:
        """A new client that gets the file's own bytes."""
        return self.client(format="raw", **options)

    def get(self, path: str, **query: object) -> tuple[int, bytes]:
        """Status and body of a GET."""
        connection = http.client.HTTPConnection(*self.address, timeout=DEADLINE_S)
        if self.trust is not None:
            connection = http.client.HTTPSConnection(*self.address, timeout=DEADLINE_S, context=self.trust)
        with contextlib.closing(connection):
            connection.request("GET", path + (f"?{urlencode(query, doseq=True)}" if query else ""))
            answer = connection.getresponse()
            return answer.status, answer.read()

    def rest(self, stream: str, what: str = "", **query: object) -> dict[str, Any]:
        """A JSON answer about a stream: `what` is "" or "lines"."""
        path = f"/api/v1/streams/{quote(stream, safe='')}" + (f"/{what}" if what else "")
        status, body = self.get(path, **query)
        assert status == 200, (status, body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def streams(self) -> list[dict[str, Any]]:
        """All streams, as a client that just came is told of them."""
        with Client(self.address, format="json", tail=0, trust=self.trust) as client:
            found: list[dict[str, Any]] = client.hello["streams"]
        return found

    def state(self, stream: str) -> dict[str, Any]:
        """One of them."""
        return next(each for each in self.streams() if each["name"] == stream)

    def wait_state(self, stream: str, state: str) -> dict[str, Any]:
        """Until a stream is in that state."""
        wait_until(lambda: self.state(stream)["state"] == state, f"{stream} {state}")
        return self.state(stream)

    def wait_seen(self, stream: str, path: Path) -> None:
        """Until the server has seen the file as it is now."""
        stat = path.stat()
        now = {"size": stat.st_size, "mtime": stat.st_mtime_ns / 1e9}
        wait_until(lambda: now.items() <= self.state(stream).items(), f"a look at {path.name}")

    def wait_streams(self, *names: str) -> None:
        """Until there are exactly these."""
        wait_until(lambda: sorted(s["name"] for s in self.streams()) == sorted(names), f"the streams {names}")

    # -- the process ------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self.log_path.read_text(errors="replace")

    @property
    def rss_bytes(self) -> int:
        """Memory that it has now."""
        return _proc_field(self.process.pid, "status", "VmRSS:") * 1024

    @property
    def read_bytes(self) -> int:
        """Bytes that it has read so far, from files mostly."""
        return _proc_field(self.process.pid, "io", "rchar:")

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def descriptors(self) -> int:
        """How many files, sockets and so on it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def watches(self) -> int:
        """How many inotify watches it has."""
        count = 0
        for path in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += path.read_text().count("inotify wd:")
        return count

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """It does nothing meanwhile: all that is done to the files happens between two of its looks."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM; it must end by itself."""
        self.process.terminate()
        self._ended("SIGTERM")
        assert self.process.returncode in (0, -signal.SIGTERM), f"ended with {self.process.returncode}: {self.log}"

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self._ended("SIGKILL")

    def _ended(self, signal_name: str) -> None:
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not end on {signal_name}: {self.log}") from None

    def dispose(self) -> None:
        """After the test: end it, and let nothing that went wrong inside go unseen."""
        for client in self.clients:
            client.cut()
        if self.process.poll() is None:
            self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert "Traceback" not in self.log, self.log


def start_server(
    spawner: Spawner,
    log_path: Path,
    *arguments: str | Path,
    prefix: Sequence[str] = (),
    trust: ssl.SSLContext | None = None,
) -> Server:
    """Start `logstream serve` with QUICK options and `arguments`, on a free port; returns when it answers.

    `prefix`: a command that runs the one that follows it. `trust`: the arguments have it speak TLS.
    """
    words = [b"serve", b"--port", b"0", *map(os.fsencode, QUICK), *map(os.fsencode, arguments)]
    with log_path.open("wb") as log:
        process = _execute(prefix, words, log) if prefix else spawner.start(words, log)
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], DEADLINE_S)[0]:
        process.kill()
    url = process.stdout.readline().decode()
    scheme = "http://" if trust is None else "https://"
    assert url.startswith(scheme), f"the server did not start: {log_path.read_text()}"
    host, _, port = url.strip().removeprefix(scheme).rstrip("/").rpartition(":")
    server = Server(process, (host, int(port)), log_path, trust)
    server.get("/")
    return server


def _execute(prefix: Sequence[str], words: list[bytes], log: IO[bytes]) -> Process:
    command: list[str | bytes] = [*prefix, sys.executable, "-m", "logstream_server", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=server_environment())


def _proc_field(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(name)


# -- waiting -------------------------------------------------------------------------------------


def wait_until(done: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Ask again and again, ever more seldom."""
    end = time.monotonic() + timeout_s
    pause = 0.005
    while not done():
        assert time.monotonic() < end, f"{what}: has not come"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def glance() -> None:
    """Let the server see the files as they are now."""
    time.sleep(GLANCE_S)


# -- writing -------------------------------------------------------------------------------------


def numbered(prefix: str, count: int, first: int = 1, width: int = 0) -> list[str]:
    """Different lines: `prefix 1`, `prefix 2`…; `width`: padded to so many characters."""
    return [f"{prefix} {number}".ljust(width, ".") for number in range(first, first + count)]


def as_bytes(lines: list[str]) -> bytes:
    """As they stand in a file."""
    return "".join(f"{line}\n" for line in lines).encode()


def write(path: Path, *lines: str) -> None:
    """Make the file anew with these lines, under its name (`>`)."""
    path.write_bytes(as_bytes(list(lines)))


def append(path: Path, *lines: str) -> None:
    """One write of whole lines to its end (`>>`)."""
    append_bytes(path, as_bytes(list(lines)))


def append_bytes(path: Path, data: bytes) -> None:
    """One write to its end."""
    with path.open("ab", 0) as file:
        file.write(data)


class Writer:
    """A program that holds its log open: it goes on writing to the same file whatever becomes of the name."""

    def __init__(self, path: Path, mode: str = "ab") -> None:
        self._file = path.open(mode, 0)

    def write(self, *lines: str) -> None:
        """One write of whole lines."""
        self.write_bytes(as_bytes(list(lines)))

    def write_bytes(self, data: bytes) -> None:
        """One write."""
        self._file.write(data)

    def seek(self, offset: int) -> None:
        """Go on there (a writer that does not append)."""
        self._file.seek(offset)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def replace_by_rename(path: Path, *lines: str) -> None:
    """Make the new content beside the file, then rename it over the name, as editors and `mv` do."""
    beside = path.with_name(f"new-{path.name}")
    write(beside, *lines)
    beside.rename(path)


def rotate(path: Path, kept: int | None = None) -> None:
    """As logrotate does: PATH.1 becomes PATH.2 and so on, PATH becomes PATH.1. `kept`: delete those beyond."""
    numbers = [int(p.suffix[1:]) for p in path.parent.glob(f"{path.name}.*") if p.suffix[1:].isdecimal()]
    for number in sorted(numbers, reverse=True):
        old = path.with_name(f"{path.name}.{number}")
        if kept is not None and number >= kept:
            old.unlink()
        else:
            old.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))


def copytruncate(path: Path, name: str | None = None) -> None:
    """As logrotate's copytruncate does, with nothing written in between."""
    shutil.copyfile(path, path.with_name(name or f"{path.name}.1"))
    os.truncate(path, 0)


def seeded(seed: int) -> random.Random:
    """Random numbers that a failing test can have again."""
    return random.Random(seed)  # noqa: S311 - not for secrets


# -- a remote file system ------------------------------------------------------------------------


class Mount:
    """`source` seen at `target` through bindfs, which can hang and die. `fresh`: no attribute is cached."""

    def __init__(self, source: Path, target: Path, *, fresh: bool = True) -> None:
        self.source, self.target = source, target
        target.mkdir(exist_ok=True)
        cache = "attr_timeout=0,entry_timeout=0,negative_timeout=0" if fresh else "attr_timeout=1,entry_timeout=1"
        command = ["bindfs", "-f", "-o", cache, str(source), str(target)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE)
        wait_until(lambda: self.is_mounted or self._process.poll() is not None, "the mount")
        if not self.is_mounted:
            assert self._process.stderr is not None
            raise OSError(f"bindfs: {self._process.stderr.read().decode()}")

    @property
    def is_mounted(self) -> bool:
        """Whether the kernel has it."""
        return f" {self.target} " in Path("/proc/self/mounts").read_text()

    def hang(self) -> None:
        """Answer nothing any more."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def die(self) -> None:
        """End without unmounting: every call fails from now on (ENOTCONN)."""
        self._process.kill()
        self._process.wait()

    def unmount(self) -> None:
        """Take it away, whatever its state."""
        if self._process.poll() is None:
            self.go_on()
        run("fusermount3", "-u", "-z", str(self.target))
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.die()
        assert self._process.stderr is not None
        self._process.stderr.close()


@functools.cache
def why_no_mount() -> str | None:
    """Why this machine cannot have a FUSE mount of the test's own; None when it can."""
    if os.geteuid() != 0:
        return "needs root, for a FUSE mount of its own"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    for command in ("bindfs", "fusermount3"):
        if shutil.which(command) is None:
            return f"needs {command} (apt-get install {'fuse3' if command != 'bindfs' else command})"
    return None


@contextlib.contextmanager
def mounted(source: Path, target: Path, *, fresh: bool = True) -> Iterator[Mount]:
    """A mount for as long as the context lasts."""
    mount = Mount(source, target, fresh=fresh)
    try:
        yield mount
    finally:
        mount.unmount()


def run(command: str, *arguments: str, folder: Path | None = None) -> str | None:
    """Run a program of the system; None when it succeeded, else what it said."""
    path = shutil.which(command)
    if path is None:
        return f"there is no {command}"
    done = subprocess.run([path, *arguments], cwd=folder, check=False, capture_output=True, text=True)
    return done.stderr.strip() or f"status {done.returncode}" if done.returncode else None


def free_port() -> int:
    """A port that was free a moment ago, for a server that must come back to the same one."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
