"""Ring entries in, one answer's worth of lines out: with the exact position after the last of them.

What a channel is to the live view, but with an end: after so many lines, so many bytes, or at a loss. The answer is the
same whether the entries come from the ring or were read again from the file: an unfinished line and its continuation
are one line when both are there. Pure; where the entries come from is the business of `retrieve`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from logstream_server.encoding.view import BOM, clean_text, split_lines
from logstream_server.lines.cursor import Positions
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import MARKER_BYTES, Flag
from logstream_server.lines.ring import Entry, EventKind, StreamEvent, advance

Cuts = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines without their newlines, and `end`, where a reader is after them; `more`: there was more to read when asked.

    `partial`: the last line had no newline yet. `continued`: the first goes on with a partial one that came before.
    `cut`: index and length in bytes of each line that is over the limit. `gap`: what is lost after the last line.
    """

    lines: list[str]
    end: Positions
    more: bool = False
    partial: bool = False
    continued: bool = False
    cut: Cuts = ()
    gap: StreamEvent | None = None


class Collector:
    """Takes entries in order until it is full. `positions` say what a reader has who got all that was taken.

    `max_lines` None: any number. `max_bytes` is looked at after each entry, so an answer is longer by one at most. A
    line that continues one which is not here, or that comes after an unfinished one, begins the next excerpt: so
    `partial` can only be the last line and `continued` the first.
    """

    def __init__(self, begin: Positions, chosen: LineFilter, max_lines: int | None, max_bytes: int) -> None:
        self.positions = begin
        self._filter = chosen
        self._max_lines = max_lines
        self._room_bytes = max_bytes
        self._lines: list[str] = []
        self._cut: list[tuple[int, int]] = []
        self._held: Entry | None = None
        """An unfinished line, joined from its parts; what follows decides whether it stays so."""
        self._continued = False
        self._ended = False
        self._gap: StreamEvent | None = None

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken."""
        return self._ended or self._room_bytes <= 0 or self._room == 0

    def take(self, entries: Iterable[Entry]) -> bool:
        """Take what there is room for; whether that was all."""
        return all(not self.is_full and self._take(entry) for entry in entries)

    def end_in_gap(self, after: Positions, gap: StreamEvent) -> None:
        """The bytes before `after` are lost; the excerpt ends here and says so."""
        self.positions = after
        self._gap, self._ended = gap, True

    def excerpt(self, end: Positions, *, more: bool) -> Excerpt:
        """What was taken."""
        self._let_go_if_over()
        partial = self._let_go()
        return Excerpt(
            self._lines,
            end,
            more=more,
            partial=partial,
            continued=self._continued,
            cut=tuple(self._cut),
            gap=self._gap,
        )

    # -- one entry ----------------------------------------------------------------------------------------------------

    @property
    def _room(self) -> int | None:
        """For how many lines; None: any number."""
        return None if self._max_lines is None else self._max_lines - len(self._lines)

    def _take(self, entry: Entry) -> bool:
        """False when the entry, or a part of it, has to stay out."""
        if entry.event is not None:
            self._take_event(entry, entry.event)
            return True
        self._let_go_if_over()
        if self._held is not None and entry.end > entry.start:
            if entry.flags & Flag.CONTINUED and _follows(entry, self._held):
                self.positions = advance(self.positions, entry)
                self._take_line(_join(self._held, entry))
                return True
            self._ended = True
        elif entry.flags & Flag.CONTINUED and self._lines:
            self._ended = True
        if self._ended:
            return False
        if not entry.flags:
            return self._take_lines(entry)
        self.positions = advance(self.positions, entry)
        if not entry.flags & Flag.HOLE:
            self._take_line(entry)
        return True

    def _take_event(self, entry: Entry, event: StreamEvent) -> None:
        self._let_go_if_over()
        self.positions = advance(self.positions, entry)
        if event.kind is EventKind.GAP:
            self._gap, self._ended = event, True

    def _take_line(self, entry: Entry) -> None:
        """One line with a remark."""
        if entry.flags & Flag.PARTIAL:
            self._held = entry
            self._room_bytes -= len(entry.data)
        else:
            self._held = None
            self._emit(entry)

    def _emit(self, entry: Entry) -> bool:
        """A line of its own, if the filter wants it."""
        line = _text(entry)
        if not line and entry.flags & Flag.PARTIAL:
            return False  # nothing but a byte order mark so far
        if self._filter and not self._filter.matches(line.encode()):
            return False
        if entry.flags & Flag.CONTINUED:
            self._continued = not self._lines
        if entry.flags & Flag.CUT:
            self._cut.append((len(self._lines), entry.end - entry.start))
        self._lines.append(line)
        self._room_bytes -= len(line)
        return True

    def _let_go(self) -> bool:
        """The held line is the last: as it is. Whether it was wanted."""
        held, self._held = self._held, None
        return held is not None and self._emit(held)

    def _let_go_if_over(self) -> None:
        """The held line is the end of a file that has ended: it will not grow any more."""
        held = self._held
        if held is not None and held.generation is not None and held.generation.end == held.end:
            self._let_go()

    def _take_lines(self, entry: Entry) -> bool:
        """Ordinary lines, as many as there is room for."""
        data = entry.data
        found = split_lines(clean_text(data[len(BOM) :] if entry.start == 0 and data.startswith(BOM) else data))
        chosen: Sequence[int] = self._filter.select(found) if self._filter else range(len(found))
        room = self._room
        fits = room is None or len(chosen) <= room
        if not fits:
            chosen = chosen[:room]
        wanted = found[: len(chosen)] if not self._filter else [found[index] for index in chosen]
        if wanted:
            text = b"\n".join(wanted)
            self._lines += text.decode().split("\n")
            self._room_bytes -= len(text)
        if fits:
            self.positions = advance(self.positions, entry)
        elif wanted:
            self._stop_within(entry, chosen[-1] + 1)
        return fits

    def _stop_within(self, entry: Entry, lines: int) -> None:
        """A reader has the first `lines` lines of the entry."""
        size = 0
        for _ in range(lines):
            size = entry.data.index(b"\n", size) + 1
        marker = entry.data[max(0, size - MARKER_BYTES) : size]
        if size < MARKER_BYTES:
            before = next((p for p in self.positions if p.generation is entry.generation), None)
            if before is not None and before.offset == entry.start:
                marker = (before.marker + marker)[-MARKER_BYTES:]
        end = entry.start + size
        self.positions = advance(self.positions, replace(entry, end=end, marker=marker))


def _follows(entry: Entry, held: Entry) -> bool:
    return entry.generation is held.generation and entry.start == held.end


def _join(held: Entry, entry: Entry) -> Entry:
    """Both parts of a line as one; of a line that was over the limit already nothing more is kept."""
    flags = (entry.flags & ~Flag.CONTINUED) | (held.flags & (Flag.CONTINUED | Flag.CUT))
    data = held.data if held.flags & Flag.CUT else held.data + entry.data
    return replace(entry, start=held.start, data=data, flags=flags)


def _text(entry: Entry) -> str:
    """The one line of an entry that has a remark."""
    data = entry.data
    if entry.start == 0 and data.startswith(BOM):
        data = data[len(BOM) :]
    if data.endswith(b"\n"):
        data = data[:-2] if data.endswith(b"\r\n") else data[:-1]
    return data.decode("utf-8", "replace")
