"""The errors that end something, by who is to blame for it.

    LogstreamError
    +-- SettingsError     who starts the program: bad flags or variables, all at once; exit status 2
    +-- CannotListen      the environment: the address is taken or not ours; exit status 1
    +-- CannotFollow      the environment of `tail`: no server or file there that can be followed; exit status 1
    +-- BadQuery          a client: what it asked for in its query or message; a WebSocket close code

An error carries data; its text is made in `__str__`. The shells translate once, at the edge: `cli` to an exit status,
`ws` to a close code, `rest` to problem+json. Errors that the module next door deals with stand where they are raised
(BadCursor, NotALog, Unavailable). Programming mistakes stay what Python raises and are not caught.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_CLOSE_REASON_BYTES: Final = 123
"""A close frame carries 125 bytes, two of them the code (RFC 6455, 5.5)."""


INTERNAL_ERROR: Final = "an error inside the server"
"""The reason beside close code 1011, which says that we are to blame: the rest is in our log."""


class CloseCode(IntEnum):
    """Our WebSocket close codes: the range 4000 to 4999 is an application's own (RFC 6455, 7.4.2)."""

    SHUTTING_DOWN = 4000
    SLOW = 4001
    AUTH_EXPIRED = 4002
    FORBIDDEN = 4003
    NO_SUCH_STREAM = 4004
    GAP = 4005
    LIMIT = 4008
    BAD_REQUEST = 4009
    UNSUPPORTED_FILE = 4010

    @property
    def reconnect(self) -> bool:
        """Whether asking again, with the last cursor and nothing else changed, can help."""
        return self in _WORTH_ANOTHER_TRY


_WORTH_ANOTHER_TRY: Final = frozenset({CloseCode.SHUTTING_DOWN, CloseCode.SLOW, CloseCode.GAP, CloseCode.LIMIT})


class LogstreamError(Exception):
    """The base of all errors of this package."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with how the program was started.

    `name` is what the person typed (`--port`, `LOGSTREAM_PORT`, `PATH`), `value` what they gave (None where nothing
    was given) and `advice` says what is allowed, or what to do, as the end of a sentence.
    """

    name: str
    value: str | None
    advice: str

    def __str__(self) -> str:
        """One line of text, safe to print: a value with control bytes or odd bytes is escaped."""
        return f"{self.name}: {self.advice}" if self.value is None else f"{self.name} {self.value!r}: {self.advice}"


class SettingsError(LogstreamError):
    """The program was started with settings that it cannot use; `problems` holds all of them, never only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@contextmanager
def kept_in(problems: list[Problem]) -> Iterator[None]:
    """Go on behind a SettingsError, with what it says in `problems`, so that all that is wrong is told at once."""
    try:
        yield
    except SettingsError as error:
        problems += error.problems


def refuse(problems: list[Problem]) -> None:
    """Raise a SettingsError with all of them; do nothing where there are none."""
    if problems:
        raise SettingsError(tuple(dict.fromkeys(problems)))


class CannotListen(LogstreamError):
    """The address to listen on was refused by the system; `reason` is the system's word for it, `advice` what helps."""

    def __init__(self, host: str, port: int, reason: str, advice: str = "") -> None:
        super().__init__(host, port, reason, advice)
        self.host = host
        self.port = port
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        refused = f"cannot listen on {self.host} port {self.port}: {self.reason}"
        return f"{refused}; {self.advice}" if self.advice else refused


class CannotFollow(LogstreamError):
    """What `tail` was given cannot be followed, and asking again would not help. `target`: a file, or a URL.

    `code` is an HTTP status (below 1000), a WebSocket close code, or None where it did not come so far.
    """

    def __init__(self, target: str, code: int | None, reason: str) -> None:
        super().__init__(target, code, reason)
        self.target = target
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        """One line of text, safe to print: the reason may be a server's, the target anything that was typed."""
        kind = "" if self.code is None else f" (HTTP {self.code})" if self.code < 1000 else f" (close code {self.code})"
        return _printable(f"cannot follow {self.target}: {self.reason}{kind}")


def _printable(text: str) -> str:
    """The text with what would move a terminal's cursor, or colour it, escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class BadQuery(LogstreamError):
    """A client asked for something that it cannot have; `reason` is for a person to read."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} ({int(self.code)})"

    @property
    def close_reason(self) -> str:
        """`reason` cut to what a close frame can carry, never inside a character."""
        return cut_close_reason(self.reason)


def cut_close_reason(reason: str) -> str:
    """Return as much of `reason` as fits a close frame; a cut is marked with three dots."""
    data = reason.encode("utf-8", "replace")
    if len(data) <= MAX_CLOSE_REASON_BYTES:
        return data.decode()
    return data[: MAX_CLOSE_REASON_BYTES - len(b"...")].decode("utf-8", "ignore") + "..."
