"""When a line was written, by the time that it carries itself, and what a person means by `--since`. No I/O, no clock.

Formats that are known: ISO 8601 and its kin (`2026-11-24T10:00:00.123Z`, `2026-11-24 10:00:00,123`, `2026/11/24
10:00:00`), with or without a zone; syslog's `Nov 24 10:00:00` and Kubernetes' `I1124 10:00:00.123456`; the web servers'
`[24/Nov/2026:10:00:00 +0000]` and `[Tue Nov 24 10:00:00 2026]`; seconds or milliseconds since 1970; each at the line's
beginning, or soon after (an address, a bracket, a JSON field). A time without a zone is one of this machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_LOOK_CHARS: Final = 200
_ISO: Final = re.compile(
    r"(?<!\d)(\d{4})[-/](\d\d)[-/](\d\d)[T _](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r" ?(Z|UTC|GMT|[+-]\d\d:?\d\d)?(?!\d)"
)
_WEB: Final = re.compile(r"\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\]")
_CTIME: Final = re.compile(
    r"^\[?[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))? (\d{4})\b"
)
_SYSLOG: Final = re.compile(r"^(?:<\d{1,3}>)?([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)\b")
_KLOG: Final = re.compile(r"^[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6})\b")
_EPOCH: Final = re.compile(r"^\[?(1\d{9})(?:(\d{3})|\.(\d{1,9}))?(?!\d)")
_EPOCH_FIELD: Final = re.compile(r'"(?:ts|time|timestamp)": ?(1\d{9})(?:(\d{3})|\.(\d{1,9}))?(?!\d)')
_PART: Final = re.compile(
    r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?|w|weeks?) ?(?=[0-9]|$)"
)
_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
"""By the first letter of the unit."""
_DAY: Final = re.compile(r"(today|yesterday)(?: (.+))?")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")


def parse_time(line: str, now: datetime) -> float | None:
    """The time in a line, in seconds since 1970; None where it has none. `now`, with its zone, is for the year
    that syslog leaves out."""
    head = line[:_LOOK_CHARS]
    try:
        if found := _ISO.search(head):
            year, month, day, hour, minute = map(int, found.group(1, 2, 3, 4, 5))
            when = datetime(year, month, day, hour, minute, _second(found[6]), _micro(found[7]), _zone(found[8]))
        elif found := _WEB.search(head):
            year, day, hour, minute = map(int, found.group(3, 1, 4, 5))
            when = datetime(year, _month(found[2]), day, hour, minute, _second(found[6]), tzinfo=_zone(found[7]))
        elif found := _CTIME.search(head):
            year, day, hour, minute = map(int, found.group(7, 2, 3, 4))
            second, micro = _second(found[5]), _micro(found[6])
            when = datetime(year, _month(found[1]), day, hour, minute, second, micro)  # noqa: DTZ001 - see above
        elif found := _SYSLOG.search(head):
            day, hour, minute = map(int, found.group(2, 3, 4))
            when = _in_its_year(now, _month(found[1]), day, hour, minute, _second(found[5]))
        elif found := _KLOG.search(head):
            month, day, hour, minute = map(int, found.group(1, 2, 3, 4))
            when = _in_its_year(now, month, day, hour, minute, _second(found[5]), _micro(found[6]))
        elif found := _EPOCH.search(head) or _EPOCH_FIELD.search(head):
            whole_seconds, millis, fraction = found.groups()
            return int(whole_seconds) + int(millis or 0) / 1000 + float(f"0.{fraction or 0}")
        else:
            return None
        return when.timestamp()
    except (ValueError, OverflowError):  # a 31st of February, a month called Foo, a first of January of the year 1
        return None


def first_time(lines: Iterable[str], now: datetime) -> float | None:
    """The time of the first of the lines that has one."""
    return next((when for line in lines if (when := parse_time(line, now)) is not None), None)


def parse_since(text: str, now: datetime) -> float:
    """What a person means: now, a span before it (`90s`, `10m`, `1h30m`, also `-1h` or `1 hour ago`), a time of the day
    (the last that was), a day (also `today` and `yesterday`), or a day and a time. As journalctl has it.

    In seconds since 1970. Raises ValueError.
    """
    if text == "now":
        return now.timestamp()
    if (span := _span(text.removeprefix("-").removesuffix(" ago"))) is not None:
        return now.timestamp() - span
    here = now.astimezone().replace(tzinfo=None)  # each day by the clock that is in force then (summer time)
    if _CLOCK.fullmatch(text):
        when = _at(here, text)
        return (when if when <= here else when - timedelta(days=1)).timestamp()
    if day := _DAY.fullmatch(text):
        return _at(here - timedelta(days=day[1] == "yesterday"), day[2] or "0:00").timestamp()
    if text.startswith("@"):
        text = text[1:] if _EPOCH.fullmatch(text[1:]) else ""
    if _DATE.fullmatch(text):
        text += " 00:00"
    found = parse_time(text, now) if _ISO.fullmatch(text) or _EPOCH.fullmatch(text) else None
    if found is None:
        raise ValueError(text)
    return found


def _span(text: str) -> float | None:
    """So many seconds; None where the text is something else."""
    seconds, at = 0.0, 0
    while part := _PART.match(text, at):
        seconds += float(part[1]) * _SPANS[part[2][0]]
        at = part.end()
    return seconds if 0 < at == len(text) else None


def _at(day: datetime, clock: str) -> datetime:
    """The day, at that time of it. Raises ValueError."""
    found = _CLOCK.fullmatch(clock)
    if found is None:
        raise ValueError(clock)
    hour, minute, second = (int(each or 0) for each in found.groups())
    return day.replace(hour=hour, minute=minute, second=second, microsecond=0)


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


def _in_its_year(now: datetime, month: int, day: int, hour: int, minute: int, second: int, micro: int = 0) -> datetime:
    """The last day of that name, whose time, like that of other lines, is by the clock that was in force then (summer
    time); at most a day to come, since clocks differ. Raises ValueError where there is none."""
    latest = now.astimezone().replace(tzinfo=None) + timedelta(days=1)
    for year in (latest.year, latest.year - 1):
        try:
            when = datetime(year, month, day, hour, minute, second, micro)  # noqa: DTZ001 - see above
        except ValueError:  # a 29th of February
            continue
        if when <= latest:
            return when
    raise ValueError


def _month(name: str) -> int:
    return _MONTHS.index(name) + 1


def _second(text: str | None) -> int:
    """A leap second is one that Python does not know."""
    return min(int(text or 0), 59)


def _micro(fraction: str | None) -> int:
    return int((fraction or "0")[:6].ljust(6, "0"))


def _zone(text: str | None) -> tzinfo | None:
    if not text:
        return None  # this machine's, as it was at that time of the year
    return UTC if text in ("Z", "UTC", "GMT") else datetime.strptime(text.replace(":", ""), "%z").tzinfo
