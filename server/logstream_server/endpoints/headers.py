"""HTTP's headers for a file that is sent: ranges, entity tags, the name to save it by. Text in, values out, pure.

Section numbers are those of https://www.rfc-editor.org/rfc/rfc9110
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

MAX_DIGITS: Final = 18
"""No file has an offset with more; longer numbers are as good as without end."""
WITHOUT_END: Final = 10**MAX_DIGITS

_RANGE: Final = re.compile(r"([0-9]*)-([0-9]*)")
_TAG: Final = re.compile(r'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)')
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f/\\]")


class NotSatisfiable(Exception):
    """The range begins behind the end (416)."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to, not with, `end`, of `size`."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """The header's value (14.4)."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


class Lines(Protocol):
    """Headers of a request, which may have a name several times."""

    def getlist(self, key: str, /) -> list[str]:
        """All values of that name."""


def list_of(headers: Lines, name: str) -> str | None:
    """The value of a header that is a list, which may come in several lines (5.3); None where there is none."""
    lines = headers.getlist(name)
    return ", ".join(lines) if lines else None


def parse_range(header: str, size: int) -> ByteRange | None:
    """What a Range header asks for of `size` bytes (14.2); None for everything. Raises NotSatisfiable.

    What is no byte range says nothing, and several ranges at once are answered with everything, as a server may. So is
    any range of an empty file, of which there is no part.
    """
    unit, equals, specs = header.partition("=")
    ranges = [spec.strip(" \t") for spec in specs.split(",") if spec.strip(" \t")]
    match = _RANGE.fullmatch(ranges[0]) if equals and len(ranges) == 1 else None
    if match is None or unit.strip(" \t").lower() != "bytes" or not size:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size)
    start, end = _number(first), _number(last) + 1 if last else WITHOUT_END + 1
    if end <= start:
        return None  # 14.1.1: not valid
    if start >= size:
        raise NotSatisfiable
    return ByteRange(start, min(end, size), size)


def _suffix(last: str, size: int) -> ByteRange | None:
    if not last:
        return None
    wanted = min(_number(last), size)
    if not wanted:
        raise NotSatisfiable
    return ByteRange(size - wanted, size, size)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= MAX_DIGITS else WITHOUT_END


def parse_tags(header: str) -> list[str] | None:
    """The entity tags of If-Match or If-None-Match, with their quotes and W/ (8.8.3); None for `*`, which fits all."""
    if header.strip(" \t") == "*":
        return None
    tags, at = [], 0
    while match := _TAG.match(header, at):
        tags.append(match[1])
        at = match.end()
    return tags


def names(header: str, tag: str) -> bool:
    """Whether If-None-Match names a strong tag (13.1.2)."""
    tags = parse_tags(header)
    return tags is None or tag in [each.removeprefix("W/") for each in tags]


def attachment(name: str) -> str:
    """Content-Disposition for a file that is to be saved as `name` (RFC 6266), whatever that holds: no header ends in
    it, and no folder is meant by it."""
    safe = _UNSAFE.sub("_", name)
    plain = re.sub(r"[^A-Za-z0-9._ ~+=@,()-]", "_", safe)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='', errors='replace')}"
