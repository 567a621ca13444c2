"""follow: what a look at a file means, sentence by sentence."""

from __future__ import annotations

from typing import Any

import pytest

from logstream_server.tailing import follow
from logstream_server.tailing.follow import DELETED_SILENCE_S, Content, Identity, Path


@pytest.mark.parametrize(
    ("offset", "size", "intact", "verdict"),
    [
        pytest.param(100, 200, True, Content.SAME, id="it grew"),
        pytest.param(100, 100, True, Content.SAME, id="nothing happened"),
        pytest.param(100, 99, True, Content.SHRUNK, id="it is shorter than what was read"),
        pytest.param(100, 99, False, Content.SHRUNK, id="shorter, and other bytes"),
        pytest.param(100, 200, False, Content.REWRITTEN, id="truncated, and grown beyond what was read"),
        pytest.param(100, 100, False, Content.REWRITTEN, id="truncated, and grown to the same size"),
        pytest.param(0, 0, True, Content.SAME, id="empty, as it was"),
    ],
)
def test_the_size_and_the_bytes_before_the_offset_tell_a_truncation(
    offset: int, size: int, intact: bool, verdict: Content
) -> None:
    assert follow.judge_content(offset, size, intact) is verdict


@pytest.mark.parametrize(
    ("named", "verdict"),
    [
        pytest.param(Identity(1, 2), Path.SAME, id="the same inode on the same device"),
        pytest.param(Identity(1, 3), Path.REPLACED, id="another inode"),
        pytest.param(Identity(2, 2), Path.REPLACED, id="the same number on another device"),
        pytest.param(None, Path.MISSING, id="nothing"),
    ],
)
def test_the_path_leads_to_what_is_open_or_elsewhere(named: Identity | None, verdict: Path) -> None:
    assert follow.judge_path(Identity(1, 2), named) is verdict


@pytest.mark.parametrize(
    ("old", "new", "size", "kept"),
    [
        pytest.param(b"abcdef", b"abc", 3, True, id="its end was cut off"),
        pytest.param(b"abcdef", b"abx", 3, False, id="written anew"),
        pytest.param(b"abcdef", b"", 0, False, id="emptied"),
        pytest.param(b"", b"abc", 3, False, id="nothing is known of what it held"),
        pytest.param(b"a" * 256, b"a" * 256, 10_000, True, id="longer than its head"),
    ],
)
def test_a_file_that_shrank_may_have_kept_its_beginning(old: bytes, new: bytes, size: int, kept: bool) -> None:
    assert follow.keeps_prefix(old, new, size) is kept


def spent(now: float, **change: Any) -> bool:
    """A file that was replaced at 100 and last grew at 90, waited for for 5 seconds."""
    values: dict[str, Any] = {"replaced_at": 100.0, "grew_at": 90.0, "rotate_wait_s": 5.0, "links": 1, "backlog": False}
    return follow.is_spent(now, **{**values, **change})


@pytest.mark.parametrize(
    ("now", "change", "over"),
    [
        pytest.param(104.9, {}, False, id="its writer may not have noticed yet"),
        pytest.param(105.0, {}, True, id="it was waited for long enough"),
        pytest.param(1e9, {"backlog": True}, False, id="never while bytes are unread"),
        pytest.param(1e9, {"replaced_at": None}, False, id="it has a name and no successor"),
        pytest.param(149.9, {"replaced_at": None, "links": 0}, False, id="deleted: it may still be written to"),
        pytest.param(150.0, {"replaced_at": None, "links": 0}, True, id="deleted, and silent for a minute"),
        pytest.param(
            150.0, {"replaced_at": None, "links": 0, "rotate_wait_s": 90.0}, False, id="deleted, with a longer wait"
        ),
    ],
)
def test_a_file_without_its_name_is_let_go_of_when_its_writer_has_surely_gone(
    now: float, change: dict[str, Any], over: bool
) -> None:
    assert DELETED_SILENCE_S == 60.0
    assert spent(now, **change) is over


@pytest.mark.parametrize("name", ["app.log.1.gz", "app.log.bz2", "a.xz", "a.zst", "a.lz4", "a.Z", "a.zip"])
def test_compressed_files_are_known_by_their_names(name: str) -> None:
    assert follow.is_compressed(name)
    assert not follow.is_compressed(name + ".log")
    assert not follow.is_rotated_name("app.log", name)
    assert not follow.shares_stem("app.log", name)


@pytest.mark.parametrize(
    ("base", "name", "rotated"),
    [
        pytest.param("app.log", "app.log.1", True, id="a number"),
        pytest.param("app.log", "app.log.12", True, id="a longer number"),
        pytest.param("app.log", "app.log-20261123", True, id="a date"),
        pytest.param("app.log", "app.log.2026-11-23T10:00:00", True, id="a date with a time"),
        pytest.param("app.log", "app.log.20261123-1795", True, id="a date with seconds"),
        pytest.param("app.log", "app-2026-11-23.log", True, id="a date before the extension"),
        pytest.param("app.log", "app.1.log", True, id="a number before the extension"),
        pytest.param("app.log", "app_3.log", True, id="a number behind an underscore"),
        pytest.param("app", "app.1", True, id="a name without an extension"),
        pytest.param("app", "app-2.log", False, id="an extension that the base does not have"),
        pytest.param("app.log", "app.log", False, id="the file itself"),
        pytest.param("app.log", "app.log.old", False, id="a word"),
        pytest.param("app.log", "app.log.swp", False, id="an editor's file"),
        pytest.param("app.log", "app.log.1.gz", False, id="compressed"),
        pytest.param("app.log", "app-errors.log", False, id="another log"),
        pytest.param("app.log", "app-errors-1.log", False, id="another log's rotated file"),
        pytest.param("app.log", "other.log.1", False, id="another log's name"),
        pytest.param("app.log", "app.txt.1", False, id="another extension"),
        pytest.param("app.log", "app.log.", False, id="nothing behind the dot"),
        pytest.param("app.log", "app20261123.log", True, id="a date right behind the name"),
        pytest.param("worker1.log", "worker10.log", False, id="another worker's log"),
        pytest.param("web-1.log", "web-10.log", False, id="another instance's log"),
        pytest.param("web-1.log", "web-1-10.log", True, id="a number behind a number"),
        pytest.param("app.log", "app2.log", False, id="a second log"),
    ],
)
def test_rotations_are_known_by_their_names(base: str, name: str, rotated: bool) -> None:
    assert follow.is_rotated_name(base, name) is rotated


@pytest.mark.parametrize(
    ("base", "name", "shares"),
    [
        pytest.param("app.log", "app.log.1", True, id="rotated"),
        pytest.param("app.log", "app.log.old", True, id="kept aside by hand"),
        pytest.param("app.log", "app-old.txt", True, id="any name that begins alike"),
        pytest.param("app.log", "app.log", False, id="the file itself"),
        pytest.param("app.log", "other.log", False, id="another name"),
        pytest.param(".log", ".log.1", True, id="a name that begins with a dot"),
    ],
)
def test_what_may_hold_the_content_begins_like_it(base: str, name: str, shares: bool) -> None:
    assert follow.shares_stem(base, name) is shares


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("app.log.1", 1),
        ("app.log.0012", 12),
        ("app.log.12345", None),
        ("app.log.x", None),
        ("app.log", None),
        ("other.log.1", None),
        ("app.log.1.2", None),
        ("app.log.²", None),
    ],
)
def test_a_rotated_name_may_say_how_often(name: str, number: int | None) -> None:
    assert follow.rotation_number("app.log", name) == number


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("app.log-20261123", "20261123"),
        ("app.log.2026-11-23", "20261123"),
        ("app-2026-11-23.log", "20261123"),
        ("app20261123.log", "20261123"),
        ("app.log-20261123-0930", "202611230930"),
        ("app.log.2026-11-23_09", "2026112309"),
        ("app.log.2026-11-23T09:30:05", "20261123093005"),
        ("app.log-20261123-1795479123", "20261123"),  # and the same in seconds
        ("app-2026-11-23-1.log", "20261123"),
        ("app.log-23112026", ""),
        ("app.log-20112026", ""),
        ("app.log-11-23-2026", ""),
        ("app.log.2", ""),
        ("app.log", ""),
        ("other.log-20261123", ""),
    ],
)
def test_a_rotated_name_may_say_when(name: str, date: str) -> None:
    assert follow.rotation_date("app.log", name) == date


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        pytest.param("a\n".encode("utf-16"), "UTF-16", id="UTF-16, little endian"),
        pytest.param(b"\xfe\xff\x00a", "UTF-16", id="UTF-16, big endian"),
        pytest.param("a\n".encode("utf-32"), "UTF-32", id="UTF-32, little endian, which begins like UTF-16"),
        pytest.param(b"\x00\x00\xfe\xff\x00\x00\x00a", "UTF-32", id="UTF-32, big endian"),
        pytest.param(b"\xef\xbb\xbfa\n", None, id="UTF-8 with a mark"),
        pytest.param(b"a\n", None, id="no mark"),
        pytest.param(b"\xff", None, id="half a mark"),
        pytest.param(b"", None, id="nothing yet"),
    ],
)
def test_encodings_without_byte_lines_are_known_by_their_marks(head: bytes, encoding: str | None) -> None:
    assert follow.utf16_bom(head) == encoding


@pytest.mark.parametrize(
    ("head", "binary"),
    [
        pytest.param(b"text\n", False, id="text"),
        pytest.param(b"", False, id="nothing"),
        pytest.param(b"\0\0\0text", False, id="a hole before the text"),
        pytest.param(b"text\0\0", False, id="a hole after the text"),
        pytest.param(b"te\0xt", True, id="a NUL within"),
    ],
)
def test_a_file_with_nuls_within_is_no_text(head: bytes, binary: bool) -> None:
    assert follow.looks_binary(head) is binary
