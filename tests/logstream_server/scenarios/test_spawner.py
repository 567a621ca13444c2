"""The spawner: what it starts is the program itself, in a process of its own, and how that ended is known."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .spawner import Process, Spawner, server_environment
from .wire import DEADLINE_S


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    """One of this module's own: it is closed, too."""
    spawner = Spawner()
    yield spawner
    spawner.close()
    assert spawner._process.returncode == 0


class Program:
    """`logstream` with these arguments; `log`: what it wrote to standard error."""

    def __init__(self, spawner: Spawner, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process: Process = spawner.start([os.fsencode(each) for each in arguments], file)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def read(self) -> str:
        """All that it writes to standard output."""
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            return stdout.read().decode()

    def wait_ready(self) -> None:
        """Until it has printed its address."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith(b"http://"), self.log

    def ended(self) -> int:
        """Its status when it has ended."""
        status = self.process.wait(DEADLINE_S)
        assert self.process.poll() == self.process.returncode == status
        return status


def serve(spawner: Spawner, tmp_path: Path, name: str = "app") -> Program:
    return Program(spawner, tmp_path / f"{name}.err", "serve", "--port", "0", str(tmp_path / f"{name}.log"))


def test_what_it_prints_and_how_it_ended_are_the_programs_own(spawner: Spawner, tmp_path: Path) -> None:
    version = Program(spawner, tmp_path / "version", "--version")
    assert version.read().startswith("logstream ")
    assert version.ended() == 0
    wrong = Program(spawner, tmp_path / "wrong", "serve", "--no-such-option")
    assert wrong.read() == ""
    assert wrong.ended() == 2
    assert "--no-such-option" in wrong.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_runs_until_it_gets_a_signal(spawner: Spawner, tmp_path: Path, number: signal.Signals) -> None:
    server = serve(spawner, tmp_path)
    server.wait_ready()
    assert server.process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(0.01)
    server.process.send_signal(number)
    assert server.ended() in (0, -number)
    server.process.send_signal(number)  # it has ended: nobody else gets it
    server.read()


def test_of_several_each_has_its_own_end(spawner: Spawner, tmp_path: Path) -> None:
    servers = [serve(spawner, tmp_path, name) for name in ("a", "b", "c")]
    for server in servers:
        server.wait_ready()
    assert len({server.process.pid for server in servers}) == 3
    for server in reversed(servers):
        server.process.kill()
        assert server.ended() == -signal.SIGKILL
        assert [each.process.poll() is None for each in servers] == [
            each.process.returncode is None for each in servers
        ]
        server.read()


def test_no_descriptor_is_left(spawner: Spawner, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for number in range(3):
        program = Program(spawner, tmp_path / f"{number}", "--version")
        program.read()
        program.ended()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_would_be_an_option_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSTREAM_PORT", "1")
    monkeypatch.setenv("SOME_OTHER", "1")
    environment = server_environment()
    assert "LOGSTREAM_PORT" not in environment
    assert environment["SOME_OTHER"] == "1"
