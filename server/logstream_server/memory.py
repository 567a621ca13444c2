"""How much memory this process may use: that of the machine, or less where a control group bounds it.

Sources: cgroups(7); Documentation/admin-guide/cgroup-v2.rst of Linux, memory.max and memory.high; cgroup-v1/memory.rst,
memory.limit_in_bytes. A container sees its own group as the root of the hierarchy, a service of systemd sees a path.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
_LIMITS: Final = ("memory.max", "memory.high", "memory.limit_in_bytes")


def usable_memory(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process may use, as far as that is known."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min((physical, *_limits(cgroups, own)))


def _limits(cgroups: Path, own: Path) -> Iterator[int]:
    for folder in _groups(cgroups, own):
        for name in _LIMITS:
            with contextlib.suppress(OSError, ValueError):  # no such file, or the word "max": no bound there
                yield int((folder / name).read_text())


def _groups(cgroups: Path, own: Path) -> Iterator[Path]:
    """The folders of the process's group and of those around it, in either version's hierarchy."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))
