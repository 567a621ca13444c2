"""The lines that `logstream bench` writes: each carries its number, the time of its writing and a check sum.

    @logstream-bench 5f3a90c1 000000000042 1795479123035716300 8c1f02b7 GET /api/v1/items?page=3 ...
                     run      number       nanoseconds         check sum

The check sum is a CRC-32 of all but itself and the blank before it: a bit that changed is seen, also in the padding.
Times are nanoseconds since 1970 (UTC), so that a reader on the writer's machine gets the line's age by a subtraction.
No I/O.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

MARKER: Final = b"@logstream-bench "
_PADDING: Final = (
    b" INFO [worker-7] com.example.app.RequestHandler - GET /api/v1/items?page=3&size=50 status=200 bytes=1834 "
    b'user=8fd1c2 trace=4bf92f3577b34da6a3ce929d0e0e4736 agent="Mozilla/5.0" '
)
"""What makes a line as long as wanted; text like that of a real log."""
_RUN: Final = slice(len(MARKER), len(MARKER) + 8)
_SEQ: Final = slice(_RUN.stop + 1, _RUN.stop + 1 + 12)
_TIME: Final = slice(_SEQ.stop + 1, _SEQ.stop + 1 + 19)
_SUM: Final = slice(_TIME.stop + 1, _TIME.stop + 1 + 8)
MIN_LINE_BYTES: Final = _SUM.stop + 1
"""A line without padding, with its newline."""


class Stamp(NamedTuple):
    """What a line says of itself."""

    run: bytes
    seq: int
    time_ns: int


class Damaged(NamedTuple):
    """A line that is one of ours by its beginning, but not what was written."""


def padding(line_bytes: int) -> bytes:
    """What follows the check sum in lines of this many bytes (newline included)."""
    wanted = line_bytes - MIN_LINE_BYTES
    return (_PADDING * (wanted // len(_PADDING) + 1))[: max(wanted, 0)]


def encode_stamped(stamp: Stamp, padded: bytes) -> bytes:
    """The line, with its newline; `padded` comes from `padding`."""
    head = b"%s%s %012d %019d" % (MARKER, stamp.run, stamp.seq, stamp.time_ns)
    return b"%s %08x%s\n" % (head, crc32(padded, crc32(head)), padded)


def parse_stamped(line: bytes) -> Stamp | Damaged | None:
    """The stamp of a line without its newline; None for a line that is not of a bench."""
    if not line.startswith(MARKER):
        return None
    if line[_TIME.stop : _SUM.stop] != b" %08x" % crc32(line[_SUM.stop :], crc32(line[: _TIME.stop])):
        return Damaged()
    try:
        return Stamp(line[_RUN], int(line[_SEQ]), int(line[_TIME]))
    except ValueError:  # a digit that is none
        return Damaged()
