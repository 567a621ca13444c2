"""`logstream tail`: follows servers (`client`) and files (`localfile`), and prints what they give (`printer`).

One source is followed in the main thread, of several each in a thread of its own. Ctrl-C ends with status 130, as
shells have it for a program that SIGINT ended: a script can tell it from a tail that ended by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Final

import msgspec

from logstream_server.encoding.events import ClientEvent, Disconnected, Hello, Lines
from logstream_server.errors import CannotFollow, LogstreamError
from logstream_server.fanout.query import Wish
from logstream_server.history.resume import Resumed
from logstream_server.lines.cursor import parse_cursor
from logstream_server.lines.filters import parse_filter
from logstream_server.tailing.stream import Stream

from .addresses import own_stream
from .client import LogStreamClient, Subscription
from .lookback import begin_since
from .pages import Pages
from .paint import painted, plain
from .printer import Look, Printer
from .tailoptions import Color, TailOptions, is_url, shown
from .targets import open_targets
from .times import Since, first_time, parse_since
from .trust import Access

_SERVER_SINCE_LINES: Final = 100_000
"""How far back `--since` looks at a server: some 20 MB on their way."""
_TIMELESS: Final = "its first lines have no time that is known; --since begins with the first line that has one"
_MAX_STREAMS: Final = 64
"""Of one socket: docs/protocol.md."""

Show = Callable[[ClientEvent], None]


def run_tail(options: TailOptions, environ: Mapping[str, str]) -> int:
    """Run `logstream tail` to its exit status; raises LogstreamError, KeyboardInterrupt, BrokenPipeError."""
    if sys.stdout is None:  # closed before the start
        raise CannotFollow(shown(options.targets[0]), None, "standard output is closed")
    accesses = open_targets(options)
    # Of the rest that is logged, `events` tell what matters here.
    logging.basicConfig(level=logging.ERROR, format="logstream: %(message)s")
    now = datetime.now().astimezone()
    tail = Tail(options, accesses, now, _look(options, environ))
    if len(options.targets) == 1:
        tail.follow(options.targets[0])
    elif options.no_follow:
        return tail.show_all()
    else:
        tail.follow_all()
    return 0


def _look(options: TailOptions, environ: Mapping[str, str]) -> Look:
    """Whether there is a terminal, which nothing may harm, and whether it wants colours."""
    terminal = os.isatty(sys.stdout.fileno())
    colored = options.color is Color.ALWAYS or (
        options.color is Color.AUTO and terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    )
    many = len(options.targets) > 1 or len(options.streams) > 1 or any(map(_is_glob, options.streams))
    paint = painted if colored else plain if terminal else None
    return Look(options.json, paint, many and not options.no_prefix, colored)


class Tail:
    """Follows all targets of the options."""

    def __init__(self, options: TailOptions, accesses: Mapping[str, Access], now: datetime, look: Look) -> None:
        self._options = options
        self._accesses = accesses
        self._now = now
        self._since = None if options.since is None else parse_since(options.since, now)
        self._wish = _wish(options)
        self._labels = _labels(options.targets)
        names = [label for target, label in self._labels.items() if not is_url(target)]
        self._printer = Printer(sys.stdout.buffer, sys.stderr, look, names)
        self._lock = threading.Lock()

    def follow(self, target: str) -> None:
        """Until it ends."""
        show = partial(self._show, target, {})
        if is_url(target) and self._options.no_follow:
            self._show_server(target, self._accesses[target], show)
        elif is_url(target):
            asyncio.run(self._follow_server(target, self._accesses[target], show))
        else:
            self._follow_file(target, show)

    def show_all(self) -> int:
        """One after the other, as far as they are there now; 1 when one of them could not be read, which is named."""
        status = 0
        for target in self._options.targets:
            try:
                self.follow(target)
            except LogstreamError as error:
                sys.stderr.write(f"logstream: {error}\n")
                status = 1
        return status

    def follow_all(self) -> None:
        """All in turns, until nobody reads any more or all have ended; those that cannot be followed are named."""
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def run(target: str) -> None:
            try:
                self.follow(target)
            except (LogstreamError, OSError) as error:
                ended.put(error)
            else:
                ended.put(None)

        for target in self._options.targets:
            threading.Thread(target=run, args=(target,), daemon=True).start()
        for left in reversed(range(len(self._options.targets))):
            error = ended.get()
            if error is not None and (not isinstance(error, LogstreamError) or not left):
                raise error
            with self._lock:
                sys.stderr.write(f"logstream: {error}\n")

    def _show(self, target: str, sinces: dict[str, Since], event: ClientEvent) -> None:
        stream = getattr(event, "stream", None) or ""
        if self._since is not None and isinstance(event, Lines):
            since = sinces.setdefault(stream, Since(self._since, self._now))
            event = msgspec.structs.replace(event, lines=since.admitted(event.lines))
        source = self._labels[target] if len(self._labels) > 1 else ""
        with self._lock:
            self._printer.show(event, source, self._name(target, stream))

    def _name(self, target: str, stream: str) -> str:
        """What the lines of a stream are called."""
        label = self._labels[target]
        return label if not is_url(target) else f"{label}/{stream}" if len(self._labels) > 1 else stream

    # -- a file -------------------------------------------------------------------------------------------------------

    def _follow_file(self, path: str, show: Show) -> None:
        from .localfile import LocalFile  # noqa: PLC0415 - a server is followed without what reads files

        start = None if self._since is None else partial(self._look_back, path)
        with LocalFile(path, self._wish, start, follows=not self._options.no_follow) as file:
            for event in file.events(sys.stdout.fileno()):
                show(event)

    def _look_back(self, path: str, stream: Stream) -> Resumed:
        """Where `--since` begins."""
        assert self._since is not None
        found = begin_since(stream, self._since, self._now)
        if found.timeless:
            self._remark(f"{self._labels[path]}: {_TIMELESS}")
        self._say_first(self._labels[path], found.first, "there is nothing older to read")
        return found.begin

    def _say_first(self, name: str, first: float | None, why: str) -> None:
        """That the lines begin later than was asked for."""
        if first is not None and self._since is not None and first > self._since:
            when = time.strftime("%F %T", time.localtime(first))
            self._remark(f"{name}: the first line is from {when}; {why}")

    def _say_first_of_server(self, name: str, lines: Sequence[str]) -> None:
        """Likewise, by the first lines of its file."""
        first = first_time(lines, self._now)
        if lines and first is None:
            self._remark(f"{name}: {_TIMELESS}")
        self._say_first(name, first, "of a server, rotated files are not shown")

    def _remark(self, text: str) -> None:
        with self._lock:
            self._printer.remark(text)

    # -- a server -----------------------------------------------------------------------------------------------------

    @property
    def _start(self) -> tuple[int, str | None, bool, tuple[str, ...], tuple[str, ...]]:
        """What is wanted of each stream."""
        options = self._options
        lines = options.lines if self._since is None else _SERVER_SINCE_LINES
        return lines, options.cursor, options.from_start, options.grep, options.exclude

    def _show_server(self, url: str, access: Access, show: Show) -> None:
        """What it has now."""
        pages, options = Pages(url, access), self._options
        wanted = options.streams or tuple(filter(None, (own_stream(url),)))
        if options.cursor is not None:
            wanted = wanted or (parse_cursor(options.cursor).stream,)
        if not wanted or any(map(_is_glob, wanted)):
            wanted = _choose(pages.url, pages.streams(), wanted)
        for stream in dict.fromkeys(wanted):
            if self._since is not None:
                self._say_first_of_server(self._name(url, stream), pages.first_lines(stream))
            for event in pages.events(Subscription(stream, *self._start)):
                show(event)

    async def _follow_server(self, url: str, access: Access, show: Show) -> None:
        options = self._options
        streams = await _find_streams(url, access, options.streams)
        start = self._start
        if self._since is not None:
            for stream in streams:
                await self._look_back_at_server(url, stream, access)
        client = LogStreamClient(url, streams[0], *start, headers=access.headers, tls=access.tls)
        with _while_read(sys.stdout.fileno()):
            async with client:
                for stream in streams[1:]:
                    await client.subscribe(Subscription(stream, *start))
                async for event in client:
                    if options.no_resume and isinstance(event, Disconnected):
                        raise CannotFollow(client.url, event.code, event.reason)
                    show(event)

    async def _look_back_at_server(self, url: str, stream: str | None, access: Access) -> None:
        """Say so where its file begins later than asked: which lines are too old, a filter may hide."""
        async with LogStreamClient(url, stream, from_start=True, headers=access.headers, tls=access.tls) as client:
            async for event in client:
                if isinstance(event, Lines) and event.lines:
                    self._say_first_of_server(self._name(url, event.stream), event.lines)
                    return
                if isinstance(event, Hello) and not _is_filled(event):
                    return


def _is_filled(hello: Hello) -> bool:
    """Whether the stream of a Hello has lines already."""
    return any(each.get("name") == hello.stream and each.get("size") for each in hello.streams)


async def _find_streams(url: str, access: Access, wanted: tuple[str, ...]) -> list[str | None]:
    """The names of the streams; globs are compared with those that the server has now."""
    if not any(map(_is_glob, wanted)):
        return list(wanted) or [None]
    async with LogStreamClient(url, tail=0, headers=access.headers, tls=access.tls) as client:
        async for event in client:
            if isinstance(event, Hello):
                names = [str(each.get("name")) for each in event.streams]
                return list(_choose(client.url, names, wanted))
    raise CannotFollow(shown(url), None, "it has said nothing")


def _choose(url: str, names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of a server's streams that match one of the globs; the first where there is none."""
    if not wanted:
        found = tuple(names[:1])
    else:
        found = tuple(dict.fromkeys(name for glob in wanted for name in names if fnmatchcase(name, glob)))
    if 0 < len(found) <= _MAX_STREAMS:
        return found
    many = f"{len(found)} streams match, and {_MAX_STREAMS} are the most"
    none = f"no stream matches {' or '.join(map(repr, wanted))}; there are: {', '.join(names[:20])}"
    raise CannotFollow(url, None, many if found else none if wanted else "there is no file to follow yet")


def _is_glob(name: str) -> bool:
    return any(each in name for each in "*?[")


def _labels(targets: tuple[str, ...]) -> dict[str, str]:
    """What each target is called: a file's own name, where that is not the name of two."""
    short = {target: _host(target) if is_url(target) else os.path.basename(target) or target for target in targets}
    times = Counter(short.values())
    return {target: label if times[label] == 1 else shown(target) for target, label in short.items()}


def _host(url: str) -> str:
    return shown(url).partition("://")[2].partition("/")[0]


def _wish(options: TailOptions) -> Wish:
    """What is wanted of a file."""
    cursor = parse_cursor(options.cursor) if options.cursor is not None else None
    chosen = parse_filter(options.grep, options.exclude)
    return Wish(tail=None if cursor else options.lines, cursor=cursor, from_start=options.from_start, filter=chosen)


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
