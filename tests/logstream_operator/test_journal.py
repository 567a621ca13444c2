"""journal: the operator's log as text and as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from logstream_operator.journal import JsonFormatter, configure_log

NOISY = ("kopf", "urllib3", "kubernetes", "asyncio", "aiohttp.access")


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts the process's log back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {
        name: logging.getLogger(name).level for name in ("kopf", "urllib3", "kubernetes", "asyncio", "aiohttp.access")
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in quiet.items():
        logging.getLogger(name).setLevel(old)


@pytest.mark.usefixtures("restored")
def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("text", "info")
    logging.getLogger("x").info("hello %s", "you")
    logging.getLogger("kopf.objects").info("an event")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("INFO hello you\n")


def test_json() -> None:
    try:
        int("ü")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "line\n%s", ("two",), sys.exc_info())
    entry = json.loads(JsonFormatter().format(record))
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "x", "line\ntwo")
    assert "ValueError" in entry["exception"]
