"""How the value of an option is written: text in, a value or ValueError out, and the words for what is allowed.

`settings` declares options with these, `options` reads and shows them. Numbers are plain ASCII digits (Python's own
`int` and `float` would also take `1_000`, spaces and `nan`). What is not here: anything about one particular option.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Number = TypeVar("Number", int, float)
Word = TypeVar("Word", bound=StrEnum)

Network = IPv4Network | IPv6Network


def show_plain(value: object) -> str:
    """A value as it would be typed; nothing for None."""
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """One way of writing a value.

    `metavar` stands for it in a help page, `allowed` completes "must be ...", `read` raises ValueError for any other
    text, and `show` writes a value as `read` would take it.
    """

    metavar: str
    allowed: str
    read: Callable[[str], T]
    show: Callable[[T], str] = show_plain


@dataclass(frozen=True, slots=True)
class NamedPath:
    """A file, folder or glob to follow, as given; `name` is the stream's name where the person chose one."""

    path: str
    name: str | None = None

    def __str__(self) -> str:
        return self.path if self.name is None else f"{self.name}={self.path}"


_DIGITS: Final = re.compile(r"[0-9]{1,18}")  # 18: no bound of ours needs more, and a longer int() is slow
_SECONDS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})(ms|s|m|h)?")
_SECONDS_PER: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"([0-9]{1,18})(B|[KMG]iB?)?")
_BYTES_PER: Final = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_STREAM_NAME: Final = re.compile(r"[\w.~-]{1,200}")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\x20-\x7e\x80-\xff]*?)[ \t]*")
_BASE_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_YES: Final = frozenset({"yes", "true", "on", "1"})
_NO: Final = frozenset({"no", "false", "off", "0"})


def whole(metavar: str, lowest: int, highest: int) -> Form[int]:
    """A whole number within both bounds."""

    def read(text: str) -> int:
        return _within(int(_match(_DIGITS, text)[0]), lowest, highest)

    return Form(metavar, f"a whole number from {lowest} to {highest}", read)


def seconds(lowest: float, highest: float) -> Form[float]:
    """A span of time in seconds: `0.25`, `5s`, `250ms`, `2m`, `1h`."""

    def read(text: str) -> float:
        number, unit = _match(_SECONDS, text).groups()
        return _within(float(number) * _SECONDS_PER[unit or "s"], lowest, highest)

    allowed = f"a time from {show_seconds(lowest)} to {show_seconds(highest)}, as 0.25, 5s, 250ms or 2m"
    return Form("SECONDS", allowed, read, show_seconds)


def show_seconds(value: float | None) -> str:
    """A span of time as it would be typed, in the largest unit that divides it; nothing for None."""
    if value is None:
        return ""
    for unit in ("h", "m"):
        if value and value % _SECONDS_PER[unit] == 0:
            return f"{value / _SECONDS_PER[unit]:.0f}{unit}"
    return f"{value:g}s"


def size(lowest: int, highest: int) -> Form[int]:
    """A number of bytes: plain, or with KiB, MiB or GiB (also Ki, Mi, Gi, as Kubernetes writes them)."""

    def read(text: str) -> int:
        number, unit = _match(_SIZE, text).groups()
        return _within(int(number) * _BYTES_PER[(unit or "B").removesuffix("B") + "B"], lowest, highest)

    allowed = f"a size from {show_size(lowest)} to {show_size(highest)}, in bytes or as 64KiB, 1MiB, 2GiB"
    return Form("SIZE", allowed, read, show_size)


def show_size(value: int) -> str:
    """A number of bytes in the largest unit that divides it."""
    unit = next(unit for unit, factor in _BYTES_PER.items() if value % factor == 0)
    return f"{value // _BYTES_PER[unit]}{unit}"


def one_of(words: type[Word]) -> Form[Word]:
    """One of the words of an enumeration."""
    return Form("|".join(words), f"one of {', '.join(words)}", words)


def text(metavar: str, allowed: str) -> Form[str]:
    """Any text that is not empty and has no NUL byte (no path can have one)."""

    def read(given: str) -> str:
        if not given or "\0" in given:
            raise ValueError(given)
        return given

    return Form(metavar, allowed, read)


def or_off(form: Form[T]) -> Form[T | None]:
    """The same form, or the word `off` for None."""

    def read(given: str) -> T | None:
        return None if given == "off" else form.read(given)

    def show(value: T | None) -> str:
        return "off" if value is None else form.show(value)

    return Form(form.metavar, f"{form.allowed}, or off", read, show)


def read_boolean(given: str) -> bool:
    """The words of a switch's variable, in any case."""
    word = given.lower()
    if word not in _YES | _NO:
        raise ValueError(given)
    return word in _YES


def read_host(given: str) -> str:
    """A host name or an address; IPv6 may stand in the brackets that it has in URLs, which are taken off."""
    host = given[1:-1] if given.startswith("[") and given.endswith("]") else given
    if ":" in host:
        ip_address(host)
        return host
    return _match(_HOST, host)[0]


def read_base_path(given: str) -> str:
    """The path before ours, without a slash at its end; empty for the root."""
    path = given.removesuffix("/")
    _match(_BASE_PATH, path)
    if {".", ".."} & set(path.split("/")):
        raise ValueError(given)  # a browser resolves these before it asks, so nobody would ever arrive
    return path


def read_origin(given: str) -> str:
    """An origin as browsers send it (RFC 6454, 6.2): lower case, and without the scheme's own port; or `*` for any."""
    if given == "*":
        return given
    parts = urlsplit(given.lower())
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.netloc != given.lower().partition("//")[2]:
        raise ValueError(given)
    host = read_host(parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc)
    shown = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}"


def read_header(given: str) -> tuple[str, str]:
    """`NAME: VALUE`, as a request carries it."""
    name, value = _match(_HEADER, given).groups()
    return str(name), str(value)


def read_network(given: str) -> Network:
    """A network, or an address, which is a network of one."""
    return ip_network(given)


def read_named_path(given: str) -> NamedPath:
    """`PATH`, or `NAME=PATH`: an `=` before the first slash ends a name, so `./a=b.log` is a path."""
    before, equals, after = given.partition("=")
    if not equals or "/" in before:
        return NamedPath(PATH.read(given))
    if before in (".", ".."):
        raise ValueError(given)
    return NamedPath(PATH.read(after), _match(_STREAM_NAME, before)[0])


def _match(pattern: re.Pattern[str], given: str) -> re.Match[str]:
    match = pattern.fullmatch(given)
    if match is None:
        raise ValueError(given)
    return match


def _within(value: Number, lowest: Number, highest: Number) -> Number:
    if not lowest <= value <= highest:
        raise ValueError(value)
    return value


PATH: Final = text("PATH", "a path")
BOOLEAN: Final = Form("yes|no", "yes or no (or true, false, on, off, 1, 0)", read_boolean)
HOST: Final = Form("HOST", "a host name or an IP address", read_host)
BASE_PATH: Final = Form("PATH", "empty or a path like /team/app, of letters, digits, - . _ ~", read_base_path)
ORIGIN: Final = Form("ORIGIN", "an origin as browsers send it, like https://logs.example.com:8443, or *", read_origin)
NETWORK: Final = Form(
    "NETWORK", "an address or a network such as 10.0.0.0/8 (all bits behind its length zero)", read_network
)
NAMED_PATH: Final = Form(
    "PATH",
    "a file, a folder or a glob, or NAME=PATH with a name of letters, digits, - . _ ~ (a path with = starts with ./)",
    read_named_path,
)
