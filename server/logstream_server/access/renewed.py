"""What is read from files that change while the server runs, such as tokens and the certificate.

Files are looked at again and again (`Renewed`). What they say counts once two looks in a row have found the same: what
is half written counts for nothing. A file that is missing or broken after the start changes nothing either, and the log
says so once: that is a mistake far more often than a wish.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from logstream_server.errors import Problem, SettingsError, kept_in, refuse

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_FILE_BYTES: Final = 1 << 20
"""Each look reads all of a file: what is longer is neither a list of tokens nor a certificate."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, and the option that names it."""

    flag: str
    path: str

    def problem(self, advice: str) -> SettingsError:
        """The error that says what is wrong with it."""
        return SettingsError((Problem(self.flag, self.path, advice),))


class Renewed(Generic[T]):
    """What `make` makes of the contents of some files: the newest that could be made. `kept`: what is said, behind a
    problem, of what stays as it was.

    Made once, then only `look` is called: by one thread at a time, and not by the event loop, since a file system may
    hang. Raises SettingsError when it is made.
    """

    def __init__(self, files: Sequence[File], make: Callable[[Sequence[bytes]], T], kept: str) -> None:
        self._files = files
        self._make = make
        self._kept = kept
        self._contents, self._modes = self._read()
        self._seen: list[bytes] | None = None
        self._problem: Problem | None = None
        self.value = make(self._contents)

    def look(self) -> bool:
        """Read the files again; True when `value` is another now."""
        if not all(map(stat.S_ISREG, self._modes)):
            return False  # a pipe that a shell made has said what it had to say
        try:
            contents, self._modes = self._read()
            seen, self._seen = self._seen, contents
            if contents == self._contents:
                self._is_well()
                return False
            if contents != seen:
                return False  # it is perhaps still being written
            value = self._make(contents)
        except SettingsError as error:
            self._keep(error.problems[0])
            return False
        self._is_well()
        self._contents, self.value = contents, value
        return True

    def warn_if_open(self) -> None:
        """Mention in the log if the last of the files, which holds the secret, is open to others."""
        file, mode = self._files[-1], self._modes[-1]
        if mode & (stat.S_IROTH | stat.S_IWOTH) and stat.S_ISREG(mode) and not _is_mounted_secret(file.path):
            who = "change" if mode & stat.S_IWOTH else "read"
            log.warning("%s %s: every user of this machine may %s it; chmod 600 it", file.flag, file.path, who)

    def _keep(self, problem: Problem) -> None:
        if problem != self._problem:
            self._problem = problem
            log.error("%s %s: %s; %s", problem.name, problem.value, problem.advice, self._kept)

    def _is_well(self) -> None:
        if self._problem is not None:
            log.info("%s %s: can be used again", self._problem.name, self._problem.value)
            self._problem = None

    def _read(self) -> tuple[list[bytes], list[int]]:
        """All contents, and all modes. Raises SettingsError with all files that cannot be read."""
        read: list[tuple[bytes, int]] = []
        problems: list[Problem] = []
        for file in self._files:
            with kept_in(problems):
                read.append(_read_file(file))
        refuse(problems)
        return [content for content, _ in read], [mode for _, mode in read]


def _read_file(file: File) -> tuple[bytes, int]:
    try:
        with open(file.path, "rb") as opened:
            content, mode = opened.read(MAX_FILE_BYTES + 1), os.fstat(opened.fileno()).st_mode
    except OSError as error:
        raise file.problem(f"cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise file.problem(f"is longer than {MAX_FILE_BYTES >> 20} MiB")
    return content, mode


def _is_mounted_secret(path: str) -> bool:
    """Whether a kubelet put it there: behind the link `..data`, in a volume that only the pod's users see."""
    return any(part.startswith("..") for part in os.path.realpath(path).split("/"))
