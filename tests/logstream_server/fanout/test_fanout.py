"""fanout: who is live gets each line once and at once, the same bytes as everybody, and nobody waits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from logstream_server.encoding.view import Format
from logstream_server.fanout.channel import Place
from logstream_server.lines.filters import parse_filter
from logstream_server.lines.ring import EventKind, StreamEvent

from ..served import Wire, serving, until


def test_who_is_live_gets_the_same_bytes(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as site:
            wires = [Wire(), Wire(), Wire()]
            for wire in wires:
                site.join(wire)
            for count in (1, 40, 3):
                site.write(count)
                await until(lambda: wires[-1].lines == site.written)
            assert all(wire.lines == site.written for wire in wires)
            assert all(a is b for a, b in zip(wires[0].frames, wires[1].frames, strict=True))

    asyncio.run(run())


def test_a_slow_client_delays_nobody_with_another_view(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as site:
            slow, quick = Wire(takes=1), Wire()
            site.join(slow, Format.RAW)
            site.join(quick)
            site.write(60_000)
            await until(lambda: quick.lines == site.written)
            assert slow.blocked

    asyncio.run(run())


def test_a_loss_is_told_and_counted_in_every_format(tmp_path: Path) -> None:
    """Once for each view: JSON goes on behind it, the others can only be closed."""

    async def run() -> None:
        async with serving(tmp_path) as site:
            wires = {form: Wire() for form in Format}
            for form, wire in wires.items():
                site.join(wire, form)
            site.stream.ring.append(None, 0, 0, event=StreamEvent(EventKind.GAP, "gone", 7))
            site.monitor.notify(site.stream)
            await until(lambda: bool(wires[Format.TEXT].closed and wires[Format.RAW].closed))
            await until(lambda: bool(wires[Format.JSON].messages))
            gap = json.loads(wires[Format.JSON].messages[0])
            assert (gap["type"], gap["reason"], gap["bytes"]) == ("gap", "lost", 7)
            assert not wires[Format.JSON].closed
            await until(lambda: site.hub.tally.gaps == {"lost": [3, 21]})

    asyncio.run(run())


def test_who_gets_nothing_for_long_is_told_where_it_is(tmp_path: Path) -> None:
    """So that it need not search the file again when it comes back. One that does not even take that falls behind."""

    async def run() -> None:
        async with serving(tmp_path, ping_interval_s=0.2) as site:
            quick, slow = Wire(), Wire(takes=1)
            chosen = parse_filter(["^no line is like this$"], [])
            for wire in (quick, slow):
                subscription = site.join(wire, Format.JSON, chosen=chosen)
            site.write(3)
            await until(lambda: bool(quick.messages and slow.messages))
            place = json.loads(quick.messages[0])
            assert (place["type"], place["lines"], place["offset"]) == ("lines", [], None)
            assert subscription.place is Place.BEHIND
            said = len(quick.messages)
            site.write(3)
            await until(lambda: len(quick.messages) > said)
            assert json.loads(quick.messages[-1])["cursor"] != place["cursor"]

    asyncio.run(run())
