"""progress: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import pty
import sys
import termios

import pytest

from logstream_server.bench.progress import Progress


def test_nothing_is_written_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.show("connecting", 1, 2, "clients")
    progress.close()
    progress.close()
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    with os.fdopen(writer, "w") as terminal, os.fdopen(reader, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        progress = Progress()
        progress.show("connecting", 1, 4, "clients")
        progress.show("connecting", 3, 4, "clients")
        progress.close()
        terminal.flush()
        data = b""
        while not (b"clients" in data and data.endswith(b"\r")):  # a terminal hands it over in pieces
            data += screen.read(4096)
        shown = data.decode()
    assert "connecting:  25% |" in shown
    assert "| 1/4 clients" in shown
    assert shown.endswith("\r")
