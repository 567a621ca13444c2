"""Which files there are to follow: what the administrator named, looked at again and again.

A source is one PATH of the command line: a file (there or not yet), a folder with everything below it, or a glob.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wcmatch import glob

from .follow import is_compressed

log = logging.getLogger(__name__)

GLOB_FLAGS: Final = glob.GLOBSTAR | glob.BRACE | glob.DOTGLOB | glob.NODIR | glob.CASE
MAX_FILES: Final = 10_000
"""How many files one source may bring: more is a mistake in the glob, and each costs a look every two seconds."""
LOOK_S: Final = 2.0
"""How long file systems may take to say what the named paths are: one that hangs must not keep others from being
served."""


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


def parse_sources(paths: Sequence[tuple[str, str | None]], roots: Sequence[str]) -> list[Source]:
    """`parse_source` of each (path, name). Of a path whose file system does not answer within LOOK_S, it is what it
    looks like: a folder with a slash at its end, a glob with a wildcard, else a file; links are not resolved."""
    found: dict[int, Source] = {}

    def look(number: int, path: str, name: str | None) -> None:
        found[number] = parse_source(path, roots, name)

    looks = [threading.Thread(target=look, args=(i, *each), daemon=True) for i, each in enumerate(paths)]
    for thread in looks:
        thread.start()
    end = time.monotonic() + LOOK_S
    for thread in looks:
        thread.join(max(0.0, end - time.monotonic()))
    return [found.get(number) or _guess(path, roots, name) for number, (path, name) in enumerate(paths)]


def _guess(path: str, roots: Sequence[str], name: str | None) -> Source:
    log.warning("%r: no answer from the file system", path)
    full, allowed = os.path.abspath(path), tuple(os.path.abspath(root) for root in roots)
    if path.endswith("/"):
        return Source(full, name, full, allowed or (full,))
    if glob.is_magic(path, flags=GLOB_FLAGS):
        base = _fixed_part(full)
        return Source(full, name, base, allowed or (base,))
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
