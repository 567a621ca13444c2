"""journal: the operator's log as text and as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from logstream_operator.journal import REPEAT_S, JsonFormatter, PlainWatches, configure_log, describe


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
    logging.getLogger("urllib3.connectionpool").warning("Retrying")
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


# -- what kopf says; kopf itself is in test_watches.py ----------------------------------------------------------------


def a_record(name: str, error: BaseException, *, at_s: float = 0, level: int = logging.ERROR) -> logging.LogRecord:
    """Of an error that was caught."""
    record = logging.LogRecord(name, level, "f", 1, "it has failed", (), (type(error), error, None))
    record.created = at_s
    return record


REFUSED = ConnectionRefusedError(111, "Connection refused")


def test_a_watch_that_is_interrupted_is_told_in_one_line() -> None:
    record = a_record("kopf._core.reactor.orchestration", REFUSED)
    assert PlainWatches().filter(record)
    line = JsonFormatter().format(record)
    assert "exception" not in json.loads(line)
    assert "watching was interrupted, and is tried again: [Errno 111] Connection refused" in line
    assert json.loads(line)["level"] == "warning"


def test_one_cause_is_told_once_a_minute() -> None:
    plain = PlainWatches()
    told = [plain.filter(a_record("kopf.a", REFUSED, at_s=at_s)) for at_s in (0, 0, 1, REPEAT_S + 1, REPEAT_S + 2)]
    assert told == [True, False, False, True, False]
    assert plain.filter(a_record("kopf.a", TimeoutError("slow"), at_s=REPEAT_S + 2))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(a_record("kopf.objects", KeyError("x")), id="a mistake in a handler"),
        pytest.param(a_record("logstream_operator.workqueue", REFUSED), id="a line of ours"),
        pytest.param(a_record("kopf.a", REFUSED, level=logging.WARNING), id="what is lost for good"),
        pytest.param(logging.LogRecord("kopf.a", logging.ERROR, "f", 1, "odd", (), None), id="no error at all"),
    ],
)
def test_everything_else_is_logged_as_it_is(record: logging.LogRecord) -> None:
    before = dict(vars(record))
    plain = PlainWatches()
    assert plain.filter(record)
    assert plain.filter(record)
    assert vars(record) == before


def test_an_error_is_described_by_its_words() -> None:
    assert describe(RuntimeError("forbidden\nby rule", {"kind": "Status"})) == "forbidden by rule"
    assert describe(TimeoutError()) == "TimeoutError"
