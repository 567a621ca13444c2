"""How `logstream tail` shows what a client is told: lines on standard output, all else on standard error.

Of several sources each line begins with the name of its own (`web | GET /`): they come mixed, so a heading like that of
GNU tail would stand before nearly each of them, and be lost behind a `grep`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TextIO

from logstream_server.encoding.events import (
    ClientEvent,
    Disconnected,
    Event,
    Gap,
    Hello,
    Lines,
    Reconnected,
    ServerError,
    ServerMessage,
    Subscribed,
    encode_event,
)

from .paint import harmless, prefixes

_WELL: Final = frozenset({"starting", "following"})
"""States of a stream that are no news."""
_C1: Final = re.compile("[\x7f-\x9f]")
"""Control characters that JSON leaves as they are."""


@dataclass(frozen=True, slots=True)
class Look:
    """How lines are shown. `paint` makes a line fit for a terminal, None: it goes out as it is."""

    as_json: bool = False
    paint: Callable[[str], str] | None = None
    prefixed: bool = False
    colored: bool = False


class Printer:
    """Writes events for `logstream tail`: lines to `out` as `look` says, all else to `log` as sentences.

    `names` are those of the sources that are known at the beginning. With JSON each message of a server goes to `out`
    as one line.
    """

    def __init__(self, out: BinaryIO, log: TextIO, look: Look = Look(), names: Sequence[str] = ()) -> None:
        self._out = out
        self._log = log
        self._look = look
        self._names = list(names)
        self._prefixes = prefixes(self._names, colors=look.colored)
        self._unfinished: str | None = None
        self._last_remarks: dict[str, str] = {}
        self._away: dict[str, Reconnected] = {}

    def show(self, event: ClientEvent, source: str = "", name: str = "") -> None:
        """Print one event, at once. `source` is where it comes from, `name` what its lines begin with."""
        if self._look.as_json and isinstance(event, ServerMessage):
            self._write_json(event)
        elif isinstance(event, Lines):
            self._write_lines(event, name)
        remark = self._remark(event, source, name)
        if remark and remark != self._last_remarks.get(source):  # not the same failure every five seconds
            self.remark(remark)
        if remark or isinstance(event, Lines):
            self._last_remarks[source] = remark

    def remark(self, text: str) -> None:
        """Say something that is no line."""
        print(f"logstream: {harmless(text)}", file=self._log, flush=True)

    def _remark(self, event: ClientEvent, source: str, name: str) -> str:
        """What is to be said; of a new connection only once its Hello has told whether something is missing."""
        if isinstance(event, Reconnected):
            self._away[source] = event
            return ""
        remark = remark_on(event)
        if isinstance(event, Hello) and source in self._away:
            back = f"connected again after {self._away.pop(source).downtime_s:.1f} s"
            remark = f"{back}; {remark or ('nothing is missing' if event.recovered else 'going on')}"
        elif isinstance(event, Hello) and not remark and _state_of(event).get("binary"):
            remark = f"{event.stream}: holds bytes that are no text; is it compressed?"
        if source and source == name:  # a file: its only stream has the same name, or a shorter form of it
            remark = remark.removeprefix(f"{getattr(event, 'stream', '')}: ")
        return f"{source}: {remark}" if remark and source else remark

    def _write_json(self, event: ServerMessage) -> None:
        data = encode_event(event)
        if self._look.paint is not None:
            data = _C1.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()).encode()
        self._write(data + b"\n")

    def _write_lines(self, event: Lines, name: str) -> None:
        if not event.lines:
            return
        goes_on = event.continued and self._unfinished == name
        lines = event.lines if self._look.paint is None else list(map(self._look.paint, event.lines))
        if self._look.prefixed:
            prefix = self._prefix(name)
            lines = [line if goes_on and not at else prefix + line for at, line in enumerate(lines)]
        text = "\n".join(lines)
        if self._unfinished is not None and not goes_on:  # the partial line ended without a newline
            text = "\n" + text
        self._unfinished = name if event.partial else None
        self._write((text if event.partial else text + "\n").encode("utf-8", "replace"))

    def _prefix(self, name: str) -> str:
        if name not in self._names:
            self._names.append(name)
            self._prefixes = prefixes(self._names, colors=self._look.colored)
        return self._prefixes[self._names.index(name)]

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._out.flush()


def remark_on(event: ClientEvent) -> str:
    """What a person who reads the lines should know, or nothing."""
    remark = ""
    match event:
        case Lines() if event.cut:
            sizes = ", ".join(f"{size} bytes" for _, size in event.cut)
            remark = f"{event.stream}: a line was cut because it is too long: {sizes}"
        case Disconnected():
            remark = f"no connection: {event.reason}; trying again"
        case Reconnected():
            remark = f"connected again after {event.downtime_s:.1f} s"
        case Hello(recovered=False) | Subscribed(recovered=False):
            remark = f"{event.stream}: cannot go on where it was, lines may be missing: {event.reason or 'no reason'}"
        case Hello():
            remark = _trouble(event)
        case Gap():
            size = "lines are" if event.lost_bytes is None else f"{event.lost_bytes} bytes are"
            remark = f"{event.stream}: {size} missing here: {event.detail or event.reason}"
        case Event():
            remark = f"{event.stream}: {event.kind}" + (f": {event.detail}" if event.detail else "")
        case ServerError():
            remark = f"the server says: {event.reason} ({event.code})"
        case _:
            pass
    return remark


def _trouble(hello: Hello) -> str:
    """Why no lines may come of a stream for now, in the server's words."""
    state = _state_of(hello)
    if state.get("state") in _WELL or not state.get("detail"):
        return ""
    return f"{hello.stream}: {state['state']}: {state['detail']}"


def _state_of(hello: Hello) -> dict[str, Any]:
    return next((each for each in hello.streams if each.get("name") == hello.stream), {})
