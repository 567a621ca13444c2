"""The server's own log, on standard error: text for people or JSON for collectors, and never a secret.

A JSON line has `time` (RFC 3339, UTC), `level`, `logger` and `message`, and `exception` where there is one, all of it
on one line. A request's query may hold a token (`access_token`), and its headers do; we log neither, but libraries
may, so every line passes `without_secrets`. What keeps the program from starting is no log line: `cli` says it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from datetime import UTC, datetime
from typing import Final, TextIO

from .settings import LogFormat, LogLevel

_SECRETS: Final = (
    (re.compile(r"(?i)\b(access_token=)[^\s&\"']+"), r"\1..."),
    (re.compile(r"(?i)\b(bearer )\S+"), r"\1..."),
    # The query of anything that looks like a request's target: our own paths, and whole URLs.
    (re.compile(r"(/ws|/api/v1/[^\s?\"']*|\b(?:https?|wss?)://[^\s?\"']*)\?[^\s\"']*"), r"\1"),
)

_OF_STRANGERS: Final = frozenset({"Invalid HTTP request received."})
"""What a library warns of and whoever reaches the port can have it say without end. They are answered 400."""


def configure_log(form: LogFormat, level: LogLevel, out: TextIO | None = None) -> None:
    """Send everything that is logged in this process to `out` (None: standard error), warnings of Python too."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines() if form is LogFormat.JSON else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Neither is an answer that is cut off because the server ends: that many were is told by itself."""
    is_cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return record.msg not in _OF_STRANGERS and not is_cut_off


class TextLines(logging.Formatter):
    """Time, level and message; an exception on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return without_secrets(super().format(record))


class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return _encode(line)


def _encode(line: dict[str, str]) -> str:
    readable = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in line.items()}
    return json.dumps(readable)


def without_secrets(text: str) -> str:
    """The text without what looks like a token or a request's query."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
