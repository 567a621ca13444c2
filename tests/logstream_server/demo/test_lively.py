"""lively: what a demo's log holds."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

from logstream_server.demo.lively import event

NOW = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)


def test_every_event_is_whole_lines_and_there_is_some_of_everything() -> None:
    chance = random.Random(1)  # noqa: S311 - of a demo
    events = [event(chance, NOW) for _ in range(500)]
    assert all(each.endswith("\n") for each in events)
    text = "".join(events)
    for word in ("INFO ", "DEBUG", "WARN ", "ERROR", "Traceback (most recent call last):\n  File "):
        assert word in text
    objects = [json.loads(each) for each in events if each.startswith("{")]
    assert objects
    assert all(each["time"] == NOW.isoformat() for each in objects)


def test_the_same_chance_gives_the_same_log() -> None:
    first, second = (random.Random(7) for _ in range(2))  # noqa: S311 - of a demo
    assert [event(first, NOW) for _ in range(20)] == [event(second, NOW) for _ in range(20)]
