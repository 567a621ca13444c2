"""`logstream tail`: follows a server (`client`) or a file (`localfile`), and prints what they give (`printer`)."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .client import LogStreamClient
from .cursor import BadCursor, parse_cursor
from .errors import CannotFollow, Problem, SettingsError
from .events import Disconnected
from .filters import BadFilter, parse_filter
from .printer import Printer
from .query import Wish
from .settings import TailOptions
from .tokens import read_tokens


def run_tail(options: TailOptions) -> int:
    """Run `logstream tail` to its exit status; raises LogstreamError, KeyboardInterrupt, BrokenPipeError."""
    if sys.stdout is None:  # closed before the start
        raise CannotFollow(options.shown_target, None, "standard output is closed")
    # Of the rest that is logged, `events` tell what matters here.
    logging.basicConfig(level=logging.ERROR, format="logstream: %(message)s")
    printer = Printer(sys.stdout.buffer, sys.stderr, options.json)
    if options.is_url:
        asyncio.run(_follow_server(options, printer))
    else:
        _follow_file(options, printer)
    return 0


# -- a file ------------------------------------------------------------------------------------------------------------


def _follow_file(options: TailOptions, printer: Printer) -> None:
    from .localfile import LocalFile  # noqa: PLC0415 - a server is followed without what reads files

    with LocalFile(options.target, _wish(options)) as file:
        for event in file.events(sys.stdout.fileno()):
            printer.show(event)


def _wish(options: TailOptions) -> Wish:
    """What is wanted of the file; SettingsError names all faults."""
    problems = []
    cursor, chosen = None, parse_filter()
    try:
        cursor = parse_cursor(options.cursor) if options.cursor is not None else None
    except BadCursor as error:
        problems.append(Problem("--cursor", None, f"not a cursor: {error.reason}"))
    try:
        chosen = parse_filter(_patterns(options.grep), _patterns(options.exclude))
    except BadFilter as error:
        reason = error.reason.removeprefix(f"{error.parameter}: ")
        problems.append(Problem(f"--{error.parameter}", error.pattern or None, reason))
    if problems:
        raise SettingsError(tuple(problems))
    return Wish(tail=None if cursor else options.lines, cursor=cursor, from_start=options.from_start, filter=chosen)


def _patterns(pattern: str | None) -> list[str]:
    return [pattern] if pattern else []


# -- a server ----------------------------------------------------------------------------------------------------------


async def _follow_server(options: TailOptions, printer: Printer) -> None:
    client = LogStreamClient(
        options.target,
        options.stream,
        options.lines,
        options.cursor,
        options.from_start,
        _patterns(options.grep),
        _patterns(options.exclude),
        headers=_authorization(options.token_file),
    )
    with _while_read(sys.stdout.fileno()):
        async with client:
            async for event in client:
                if options.no_resume and isinstance(event, Disconnected):
                    raise CannotFollow(client.url, event.code, event.reason)
                printer.show(event)


@contextmanager
def _while_read(out: int) -> Iterator[None]:
    """Raises BrokenPipeError as soon as nobody reads the pipe `out` any more, and not only at the next write."""
    if not stat.S_ISFIFO(os.fstat(out).st_mode):
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    unread = False

    def stop() -> None:
        nonlocal unread
        unread = True
        loop.remove_reader(out)
        task.cancel()

    loop.add_reader(out, stop)  # a pipe's end for writing is never readable, but "ready" once it is broken
    try:
        yield
    except asyncio.CancelledError:
        if unread:
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(out)


def _authorization(token_file: str | None) -> dict[str, str]:
    """The header that carries the first token of the file."""
    if token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {read_tokens((token_file,))[0].decode()}"}
    except UnicodeDecodeError as error:
        raise SettingsError((Problem("--token-file", token_file, "holds a token that is not UTF-8"),)) from error
