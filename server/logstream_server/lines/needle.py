"""What a pattern cannot match without: plain bytes, by which most of a file is passed over without looking at lines.

Only what is surely needed counts; where a pattern says anything that is not understood here, there is no needle, and
every line is looked at. Whether a line passes is always `filters`' to say. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from .filters import LineFilter

LEAST_BYTES: Final = 2
"""One byte is in most lines."""
MOST: Final = 8
"""Alternatives, for each of which a block is searched; for more, RE2 is as quick."""

_REPEAT: Final = re.compile(r"\{\d+(?:,\d*)?\}")
_CLASS: Final = re.compile(r"\[\^?[^\[\]\\^][^\[\]\\]*\]")
_ESCAPED_CLASSES: Final = frozenset("dDwWsSbB")
_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_NOT_PLAIN: Final = frozenset("\n\ufffd")
"""A newline is in no line; U+FFFD is what a viewer sees for bytes that are something else."""


def needles_of(chosen: LineFilter) -> tuple[bytes, ...]:
    """Bytes of which each line that passes has at least one, as it stands in the file; none when none are known."""
    known = [needles for pattern in chosen.grep if (needles := _needles(pattern))]
    return min(known, key=lambda needles: (len(needles), -min(map(len, needles))), default=())


def _needles(pattern: str) -> tuple[bytes, ...]:
    """One for each of the pattern's alternatives."""
    found = {required_bytes(branch) for branch in _branches(pattern)}
    return tuple(sorted(found)) if b"" not in found and len(found) <= MOST else ()


def _branches(pattern: str) -> list[str]:
    """What stands between the bars that are in no brackets; one that is not understood is left whole."""
    branches, begin, at = [], 0, 0
    while at < len(pattern):
        if pattern[at] == "|":
            branches.append(pattern[begin:at])
            begin = at = at + 1
            continue
        atom, _ = _atom(pattern, at)
        if atom is None:
            return [pattern]
        at += atom
        at += len(_repeat(pattern, at))
    return [*branches, pattern[begin:]]


def required_bytes(pattern: str) -> bytes:
    """The longest run of plain text in whatever an RE2 pattern matches, as far as that is simple to tell; else b""."""
    if "\\Q" in pattern:
        return b""  # within it, nothing means anything
    runs, run = [""], ""
    at = 0
    while at < len(pattern):
        atom, literal = _atom(pattern, at)
        if atom is None:
            return b""
        at += atom
        repeat = _repeat(pattern, at)
        at += len(repeat)
        if repeat and _repeat(pattern, at):
            return b""  # a repeat of a repeat
        if literal and repeat in ("", "+", "+?"):
            run += literal
        if not literal or repeat:
            runs.append(run)
            run = ""
    longest = max((*runs, run), key=len)
    found = longest.encode("utf-8", "surrogatepass")
    return found if len(found) >= LEAST_BYTES and _NOT_PLAIN.isdisjoint(longest) else b""


def _atom(pattern: str, at: int) -> tuple[int | None, str]:
    """How long the next atom is, None for one that is not understood, and its text where it is plain."""
    char = pattern[at]
    if char == "\\":
        escaped = pattern[at + 1 : at + 2]
        if escaped and escaped in _PUNCTUATION:
            return 2, escaped
        return (2 if escaped in _ESCAPED_CLASSES else None), ""
    if char == "[":
        found = _CLASS.match(pattern, at)
        return (None if found is None else len(found[0])), ""
    if char == "(":
        size = _group(pattern, at)
        return size, ""
    if char in ")|*+?{":
        return None, ""
    return 1, "" if char in ".^$" else char


def _group(pattern: str, at: int) -> int | None:
    """How long a group is, whatever is in it; None for one that switches something on for what follows."""
    if pattern.startswith("(?", at) and not pattern.startswith("(?:", at):
        return None
    depth, end = 0, at
    while end < len(pattern):
        if pattern[end] == "[":
            found = _CLASS.match(pattern, end)
            if found is None:
                return None
            end = found.end()
            continue
        depth += {"(": 1, ")": -1}.get(pattern[end], 0)
        end += 2 if pattern[end] == "\\" else 1
        if not depth:
            return end - at
    return None


def _repeat(pattern: str, at: int) -> str:
    """How often the atom before is wanted, as it is written; a `?` behind that says only which match is preferred."""
    found = _REPEAT.match(pattern, at)
    repeat = found[0] if found else pattern[at : at + 1]
    if not found and repeat not in ("*", "+", "?"):
        return ""
    return repeat + "?" if pattern[at + len(repeat) : at + len(repeat) + 1] == "?" else repeat
