"""What the tests of the pages for authors of clients share: code of a page as a program, and what it lives through."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .process import DEADLINE_S, Server, eventually

QUICK = ("--poll-interval", "0.02", "--partial-after", "0.1", "--rotate-wait", "0.3")


def blocks(page: str, language: str) -> list[str]:
    """A page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def python_program(page: str, folder: Path) -> list[str]:
    """The command that runs the page's Python client; it takes the address as its last word."""
    (block,) = blocks(page, "python")
    (folder / "client.py").write_text(block)
    return [sys.executable, str(folder / "client.py")]


def javascript_program(page: str, folder: Path, what: str, use: str) -> list[str]:
    """The same for JavaScript, which needs `what` of Node.js, with a last line `use` that uses it as a page would."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed (package nodejs)")
    for flags in ([], [f"--experimental-{what.lower()}", "--no-warnings"]):
        if not subprocess.run([node, *flags, "-e", what], check=False, capture_output=True).returncode:
            (block,) = blocks(page, "javascript")
            (folder / "client.js").write_text(f"{block}\n{use}\n")
            return [node, *flags, str(folder / "client.js")]
    pytest.skip(f"this Node.js has no {what}; 20.18 or newer is needed")


class Running:
    """A client as a process; what it prints is in files."""

    def __init__(self, command: list[str], url: str, folder: Path) -> None:
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen([*command, url], stdout=out, stderr=err)

    def prints(self, text: str) -> None:
        """Wait until it has printed this, no more and no less."""

        def check() -> bool:
            assert self.out.read_text() == text, self.err.read_text()
            return True

        eventually(check)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)


def live_through(running: Running, log: Path, shown: str, server: Server, serve: Callable[..., Server]) -> Server:
    """Each line is printed once after those that are `shown`: one in two parts, those that come over a kill and a
    rotation while nobody looks, and over a server that ends in order. Returns the last server."""

    def append(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    def again() -> Server:
        return serve(*QUICK, "--port", str(server.port), log)

    running.prints(shown)
    append("thr")
    running.prints(shown + "thr")
    append("ee\n")
    running.prints(shown + "three\n")
    server.kill()
    append("four\n")
    log.rename(log.with_name(log.name + ".1"))
    log.write_text("five\n")
    server = again()
    running.prints(shown + "three\nfour\nfive\n")
    server.stop()
    append("six\n")
    server = again()
    running.prints(shown + "three\nfour\nfive\nsix\n")
    assert "missing" not in running.err.read_text()
    return server
