"""The documentation's commands: those marked with a comment `run` are run, page by page, as a reader would type them.

    <!-- run -->                     ends by itself, with status 0
    <!-- run in the background -->   a server; goes on until the page's end; the next command comes once it is ready
    <!-- run until "TEXT" -->        is ended by Ctrl-C once it has printed TEXT

Ports 8080 and 9090, ~ and /var/log/app.log, which the pages use, become free ports, a folder and a file of the test.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/command-line.md", "docs/configuration.md", "docs/operations.md")
DEADLINE_S = 60.0
_BLOCK = re.compile(
    r'^<!-- run(?: (in the background)| until "([^"]+)")? -->\n```sh\n(.*?)^```$', re.MULTILINE | re.DOTALL
)


class Reader:
    """Somebody who types a page's commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "app.log"
        self._log.write_text(
            "2026-11-24 10:00:00 INFO one\n2026-11-24 10:00:01 WARN two\n2026-11-24 10:00:02 ERROR three\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self._port, self._side = (str(free.getsockname()[1]) for free in (one, other))
        own = {name: value for name, value in os.environ.items() if not name.startswith("LOGSTREAM_")}
        path = os.pathsep.join((str(Path(sys.executable).parent), own.get("PATH", "")))
        self._environ = own | {"PATH": path, "HOME": str(folder), "TERM": "dumb", "LOGSTREAM_PORT": self._port}
        self._count = 0

    def is_served(self) -> bool:
        """Whether the server that was started in the background is ready, at whichever port it says so."""
        for port in (self._port, self._side):
            with suppress(urllib.error.URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return True
        return False

    @contextmanager
    def typing(self, code: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """A command as a process, and the file that has what it prints; both ends of a terminal's Ctrl-C at the end."""
        code = code.replace("8080", self._port).replace("9090", self._side).replace("/var/log/app.log", str(self._log))
        self._count += 1
        printed = self._folder / f"printed-{self._count}"
        with printed.open("wb") as out:
            words = ["bash", "-eu", "-c", code]
            process = subprocess.Popen(
                words, cwd=self._folder, env=self._environ, stdout=out, stderr=out, start_new_session=True
            )
        try:
            yield process, printed
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            assert process.wait(DEADLINE_S) in (0, 130), f"{code}\n{printed.read_text()}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait(process: subprocess.Popen[bytes], printed: Path, is_there: Callable[[], bool], what: str) -> None:
    """Until this is so, while the command runs."""
    end = time.monotonic() + DEADLINE_S
    while not is_there():
        assert process.poll() is None, f"it ended before {what}: {printed.read_text()}"
        assert time.monotonic() < end, f"not {what}: {printed.read_text()}"
        time.sleep(0.02)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page: str, tmp_path: Path) -> None:
    blocks = _BLOCK.findall((ROOT / page).read_text())
    assert blocks, "no block is marked"
    reader = Reader(tmp_path)

    def follow(rest: list[tuple[str, str, str]]) -> None:
        if not rest:
            return
        (background, text, code), *others = rest
        with reader.typing(code) as (process, printed):
            if background:
                wait(process, printed, reader.is_served, "ready")
                follow(others)
                return
            if text:
                wait(process, printed, lambda: text in printed.read_text(errors="replace"), f"printed: {text}")
            else:
                assert process.wait(DEADLINE_S) == 0, f"{code}\n{printed.read_text()}"
        follow(others)

    follow(blocks)


def test_every_page_with_marked_commands_is_run() -> None:
    marked = [path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")) if "<!-- run" in path.read_text()]
    assert sorted(str(path.relative_to(ROOT)) for path in marked) == sorted(PAGES)
