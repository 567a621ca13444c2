"""stampwriter: whole, numbered lines at the rate that is asked for, until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logstream_server.bench.stamps import Stamp, parse_stamped
from logstream_server.bench.stampwriter import StampWriter

from ..process import eventually


def test_lines_are_whole_numbered_and_as_many_as_it_says(tmp_path: Path) -> None:
    """They go to the end of what is there."""
    log = tmp_path / "app.log"
    log.write_text("old\n")
    writer = StampWriter(str(log), "0123abcd", 1000, 120)
    writer.begin()
    eventually(lambda: log.stat().st_size > 30_000)
    written = writer.stop()
    old, *lines = log.read_bytes().splitlines()
    stamps = [parse_stamped(line) for line in lines]
    assert old == b"old"
    assert [stamp.seq for stamp in stamps if isinstance(stamp, Stamp)] == list(range(written.lines))
    assert {stamp.run for stamp in stamps if isinstance(stamp, Stamp)} == {b"0123abcd"}
    assert {len(line) + 1 for line in lines} == {120}


def test_lines_that_are_due_are_all_written(tmp_path: Path) -> None:
    """However busy the machine is, the rate holds over the whole time."""
    log = tmp_path / "app.log"
    writer = StampWriter(str(log), "0123abcd", 500, 100)
    writer.begin()
    eventually(lambda: log.exists() and log.stat().st_size > 20_000)
    written = writer.stop()
    assert written.lines == pytest.approx(written.seconds * 500, rel=0.5)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    writer = StampWriter(str(tmp_path / "no" / "app.log"), "0123abcd", 10, 100)
    writer.begin()
    with pytest.raises(OSError, match="has failed"):
        writer.stop()
    assert f"cannot write {tmp_path}{os.sep}no{os.sep}app.log: No such file" in capfd.readouterr().err


def test_one_that_is_stopped_before_it_began_has_written_nothing(tmp_path: Path) -> None:
    writer = StampWriter(str(tmp_path / "app.log"), "0123abcd", 10, 100)
    assert writer.stop().lines == 0
