"""How `logstream tail` shows what a client is told: lines on standard output, all else on standard error."""

from __future__ import annotations

from typing import BinaryIO, Final, TextIO

from .events import (
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

_WELL: Final = frozenset({"starting", "following"})
"""States of a stream that are no news."""


class Printer:
    """Writes events for `logstream tail`: lines to `out` as they are in the file, all else to `log` as sentences.

    With `as_json` each message of the server goes to `out` as one line of JSON.
    """

    def __init__(self, out: BinaryIO, log: TextIO, as_json: bool) -> None:
        self._out = out
        self._log = log
        self._as_json = as_json
        self._within_line = False
        self._last_remark = ""

    def show(self, event: ClientEvent) -> None:
        """Print one event, at once."""
        if self._as_json and isinstance(event, ServerMessage):
            self._write(encode_event(event) + b"\n")
        elif isinstance(event, Lines):
            self._write_lines(event)
        remark = remark_on(event)
        if remark and remark != self._last_remark:  # not the same failure every five seconds
            print(f"logstream: {remark}", file=self._log, flush=True)
        if remark or isinstance(event, Lines):
            self._last_remark = remark

    def _write_lines(self, event: Lines) -> None:
        if not event.lines:
            return
        text = "\n".join(event.lines).encode("utf-8", "replace")
        if self._within_line and not event.continued:  # the partial line ended without a newline
            text = b"\n" + text
        self._within_line = event.partial
        self._write(text if event.partial else text + b"\n")

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
    state = next((each for each in hello.streams if each.get("name") == hello.stream), {})
    if state.get("state") in _WELL or not state.get("detail"):
        return ""
    return f"{hello.stream}: {state['state']}: {state['detail']}"
