"""What a look at a file means: the decisions of tailing, without a file.

The shell (tailer) looks, with fstat, stat and pread; these functions say what it saw. Times are seconds of a monotonic
clock, given by the caller. Why these rules: GNU tail loses what is written to the old file after a rename and cannot
see a truncation that regrew; Fluent Bit and Vector keep the old handle and check the bytes before the offset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

DELETED_SILENCE_S: Final = 60.0
"""A file without a name and without a successor is let go of after this silence: its blocks stay on disk while we hold
it."""

RESAVE_BYTES: Final = 256
"""From this offset on, equal first bytes and equal bytes before the offset prove that a new inode is a copy of the old
file (an editor's or a sync tool's atomic save). Below, a new file that merely begins alike (a header line) is as
likely."""

HOLE_PROBE_BYTES: Final = 4096
"""So many NULs in one read are worth asking the file system where the hole ends."""

_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip")
_DATE: Final = re.compile(r"(20\d\d)([.\-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])((?:[.\-_T:]?\d\d){0,3})(?!\d)")
"""The year comes first, or a name does not say which file is older."""
_ROTATED_SUFFIX: Final = re.compile(r"(?:[.\-_]\d|\d{6})[\d.\-_T:]*")
"""Without anything between it must be a date: worker10.log is no old worker1.log."""


class Content(Enum):
    """The bytes below a reader's offset, as a new look at the file shows them."""

    SAME = auto()
    SHRUNK = auto()
    REWRITTEN = auto()


class Path(Enum):
    """The path, compared with the file that is open."""

    SAME = auto()
    REPLACED = auto()
    MISSING = auto()


@dataclass(frozen=True, slots=True)
class Identity:
    """What stat says of a file's identity on this machine."""

    device: int
    inode: int


def judge_content(offset: int, size: int, marker_intact: bool) -> Content:
    """`offset`: where the reader is; `size`: what fstat says now; `marker_intact`: the bytes before `offset` are
    unchanged."""
    if size < offset:
        return Content.SHRUNK
    return Content.SAME if marker_intact else Content.REWRITTEN


def judge_path(opened: Identity, named: Identity | None) -> Path:
    """`opened`: the file we read; `named`: the one the path leads to now, None when there is none."""
    if named is None:
        return Path.MISSING
    return Path.SAME if named == opened else Path.REPLACED


def keeps_prefix(old_head: bytes, new_head: bytes, size: int) -> bool:
    """Whether a file that shrank to `size` bytes still holds what it held there: then only its end was taken away.

    `old_head`, `new_head`: the first bytes before and now. A file emptied and written anew differs in them.
    """
    shared = min(len(old_head), size)
    return size > 0 and shared > 0 and old_head[:shared] == new_head[:shared]


def is_spent(
    now: float, *, replaced_at: float | None, grew_at: float, rotate_wait_s: float, links: int, backlog: bool
) -> bool:
    """Whether a file that lost its name can be let go of.

    `replaced_at`: when a successor was seen at the path, None while there is none; `grew_at`: when it last grew;
    `links`: its names (0: deleted). Never while bytes are unread (`backlog`).
    """
    if backlog:
        return False
    if replaced_at is not None:
        return now - replaced_at >= rotate_wait_s
    return links == 0 and now - grew_at >= max(rotate_wait_s, DELETED_SILENCE_S)


def is_compressed(name: str) -> bool:
    """Whether the name says that the file is compressed: it is not followed, its lines went out before."""
    return name.endswith(_COMPRESSED)


def is_rotated_name(base: str, name: str) -> bool:
    """Whether `name` looks like what a rotation makes of `base` (app.log: app.log.1, app.log-20261123,
    app-2026-11-23.log)."""
    return not name.endswith(_COMPRESSED) and _ROTATED_SUFFIX.fullmatch(_added_to(base, name)) is not None


def _added_to(base: str, name: str) -> str:
    """What `name` has more than `base`, behind it or before its extension; "" where it is no such name."""
    if name.startswith(base):
        return name[len(base) :]
    stem, dot, extension = base.rpartition(".")
    if not dot or not name.startswith(stem) or not name.endswith(dot + extension):
        return ""
    return name[len(stem) : len(name) - len(extension) - 1]


def shares_stem(base: str, name: str) -> bool:
    """Whether `name` may hold what `base` held: any name that begins like it; the content then proves it or not."""
    stem = base.split(".", 1)[0] or base
    return name != base and name.startswith(stem) and not name.endswith(_COMPRESSED)


def utf16_bom(head: bytes) -> str | None:
    """The name of the encoding when the file begins with the byte order mark of UTF-16 or UTF-32, which have no byte
    lines."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    return "UTF-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else None


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes are not text: NULs after the first other byte (before it they are a hole)."""
    return b"\0" in head.lstrip(b"\0").rstrip(b"\0")


def rotation_number(base: str, name: str) -> int | None:
    """How often a file with this name was rotated, when the name says so (app.log.3), else None."""
    prefix, _, number = name.rpartition(".")
    return int(number) if prefix == base and number.isdecimal() and len(number) < 5 else None


def rotation_date(base: str, name: str) -> str:
    """The digits of year, month and day, and of hour, minute and second as far as they are there, of when a file with
    this name was rotated; "" where the name does not say it."""
    date = _DATE.match(_added_to(base, name).lstrip(".-_"))
    return "" if date is None else re.sub(r"\D", "", date[0])
