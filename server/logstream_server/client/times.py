"""When a line was written, by the time that it carries itself, and what a person means by `--since`. No I/O, no clock.

Formats that are known: ISO 8601 and its kin (`2026-11-24T10:00:00.123Z`, `2026-11-24 10:00:00,123`, `2026/11/24
10:00:00`), with or without a zone; syslog's `Nov 24 10:00:00`; the web servers' `[24/Nov/2026:10:00:00 +0000]`; seconds
or milliseconds since 1970; each at the line's beginning, or soon after (an address, a bracket, a JSON field). A time
without a zone is one of this machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_LOOK_CHARS: Final = 200
_ISO: Final = re.compile(
    r"(?<!\d)(\d{4})[-/](\d\d)[-/](\d\d)[T _](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?(Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_WEB: Final = re.compile(r"\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\]")
_SYSLOG: Final = re.compile(r"^(?:<\d{1,3}>)?([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)\b")
_EPOCH: Final = re.compile(r"^\[?(1\d{9})(?:(\d{3})|\.(\d{1,9}))?(?!\d)")
_EPOCH_FIELD: Final = re.compile(r'"(?:ts|time|timestamp)": ?(1\d{9})(?:(\d{3})|\.(\d{1,9}))?(?!\d)')
_SPAN: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h|d|w)")
_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")


def parse_time(line: str, now: datetime) -> float | None:
    """The time in a line, in seconds since 1970; None where it has none. `now`, with its zone, is for the year
    that syslog leaves out."""
    head = line[:_LOOK_CHARS]
    try:
        if found := _ISO.search(head):
            *whole, seconds, fraction, zone = found.groups()
            year, month, day, hour, minute = map(int, whole)
            micro = int((fraction or "0")[:6].ljust(6, "0"))
            when = datetime(year, month, day, hour, minute, min(int(seconds or 0), 59), micro, _zone(zone))
        elif found := _WEB.search(head):
            year, day, hour, minute, second = map(int, found.group(3, 1, 4, 5, 6))
            month = _MONTHS.index(found[2]) + 1
            when = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=_zone(found[7]))
        elif found := _SYSLOG.search(head):
            name, *rest = found.groups()
            day, hour, minute, second = map(int, rest)
            when = now.replace(
                month=_MONTHS.index(name) + 1, day=day, hour=hour, minute=minute, second=min(second, 59), microsecond=0
            )
            if when > now + timedelta(days=1):  # of last year
                when = when.replace(year=when.year - 1)
        elif found := _EPOCH.search(head) or _EPOCH_FIELD.search(head):
            whole_seconds, millis, fraction = found.groups()
            return int(whole_seconds) + int(millis or 0) / 1000 + float(f"0.{fraction or 0}")
        else:
            return None
    except ValueError:  # a 31st of February, a month called Foo
        return None
    return when.timestamp()


def first_time(lines: Iterable[str], now: datetime) -> float | None:
    """The time of the first of the lines that has one."""
    return next((when for line in lines if (when := parse_time(line, now)) is not None), None)


def parse_since(text: str, now: datetime) -> float:
    """What a person means: a span before now (`90s`, `10m`, `2h`, `1d`), a time of today, a day, or a day and a time.

    In seconds since 1970. Raises ValueError.
    """
    if span := _SPAN.fullmatch(text):
        return now.timestamp() - float(span[1]) * _SPANS[span[2]]
    if clock := _CLOCK.fullmatch(text):
        hour, minute, second = (int(each or 0) for each in clock.groups())
        when = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (when if when <= now else when - timedelta(days=1)).timestamp()
    if _DATE.fullmatch(text):
        text += " 00:00"
    found = parse_time(text, now) if _ISO.fullmatch(text) or _EPOCH.fullmatch(text) else None
    if found is None:
        raise ValueError(text)
    return found


class Since:
    """Lets lines through from the first one on that is not older; those without a time go with the one before."""

    def __init__(self, since: float, now: datetime) -> None:
        self.since = since
        self._now = now
        self._begun = False

    def admitted(self, lines: list[str]) -> list[str]:
        """Those of the lines that are new enough."""
        if not self._begun:
            for at, line in enumerate(lines):
                when = parse_time(line, self._now)
                if when is not None and when >= self.since:
                    self._begun = True
                    return lines[at:]
            return []
        return lines


def _zone(text: str | None) -> tzinfo | None:
    if not text:
        return None  # this machine's, as it was at that time of the year
    return UTC if text == "Z" else datetime.strptime(text.replace(":", ""), "%z").tzinfo
