"""targets: all that is wrong with what is to be followed is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from logstream_server.client.tailoptions import TailOptions
from logstream_server.client.targets import open_targets
from logstream_server.errors import SettingsError


def test_there_is_a_way_in_for_each_server_and_none_for_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    found = open_targets(TailOptions(("/no/such/file", "http://a", "https://b"), token_file=str(tmp_path / "token")))
    assert list(found) == ["http://a", "https://b"]
    assert {each.headers["Authorization"] for each in found.values()} == {"Bearer t0ken"}


def test_what_is_no_file_is_told_together_with_files_that_cannot_be_read(tmp_path: Path) -> None:
    token = f"{tmp_path}/no"
    with pytest.raises(SettingsError) as caught:
        open_targets(TailOptions(("localhost:8080", "http://h"), token_file=token))
    assert [str(each) for each in caught.value.problems] == [
        "FILE|URL 'localhost:8080': is no file; for a server say http://localhost:8080",
        f"--token-file '{token}': cannot be read: No such file or directory",
    ]
