"""liveness: who is due is looked at, who is dead is counted, and everybody is told of the end."""

from __future__ import annotations

import asyncio
import json

import pytest

from logstream_server.encoding.frames import parse_server_frames
from logstream_server.fanout.connection import Connection
from logstream_server.fanout.liveness import Liveness
from logstream_server.fanout.tally import Tally

INTERVAL_S, TIMEOUT_S = 20.0, 20.0
NOW = 1000.0


class Client(Connection):
    """One whose peer is as the test says; it ends as soon as its owner has told it to, if it is `polite`."""

    def __init__(self, home: Home, form: str = "text", *, polite: bool = True) -> None:
        super().__init__(home, form)
        self.home, self.polite = home, polite
        self.dead = False
        self.looks = 0
        self.said: list[bytes] = []
        self.closed: tuple[int, str] | None = None

    def check(self, _now: float, ping_interval_s: float, ping_timeout_s: float) -> bool:
        """Looked at."""
        assert (ping_interval_s, ping_timeout_s) == (INTERVAL_S, TIMEOUT_S)
        self.looks += 1
        return self.dead

    def write(self, frames: bytes, _body: bytes = b"") -> bool:
        """Taken."""
        self.said.append(frames)
        return True

    def finish(self, code: int, reason: str) -> None:
        """The goodbye."""
        self.closed = (code, reason)
        if self.polite:
            self.connection_lost(None)

    def abort(self) -> None:
        """The end."""
        self.connection_lost(None)


class Home:
    """An owner with connections."""

    def __init__(self) -> None:
        self.now = NOW
        self.tally = Tally()
        self.liveness = Liveness(INTERVAL_S, TIMEOUT_S, self.tally)

    def add(self, form: str = "text", *, polite: bool = True) -> Client:
        """One more."""
        client = Client(self, form, polite=polite)
        self.liveness.add(client, self.now)
        return client

    def connection_ready(self, connection: Connection) -> None:
        """Not of interest."""

    def connection_message(self, connection: Connection, *_message: object) -> None:
        """Not of interest."""

    def connection_gone(self, connection: Connection) -> None:
        """As the hub does."""
        self.liveness.connections.discard(connection)


@pytest.fixture
def home() -> Home:
    return Home()


def test_only_who_is_due_or_does_not_read_is_looked_at(home: Home) -> None:
    idle, stuck, due = home.add(), home.add(), home.add()
    stuck.blocked = True
    due.next_check = NOW + 1
    home.liveness.tick(NOW + 1)
    assert (idle.looks, stuck.looks, due.looks) == (0, 1, 1)
    home.liveness.tick(NOW + INTERVAL_S)
    assert idle.looks == 1


def test_who_was_cut_off_is_counted(home: Home) -> None:
    home.add().dead = True
    home.add()
    home.liveness.tick(NOW + INTERVAL_S)
    assert home.tally.aborted == 1


def test_everybody_is_told_of_the_end_in_words_of_its_own(home: Home) -> None:
    plain, talkative = home.add(), home.add("json")
    asyncio.run(home.liveness.drain(0.01, "the end"))
    assert plain.closed == talkative.closed == (1012, "the end")
    assert plain.said == []
    bye = json.loads(parse_server_frames(talkative.said[0])[0].payload)
    assert (bye["type"], bye["reconnect"]) == ("bye", True)
    assert not home.liveness.connections


def test_who_went_meanwhile_is_told_nothing(home: Home) -> None:
    first, second = home.add("json"), home.add("json")

    async def run() -> None:
        drain = asyncio.create_task(home.liveness.drain(0.01, "the end"))
        while first.closed is None and second.closed is None:  # noqa: ASYNC110 - until one was told
            await asyncio.sleep(0)
        other = second if second.closed is None else first
        other.connection_lost(None)
        await drain
        assert (other.said, other.closed) == ([], None)

    asyncio.run(run())


def test_who_does_not_leave_is_cut_off_also_when_there_is_no_time(home: Home) -> None:
    async def run() -> None:
        settled = home.add(polite=False)
        drain = asyncio.create_task(home.liveness.drain(3600, "the end"))
        while settled.closed is None:  # noqa: ASYNC110 - until it was told
            await asyncio.sleep(0)
        assert not settled.is_gone
        drain.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drain
        assert settled.is_gone

    asyncio.run(run())
