"""pump: whatever a socket takes and when, its client gets every line once and in order, and is live again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from logstream_server.encoding.view import Format, View
from logstream_server.errors import CloseCode
from logstream_server.fanout.channel import Lag, Place
from logstream_server.history.resume import from_start

from ..served import LINE, Wire, content, serving, until


@pytest.mark.parametrize("missed", [10, 3000, 60_000], ids=["from memory", "from the ring", "from the file"])
@pytest.mark.parametrize("form", [Format.TEXT, Format.RAW])
def test_who_falls_behind_gets_the_rest_once_and_is_live_again(tmp_path: Path, missed: int, form: Format) -> None:
    async def run() -> None:
        async with serving(tmp_path) as site:
            quick, slow = Wire(), Wire(takes=1)
            site.join(quick, form)
            behind = site.join(slow, form)
            site.write(1)
            await until(lambda: behind.place is Place.BEHIND)
            site.write(missed)
            await site.is_read()
            await until(lambda: content(quick) == site.content)
            site.open(slow, behind)
            await until(lambda: behind.place is Place.LIVE)
            site.write(1)
            await until(lambda: content(slow) == site.content)
            assert behind.place is Place.LIVE
            assert site.hub.tally.catchups == (missed == 60_000), "however many chunks it takes, it is one catch-up"

    asyncio.run(run())


def test_who_chose_to_be_closed_or_to_skip_is(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as site:
            wires = {lag: Wire(takes=1) for lag in (Lag.CLOSE, Lag.SKIP)}
            quick = Wire()
            site.join(quick, Format.JSON)
            late = {lag: site.join(wire, Format.JSON, lag) for lag, wire in wires.items()}
            site.write(1)
            await until(lambda: all(wire.blocked for wire in wires.values()))
            site.write(60_000)
            await site.is_read()
            await until(lambda: b"060000 " in b"".join(quick.messages))
            for lag, wire in wires.items():
                site.open(wire, late[lag])
            assert [code for code, _ in wires[Lag.CLOSE].closed] == [CloseCode.SLOW]
            await until(lambda: late[Lag.SKIP].place is Place.LIVE)
            gap = json.loads(wires[Lag.SKIP].messages[-1])
            assert (gap["type"], gap["reason"], gap["bytes"]) == ("gap", "slow", 60_000 * (len(LINE) + 8))
            site.write(1)  # the source waits for nobody any more
            await until(lambda: b"060001 " in wires[Lag.SKIP].messages[-1])

    asyncio.run(run())


def test_who_asks_for_old_lines_has_not_fallen_behind(tmp_path: Path) -> None:
    """Not before it was at the end once; then it counts like any other, and each time anew."""

    async def run() -> None:
        async with serving(tmp_path) as site:
            site.write(60_000)
            await site.is_read()
            wire = Wire()
            begin = from_start(site.stream.ring.head()[1])
            only = site.hub.prepare(wire, site.stream, View(Format.TEXT), begin, Lag.CATCHUP)
            site.hub.pump(only)
            await until(lambda: wire.lines == site.written)
            assert site.hub.tally.catchups == 0
            for times in (1, 2):
                wire.takes = 1
                site.write(1)
                await until(lambda: wire.blocked)
                site.write(30_000)
                await site.is_read()
                site.open(wire, only)
                await until(lambda: wire.lines == site.written)
                assert site.hub.tally.catchups == times

    asyncio.run(run())
