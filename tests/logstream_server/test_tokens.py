"""Token files: one token a line; a mistake in them ends the start, with all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from logstream_server.errors import SettingsError
from logstream_server.tokens import read_tokens


def test_tokens_of_all_files_count_and_remarks_do_not(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("# who\n\nalpha\n  beta#1  \n")
    second.write_bytes(b"gamma")
    assert read_tokens((str(first), str(second))) == (b"alpha", b"beta#1", b"gamma")
    assert read_tokens(()) == ()


def test_every_file_that_is_no_use_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("# none yet\n")
    with pytest.raises(SettingsError) as refused:
        read_tokens((str(tmp_path / "missing"), str(empty)))
    assert [problem.value for problem in refused.value.problems] == [str(tmp_path / "missing"), str(empty)]
