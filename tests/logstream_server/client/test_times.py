"""times: the time in a line, in the formats that logs have, and what a person means by a time."""

from __future__ import annotations

import time
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
        ("2026-11-24 10:00:00.250 UTC [12] LOG:  x", AT_TEN + 0.25),
        ("2026-11-24 10:00:00 GMT x", AT_TEN),
        ("[Tue Nov 24 10:00:00.250000 2026] [core:error] [pid 1] x", LOCAL_TEN + 0.25),
        ("Tue Nov 24 10:00:00 2026 x", LOCAL_TEN),
        ("I1124 10:00:00.250000       1 main.go:7] x", LOCAL_TEN + 0.25),
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
        ("0001-01-01 00:00:00 no day that this machine's clock knows", None),
        ("Foo 24 10:00:00 no such month", None),
        ("Feb 30 10:00:00 no such day of any year", None),
        ("[Tue Foo 24 10:00:00 2026] no such month", None),
        ("E1324 10:00:00.250000 1 x.go:7] no such month", None),
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
    ("now", "line", "when"),
    [
        pytest.param("2029-01-02", "Feb 29 10:00:00 x", "2028-02-29 10:00:00", id="a leap day of last year"),
        pytest.param("2026-12-31 23:59:59", "Jan  1 00:00:01 x", "2027-01-01 00:00:01", id="a clock that goes fast"),
        pytest.param("2026-12-01", "W0714 10:00:00.000000 1 x", "2026-07-14 10:00:00", id="of the Kubernetes kind"),
    ],
)
def test_a_line_without_a_year_is_of_the_last_one_that_fits(now: str, line: str, when: str) -> None:
    expected = datetime.fromisoformat(when).timestamp()
    assert parse_time(line, datetime.fromisoformat(now).astimezone()) == expected


def test_a_summer_s_line_is_by_summer_s_clock_also_in_winter(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        try:
            winter = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).astimezone()
            found = parse_time("Jul 14 10:00:00 host x", winter)
        finally:
            patched.undo()
            time.tzset()
    assert found == datetime(2026, 7, 14, 8, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("90s", NOW.timestamp() - 90),
        ("1.5m", NOW.timestamp() - 90),
        ("2h", NOW.timestamp() - 7200),
        ("1d", NOW.timestamp() - 86400),
        ("2w", NOW.timestamp() - 14 * 86400),
        ("1h30m", NOW.timestamp() - 5400),
        ("1d 2h 3m4s", NOW.timestamp() - 86400 - 7384),
        ("1 hour 30 min", NOW.timestamp() - 5400),
        ("-1h30m", NOW.timestamp() - 5400),
        ("10m ago", NOW.timestamp() - 600),
        ("2 days ago", NOW.timestamp() - 2 * 86400),
        ("now", NOW.timestamp()),
        ("today", LOCAL_TEN - 36000),
        ("today 10:00", LOCAL_TEN),
        ("yesterday", datetime(2026, 11, 23).timestamp()),  # noqa: DTZ001 - likewise
        ("yesterday 10:00:30", datetime(2026, 11, 23, 10, 0, 30).timestamp()),  # noqa: DTZ001 - likewise
        (f"@{int(AT_TEN)}", AT_TEN),
        ("2026-11-24T10:00:00Z", AT_TEN),
        ("2026-11-24 10:00", LOCAL_TEN),
        ("2026-11-24", LOCAL_TEN - 36000),
        (str(int(AT_TEN)), AT_TEN),
    ],
)
def test_what_a_person_means(text: str, when: float) -> None:
    assert parse_since(text, NOW) == when


def test_yesterday_began_with_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day that the clocks were changed has 25 hours."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        try:
            now = datetime(2026, 10, 26, 12, 0, 0, tzinfo=UTC).astimezone()
            found = [parse_since(text, now) for text in ("today", "yesterday", "14:00")]
        finally:
            patched.undo()
            time.tzset()
    wanted = ("2026-10-25T23:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T13:00:00Z")
    assert found == [datetime.fromisoformat(each).timestamp() for each in wanted]


def test_a_time_of_the_day_is_the_last_that_was() -> None:
    assert parse_since("11:59", NOW.astimezone(UTC)) == NOW.timestamp() - 60
    assert parse_since("9:00", NOW.astimezone(UTC)) == NOW.timestamp() - 3 * 3600
    assert parse_since("12:01:00", NOW.astimezone(UTC)) == NOW.timestamp() + 60 - 86400


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "Today", "tomorrow", "yesterday noon", "today 25:00"),
        *("10", "10x", "1h30", "h", "1h-30m", "--5m", "10m ago ago", "1hm", "1month"),
        *("25:00", "2026-13-01", "now ago", "@today", "@2026-11-24"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the caller's
        parse_since(text, NOW)


def test_lines_go_through_from_the_first_that_is_new_enough() -> None:
    """Also those without a time that belong to one, and later ones however old they say they are."""
    since = Since(AT_TEN, NOW)
    assert since.admitted(["2026-11-24T09:59:59Z a", "  at x"]) == []
    assert since.admitted(["old", "2026-11-24T10:00:00Z b", "  at y"]) == ["2026-11-24T10:00:00Z b", "  at y"]
    assert since.admitted(["2026-11-24T09:00:00Z c"]) == ["2026-11-24T09:00:00Z c"]
