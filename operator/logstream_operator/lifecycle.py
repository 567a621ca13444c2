"""The running operator: kopf's watches, the queue, the resync and the port, side by side until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import aiohttp
from aiohttp import web

from . import names
from .cluster import Cluster, connect
from .endpoints import create_endpoints
from .errors import CannotStart, OperatorError, Refused, Unreachable
from .handlers import create_kopf_settings, create_registry
from .journal import describe
from .metrics import Metrics
from .names import Key
from .reconcile import Clock, Policy, Reconciler
from .servers import Servers
from .settings import Settings
from .watches import run_watches
from .workqueue import WorkQueue

log = logging.getLogger(__name__)

UNDEFINED: Final = f"the cluster does not know {names.PLURAL}.{names.GROUP} yet: apply its definition"
PAUSE_S: Final = 2.0
"""Between two looks for a CustomResourceDefinition that is not there, and before watching is begun anew."""


class Operator:
    """All parts of one operator."""

    def __init__(self, settings: Settings, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._settings, self._cluster = settings, cluster
        policy = Policy(settings.rules, settings.defaults, settings.namespaces)
        self._reconciler = Reconciler(cluster, Servers(session), policy, Clock(time.monotonic))
        self.queue: WorkQueue[Key] = WorkQueue(self._work)
        self.metrics = Metrics(lambda: len(self.queue))
        self._resync_now = asyncio.Event()
        self._stop = asyncio.Event()
        self._has_seen_all = False
        self._trouble: dict[str, str] = {}

    async def run(self) -> None:
        """Until a signal comes; raises when a part of it fails."""
        runner = web.AppRunner(
            create_endpoints(self.metrics.registry, self.queue.longest_s, lambda: self._has_seen_all)
        )
        await runner.setup()
        self._heed_signals()
        try:
            await self._listen(runner)
            async with asyncio.TaskGroup() as group:
                # Also without a definition: with one that was deleted went all LogStreams, and their volumes stay.
                others = [group.create_task(self.queue.run(self._settings.workers)), group.create_task(self._resync())]
                while (namespaces := await self._wait_for_definition()) is not None:
                    if await self._watch(namespaces):
                        break
                    self._heed_signals()
                    await self._pause()
                for task in others:
                    task.cancel()
        finally:
            await runner.cleanup()

    def _heed_signals(self) -> None:
        """While kopf runs, it does. Before and after, nobody would: they do not end a process whose id is 1."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)

    async def _listen(self, runner: web.AppRunner) -> None:
        try:
            await web.TCPSite(runner, port=self._settings.port).start()
        except OSError as error:
            raise CannotStart(f"port {self._settings.port} cannot be listened on: {error.strerror}") from error

    async def _watch(self, namespaces: Sequence[str]) -> bool:
        """Let kopf watch until a signal comes. False: it failed, as it does now and then when the definition, or the
        right to see something, is taken away."""
        try:
            await run_watches(
                create_registry(self.queue.add, self._resync_now.set, self._reconciler.forget, self._cluster.url),
                create_kopf_settings(namespaced=bool(namespaces)),
                namespaces,
            )
        except Exception as error:  # noqa: BLE001 - kopf has no public class for these; begun anew, whatever it was
            log.warning("watching ended, and begins anew: %s", describe(error))
            return False
        return True

    async def _work(self, key: Key) -> float | None:
        began = time.monotonic()
        try:
            again_s = await self._reconciler.reconcile(key)
        except OperatorError:
            self.metrics.reconciles.labels("failed").inc()
            raise
        finally:
            self.metrics.duration.observe(time.monotonic() - began)
        self.metrics.reconciles.labels("done").inc()
        return again_s

    async def _resync(self) -> None:
        """Look at everything now and then, and at volumes that nobody owns any more."""
        while True:
            self._resync_now.clear()
            try:
                found = await self._reconciler.list_logstreams()
                for body in found:
                    self.queue.add(Key(body["metadata"]["namespace"], body["metadata"]["name"]))
                self.metrics.managed.set(len(found))
                await self._reconciler.sweep()
                self._has_seen_all = True
                self._tell("resync", None)
            except OperatorError as error:
                self._tell("resync", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.resync_interval_s):
                    await self._resync_now.wait()

    async def _wait_for_definition(self) -> Sequence[str] | None:
        """Until LogStreams are known: before that, kopf would find nothing to watch, and look no more.

        Returns the namespaces to watch, none for all. Kopf ends when it may not read one, as when that was deleted: so
        those are left to the resync. None: a signal came first.
        """
        while not self._stop.is_set():
            is_known, readable = await self._look_for_definition()
            if is_known:
                return readable
            await self._pause()
        return None

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                await self._stop.wait()

    async def _look_for_definition(self) -> tuple[bool, list[str]]:
        """Whether LogStreams are known, and in which of the namespaces they may be read."""
        is_known, readable = False, []
        for namespace in self._settings.namespaces or (None,):
            where = f"watching {namespace or 'all namespaces'}"
            try:
                knows = await self._cluster.knows(names.LOGSTREAM, namespace)
            except (Refused, Unreachable) as error:
                self._tell(where, error)
                continue
            self._tell(where, None if knows else UNDEFINED)
            is_known = is_known or knows
            if namespace:
                readable.append(namespace)
        return is_known, readable

    def _tell(self, what: str, trouble: OperatorError | str | None) -> None:
        """Log a trouble once, however often it is met, and its end (None)."""
        words = None if trouble is None else str(trouble)
        before = self._trouble.pop(what, None)
        if words is None:
            if before is not None:
                log.info("%s: goes on", what)
            return
        self._trouble[what] = words
        if words != before:
            log.warning("%s: %s", what, words)


async def run_operator(settings: Settings) -> None:
    """Connect, and run until a signal comes."""
    cluster = Cluster(await asyncio.to_thread(connect))
    try:
        async with aiohttp.ClientSession() as session:
            await Operator(settings, cluster, session).run()
    finally:
        cluster.close()
