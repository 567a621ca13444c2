"""One client of `logstream bench`, as a value: the server's bytes in, what was right or wrong with them out.

While the bytes are those of the `tape`, they are only compared; else frames and lines are read one by one. Sockets,
handshakes and reconnecting are in `crowd`. No I/O, and the time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from logstream_server.encoding.events import Gap, Hello, Lines, Subscribed, parse_server_message
from logstream_server.encoding.frames import Header, Opcode, ProtocolError, encode_frame, parse_close
from logstream_server.encoding.view import Format

from .checklist import Checklist
from .stamps import Damaged, parse_stamped
from .tape import Mark, Tape

_MASK: Final = b"\x5a\xa5\x0f\xf0"
"""Masks keep caches of old from being led astray by what a script sends; a constant one does for pongs."""
_JUMP_AFTER_NS: Final = 1_000_000_000
"""So long has nobody got the tape's next line when it goes on with a later one."""
_ABNORMAL: Final = 1006


@dataclass(slots=True)
class Run:
    """What all clients of a bench share. `run`: the name in the lines' stamps, None until the first line tells it.

    `strict`: every line is to be one of ours, since the log is written by the bench.
    """

    format: Format
    tape: Tape
    run: bytes | None = None
    strict: bool = False
    highest: int = -1
    grown_ns: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """The server has closed the connection."""

    code: int
    reason: str


class Listener:
    """See the module's text. `answers` is what is to be sent, and for the caller to take away."""

    def __init__(self, run: Run, cursor: str | None) -> None:
        self.checklist = Checklist(run.tape.last.next_seq)
        self.cursor = cursor
        """Where the client goes on in a new connection; moves with the lines in JSON mode only."""
        self.others = 0
        """Lines without a stamp."""
        self.gaps = 0
        """How often the server said that lines are missing."""
        self.received_bytes = 0
        self.answers = b""
        self.closed: Closed | None = None
        self._run = run
        self._tape = run.tape
        self._place: int | None = 0
        self._at = run.tape.last
        self._carry = b""
        self._half = b""
        self._fragments = b""

    def reconnected(self) -> None:
        """What comes now is a new connection, which goes on at `cursor`."""
        self._carry = self._half = self._fragments = self.answers = b""
        self.closed = None
        self._join()

    def feed(self, data: memoryview | bytes, now_ns: int) -> None:
        """Take in what came. Raises ProtocolError for what is no WebSocket."""
        size = len(data)
        self.received_bytes += size
        done = self._compare(data, now_ns)
        if done < size:
            rest = bytes(data[done:])
            self._read(self._carry + rest if self._carry else rest, now_ns)

    def lose_connection(self) -> None:
        """The connection broke."""
        if self.closed is None:
            self.closed = Closed(_ABNORMAL, "the connection broke")

    # -- on the tape --------------------------------------------------------------------------------------------------

    def _compare(self, data: memoryview | bytes, now_ns: int) -> int:
        """How much of the data continues on the tape; that is counted."""
        place, carry, tape = self._place, self._carry, self._tape
        if place is None or (carry and not tape.has(carry, place)):
            return 0
        start, size = place + len(carry), len(data)
        if not tape.has(data, start):
            size = tape.end - start
            if not 0 < size < len(data) or not tape.has(data[:size], start):
                return 0
        stop = start + size
        end, mark = tape.mark_at(stop)
        if end > place:
            self._credit(end, mark, now_ns)
            self._carry = bytes(data[size - (stop - end) : size]) if stop > end else b""
        else:
            self._carry = carry + bytes(data[:size])
        return size

    def _credit(self, place: int, mark: Mark, now_ns: int) -> None:
        """All lines up to a mark came as they should."""
        before = self._at
        if mark.stamped > before.stamped:
            self.checklist.advance(mark.stamped - before.stamped, mark.next_seq)
            self._tape.time_lines(before.stamped, mark.stamped, now_ns)
        self.others += mark.others - before.others
        self._stand(place, mark)

    def _stand(self, place: int, mark: Mark) -> None:
        self._place, self._at, self._half = place, mark, mark.half
        self.cursor = mark.cursor or self.cursor

    def _join(self) -> None:
        """Back to the tape, if it has what should come next."""
        next_seq = self.checklist.next
        place = None if next_seq is None or self._half else self._tape.find(next_seq)
        if place is None:
            self._place = None
        else:
            self._place, self._at = place, self._tape.mark_at(place)[1]

    # -- read one by one ----------------------------------------------------------------------------------------------

    def _read(self, data: bytes, now_ns: int) -> None:
        at = 0
        while self.closed is None and (header := Header.parse(data, at)) is not None and header.end <= len(data):
            frame, payload = data[at : header.end], data[header.start : header.end]
            at = header.end
            if header.mask:
                raise ProtocolError(1002, "a frame of the server is masked")
            if header.opcode >= Opcode.CLOSE:
                self._control(header.opcode, payload)
            elif header.fin and header.opcode and not self._fragments:
                if not self._is_next(frame, now_ns):
                    self._take(payload, frame, now_ns)
            else:
                self._fragments += payload
                if header.fin:
                    whole, self._fragments = self._fragments, b""
                    self._take(whole, b"", now_ns)
        self._carry = data[at:]

    def _control(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.PING:
            self.answers += encode_frame(Opcode.PONG, payload, mask=_MASK)
        elif opcode is Opcode.CLOSE:
            self.answers += encode_frame(Opcode.CLOSE, payload[:2], mask=_MASK)
            self.closed = Closed(*parse_close(payload))

    def _is_next(self, frame: bytes, now_ns: int) -> bool:
        """Whether the frame is the tape's next; then it is counted."""
        if self._place is None or not self._tape.has(frame, self._place):
            return False
        end, mark = self._tape.mark_at(self._place + len(frame))
        if end != self._place + len(frame):
            return False
        self._credit(end, mark, now_ns)
        return True

    def _take(self, payload: bytes, frame: bytes, now_ns: int) -> None:
        """One message, line by line; on to the tape with its frame if that is its next, and all of it is right."""
        lines = self._lines(payload)
        if not lines and not self._half:
            return
        times, others = self._check(lines, now_ns)
        tape = self._tape
        if times is not None and frame and self._place is not None and self._place == tape.end:
            last = tape.last
            stamped, number = last.stamped + len(times), self.checklist.next
            mark = Mark(stamped, last.others + others, number, self._json_cursor(), self._half)
            tape.append(frame, mark, times)
            self._run.grown_ns = now_ns
            self._stand(tape.end, mark)
        else:
            self._join()

    def _json_cursor(self) -> str | None:
        return self.cursor if self._run.format is Format.JSON else None

    def _check(self, lines: list[bytes], now_ns: int) -> tuple[list[int] | None, int]:
        """The lines' times, None if something is wrong with one, and how many have no stamp."""
        run, checklist = self._run, self.checklist
        times: list[int] = []
        good, others = True, 0
        for line in lines:
            stamp = parse_stamped(line)
            if isinstance(stamp, Damaged):
                checklist.damage()
                good = False
            elif stamp is None or (run.run is not None and stamp.run != run.run):
                others += 1
                if run.strict:
                    checklist.damage()
                    good = False
            else:
                run.run = stamp.run
                self._let_tape_jump(stamp.seq, now_ns)
                good &= checklist.take(stamp.seq)
                run.highest = max(run.highest, stamp.seq)
                run.tape.ages.record(now_ns - stamp.time_ns)
                times.append(stamp.time_ns)
        self.others += others
        return (times if good else None), others

    def _let_tape_jump(self, seq: int, now_ns: int) -> None:
        """Where nobody gets the tape's next line any more, because it is lost, the tape goes on with this one."""
        wanted = self._tape.last.next_seq
        if wanted is not None and seq > wanted and now_ns - self._run.grown_ns > _JUMP_AFTER_NS:
            self._tape.jump(seq)
            self._run.grown_ns = now_ns
            if self.checklist.next == seq:
                self._join()

    # -- the three formats --------------------------------------------------------------------------------------------

    def _lines(self, payload: bytes) -> list[bytes]:
        """The whole lines in a message; what begins a line without ending it is kept for the next."""
        match self._run.format:
            case Format.TEXT:
                return [payload]
            case Format.RAW:
                *whole, self._half = (self._half + payload).split(b"\n")
                return whole
            case Format.JSON:
                return self._json_lines(payload)

    def _json_lines(self, payload: bytes) -> list[bytes]:
        try:
            message = parse_server_message(payload)
        except ValueError as error:
            raise ProtocolError(1007, f"not a message of the server: {error}") from error
        if isinstance(message, Gap) or (isinstance(message, Hello | Subscribed) and message.recovered is False):
            self.gaps += 1
        self.cursor = getattr(message, "cursor", None) or self.cursor
        if not isinstance(message, Lines):
            return []
        lines = [line.encode() for line in message.lines]
        if lines and self._half:
            lines[0] = self._half + lines[0]
        self._half = lines.pop() if message.partial and lines else b""
        return lines
