"""The tokens that let clients in, as they stand in files: a token a line, with a label behind it for people.

    # who may read the logs
    q7Zk0vJtIu5yXw2mB8sN1dRcLfHaGePo   grafana
    3pV9xTqYb6WzKjU4nMhCrSdEoAiLgF7J   on call, until March

Files are looked at again and again (`TokenFiles`), so that tokens come and go without a restart. What a file says
counts once two looks in a row have found the same: nobody loses their access to a file that is half written. A file
that is empty, missing or broken after the start changes nothing, and the log says so: that is a mistake far more often
than the wish to shut everybody out, for which there is the end of the server.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from .errors import Problem, SettingsError

log = logging.getLogger(__name__)

FLAG: Final = "--token-file"
MAX_FILE_BYTES: Final = 1 << 20
"""Every request is compared with every token: what is longer is no list of tokens."""
SHORT_BYTES: Final = 16
"""128 bits, if each byte were random; what people make up has far less (RFC 6750, 5.2: not to be guessed)."""

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Token:
    """One token. Its secret is in no text that is made of it."""

    secret: bytes = field(repr=False)
    label: str = ""

    @cached_property
    def digest(self) -> bytes:
        """What a client's token is compared with: as long for each, so that the time tells no length."""
        return hashlib.sha256(self.secret).digest()

    @cached_property
    def session_key(self) -> bytes:
        """Signs the sessions of browsers that logged in with it; see `sessions`."""
        return hmac.digest(self.secret, b"logstream session key 1", "sha256")


Tokens = tuple[Token, ...]


class _BadFile(Exception):
    """A file from which no tokens can be had; the text is the end of a sentence that begins with its path."""


def read_tokens(paths: Sequence[str]) -> tuple[bytes, ...]:
    """The secrets in the files. Raises SettingsError, with all files that cannot be read or hold none: no door may
    stand open, or stay closed to everybody, because of a mistyped path."""
    return tuple(token.secret for token in TokenFiles(paths).tokens)


def parse_tokens(content: bytes) -> Tokens:
    """The tokens in a file's content; empty lines and lines that begin with `#` are none. Raises ValueError with what
    is wrong, and never with any of the content."""
    if _CONTROL.search(content.replace(b"\r\n", b"\n")):
        raise ValueError("holds bytes that are no text")
    tokens = []
    for line in content.splitlines():
        secret, _, label = line.strip().replace(b"\t", b" ").partition(b" ")
        if secret and not secret.startswith(b"#"):
            tokens.append(Token(secret, label.strip().decode("utf-8", "backslashreplace")))
    if not tokens:
        raise ValueError("holds no token")
    return tuple(tokens)


class TokenFiles:
    """The tokens of several files, and whether they have changed. Made once, then only `look` is called: by one thread
    at a time, and not by the event loop, since a file system may hang. Raises SettingsError when it is made."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files: list[_TokenFile] = []
        problems: list[Problem] = []
        for path in paths:
            try:
                self._files.append(_TokenFile(path))
            except _BadFile as error:
                problems.append(Problem(FLAG, path, str(error)))
        if problems:
            raise SettingsError(tuple(problems))
        self.tokens: Tokens = self._all()

    def look(self) -> bool:
        """Read all files again; True when `tokens` are others now."""
        if not any([file.look() for file in self._files]):  # noqa: C419 - each is looked at
            return False
        before, self.tokens = self.tokens, self._all()
        log.info("tokens: %s", _difference(before, self.tokens))
        self.warn()
        return before != self.tokens

    def warn(self) -> None:
        """Mention in the log what is unwise about the files."""
        for file in self._files:
            file.warn()

    def _all(self) -> Tokens:
        return tuple(dict.fromkeys(token for file in self._files for token in file.tokens))


class _TokenFile:
    """One file: what it said when it last said anything."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._content, self._mode = self._read()
        self._seen: bytes | None = None
        self._problem = ""
        try:
            self.tokens = parse_tokens(self._content)
        except ValueError as error:
            raise _BadFile(str(error)) from None

    def look(self) -> bool:
        """Read it again; True when `tokens` are others now."""
        if not stat.S_ISREG(self._mode):
            return False  # a pipe that a shell made has said what it had to say
        try:
            content, self._mode = self._read()
            seen, self._seen = self._seen, content
            if content == self._content:
                self._is_well()
                return False
            if content != seen:
                return False  # it is perhaps still being written
            tokens = parse_tokens(content)
        except (_BadFile, ValueError) as error:
            self._keep(str(error))
            return False
        self._is_well()
        self._content, self.tokens = content, tokens
        return True

    def warn(self) -> None:
        """Mention in the log what is unwise about it."""
        if self._mode & (stat.S_IROTH | stat.S_IWOTH) and stat.S_ISREG(self._mode) and not self._is_mounted_secret():
            who = "change" if self._mode & stat.S_IWOTH else "read"
            log.warning("%s %s: every user of this machine may %s it; chmod 600 it", FLAG, self._path, who)
        short = sum(len(token.secret) < SHORT_BYTES for token in self.tokens)
        if short:
            log.warning(
                "%s %s: %d of %d tokens have under %d characters and may be guessed; openssl rand -hex 32 makes one",
                *(FLAG, self._path, short, len(self.tokens), SHORT_BYTES),
            )

    def _is_mounted_secret(self) -> bool:
        """Whether a kubelet put it there: behind the link `..data`, in a volume that only the pod's users see."""
        return any(part.startswith("..") for part in os.path.realpath(self._path).split("/"))

    def _keep(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            log.error("%s %s: %s; the tokens that it held before stay valid", FLAG, self._path, problem)

    def _is_well(self) -> None:
        if self._problem:
            self._problem = ""
            log.info("%s %s: can be used again", FLAG, self._path)

    def _read(self) -> tuple[bytes, int]:
        """Content and mode. Raises _BadFile."""
        try:
            with open(self._path, "rb") as file:
                content, mode = file.read(MAX_FILE_BYTES + 1), os.fstat(file.fileno()).st_mode
        except OSError as error:
            raise _BadFile(f"cannot be read: {error.strerror or error}") from error
        if len(content) > MAX_FILE_BYTES:
            raise _BadFile(f"is longer than {MAX_FILE_BYTES >> 20} MiB")
        return content, mode


def _difference(before: Tokens, after: Tokens) -> str:
    """What changed, by the labels: the tokens themselves are in no log."""
    old, new = {t.secret: t for t in before}, {t.secret: t for t in after}
    parts = [f"{len(new)} valid"]
    for words, gone in (("new", new.keys() - old.keys()), ("withdrawn", old.keys() - new.keys())):
        if gone:
            parts.append(f"{len(gone)} {words}{_labels((new if words == 'new' else old)[secret] for secret in gone)}")
    return ", ".join(parts)


def _labels(tokens: Iterable[Token]) -> str:
    labels = sorted({token.label for token in tokens if token.label})
    return f" ({', '.join(labels)})" if labels else ""
