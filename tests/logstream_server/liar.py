"""A proxy before a server that drops, repeats, swaps or damages frames on purpose: what checks must be checked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from logstream_server.encoding.frames import Header, Opcode

Lie = Callable[[int, int, bytes], list[bytes]]
"""What becomes of a frame: (number of the connection, number of its data frame, frame) to frames, both from 0."""


def drop(connection: int, number: int) -> Lie:
    return lambda *at: [] if at[:2] == (connection, number) else [at[2]]


def repeat(connection: int, number: int) -> Lie:
    return lambda *at: [at[2]] * (2 if at[:2] == (connection, number) else 1)


def damage(connection: int, number: int) -> Lie:
    """One bit, in the last line of the frame whatever its format."""

    def lie(this: int, frame_number: int, frame: bytes) -> list[bytes]:
        if (this, frame_number) != (connection, number):
            return [frame]
        changed = bytearray(frame)
        changed[-20] ^= 1
        return [bytes(changed)]

    return lie


def swap(connection: int, number: int) -> Lie:
    """With the one after it."""
    held: list[bytes] = []

    def lie(this: int, frame_number: int, frame: bytes) -> list[bytes]:
        if this == connection and frame_number == number:
            held.append(frame)
            return []
        return [frame, held.pop()] if held and this == connection else [frame]

    return lie


def cut_off(connection: int, number: int) -> Lie:
    """The connection ends there."""

    def lie(this: int, frame_number: int, frame: bytes) -> list[bytes]:
        if (this, frame_number) == (connection, number):
            raise ConnectionResetError
        return [frame]

    return lie


class _Proxy:
    def __init__(self, port: int, lie: Lie) -> None:
        self._upstream, self._lie = port, lie
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._connections = self._connections, self._connections + 1
        there, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            both = self._copy(reader, to_server), self._lies(there, writer, number)
            done, rest = await asyncio.wait(map(asyncio.create_task, both), return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            for task in done:
                task.exception()
        for each in (writer, to_server):
            each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _lies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        data, number = b"", 0
        while more := await reader.read(65536):
            data += more
            while (header := Header.parse(data, 0)) is not None and header.end <= len(data):
                frame, data = data[: header.end], data[header.end :]
                if header.opcode in (Opcode.TEXT, Opcode.BINARY):
                    frames = self._lie(connection, number, frame)
                    number += 1
                else:
                    frames = [frame]
                writer.write(b"".join(frames))
            await writer.drain()


@contextmanager
def lying(port: int, lie: Lie) -> Iterator[int]:
    """The proxy before a server's port, in a thread; gives its own port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_Proxy(port, lie).serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
