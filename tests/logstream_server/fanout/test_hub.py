"""hub: it looks where something changed, and who has left gets nothing more."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..served import Wire, serving, until


def test_who_has_left_gets_nothing_more(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path) as site:
            gone, there = Wire(), Wire()
            leaving = site.join(gone)
            site.join(there)
            site.write(1)
            await until(lambda: gone.lines == there.lines == site.written)
            site.hub.unsubscribe(leaving)
            site.write(1)
            await until(lambda: there.lines == site.written)
            assert len(gone.lines) == 1

    asyncio.run(run())
