"""tokens: what stands in token files, files that are of no use, and files that change while a server uses them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from logstream_server.access.renewed import MAX_FILE_BYTES
from logstream_server.access.tokens import Token, TokenFiles, parse_tokens, read_tokens
from logstream_server.errors import Problem, SettingsError


def secrets(files: TokenFiles) -> list[bytes]:
    return [token.secret for token in files.tokens]


def test_tokens_are_read_one_a_line(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"# a comment\n\n  alpha  \r\nbeta#1\n   # another\n")
    second.write_bytes(b"gamma")
    assert read_tokens((str(first), str(second))) == (b"alpha", b"beta#1", b"gamma")
    assert read_tokens(()) == ()


def test_behind_a_token_stands_its_label() -> None:
    assert parse_tokens("alpha\tthe wall display \nbeta  J\xfcrgen\n".encode()) == (
        Token(b"alpha", "the wall display"),
        Token(b"beta", "J\xfcrgen"),
    )


def test_a_token_is_in_no_text_that_is_made_of_it() -> None:
    assert repr(Token(b"alpha", "ada")) == "Token(label='ada')"


def test_files_that_cannot_be_read_or_hold_no_token_are_all_named(tmp_path: Path) -> None:
    missing, good = tmp_path / "missing", tmp_path / "good"
    good.write_text("alpha\n")
    (tmp_path / "comments").write_text("# alpha\n\n")
    (tmp_path / "binary").write_bytes(b"alpha\n\x00\x01")
    (tmp_path / "long").write_bytes(b"alpha\n" * MAX_FILE_BYTES)
    names = ("comments", "binary", "long")
    with pytest.raises(SettingsError) as caught:
        read_tokens((str(missing), str(good), str(tmp_path), os.devnull, *(str(tmp_path / name) for name in names)))
    assert caught.value.problems == (
        Problem("--token-file", str(missing), "cannot be read: No such file or directory"),
        Problem("--token-file", str(tmp_path), "cannot be read: Is a directory"),
        Problem("--token-file", os.devnull, "holds no token"),
        Problem("--token-file", str(tmp_path / "comments"), "holds no token"),
        Problem("--token-file", str(tmp_path / "binary"), "holds bytes that are no text"),
        Problem("--token-file", str(tmp_path / "long"), "is longer than 1 MiB"),
    )


# -- files that change ------------------------------------------------------------------------------------------------


def test_a_change_counts_once_it_has_been_seen_twice(tmp_path: Path) -> None:
    """In between it may be half written, and nobody must lose their access to that."""
    path = tmp_path / "tokens"
    path.write_text("alpha\nbeta\n")
    files = TokenFiles([str(path)])
    assert not files.look()
    path.write_text("alph")
    assert not files.look()
    path.write_text("alpha\ngamma\n")
    assert not files.look()
    assert secrets(files) == [b"alpha", b"beta"]
    assert files.look()
    assert secrets(files) == [b"alpha", b"gamma"]
    assert not files.look()


def test_what_does_not_concern_tokens_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("alpha\n")
    files = TokenFiles([str(path)])
    path.write_text("# since March\nalpha\n")
    assert not files.look()
    assert not files.look()


def test_a_mounted_secret_changes_by_its_link(tmp_path: Path) -> None:
    """As a kubelet does it: a new folder, and the link `..data` renamed over the old one."""
    for folder, content in (("..1", "alpha\n"), ("..2", "beta\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tokens").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tokens").symlink_to("..data/tokens")
    files = TokenFiles([str(tmp_path / "tokens")])
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert [files.look(), files.look()] == [False, True]
    assert secrets(files) == [b"beta"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(lambda path: path.write_text(""), "holds no token", id="emptied"),
        pytest.param(lambda path: path.write_text("# alpha\n"), "holds no token", id="only comments"),
        pytest.param(lambda path: path.write_bytes(b"\x7fELF\x00"), "holds bytes that are no text", id="binary"),
        pytest.param(lambda path: path.unlink(), "cannot be read: No such file or directory", id="deleted"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory", id="a folder"),
        pytest.param(lambda path: path.write_text("a\n" * MAX_FILE_BYTES), "is longer than 1 MiB", id="far too long"),
    ],
)
def test_a_file_that_is_spoilt_keeps_its_last_tokens_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: object, problem: str
) -> None:
    path, other = tmp_path / "tokens", tmp_path / "other"
    path.write_text("alpha\n")
    other.write_text("beta\n")
    files = TokenFiles([str(path), str(other)])
    assert callable(spoil)
    spoil(path)
    assert [files.look() for _ in range(4)] == [False] * 4
    assert secrets(files) == [b"alpha", b"beta"]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert messages == [f"--token-file {path}: {problem}; the tokens that it held before stay valid"]
    other.write_text("gamma\n")  # the others change meanwhile
    assert [files.look(), files.look()] == [False, True]
    assert secrets(files) == [b"alpha", b"gamma"]


def test_a_file_that_is_well_again_is_used_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "tokens"
    path.write_text("alpha\n")
    files = TokenFiles([str(path)])
    path.unlink()
    files.look()
    path.write_text("beta  ada\n")
    assert [files.look(), files.look()] == [False, True]
    assert secrets(files) == [b"beta"]
    assert f"--token-file {path}: can be used again" in caplog.text


def test_the_log_tells_of_changes_by_label_and_never_by_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text("alpha-alpha-alpha-alpha ada\nbeta-beta-beta-beta bob\n")
    files = TokenFiles([str(path)])
    path.write_text("beta-beta-beta-beta bob\ngamma-gamma-gamma-gamma\n")
    files.look()
    files.look()
    assert [record.getMessage() for record in caplog.records] == ["tokens: 2 valid, 1 new, 1 withdrawn (ada)"]


def test_what_a_shell_pipes_in_is_read_once() -> None:
    """As in --token-file <(vault read ...): a second look would find nothing."""
    reading, writing = os.pipe()
    os.write(writing, b"alpha\n")
    os.close(writing)
    files = TokenFiles([f"/dev/fd/{reading}"])
    os.close(reading)
    assert secrets(files) == [b"alpha"]
    assert not files.look()


@pytest.mark.parametrize(
    ("mode", "says"),
    [(0o600, None), (0o640, None), (0o644, "read it"), (0o666, "change it")],
)
def test_a_file_that_is_open_to_everybody_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, says: str | None
) -> None:
    path = tmp_path / "tokens"
    path.write_text("alpha-alpha-alpha-alpha\n")
    path.chmod(mode)
    TokenFiles([str(path)]).warn()
    assert [says] * (says is not None) == [
        words for words in ("read it", "change it") if f"every user of this machine may {words}" in caplog.text
    ]


def test_a_mounted_secret_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A kubelet makes its files readable to all by default, in a volume that only the pod sees."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "tokens").write_text("alpha-alpha-alpha-alpha\n")
    (tmp_path / "tokens").symlink_to("..data/tokens")
    TokenFiles([str(tmp_path / "tokens")]).warn()
    assert caplog.text == ""


def test_a_token_that_can_be_guessed_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text("hunter2\nalpha-alpha-alpha-alpha\n")
    TokenFiles([str(path)]).warn()
    assert "1 of 2 tokens have under 16 characters and may be guessed" in caplog.text
    assert "hunter2" not in caplog.text
