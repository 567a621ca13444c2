"""Kopf, run until a signal comes or one of its watches fails for good; either way it ends, with all its tasks.

Left to itself it does not always. When a watch has failed, it cancels the others together with what each of them looks
at to see whether it is to pause. A watch that is just asking the API server again takes that for a pause, and goes on.
So kopf would wait for it, and nothing would be watched, for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import kopf

from . import names

IDENTITY: Final[Any] = names.MANAGER
"""Of a type that is kopf's own. Left out, kopf asks for the user's name, and in a container the user has none."""
WATCHER: Final = "watcher for "
"""Begins the names of kopf's tasks that watch."""


async def run_watches(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, namespaces: Sequence[str]
) -> None:
    """Watch these namespaces, or (none) all, until a signal comes; raises what a watch failed with."""
    ours = asyncio.all_tasks()
    roots = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        identity=IDENTITY,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
    )
    running = asyncio.create_task(kopf.run_tasks(roots, ignored=ours))
    try:
        await asyncio.wait(roots, return_when=asyncio.FIRST_COMPLETED)
        for task in asyncio.all_tasks() - ours:
            if task.get_name().startswith(WATCHER):
                task.cancel()  # and nothing else of it: so it ends
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
