"""manual: the page is one that `man` shows and `mandoc` finds no fault with, and the committed one is what it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from logstream_server.cli import COMMANDS
from logstream_server.commandline.options import specs_of

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "logstream.1"


@pytest.fixture(scope="module")
def page() -> str:
    """What the command prints."""
    words = [sys.executable, "-m", "logstream_server", "manual"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_committed_page_is_what_the_command_prints(page: str) -> None:
    assert PAGE.read_text() == page, "run make manual"


def test_each_command_and_each_option_is_in_it(page: str) -> None:
    for name, command in COMMANDS.items():
        assert f".SH LOGSTREAM {name.upper()}" in page
        for spec in specs_of(command.options()).values():
            assert f"\\fB{spec.flag}\\fR".replace("-", "\\-") in page or not spec.flag
    assert "LOGSTREAM_RING_BYTES" in page
    assert "logstream demo \\-\\-port 9000" in page


def test_mandoc_finds_no_fault(page: str) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed (package mandoc)")
    done = subprocess.run(
        [mandoc, "-T", "lint", "-W", "warning"], input=page, capture_output=True, text=True, check=False
    )
    faults = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert faults == []


def test_man_shows_it(page: str) -> None:
    man = shutil.which("man")
    if man is None:
        pytest.skip("man is not installed (package man-db)")
    words = [man, "--warnings", "-l", "-"]
    done = subprocess.run(words, input=page, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0
    assert done.stderr == ""
    assert "logstream tail [OPTION]... FILE|URL" in done.stdout
    assert "--since TIME" in done.stdout


def test_pip_installs_it_where_man_looks_and_images_have_it_to_build_from() -> None:
    assert '"docs/logstream.1" = "share/man/man1/logstream.1"' in (ROOT / "pyproject.toml").read_text()
    assert "!docs/logstream.1\n" in (ROOT / ".dockerignore").read_text()
    for image in ("server", "operator"):
        assert "COPY docs/logstream.1 docs/\n" in (ROOT / image / "Dockerfile").read_text()
