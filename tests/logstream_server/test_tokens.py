"""tokens: what stands in token files, and files that are of no use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logstream_server.errors import Problem, SettingsError
from logstream_server.tokens import read_tokens


def test_tokens_are_read_one_a_line(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"# a comment\n\n  alpha  \r\nbeta#1\n   # another\n")
    second.write_bytes(b"gamma")
    assert read_tokens((str(first), str(second))) == (b"alpha", b"beta#1", b"gamma")
    assert read_tokens(()) == ()


def test_files_that_cannot_be_read_or_hold_no_token_are_all_named(tmp_path: Path) -> None:
    missing, good = tmp_path / "missing", tmp_path / "good"
    good.write_text("alpha\n")
    (tmp_path / "comments").write_text("# alpha\n\n")
    with pytest.raises(SettingsError) as caught:
        read_tokens((str(missing), str(good), str(tmp_path), os.devnull, str(tmp_path / "comments")))
    assert caught.value.problems == (
        Problem("--token-file", str(missing), "cannot be read: No such file or directory"),
        Problem("--token-file", str(tmp_path), "cannot be read: Is a directory"),
        Problem("--token-file", os.devnull, "holds no token"),
        Problem("--token-file", str(tmp_path / "comments"), "holds no token"),
    )
