"""demo: the program itself, from its address to the empty folder that it leaves."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import connect

from logstream_server.demo.demo import write_lively
from logstream_server.demo.demooptions import DemoOptions

from ..process import DEADLINE_S, command, eventually


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo whose temporary folders are below a folder, and its address; Ctrl-C ends it."""
    words, environment = command(("demo", "--port", "0", *arguments))
    environment["TMPDIR"] = str(folder)
    said = folder.with_name(folder.name + "-said")
    with said.open("w") as log:
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        yield process, url
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)


def test_a_demo_is_served_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, "--rate", "50") as (process, url):
        with connect("ws" + url.removeprefix("http") + "ws?from=start") as socket:
            for _ in range(40):
                assert socket.recv(timeout=DEADLINE_S)
        assert len(list(tmp_path.iterdir())) == 1
    said = (tmp_path.with_name(tmp_path.name + "-said")).read_text()
    assert "open the address below in a browser" in said
    assert f"logstream tail {url}\n" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert process.returncode in (0, 130)


def test_a_demo_that_keeps_its_log_says_where(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep"):
        pass
    (folder,) = tmp_path.iterdir()
    assert f"the log is in {folder}\n" in (tmp_path.with_name(tmp_path.name + "-said")).read_text()
    assert (folder / "app.log").stat().st_size > 0


def test_a_port_that_is_taken_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    other = tmp_path.with_name(tmp_path.name + "-other")
    other.mkdir()
    with demo(other) as (_, url):
        words, environment = command(("demo", "--port", url.rstrip("/").rpartition(":")[2]))
        environment["TMPDIR"] = str(tmp_path)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("logstream: cannot listen on 127.0.0.1 port ")
    assert list(tmp_path.iterdir()) == []


def test_the_log_is_rotated_now_and_then(tmp_path: Path) -> None:
    log, stop = tmp_path / "app.log", threading.Event()
    writer = threading.Thread(target=write_lively, args=(log, DemoOptions(rate=1000, rotate_after=20), stop))
    writer.start()
    try:
        eventually(lambda: log.with_name("app.log.1").exists())
    finally:
        stop.set()
        writer.join()
