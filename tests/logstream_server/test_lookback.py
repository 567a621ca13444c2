"""lookback: enough lines, and few that are too many, however long the file is."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from logstream_server import lookback
from logstream_server.lookback import lines_since

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEGIN = NOW.timestamp() - 100_000


def log(path: Path, count: int, every: int = 1) -> Path:
    """One line a second; only each `every`-th says when."""
    with path.open("w") as file:
        for second in range(count):
            when = datetime.fromtimestamp(BEGIN + second, UTC).isoformat()
            file.write(f"{when} line {second}\n" if second % every == 0 else f"    at frame {second}\n")
    return path


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize("second", [-5, 0, 1, 41_234, 79_999, 90_000])
def test_at_least_all_lines_that_are_new_enough(tmp_path: Path, second: int, every: int) -> None:
    path = log(tmp_path / "app.log", 80_000, every)
    found = lines_since(str(path), BEGIN + second, NOW)
    wanted = min(80_000, max(0, 80_000 - second))
    assert found is not None
    assert wanted <= found <= wanted + 5_000


def test_little_of_a_long_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(tmp_path / "app.log", 80_000)
    read = 0
    real = os.pread

    def counting(file: int, size: int, place: int) -> bytes:
        nonlocal read
        data = real(file, size, place)
        read += len(data)
        return data

    monkeypatch.setattr(lookback.os, "pread", counting)
    monkeypatch.setattr(lookback, "_BLOCK_BYTES", 4096)
    assert lines_since(str(path), BEGIN + 79_990, NOW) is not None
    assert read < path.stat().st_size / 10


def test_lines_without_any_time_are_all_wanted(tmp_path: Path) -> None:
    """None of them is known to be too old."""
    path = tmp_path / "app.log"
    path.write_text("hello\n" * 50_000)
    assert lines_since(str(path), BEGIN, NOW) == 50_001


@pytest.mark.parametrize("content", ["", "no newline"])
def test_a_short_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "app.log"
    path.write_text(content)
    assert lines_since(str(path), BEGIN, NOW) == 1


def test_what_cannot_be_read_is_for_others_to_say(tmp_path: Path) -> None:
    assert lines_since(str(tmp_path / "none.log"), BEGIN, NOW) is None
    assert lines_since(str(tmp_path), BEGIN, NOW) is None
