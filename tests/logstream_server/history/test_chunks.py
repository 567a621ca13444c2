"""chunks: equal reads are one, few run at a time, and each who asked gets the answer on the loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from logstream_server.encoding.frames import parse_server_frames
from logstream_server.encoding.view import Encoded, Format, View
from logstream_server.history.chunks import READS_PER_STREAM, Chunk, ChunkReader, read_chunk
from logstream_server.history.history import Lost
from logstream_server.lines.catchup import Leg
from logstream_server.lines.cursor import Generation, Position
from logstream_server.lines.ring import Ring
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.scheduler import Scheduler
from logstream_server.tailing.stream import Stream

CONTENT = b"".join(b"%04d\n" % number for number in range(1000))
TEXT = View(Format.TEXT)


class CountingScheduler(Scheduler):
    """Counts what it was given and has not done, and does it when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_run = threading.Event()
        self.given = self.most = self._now = 0

    def submit(self, call: Callable[[], Any], place: Any = None) -> Future[Any]:
        def work() -> Any:
            self.may_run.wait(20)
            return call()

        def done(_: Future[Any]) -> None:
            with self._lock:
                self._now -= 1

        future = super().submit(work, place)
        with self._lock:
            self.given += 1
            self._now += 1
            self.most = max(self.most, self._now)
        future.add_done_callback(done)
        return future


@pytest.fixture
def scheduler() -> Iterator[CountingScheduler]:
    scheduler = CountingScheduler()
    scheduler.start()
    yield scheduler
    scheduler.may_run.set()
    scheduler.stop()


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    path = tmp_path / "app.log"
    path.write_bytes(CONTENT)
    stream = Stream("app.log", str(path), (), Ring(1 << 20))
    file = LogFile(str(path), (), keep_open=True)
    generation = Generation(1, file.identity.inode, CONTENT[:256])
    stream.keep(generation, file)
    yield stream
    stream.forget(generation)


def chunk(stream: Stream, start: int, *, max_bytes: int = 50, view: View = TEXT) -> Chunk:
    generation = stream.generations()[0][0]
    position = Position(generation, start, CONTENT[max(0, start - 32) : start])
    return Chunk(stream, view, Leg(position, len(CONTENT)), (position,), max_bytes)


def lines(encoded: Encoded) -> list[bytes]:
    return [message.payload for message in parse_server_frames(encoded.frames + encoded.body)]


def test_a_chunk_is_whole_lines_from_its_place_and_says_where_it_ends(stream: Stream) -> None:
    encoded = read_chunk(chunk(stream, 500), 1024)
    assert lines(encoded) == [b"%04d" % number for number in range(100, 110)]
    assert [position.offset for position in encoded.end] == [550]
    raw = read_chunk(chunk(stream, 500, view=View(Format.RAW)), 1024)
    assert lines(raw) == [CONTENT[500:550]]


def test_equal_reads_are_one_and_few_run_at_once(stream: Stream, scheduler: CountingScheduler) -> None:
    async def run() -> list[list[bytes]]:
        reader = ChunkReader(scheduler, 1024)
        answers: list[asyncio.Future[Encoded]] = []
        for start in [number * 50 for number in range(10)] * 20:
            answer = asyncio.get_running_loop().create_future()
            reader.read(chunk(stream, start), lambda done, answer=answer: answer.set_result(done.result()))
            answers.append(answer)
            assert not answer.done()
        scheduler.may_run.set()
        return [lines(await answer) for answer in answers]

    found = asyncio.run(run())
    assert found == [[b"%04d" % (number * 10 + i) for i in range(10)] for number in range(10)] * 20
    assert (scheduler.given, scheduler.most) == (10, READS_PER_STREAM)


def test_what_was_read_is_answered_again_until_it_is_forgotten(stream: Stream, scheduler: CountingScheduler) -> None:
    scheduler.may_run.set()

    async def ask(reader: ChunkReader) -> None:
        answer = asyncio.get_running_loop().create_future()
        reader.read(chunk(stream, 0), answer.set_result)
        assert not answer.done(), "called before it returned"
        await answer

    async def run() -> list[int]:
        reader, counts = ChunkReader(scheduler, 1024), []
        for _ in range(2):
            await ask(reader)
            await ask(reader)
            counts.append(scheduler.given)
            reader.forget_idle()
        return counts

    assert asyncio.run(run()) == [1, 2]


def test_a_read_that_failed_is_told_to_all_and_tried_again(stream: Stream, scheduler: CountingScheduler) -> None:
    scheduler.may_run.set()

    async def ask(reader: ChunkReader) -> Future[Encoded]:
        answer: asyncio.Future[Future[Encoded]] = asyncio.get_running_loop().create_future()
        reader.read(chunk(stream, 0), answer.set_result)
        return await answer

    async def run() -> None:
        reader = ChunkReader(scheduler, 1024)
        os.truncate(stream.path, 0)
        failed = await asyncio.gather(ask(reader), ask(reader))
        assert all(isinstance(future.exception(), Lost) for future in failed)
        with open(stream.path, "wb") as file:  # noqa: ASYNC230 - a few KiB, in a test
            file.write(CONTENT)
        assert lines((await ask(reader)).result())[0] == b"0000"

    asyncio.run(run())
