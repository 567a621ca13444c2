"""Which file system a path leads to, told without touching that file system, for it may hang.

Read are the kernel's mount table and, on local file systems only, the symlinks on the way. The scheduler lets each file
system have only some of its threads; two paths that may hang together get the same answer here.
"""

from __future__ import annotations

import os
import re
from typing import Final

from .files import LOCAL_FILE_SYSTEMS

TABLE: Final = "/proc/self/mountinfo"
"""Its format: proc_pid_mountinfo(5)."""
MAX_LINKS: Final = 40
"""As the kernel has it (path_resolution(7)); a loop of links leads nowhere."""

_NO_SERVER: Final = LOCAL_FILE_SYSTEMS | {"overlay", "squashfs", "erofs", "iso9660", "vfat", "devtmpfs"}
"""File systems that answer by themselves: a symlink in them can be read at any time."""
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


Mounts = dict[str, tuple[str, str]]
"""Device ("major:minor") and type of file system by mount point."""


def read_mounts(table: str = TABLE) -> Mounts:
    """The mounts that this process sees; of several at one place the one on top. Empty where there is no table."""
    mounts: Mounts = {}
    try:
        with open(table, errors="surrogateescape") as lines:
            for line in lines:
                left, _, right = line.partition(" - ")
                fields = left.split(" ")
                mounts[_unescape(fields[4])] = (fields[2], right.split(" ", 1)[0])
    except OSError:
        pass
    return mounts


def _unescape(text: str) -> str:
    """A space in a name stands there as its octal number."""
    return _ESCAPE.sub(lambda match: os.fsdecode(bytes([int(match[1], 8) & 0xFF])), text)


def mount_of(path: str, mounts: Mounts) -> str:
    """The device of the file system on which the absolute `path` lies, as far as the path exists; "" if unknown."""
    device, kind = mounts.get("/", ("", ""))
    at, rest, links = "", _parts(path), 0
    while rest:
        part = rest.pop()
        if part == "..":
            at = at.rpartition("/")[0]
            device, kind = _around(at, mounts)
            continue
        at = f"{at}/{part}"
        if at in mounts:
            device, kind = mounts[at]
        elif kind in _NO_SERVER and links < MAX_LINKS and (target := _link(at)) is not None:
            links += 1
            rest += _parts(target)
            at = "" if target.startswith("/") else at.rpartition("/")[0]
            device, kind = _around(at, mounts)
    return device


def _parts(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _around(at: str, mounts: Mounts) -> tuple[str, str]:
    """What the folder `at`, in which there are no links, is mounted from."""
    while at and at not in mounts:
        at = at.rpartition("/")[0]
    return mounts.get(at or "/", ("", ""))


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
