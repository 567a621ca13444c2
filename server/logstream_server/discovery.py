"""Which files there are to follow: what the administrator named, looked at again and again.

A source is one PATH of the command line: a file (there or not yet), a folder with everything below it, or a glob.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wcmatch import glob

from .follow import is_compressed

GLOB_FLAGS: Final = glob.GLOBSTAR | glob.BRACE | glob.DOTGLOB | glob.NODIR | glob.CASE
MAX_FILES: Final = 10_000
"""How many files one source may bring: more is a mistake in the glob, and each costs a look every two seconds."""


@dataclass(frozen=True, slots=True)
class Source:
    """`name`: as given (`name=PATH`); `path`: absolute; `base`: the fixed folder of a folder or glob, None for a
    file."""

    path: str
    name: str | None = None
    base: str | None = None
    roots: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """One file, which may be missing; else a set that may change."""
        return self.base is None


def parse_source(path: str, roots: Iterable[str] = (), name: str | None = None) -> Source:
    """What `path` means now. `roots`: folders outside which nothing is followed; default for folders and globs: their
    own.

    A path that exists as it is written is that path, however much it looks like a glob.
    """
    full = os.path.abspath(path)
    allowed = tuple(os.path.realpath(root) for root in roots)
    if os.path.isdir(full) or path.endswith("/"):
        return Source(full, name, full, allowed or (os.path.realpath(full),))
    if not os.path.lexists(full) and glob.is_magic(path, flags=GLOB_FLAGS):
        base = _fixed_part(full)
        return Source(full, name, base, allowed or (os.path.realpath(base),))
    return Source(full, name, None, allowed)


def _fixed_part(pattern: str) -> str:
    """The folder before the first part of the pattern that is not literal."""
    fixed: list[str] = []
    for part in pattern.split("/")[:-1]:
        if glob.is_magic(part, flags=GLOB_FLAGS):
            break
        fixed.append(part)
    return "/".join(fixed) or "/"


def scan(source: Source, ignore: tuple[str, ...] = ()) -> list[str]:
    """The files of a folder or glob source, sorted, at most MAX_FILES. Folders that cannot be read give nothing."""
    if source.base == source.path:
        pattern, root = "**", source.path
        found = [os.path.join(root, name) for name in glob.glob(pattern, flags=GLOB_FLAGS, root_dir=root, limit=0)]
    else:
        found = list(glob.glob(source.path, flags=GLOB_FLAGS, limit=0))
    files = {os.path.normpath(path) for path in found if not is_compressed(path)}
    if ignore:
        files = {path for path in files if not _is_ignored(path, source.base or "/", ignore)}
    return sorted(files)[:MAX_FILES]


def _is_ignored(path: str, base: str, ignore: tuple[str, ...]) -> bool:
    relative = os.path.relpath(path, base)
    flags = GLOB_FLAGS & ~glob.NODIR
    return bool(
        glob.globmatch(relative, ignore, flags=flags)
        or glob.globmatch(path, ignore, flags=flags)
        or glob.globmatch(os.path.basename(path), ignore, flags=flags)
    )
