"""Compiled patterns, and what those of all clients may take of memory. Pure.

A filter's patterns come from strangers, and RE2 takes memory for each: its program, and the states that it remembers of
a search, up to a bound that it is given. Nobody can ask it what it has taken, so the bounds of all patterns that are
there count, and together they are kept below a limit. A plain word takes none of this. Equal patterns are one.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final
from weakref import WeakValueDictionary

import re2

SMALL_PATTERN_MEMORY: Final = 256 << 10
"""Bytes that RE2 may take for a usual pattern: such a one takes some 30 KiB. Past that it forgets, and gets slower."""

MAX_PATTERN_MEMORY: Final = 1 << 20
"""The same for one whose program is large; one that needs more is refused. So a filter takes at most 16 MiB."""

SMALL_PROGRAM: Final = 256
"""Instructions of a usual pattern's program: `error|warn` has some 15, `(?i)\\pL+` some 2,000."""

DEFAULT_LIMIT: Final = 128 << 20
"""Bytes for the patterns of all clients, where nobody says otherwise."""

LEAST_LIMIT: Final = 16 << 20
"""As many as one filter may take."""

MOST_LIMIT: Final = 1 << 30
"""Of any machine: so many patterns take more time than there is."""

_META: Final = frozenset("\\.+*?()|[]{}^$")

# RE2 takes a backslash before ASCII punctuation as that character; before anything else it means something.
_ESCAPED_PUNCTUATION: Final = re.compile(r"\\[!-/:-@\[-^`{-~]")

# A pattern is run over many lines at once, joined by newlines, unless it could see that they are joined: by the edges
# of the text (\A, \z), by single bytes (\C ignores never_nl), by quoting our own brackets (\Q without \E), or by
# switching off the multi-line mode that makes ^ and $ mean a line's edges.
_SEES_THE_BATCH: Final = re.compile(r"\\[AzCQ]|\(\?[a-zA-Z]*-")

Find = Callable[[bytes, int], int]
"""`(text, position) -> start` of the first match at or after `position`, -1 when there is none."""

Search = Callable[[Sequence[bytes]], list[int]]
"""`(lines) -> indexes`, ascending, of the lines in which one pattern is found."""


def limit_of(usable: int) -> int:
    """Bytes for the patterns of all clients, of so many that the process may use."""
    return min(max(usable // 4, LEAST_LIMIT), MOST_LIMIT)


class PatternsFull(Exception):
    """The patterns of all clients take what they may take. Internal to filters."""


@dataclass(eq=False)
class Pattern:
    """`search` is the quickest way that says the same as the pattern; `find` finds it in many lines at once, None where
    it cannot be found so or takes no RE2; `memory` is the bound in bytes. Safe to use from several threads."""

    search: Search
    find: Find | None
    memory: int
    _freed: deque[int]

    def __del__(self) -> None:
        self._freed.append(self.memory)  # at any moment, on any thread: nothing may be waited for


class Patterns:
    """All that are in use. Safe to use from several threads; `limit` (bytes) may be set at any time."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._known: WeakValueDictionary[str, Pattern] = WeakValueDictionary()
        self._freed: deque[int] = deque()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Bytes that those in use may take."""
        with self._lock:
            return self._count()

    def get(self, text: str) -> Pattern:
        """That of a text which is UTF-8. Raises re2.error, PatternsFull."""
        with self._lock:
            known = self._known.get(text)
            if known is None:
                known = self._known[text] = self._compile(text)
            return known

    def _count(self) -> int:
        while self._freed:
            self._taken -= self._freed.popleft()
        return self._taken

    def _compile(self, text: str) -> Pattern:
        literal = _literal(text)
        if literal is not None:
            search = _batch_search(lambda text, position: text.find(literal, position))
            return Pattern(search, None, 0, self._freed)  # no `find`: a plain word costs hardly anything
        search, find, memory = _compile_bounded(text)
        if self._count() + memory > self.limit:
            raise PatternsFull
        self._taken += memory
        return Pattern(search, find, memory, self._freed)


POOL: Final = Patterns()
"""Of this process."""


def _literal(pattern: str) -> bytes | None:
    r"""The bytes that a pattern stands for when it is plain text (`\.` and its like are), else None."""
    plain = _ESCAPED_PUNCTUATION.sub("", pattern)
    if not _META.isdisjoint(plain):
        return None
    return _ESCAPED_PUNCTUATION.sub(lambda escaped: escaped[0][1], pattern).encode()


def _compile_bounded(pattern: str) -> tuple[Search, Find | None, int]:
    """With as little memory as it does with. Raises re2.error."""
    try:
        single = _compile_re2(pattern, SMALL_PATTERN_MEMORY)
    except re2.error:
        single = None
    memory = SMALL_PATTERN_MEMORY
    if single is None or single.programsize > SMALL_PROGRAM:
        memory = MAX_PATTERN_MEMORY
        single = _compile_re2(pattern, memory)
    if not _SEES_THE_BATCH.search(pattern):
        try:
            find_any = _finder(_compile_re2(f"(?m)(?:{pattern})", memory))
            return _batch_search(find_any), find_any, memory
        except re2.error:  # the brackets were too much for max_mem
            pass
    find = _finder(single)
    return (lambda lines: [i for i, line in enumerate(lines) if find(line, 0) >= 0]), None, memory


def _compile_re2(pattern: str, memory: int) -> Any:
    """A compiled pattern, quiet and bounded; raises re2.error."""
    options = re2.Options()
    options.max_mem = memory
    options.log_errors = False  # RE2 would write to standard error by itself
    options.never_nl = True  # no match goes on into the next line
    options.never_capture = True  # groups would cost a second pass over each match
    try:
        return re2.compile(pattern, options=options)
    finally:
        re2.purge()  # its cache would keep the last 128 patterns of all clients; ours live as long as their filters


def _finder(compiled: Any) -> Find:
    """`Find` of a compiled pattern.

    `compiled.search` is a generator in Python, three times as slow as the C++ object it calls, so we call that.
    """
    match, anywhere = compiled._regexp.Match, re2._Anchor.UNANCHORED  # noqa: SLF001
    return lambda text, position: int(match(anywhere, text, position, len(text))[0][0])


def _batch_search(find: Find) -> Search:
    """Search many lines joined: one call for each line that matches instead of one for each line."""

    def search(lines: Sequence[bytes]) -> list[int]:
        text = b"\n".join(lines)
        position = find(text, 0) if lines else -1
        if position < 0:
            return []
        found: list[int] = []
        starts = list(accumulate((len(line) + 1 for line in lines), initial=0))  # one more than there are lines
        while position >= 0:
            following = bisect_right(starts, position, found[-1] + 1 if found else 0)
            found.append(following - 1)
            if following == len(lines):
                break
            position = find(text, starts[following])
        return found

    return search
