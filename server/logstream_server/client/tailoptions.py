"""What `logstream tail` can be told, as one frozen value; see `settings`, which does the same for `serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from logstream_server.commandline.forms import one_of, text, whole
from logstream_server.commandline.options import Collected, arguments, option, read_arguments, repeatable, switch
from logstream_server.errors import Problem
from logstream_server.lines.cursor import BadCursor, parse_cursor
from logstream_server.settings import MAX_TAIL_LINES

from .addresses import SCHEMES, display_url, fault_of
from .times import parse_since

_SOME_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Whether a time can be read does not depend on the clock."""
_SINCE_ADVICE: Final = (
    "must be a span such as 90s, 10m, 1h30m or 2d, or now, today or yesterday, "
    "or a time such as 14:30, 2026-11-24 or '2026-11-24 14:30'"
)
_TARGET: Final = text("FILE|URL", "a file, or a server's address")


class Color(StrEnum):
    """Whether lines are coloured: AUTO on a terminal, unless NO_COLOR is set."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class TailOptions:
    """Everything that `tail` can be told: only by its arguments, since the variables are the server's."""

    targets: tuple[str, ...] = arguments(_TARGET, "", "what to follow; several are shown together")
    lines: int = option(
        "-n, --lines", whole("N", 0, MAX_TAIL_LINES), 10, "how many last lines to begin with", section="Where to begin"
    )
    since: str | None = option(
        "--since",
        text("TIME", "a time"),
        None,
        "begin with the first line that is not older, by the lines' own times: 10m, 1h30m, 2d, now, today, yesterday, "
        "14:30, 2026-11-24, '2026-11-24 14:30'; rotated files count, too; of a server only the last 100,000 lines of "
        "the present one",
    )
    from_start: bool = switch("--from-start", "begin with the file's first line")
    cursor: str | None = option("--cursor", text("CURSOR", "a cursor that a server gave"), None, "go on from there")

    grep: tuple[str, ...] = repeatable(
        "--grep",
        text("RE", "a pattern"),
        "only lines that match, all of them if repeated (RE2 syntax; (?i) ignores case)",
        "What to show",
    )
    exclude: tuple[str, ...] = repeatable("--exclude", text("RE", "a pattern"), "no lines that match, any if repeated")
    json: bool = switch("--json", "print JSON messages as the server sends them, one a line")
    color: Color = option(
        "--color",
        one_of(Color),
        Color.AUTO,
        "keep colours, or make them by level; auto: on a terminal, if not NO_COLOR",
    )
    no_prefix: bool = switch(
        "--no-prefix", "do not begin each line with the name of its source where there are several"
    )
    no_follow: bool = switch("--no-follow", "end with the last line that is there, and wait for nothing")
    follow: bool = switch("-f, --follow", "for those who are used to it: new lines are followed anyway")
    retry: bool = switch("-F, --retry", "likewise: a file that is replaced or not there yet is always waited for")

    streams: tuple[str, ...] = repeatable(
        "--stream",
        text("NAME", "a stream's name"),
        "which of the server's streams; also a glob such as '*.log'",
        "Servers",
    )
    no_resume: bool = switch("--no-resume", "end when the connection does")
    token_file: str | None = option("--token-file", text("FILE", "a file"), None, "the token for the server")
    ca_file: str | None = option("--ca-file", text("FILE", "a file"), None, "trust the authorities in it (PEM)")
    insecure: bool = switch("--insecure", "accept any certificate")

    @classmethod
    def from_argv(cls, argv: Sequence[str], use: Callable[[TailOptions], object] = lambda _: None) -> TailOptions:
        """Read the arguments; SettingsError names all faults, also those that `use` meets (`options.read_options`)."""
        return read_arguments(cls, argv, _conflicts, use)


def is_url(target: str) -> bool:
    """Whether a server is to be followed, and not a file."""
    return "://" in target


def shown(target: str) -> str:
    """The target without what may be secret."""
    return display_url(target) if is_url(target) else target


def _conflicts(options: TailOptions, given: Collected) -> Iterator[Problem]:
    if not options.targets and not any(problem.name == "FILE|URL" for problem in given.problems):
        yield Problem("FILE|URL", None, "say what to follow")
    yield from _unusable(options)
    if options.targets and not any(map(is_url, options.targets)):
        for name in sorted(_FOR_SERVERS & given.sources.keys()):
            yield Problem(given.sources[name], None, f"is for servers, and {options.targets[0]!r} is a file")
    starts = [given.sources[name] for name in ("lines", "since", "cursor", "from_start") if name in given.sources]
    if len(starts) > 1:
        yield Problem(" and ".join(starts), None, "each say where to begin; keep one")
    if options.cursor is not None and (len(options.targets) > 1 or len(options.streams) > 1):
        yield Problem("--cursor", None, "is of one stream; give one source")
    if options.no_follow and (options.follow or options.retry):
        yield Problem("--follow" if options.follow else "--retry", None, "is the opposite of --no-follow; keep one")
    yield from _unreadable(options)


def _unusable(options: TailOptions) -> Iterator[Problem]:
    """Words that are neither a file nor a server."""
    for target in options.targets:
        if target == "-":
            yield Problem("FILE|URL", target, "standard input is no file that grows; ./- is a file of that name")
        if is_url(target) and target.partition("://")[0].lower() not in SCHEMES:
            advice = f"must be a file, or a URL that begins with one of {', '.join(SCHEMES)}"
            yield Problem("FILE|URL", shown(target), advice)
        elif is_url(target) and (fault := fault_of(target)) is not None:
            yield Problem("FILE|URL", shown(target), fault)


def _unreadable(options: TailOptions) -> Iterator[Problem]:
    """What only its own module can read."""
    from logstream_server.lines.filters import BadFilter, parse_filter  # noqa: PLC0415 - RE2 takes long to load, and `--help` needs none

    try:
        if options.since is not None:
            parse_since(options.since, _SOME_TIME)
    except ValueError:
        yield Problem("--since", options.since, _SINCE_ADVICE)
    try:
        if options.cursor is not None:
            parse_cursor(options.cursor)
    except BadCursor as error:
        yield Problem("--cursor", None, f"not a cursor: {error.reason}")
    for grep, exclude in ((options.grep, ()), ((), options.exclude)):
        try:
            parse_filter(grep, exclude)
        except BadFilter as error:
            reason = error.reason.removeprefix(f"{error.parameter}: ")
            yield Problem(f"--{error.parameter}", error.pattern or None, reason)


_FOR_SERVERS: Final = {"streams", "no_resume", "token_file", "ca_file", "insecure"}
