"""Ring entries in, ready-made WebSocket frames out: what one channel sends, encoded once for all its clients.

A view is one way of looking at a stream: a format and a filter. Pure; the hot path of the server, so lines are handled
in bulk: split, checked and framed by a few calls that each take all lines of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from operator import itemgetter
from typing import Final

from logstream_server.lines.cursor import Positions
from logstream_server.lines.filters import EVERY_LINE, LineFilter
from logstream_server.lines.framing import Flag
from logstream_server.lines.ring import Entry, EventKind, StreamEvent, advance

from .frames import Opcode, encode_frame, encode_header, encode_text_frames
from .messages import event_message, lines_message, token

_WITHOUT_NEWLINE: Final = itemgetter(slice(-1))
BOM: Final = b"\xef\xbb\xbf"


class Format(StrEnum):
    """The three modes of the socket."""

    TEXT = "text"
    JSON = "json"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class View:
    """Equal views of one stream share a channel."""

    format: Format
    filter: LineFilter = EVERY_LINE


@dataclass(frozen=True, slots=True)
class Encoded:
    """`frames`: for the wire, b"" when nothing is to be sent; `lines` counts what is in them. `body` goes behind them:
    the payload of a raw frame, which is large and need not be copied to stand behind its header.

    `end`: where a reader is after them; `count`: how many entries that were. It is less than all when a loss comes that
    a plain reader must be told by closing (`gap`), or a line that a raw reader must get from the file (`needs_file`).
    `losses`: all that a reader is told of, in whichever way.
    """

    frames: bytes
    end: Positions
    count: int
    lines: int = 0
    gap: StreamEvent | None = None
    needs_file: Entry | None = None
    body: bytes = b""
    losses: tuple[StreamEvent, ...] = ()

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(self.frames) + len(self.body)


def clean_text(data: bytes) -> bytes:
    """Lines as text frames need them: newline-separated valid UTF-8, one carriage return less before each newline."""
    if b"\r" in data:  # looking for one byte is fifty times as fast as for two
        data = data.replace(b"\r\n", b"\n")
    if data.isascii():
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode()
    return data


def split_lines(data: bytes) -> list[bytes]:
    """The lines of `data`, which ends with a newline or is empty; without their newlines.

    A file in memory looks for newlines many bytes at a time; `bytes.split` takes nearly twice as long (Python 3.11).
    """
    return list(map(_WITHOUT_NEWLINE, BytesIO(data)))


def entry_text(entry: Entry) -> bytes:
    """The lines of an entry, each with a newline; b"" when it has none to show."""
    data = entry.data
    if entry.start == 0 and data.startswith(BOM):
        data = data[len(BOM) :]
    if not entry.flags or not data:
        return data
    if entry.flags & Flag.HOLE or (entry.flags & Flag.CONTINUED and data in (b"\n", b"\r\n", b"")):
        return b""  # the line went out already, all but its end
    if data.endswith(b"\n"):
        return data
    return data + (b"\r\n" if data.endswith(b"\r") else b"\n")  # a carriage return at a cut is not the line's end


def encode(view: View, stream: str, entries: Sequence[Entry], begin: Positions) -> Encoded:
    """All `entries`, in order, for a reader that is at `begin`."""
    if view.format is Format.TEXT:
        return _encode_text(view, entries, begin)
    if view.format is Format.RAW:
        return _encode_raw(view, entries, begin)
    return _encode_json(view, stream, entries, begin)


def _encode_text(view: View, entries: Sequence[Entry], positions: Positions) -> Encoded:
    parts: list[bytes] = []
    count = 0
    gap = None
    for entry in entries:
        positions = advance(positions, entry)
        count += 1
        if entry.event is not None:
            if entry.event.kind is EventKind.GAP:
                gap = entry.event
                break
        elif entry.data:
            parts.append(entry_text(entry))
    lines = split_lines(clean_text(parts[0] if len(parts) == 1 else b"".join(parts)))
    if view.filter and lines:
        lines = [lines[i] for i in view.filter.select(lines)]
    frames = encode_text_frames(lines) if lines else b""
    return Encoded(frames, positions, count, len(lines), gap, losses=(gap,) if gap else ())


def _encode_raw(view: View, entries: Sequence[Entry], positions: Positions) -> Encoded:
    parts: list[bytes] = []
    count = 0
    gap = needs_file = None
    for entry in entries:
        if entry.flags & Flag.CUT and not view.filter:
            needs_file = entry
            break
        positions = advance(positions, entry)
        count += 1
        if entry.event is not None:
            if entry.event.kind is EventKind.GAP:
                gap = entry.event
                break
        elif entry.data:
            parts += _raw_lines(entry) if view.filter else (entry.data,)
    if view.filter:
        bare = [part.removesuffix(b"\n").removesuffix(b"\r") for part in parts]
        parts = [parts[i] for i in view.filter.select(bare)]
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    header = encode_header(Opcode.BINARY, len(data)) if data else b""
    lines = sum(entry.lines for entry in entries[:count])
    return Encoded(header, positions, count, lines, gap, needs_file, data, (gap,) if gap else ())


def _raw_lines(entry: Entry) -> list[bytes]:
    """The lines of an entry, each with its end: one that was cut gets it back, or the next would be part of it."""
    if entry.flags:
        return [entry.data + b"\n" if entry.flags & (Flag.CUT | Flag.PARTIAL) == Flag.CUT else entry.data]
    return [line + b"\n" for line in split_lines(entry.data)]


def _encode_json(view: View, stream: str, entries: Sequence[Entry], positions: Positions) -> Encoded:
    out: list[bytes] = []
    run: list[Entry] = []
    lines = 0

    def flush() -> int:
        if not run:
            return 0
        message, count = _json_run(view, stream, run, positions)
        run.clear()
        if message:
            out.append(encode_frame(Opcode.TEXT, message))
        return count

    for entry in entries:
        if entry.flags or entry.event is not None or (run and run[-1].generation is not entry.generation):
            lines += flush()
        positions = advance(positions, entry)
        if entry.event is not None:
            if entry.event.kind is not EventKind.RETIRED:
                out.append(encode_frame(Opcode.TEXT, event_message(stream, token(stream, positions), entry.event)))
        elif entry.flags:
            lines += _json_special(view, stream, entry, positions, out)
        elif entry.data:
            run.append(entry)
    lines += flush()
    losses = tuple(e.event for e in entries if e.event is not None and e.event.kind is EventKind.GAP)
    return Encoded(b"".join(out), positions, len(entries), lines, losses=losses)


def _json_run(view: View, stream: str, run: list[Entry], positions: Positions) -> tuple[bytes, int]:
    data = b"".join([entry_text(entry) for entry in run])
    if view.filter:
        kept = split_lines(clean_text(data))
        lines = [kept[i].decode() for i in view.filter.select(kept)]
        if not lines:
            return b"", 0
    else:
        lines = data.replace(b"\r\n", b"\n").decode("utf-8", "replace")[:-1].split("\n")
    return lines_message(stream, token(stream, positions), run[0].start, lines), len(lines)


def _json_special(view: View, stream: str, entry: Entry, positions: Positions, out: list[bytes]) -> int:
    """A line with a remark, as a message of its own; for JSON readers also the empty end of a continued line."""
    if entry.flags & Flag.HOLE:
        return 0
    data = entry.data
    if entry.start == 0 and data.startswith(BOM):
        data = data[len(BOM) :]
    bare = data[:-1] if data.endswith(b"\n") else data
    if not bare and entry.flags & Flag.PARTIAL:
        return 0  # a byte order mark and nothing else yet
    line = (bare[:-1] if bare.endswith(b"\r") and bare is not data else bare).decode("utf-8", "replace")
    if view.filter and not view.filter.matches(line.encode()):
        return 0
    out.append(
        encode_frame(
            Opcode.TEXT,
            lines_message(
                stream,
                token(stream, positions),
                entry.start,
                [line],
                partial=bool(entry.flags & Flag.PARTIAL),
                continued=bool(entry.flags & Flag.CONTINUED),
                cut_bytes=entry.end - entry.start if entry.flags & Flag.CUT else None,
            ),
        )
    )
    return 1
