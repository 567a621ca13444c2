"""times: the time in a line, in the formats that logs have, and what a person means by a time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from logstream_server.client.times import Since, parse_since, parse_time

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).astimezone()
AT_TEN = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC).timestamp()
LOCAL_TEN = datetime(2026, 11, 24, 10, 0, 0).timestamp()  # noqa: DTZ001 - a time without a zone is the machine's


@pytest.mark.parametrize(
    ("line", "when"),
    [
        ("2026-11-24T10:00:00Z INFO x", AT_TEN),
        ("2026-11-24T10:00:00.250Z x", AT_TEN + 0.25),
        ("2026-11-24T12:00:00+02:00 x", AT_TEN),
        ("2026-11-24 05:00:00,500 -0500 x", AT_TEN + 0.5),
        ("2026-11-24 10:00:00 INFO x", LOCAL_TEN),
        ("2026/11/24 10:00:00 [error] 7#7: x", LOCAL_TEN),
        ("[2026-11-24 10:00:00] x", LOCAL_TEN),
        ("Nov 24 10:00:00 host sshd[1]: x", LOCAL_TEN),
        ("<34>Nov 24 10:00:00 host x", LOCAL_TEN),
        ('127.0.0.1 - - [24/Nov/2026:11:00:00 +0100] "GET / HTTP/1.1" 200', AT_TEN),
        (f"{int(AT_TEN)} x", AT_TEN),
        (f"{int(AT_TEN)}.5 x", AT_TEN + 0.5),
        (f"{int(AT_TEN)}250 x", AT_TEN + 0.25),
        (f'{{"level":"info","ts":{int(AT_TEN)}.5}}', AT_TEN + 0.5),
        ('{"time":"2026-11-24T10:00:00Z"}', AT_TEN),
        ("2026-11-24T10:00:60Z a leap second", AT_TEN + 59),
        ("", None),
        ("    at java.lang.Thread.run(Thread.java:1)", None),
        ("2026-02-31 10:00:00 no such day", None),
        ("Foo 24 10:00:00 no such month", None),
        ("order 20261124100000", None),
        ("x" * 250 + " 2026-11-24T10:00:00Z", None),
    ],
)
def test_the_time_of_a_line(line: str, when: float | None) -> None:
    assert parse_time(line, NOW) == when


def test_a_month_to_come_was_last_year() -> None:
    found = parse_time("Dec 31 23:00:00 host x", NOW)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).year == 2025


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("90s", NOW.timestamp() - 90),
        ("1.5m", NOW.timestamp() - 90),
        ("2h", NOW.timestamp() - 7200),
        ("1d", NOW.timestamp() - 86400),
        ("2w", NOW.timestamp() - 14 * 86400),
        ("2026-11-24T10:00:00Z", AT_TEN),
        ("2026-11-24 10:00", LOCAL_TEN),
        ("2026-11-24", LOCAL_TEN - 36000),
        (str(int(AT_TEN)), AT_TEN),
    ],
)
def test_what_a_person_means(text: str, when: float) -> None:
    assert parse_since(text, NOW) == when


def test_a_time_of_the_day_is_the_last_that_was() -> None:
    assert parse_since("11:59", NOW.astimezone(UTC)) == NOW.timestamp() - 60
    assert parse_since("9:00", NOW.astimezone(UTC)) == NOW.timestamp() - 3 * 3600
    assert parse_since("12:01:00", NOW.astimezone(UTC)) == NOW.timestamp() + 60 - 86400


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10x", "-5m", "25:00", "2026-13-01", "10m ago"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the caller's
        parse_since(text, NOW)


def test_lines_go_through_from_the_first_that_is_new_enough() -> None:
    """Also those without a time that belong to one, and later ones however old they say they are."""
    since = Since(AT_TEN, NOW)
    assert since.admitted(["2026-11-24T09:59:59Z a", "  at x"]) == []
    assert since.admitted(["old", "2026-11-24T10:00:00Z b", "  at y"]) == ["2026-11-24T10:00:00Z b", "  at y"]
    assert since.admitted(["2026-11-24T09:00:00Z c"]) == ["2026-11-24T09:00:00Z c"]
