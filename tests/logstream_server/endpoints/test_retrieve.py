"""retrieve: pages of a real file through a real ring, and reads that hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from logstream_server.endpoints.excerpt import Excerpt
from logstream_server.endpoints.retrieve import READS_PER_STREAM, Order, Reads, Unavailable, retrieve
from logstream_server.fanout.query import Wish
from logstream_server.history.resume import Resumed
from logstream_server.lines.cursor import Generation, cursor_at
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.ring import Ring
from logstream_server.tailing.discovery import parse_source
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.scheduler import Scheduler
from logstream_server.tailing.stream import Stream, StreamState, StreamStatus
from logstream_server.tailing.succession import FollowOptions
from logstream_server.tailing.tailer import LogMonitor

from ..process import eventually

RING_BYTES = 4096
OPTIONS = FollowOptions(max_line_bytes=1024, poll_interval_s=0.02, partial_after_s=0.05, rotate_wait_s=0.1)


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[[bytes], tuple[Path, Stream]]]:
    """Follow a file with this content; its ring holds only some of the last lines."""
    monitors = []

    def start(content: bytes) -> tuple[Path, Stream]:
        path = tmp_path / "app.log"
        path.write_bytes(content)
        monitor = LogMonitor([parse_source(str(path))], OPTIONS, watch="poll", ring_bytes=RING_BYTES)
        monitor.start()
        monitors.append(monitor)
        return path, monitor.streams["app.log"]

    yield start
    for monitor in monitors:
        monitor.stop()


Follow = Callable[[bytes], tuple[Path, Stream]]


def append(path: Path, stream: Stream, data: bytes) -> None:
    """Write, and wait until it was read."""
    with path.open("ab") as file:
        file.write(data)
    eventually(lambda: stream.state.size == path.stat().st_size and stream.state.offset == stream.state.size)


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


def as_bytes(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def ask(stream: Stream, max_lines: int | None = None, **wish: Any) -> tuple[Resumed, Excerpt]:
    return retrieve(stream, Order(Wish(**wish), max_lines, OPTIONS.max_line_bytes))


def after(stream: Stream, excerpt: Excerpt) -> dict[str, Any]:
    """The wish of a reader that goes on behind a page."""
    return {"cursor": cursor_at(stream.name, excerpt.end)}


@pytest.mark.parametrize("limit", [1, 7, 64, 1000])
def test_pages_by_cursor_are_the_whole_file_from_file_and_ring(follow: Follow, limit: int) -> None:
    """The file's old part is read again, the new one comes from the ring; the limit falls anywhere in both."""
    lines = numbered(1, 400)
    path, stream = follow(as_bytes(lines[:200]))
    append(path, stream, as_bytes(lines[200:300]))
    append(path, stream, as_bytes(lines[300:]))
    shown: list[str] = []
    wish: dict[str, Any] = {"from_start": True}
    more = True
    while more:
        begun, excerpt = ask(stream, limit, **wish)
        assert begun.recovered in (None, True)
        assert len(excerpt.lines) <= limit
        shown += excerpt.lines
        wish, more = after(stream, excerpt), excerpt.more
    assert shown == lines
    append(path, stream, b"one more\n")
    begun, excerpt = ask(stream, limit, **wish)
    assert (begun.recovered, excerpt.lines) == (True, ["one more"])


@pytest.mark.parametrize("pattern", ["7$", "line 3", "nothing"])
def test_pages_with_a_filter_are_the_lines_that_pass(follow: Follow, pattern: str) -> None:
    lines = numbered(1, 400)
    path, stream = follow(as_bytes(lines[:300]))
    append(path, stream, as_bytes(lines[300:]))
    chosen = LineFilter((pattern,))
    shown: list[str] = []
    wish: dict[str, Any] = {"from_start": True}
    more = True
    while more:
        _, excerpt = ask(stream, 5, filter=chosen, **wish)
        shown += excerpt.lines
        wish, more = after(stream, excerpt), excerpt.more
    assert shown == [lines[i] for i in chosen.select([line.encode() for line in lines])]


@pytest.mark.parametrize("count", [0, 1, 10, 399, 400, 1000])
def test_the_last_lines_are_exactly_so_many(follow: Follow, count: int) -> None:
    lines = numbered(1, 400)
    path, stream = follow(as_bytes(lines[:300]))
    append(path, stream, as_bytes(lines[300:]))
    _, excerpt = ask(stream, tail=count)
    assert excerpt.lines == lines[max(0, 400 - count) :]
    assert not excerpt.more


def test_the_last_lines_are_as_many_where_an_answer_does_not_hold_them(follow: Follow) -> None:
    lines = [each.ljust(1000, ".") for each in numbered(1, 5000)]
    _, stream = follow(as_bytes(lines))
    _, excerpt = ask(stream, tail=4900)
    assert excerpt.more
    assert excerpt.lines[0] == lines[100]


def test_the_last_lines_do_not_count_one_that_is_still_being_written(follow: Follow) -> None:
    lines = numbered(1, 20)
    path, stream = follow(as_bytes(lines))
    with path.open("ab") as file:
        file.write(b"unfini")
    eventually(lambda: stream.state.size == path.stat().st_size)
    _, excerpt = ask(stream, tail=3)
    assert excerpt.lines[-3:] in (lines[-3:], [*lines[-2:], "unfini"])
    assert len(excerpt.lines) == 3
    eventually(lambda: ask(stream, tail=3)[1].partial)
    _, excerpt = ask(stream, tail=3)
    assert excerpt.lines == [*lines[-2:], "unfini"]
    append(path, stream, b"shed\nnext\n")
    _, rest = ask(stream, 10, **after(stream, excerpt))
    assert (rest.lines, rest.continued) == (["shed", "next"], True)
    _, excerpt = ask(stream, tail=2)
    assert excerpt.lines == ["unfinished", "next"]


def test_the_last_lines_that_pass_a_filter_are_found_far_back(follow: Follow) -> None:
    lines = numbered(1, 400)
    _, stream = follow(as_bytes(lines))
    _, excerpt = ask(stream, tail=3, filter=LineFilter(("line 1.$",)))
    assert excerpt.lines == ["line 17", "line 18", "line 19"]


def test_a_cursor_goes_on_through_a_rotation(follow: Follow) -> None:
    """The rest of the rotated file, then the new one; and a page that ends between them goes on as well."""
    lines = numbered(1, 300)
    path, stream = follow(as_bytes(lines[:100]))
    _, first = ask(stream, 50, from_start=True)
    path.rename(path.with_name("app.log.1"))
    path.write_bytes(as_bytes(lines[100:200]))
    eventually(lambda: stream.counters.rotations == 1 and stream.state.offset == path.stat().st_size)
    append(path, stream, as_bytes(lines[200:]))
    shown = first.lines
    wish, more = after(stream, first), True
    while more:
        begun, excerpt = ask(stream, 13, **wish)
        assert begun.recovered, begun.reason
        shown += excerpt.lines
        wish, more = after(stream, excerpt), excerpt.more
    assert shown == lines


def test_a_cursor_that_cannot_be_honoured_is_not_guessed_at(follow: Follow) -> None:
    path, stream = follow(as_bytes(numbered(1, 100)))
    _, first = ask(stream, 50, from_start=True)
    path.write_bytes(b"something else\n" * 20)
    eventually(lambda: stream.counters.truncations == 1)
    eventually(lambda: stream.state.offset == path.stat().st_size)
    begun, excerpt = ask(stream, 1000, **after(stream, first))
    assert begun.recovered is False
    assert begun.reason
    assert excerpt.lines == ["something else"] * 20


def test_bytes_that_are_gone_are_a_gap_and_the_next_page_goes_on_behind_it() -> None:
    """The ring does not have them any more, and their file is nowhere."""
    stream = Stream("app.log", "/no/such/folder/app.log", (), Ring(600))
    generation = Generation(1, head=b"x" * 256)
    for start in range(0, 4000, 1000):
        data = b"x" * 999 + b"\n"
        stream.ring.append(generation, start, start + 1000, data, data[-32:])
    _, excerpt = ask(stream, 1000, from_start=True)
    assert excerpt.lines == []
    assert excerpt.more
    assert excerpt.gap is not None
    assert excerpt.gap.lost_bytes == 3000
    assert [(p.offset, p.marker) for p in excerpt.end] == [(3000, data[-32:])]


def test_a_file_system_that_fails_for_now_is_no_loss(monkeypatch: pytest.MonkeyPatch, follow: Follow) -> None:
    path, stream = follow(as_bytes(numbered(1, 100)))
    append(path, stream, b"x\n")

    def fail(*_args: object, **_keywords: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:  # the one fault that no file system here can be made to show on demand
        patch.setattr(LogFile, "read", fail)
        with pytest.raises(Unavailable, match="Input/output error"):
            ask(stream, 10, from_start=True)


def test_a_stream_without_a_file_has_no_lines_and_a_cursor(tmp_path: Path) -> None:
    missing = StreamState(StreamStatus.WAITING, "the file does not exist yet")
    stream = Stream("app.log", str(tmp_path / "app.log"), (), Ring(RING_BYTES), missing)
    _, excerpt = ask(stream, tail=10)
    assert excerpt == Excerpt([], ())
    begun, excerpt = ask(stream, 10, **after(stream, excerpt))
    assert (begun.recovered, excerpt) == (True, Excerpt([], ()))


# -- waiting ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()


def some_stream(status: StreamStatus = StreamStatus.FOLLOWING) -> Stream:
    return Stream("app.log", "/app.log", (), Ring(RING_BYTES), StreamState(status, "no answer for 3 s"))


def test_a_read_that_hangs_is_given_up_and_the_loop_stays_free(scheduler: Scheduler) -> None:
    hang = threading.Event()

    async def main() -> None:
        reads, stream = Reads(scheduler, answer_s=0.1), some_stream()
        with pytest.raises(Unavailable, match=r"app\.log: the file could not be read within 0\.1 s"):
            await reads.run(stream, hang.wait)
        # Each keeps its thread, but no more than so many of a stream do; those of other streams go on.
        begun: list[int] = []

        def hang_too() -> bool:
            begun.append(1)
            return hang.wait()

        results = await asyncio.gather(*(reads.run(stream, hang_too) for _ in range(10)), return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        assert await Reads(scheduler).run(some_stream(), lambda: 7) == 7
        # When the file system answers again, so do we.
        hang.set()
        while True:
            try:
                assert await reads.run(stream, lambda: 8) == 8
                break
            except Unavailable:
                continue
        assert len(begun) == READS_PER_STREAM - 1

    try:
        asyncio.run(main())
    finally:
        hang.set()


def test_of_a_stream_that_is_known_to_hang_nothing_is_asked(scheduler: Scheduler) -> None:
    async def main() -> None:
        with pytest.raises(Unavailable, match=r"app\.log: no answer for 3 s; ask again in 5 s"):
            await Reads(scheduler).run(some_stream(StreamStatus.HUNG), lambda: pytest.fail("was read"))

    asyncio.run(main())


def test_what_goes_wrong_while_reading_is_passed_on(scheduler: Scheduler) -> None:
    def fail() -> None:
        raise KeyError("a defect")

    async def main() -> None:
        with pytest.raises(KeyError, match="a defect"):
            await Reads(scheduler).run(some_stream(), fail)

    asyncio.run(main())
