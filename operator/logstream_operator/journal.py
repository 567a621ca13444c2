"""The operator's own log, on standard error: lines for people, or one JSON object a line.

Kopf tells of each watch that is interrupted with the address of the request, several times, and with a trace in the
end. There are a dozen watches, so an API server that restarts would fill the log. `PlainWatches` makes one line of it.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

import aiohttp

from .handlers import quieten

REPEAT_S: Final = 60.0
"""How long the same words about a watch are not said again: kopf tries for nearly as long before it gives up."""


class JsonFormatter(logging.Formatter):
    """One object a line, with the names that the server's log has too."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class PlainWatches(logging.Filter):
    """Of what kopf says about the API server, or asyncio about kopf's tasks: each cause once a minute, without a trace.

    A mistake of kopf's or ours, which no API server causes, passes as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it; one that is logged may be reworded."""
        if not record.name.startswith(("kopf.", "asyncio")) or record.levelno < logging.ERROR:
            return True
        # A try that failed is told without its error, from where that is handled.
        cause = (record.exc_info or sys.exc_info())[1]
        if cause is None or not is_outside(cause):
            return True
        words = describe(cause)
        self._told = {said: at_s for said, at_s in self._told.items() if record.created - at_s < REPEAT_S}
        if words in self._told:
            return False
        self._told[words] = record.created
        record.msg, record.args = "watching was interrupted, and is tried again: %s", (words,)
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.exc_info = record.exc_text = None
        return True


def is_outside(error: BaseException) -> bool:
    """Whether it comes from the network or the API server. Kopf's errors for these have no public name."""
    return isinstance(error, (OSError, aiohttp.ClientError)) or type(error).__module__.startswith("kopf.")


def describe(error: BaseException) -> str:
    """An error in one line: kopf's have the API server's words first, and then its whole answer."""
    words = str(error.args[0]) if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(words.split()) or type(error).__name__


def configure_log(log_format: str, level: str) -> None:
    """Set the process's log up, once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if log_format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    handler.addFilter(PlainWatches())  # to the handler: a logger's filter sees nothing of the loggers below it
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for noisy in ("kubernetes", "asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))
    logging.getLogger("urllib3").setLevel(max(number, logging.ERROR))  # its retries: that the last one failed is told
    quieten(number)
