"""The tokens that let clients in, as they stand in files: a token a line, with a label behind it for people.

    # who may read the logs
    q7Zk0vJtIu5yXw2mB8sN1dRcLfHaGePo   grafana
    3pV9xTqYb6WzKjU4nMhCrSdEoAiLgF7J   on call, until March

Files are looked at again and again (`TokenFiles`, by the rules of `renewed`), so that tokens come and go without a
restart, and nobody loses their access to a file that is half written or empty: to shut everybody out there is the end
of the server.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from logstream_server.errors import Problem, kept_in, refuse

from .renewed import File, Renewed

log = logging.getLogger(__name__)

FLAG: Final = "--token-file"
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
            with kept_in(problems):
                self._files.append(_TokenFile(path))
        refuse(problems)
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
        self._file = File(FLAG, path)
        self._renewed = Renewed([self._file], self._make, "the tokens that it held before stay valid")

    @property
    def tokens(self) -> Tokens:
        """All of them."""
        return self._renewed.value

    def look(self) -> bool:
        """Read it again; True when `tokens` are others now."""
        return self._renewed.look()

    def warn(self) -> None:
        """Mention in the log what is unwise about it."""
        self._renewed.warn_if_open()
        short = sum(len(token.secret) < SHORT_BYTES for token in self.tokens)
        if short:
            log.warning(
                "%s %s: %d of %d tokens have under %d characters and may be guessed; openssl rand -hex 32 makes one",
                *(FLAG, self._file.path, short, len(self.tokens), SHORT_BYTES),
            )

    def _make(self, contents: Sequence[bytes]) -> Tokens:
        try:
            return parse_tokens(contents[0])
        except ValueError as error:
            raise self._file.problem(str(error)) from None


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
