"""renewed: what several files say together, while they change; each kind of trouble with one file is in test_tokens."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from logstream_server.access.renewed import MAX_FILE_BYTES, File, Renewed
from logstream_server.errors import Problem, SettingsError

KEPT = "the sum before goes on"


class Sum:
    """Two files that hold a number each, and what is read from them: the sum, which must be even."""

    def __init__(self, folder: Path) -> None:
        self.paths = (folder / "a", folder / "b")
        self.write(1, 2 + 1)
        self.files = [File("--a", str(self.paths[0])), File("--b", str(self.paths[1]))]
        self.renewed = Renewed(self.files, self.make, KEPT)

    def write(self, *numbers: int) -> None:
        for path, number in zip(self.paths, numbers, strict=True):
            path.write_text(str(number))

    def make(self, contents: Sequence[bytes]) -> int:
        found = sum(map(int, contents))
        if found % 2:
            raise self.files[1].problem("makes an odd sum")
        return found

    def look(self) -> tuple[bool, int]:
        return self.renewed.look(), self.renewed.value


@pytest.fixture
def both(tmp_path: Path) -> Sum:
    return Sum(tmp_path)


def test_a_change_counts_once_all_files_were_the_same_for_two_looks(both: Sum) -> None:
    assert both.look() == (False, 4)
    both.write(3, 3)
    assert both.look() == (False, 4)
    both.write(3, 5)
    assert both.look() == (False, 4)
    assert both.look() == (True, 8)
    assert both.look() == (False, 8)


def test_files_that_do_not_fit_are_named_once_and_change_nothing(both: Sum, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    both.write(3, 4)
    assert [both.look() for _ in range(4)] == [(False, 4)] * 4
    assert caplog.messages == [f"--b {both.paths[1]}: makes an odd sum; {KEPT}"]
    both.paths[0].unlink()
    assert both.look() == (False, 4)
    assert caplog.messages[1:] == [f"--a {both.paths[0]}: cannot be read: No such file or directory; {KEPT}"]
    both.write(5, 5)
    assert [both.look(), both.look()] == [(False, 4), (True, 10)]
    assert caplog.messages[2:] == [f"--a {both.paths[0]}: can be used again"]


def test_what_does_not_fit_from_the_beginning_is_an_error(both: Sum) -> None:
    both.write(1, 2)
    with pytest.raises(SettingsError) as caught:
        Renewed(both.files, both.make, KEPT)
    assert caught.value.problems == (Problem("--b", str(both.paths[1]), "makes an odd sum"),)


def test_files_that_are_missing_from_the_beginning_are_all_named(both: Sum) -> None:
    for path in both.paths:
        path.unlink()
    with pytest.raises(SettingsError) as caught:
        Renewed([*both.files, both.files[0]], both.make, KEPT)
    assert [problem.name for problem in caught.value.problems] == ["--a", "--b"]


def test_a_file_that_has_grown_without_end_is_not_read_whole(both: Sum) -> None:
    with both.paths[0].open("wb") as file:
        file.truncate(MAX_FILE_BYTES << 20)
    assert both.look() == (False, 4)


def test_with_a_pipe_among_them_one_look_is_all(both: Sum) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"7")
    os.close(writing)
    both.files[0] = File("--a", f"/dev/fd/{reading}")
    both.renewed = Renewed(both.files, both.make, KEPT)
    os.close(reading)
    both.paths[1].write_text("5")
    assert [both.look(), both.look()] == [(False, 10)] * 2


@pytest.mark.parametrize(("modes", "is_warned"), [((0o644, 0o600), False), ((0o600, 0o644), True)])
def test_the_last_file_is_the_one_with_the_secret(
    both: Sum, caplog: pytest.LogCaptureFixture, modes: tuple[int, int], is_warned: bool
) -> None:
    for path, mode in zip(both.paths, modes, strict=True):
        path.chmod(mode)
    Renewed(both.files, both.make, KEPT).warn_if_open()
    warning = f"--b {both.paths[1]}: every user of this machine may read it; chmod 600 it"
    assert caplog.messages == [warning] * is_warned
