"""A client of `/events` that is written after the standards alone, comes back by itself, and keeps all that came."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
from typing import Any, Self
from urllib.parse import urlencode

from .process import Server, eventually

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


class SseParser:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation, byte by byte if need
    be. What is not dispatched yet is forgotten with the parser, its id too."""

    def __init__(self) -> None:
        self._unread = b""
        self._data: list[str] = []
        self._id: str | None = None
        self.comments = 0
        self.retry: int | None = None

    def feed(self, data: bytes) -> list[tuple[str | None, str]]:
        """Pairs of id (None where the event has none) and data."""
        *lines, self._unread = re.split(rb"\r\n|\n|\r(?!$)", self._unread + data)
        events = []
        for line in lines:
            text = line.decode()  # raises for what is not UTF-8
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if not text:
                if self._data:
                    events.append((self._id, "\n".join(self._data)))
                self._data, self._id = [], None
            elif field == "data":
                self._data.append(value)
            elif field == "id":
                self._id = value
            elif field == "retry":
                self.retry = int(value)
            elif not field:
                self.comments += 1
            else:
                raise AssertionError(f"unknown field {text!r}")
        return events


class NdjsonParser:
    """A message is a whole line."""

    def __init__(self) -> None:
        self._unread = b""

    def feed(self, data: bytes) -> list[tuple[str | None, str]]:
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [(json.loads(line).get("cursor"), line.decode()) for line in lines]


class Viewer:
    """Reads on a thread of its own. `lines`: what a person has seen, parts of a line put together."""

    def __init__(self, server: Server, stream: str, kind: str = SSE, **query: Any) -> None:
        self._address = (server.host, server.port)
        self._path = f"/api/v1/streams/{stream}/events"
        self._kind, self._query = kind, {name.removesuffix("_"): value for name, value in query.items()}
        self.messages: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.last_id: str | None = None
        self.connections = 0
        self.ends: list[str] = []
        self.parser: SseParser | NdjsonParser = SseParser()
        self.dropped: str | None = None
        """A line whose message is lost on purpose."""
        self._open = False
        self._over = False
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        while self._thread.is_alive():  # it may be connecting, and has nothing to cut yet
            self.cut()
            self._thread.join(0.05)

    def cut(self) -> None:
        """Break the connection."""
        with contextlib.suppress(OSError, AttributeError):
            self._connection.sock.shutdown(2)  # type: ignore[union-attr]

    def until(self, count: int) -> list[str]:
        """Wait for so many lines."""
        eventually(lambda: len(self.lines) >= count, f"{count} lines")
        return self.lines

    def message(self, kind: str) -> dict[str, Any]:
        """Wait for a message of a kind."""
        return eventually(lambda: next((m for m in self.messages if m["type"] == kind), None) or {}, kind)

    def _run(self) -> None:
        while not self._over:
            try:
                self._follow()
            except http.client.IncompleteRead:
                self.ends.append("broken")
            except (OSError, http.client.HTTPException) as error:
                self.ends.append(type(error).__name__)
                threading.Event().wait(0.02)
            else:
                self.ends.append("end")

    def _follow(self) -> None:
        self._connection = http.client.HTTPConnection(*self._address, timeout=30)
        headers, query = {"Accept": self._kind}, dict(self._query)
        if self.last_id is not None and self._kind == SSE:
            headers["Last-Event-ID"] = self.last_id
        elif self.last_id is not None:
            query.pop("from", None)
            query["cursor"] = self.last_id
        with contextlib.closing(self._connection):
            self._connection.request("GET", f"{self._path}?{urlencode(query, doseq=True)}", headers=headers)
            response = self._connection.getresponse()
            if response.status == 503:  # it is about to end
                raise http.client.HTTPException
            assert response.status == 200, response.read()
            self.connections += 1
            self.parser = SseParser() if self._kind == SSE else NdjsonParser()
            while data := response.read1(1 << 16):
                for event_id, text in self.parser.feed(data):
                    self._take(event_id, json.loads(text))

    def _take(self, event_id: str | None, message: dict[str, Any]) -> None:
        assert event_id == message.get("cursor")
        self.messages.append(message)
        if event_id is not None:
            self.last_id = event_id
        if message["type"] != "lines" or self.dropped in message["lines"]:
            return
        lines = message["lines"]
        if message.get("continued"):
            assert self._open
            self.lines[-1] += lines[0]
            lines = lines[1:]
        self._open = message.get("partial", False)
        self.lines += lines
