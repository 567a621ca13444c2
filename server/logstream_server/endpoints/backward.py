"""The lines of a file that pass a filter, newest first: read backwards, block by block.

Where the filter needs plain bytes (`needle`), a block is searched for them, and only lines that have them are looked
at; else all lines of it, at once. Lines are what clients are shown: without their ends, cut to the limit, with U+FFFD
for what is not UTF-8; a hole in a sparse file is no line. Memory is bounded by a block and a line. Runs on the
scheduler's threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import stringzilla

from logstream_server.encoding.view import BOM
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import HOLE_BYTES, MARKER_BYTES, incomplete_utf8
from logstream_server.lines.needle import needles_of

from .snapshot import Snapshot

BLOCK_BYTES: Final = 1 << 20
STEP_S: Final = 0.1
"""How long one step goes on: whoever waits for it can be told how far it is, or give it up."""
MANY: Final = 256
"""Lines with the needle in one block, beyond which it is quicker to look at all its lines at once."""


@dataclass(frozen=True, slots=True)
class Found:
    """A line: where it begins, the up to 32 bytes before it, and its text. `partial`: it has no newline yet;
    `cut_bytes`: its length, where it is over the limit."""

    offset: int
    before: bytes
    text: str
    partial: bool = False
    cut_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """The bytes `start` to `end` of a file, without a newline; `kept` are the first of them."""

    start: int
    end: int
    kept: bytes


class BackwardSearch:
    """From `end`, which is the end of the file or the beginning of a line, to the file's start."""

    def __init__(
        self,
        snapshot: Snapshot,
        end: int,
        chosen: LineFilter,
        max_line_bytes: int,
        *,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.is_over = end == 0
        self._snapshot = snapshot
        self._filter = chosen
        self._needles = needles_of(chosen)
        self._max_line_bytes, self._block_bytes = max_line_bytes, block_bytes
        self._end = end  # of what has not been read; a line ends there, or goes on with:
        self._carry = b""  # the rest of it, as far as it is kept
        self._line_end = end
        self._is_begun = self._is_at_hole = False
        self._partial_end: int | None = None

    @property
    def left_bytes(self) -> int:
        """How much was not looked at yet."""
        return self._end

    def step(self, clock: Callable[[], float] = time.monotonic) -> list[Found]:
        """The next lines, newest first: all there are in what was read, perhaps none. Raises Changed, OSError."""
        if not self._is_begun and not self.is_over:
            self._begin()
        until = clock() + STEP_S
        while not self.is_over:
            found = self._read_block()
            if found or clock() >= until:
                return found
        return []

    def _begin(self) -> None:
        """The newline before the end is the end of its last line; without one, that line is not finished."""
        self._is_begun = True
        if self._snapshot.read(self._end - 1, 1) == b"\n":
            self._end -= 1
        else:
            self._partial_end = self._end
        self._line_end = self._end

    def _read_block(self) -> list[Found]:
        start = max(0, self._end - self._block_bytes)
        block = self._snapshot.read(start, self._end - start)
        self.is_over = start == 0
        if self._is_at_hole:
            before = self._leave_hole(block, start)
            if before is None:
                self._end = self._hole_start(start)
                return []
            block = before
        cut = block.find(b"\n") + 1 if start else 0
        if start and not cut:  # no line begins here
            return self._keep(block + self._carry, start)
        found = self._select(block + self._carry if self._carry else block, cut, start)
        self._line_end = start + cut - 1
        return found + self._keep(block[: max(0, cut - 1)], start)

    def _keep(self, data: bytes, start: int) -> list[Found]:
        """The line goes on before `start`; of a long one, its beginning will be shown. Behind a hole it begins."""
        found: list[Found] = []
        hole = _hole_bytes(data, start) if start else 0
        if hole:
            found = self._select(data[hole:], 0, start + hole)
            data, start = b"", self._hole_start(start)
            self._is_at_hole = True
        self._carry, self._end = data[: self._max_line_bytes + HOLE_BYTES], start
        return found

    def _leave_hole(self, block: bytes, start: int) -> bytes | None:
        """The end of what lies before a hole: another line, with or without a newline; None for more of the hole."""
        block = block.rstrip(b"\0")
        if not block:
            return None
        self._is_at_hole = False
        block = block.removesuffix(b"\n")
        self._line_end = start + len(block)
        return block

    def _hole_start(self, end: int) -> int:
        """An offset at or before `end` such that all between is a hole: steps that double, so a huge one costs
        little."""
        low, step = end, self._block_bytes
        while low > 0:
            candidate = max(0, low - step)
            if self._snapshot.next_data(candidate) < low:
                return low
            low, step = candidate, step * 2
        return low

    # -- the lines of a block ------------------------------------------------------------------------------------------

    def _select(self, text: bytes, cut: int, start: int) -> list[Found]:
        """Those of the lines from `cut` on that pass, the last first. `text` stands at `start` and ends with its last
        line, as far as that is kept."""
        begins = self._with_needles(text, cut) if self._needles else None
        if begins == []:
            self._partial_end = None
            return []
        is_plain = start > 0 and self._partial_end is None and not self._is_odd(text)
        if begins is None and is_plain and _is_utf8(text) and self._filter.passes_none(text, cut):
            return []
        if begins is None:
            lines = (text[cut:] if cut else text).split(b"\n")
        else:
            lines = [text[begin : _line_end(text, begin)] for begin in begins]
        shown = lines
        if not is_plain:
            if begins is None:
                begins = _begins(lines, cut)
            shown = [self._shown(line, start + begin) for line, begin in zip(lines, begins, strict=False)]
        chosen = self._filter.select(shown)
        if chosen and begins is None:
            begins = _begins(lines, cut)
        found = [self._found(text, start, begins[at], shown[at]) for at in reversed(chosen)] if begins else []
        if self._partial_end is not None and found and found[0].partial and not found[0].text:
            del found[0]  # a hole, or a byte order mark, and nothing else yet
        self._partial_end = None
        return found

    def _with_needles(self, text: bytes, cut: int) -> list[int] | None:
        """Where the lines that have a needle begin; None when they are many."""
        begins: set[int] = set()
        for needle in self._needles:
            at = _find(text, needle, cut)
            while at >= 0:
                if len(begins) >= MANY:
                    return None
                begins.add(max(cut, text.rfind(b"\n", cut, at) + 1))
                at = _find(text, needle, _line_end(text, at))
        return sorted(begins)

    def _is_odd(self, text: bytes) -> bool:
        """Whether a line may be shown otherwise than it stands there."""
        if _find(text, b"\r", 0) >= 0 or _find(text, b"\0", 0) >= 0:
            return True
        at = 0
        while len(text) - at > self._max_line_bytes:
            at = text.rfind(b"\n", at, at + self._max_line_bytes + 1) + 1
            if not at:
                return True
        return False

    def _shown(self, line: bytes, offset: int) -> bytes:
        if offset == 0 and line.startswith(BOM):
            line = line[len(BOM) :]
        line = line[_hole_bytes(line, offset) :]
        if len(line) > self._max_line_bytes + line.endswith(b"\r"):
            line = line[: self._max_line_bytes]
            return line[: len(line) - incomplete_utf8(line)]
        return line.removesuffix(b"\r")

    def _found(self, text: bytes, start: int, begin: int, shown: bytes) -> Found:
        end = _line_end(text, begin)
        line_end = self._line_end if end == len(text) else start + end
        hole = _hole_bytes(text[begin:end], start + begin) if text[begin : begin + 1] == b"\0" else 0
        begin += hole
        offset = start + begin
        size = min(offset, MARKER_BYTES)
        before = text[begin - size : begin] if begin >= size else self._snapshot.read(offset - size, size)
        is_partial = line_end == self._partial_end
        is_cut = line_end - offset - text[begin:end].endswith(b"\r") > self._max_line_bytes
        cut_bytes = line_end - offset + (not is_partial) if is_cut else None  # with its newline, as everywhere
        return Found(offset, before, shown.decode("utf-8", "replace"), is_partial, cut_bytes)


def _find(text: bytes, needle: bytes, start: int) -> int:
    """As bytes.find, with the processor's vector instructions: some thirty times as fast."""
    at: int = stringzilla.find(text, needle, start)
    return at


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line_end(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end


def _begins(lines: list[bytes], first: int) -> list[int]:
    """Where each line begins, and one more."""
    return list(accumulate((len(line) + 1 for line in lines), initial=first))


def _hole_bytes(line: bytes, offset: int) -> int:
    """How many NULs before a line are no part of it, but where nothing was ever written (see framing)."""
    count = len(line) - len(line.lstrip(b"\0")) if line.startswith(b"\0") else 0
    return count if offset == 0 or count >= HOLE_BYTES else 0
