"""credentials: all files that are of no use are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from logstream_server.access.credentials import open_credentials
from logstream_server.errors import SettingsError
from logstream_server.settings import Settings

from ..tls import make_certificate


def test_nothing_is_opened_where_nothing_is_named() -> None:
    found = open_credentials(Settings())
    assert (found.tokens.tokens, found.certificate) == ((), None)


def test_what_is_named_is_opened(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    certificate = str(make_certificate(tmp_path))
    found = open_credentials(Settings(token_files=(str(tmp_path / "token"),), tls_cert=certificate))
    assert [each.secret for each in found.tokens.tokens] == [b"t0ken"]
    assert found.certificate is not None


def test_all_that_are_of_no_use_are_named(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a", "b", "c", "d")]
    with pytest.raises(SettingsError) as caught:
        open_credentials(Settings(token_files=(names[0], names[1]), tls_cert=names[2], tls_key=names[3]))
    assert [(each.name, each.value) for each in caught.value.problems] == [
        ("--token-file", names[0]),
        ("--token-file", names[1]),
        ("--tls-cert", names[2]),
        ("--tls-key", names[3]),
    ]
