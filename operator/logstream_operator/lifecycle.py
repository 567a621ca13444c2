"""The running operator: kopf's watches, the queue, the resync and the port, side by side until a signal ends them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import aiohttp
import kopf
from aiohttp import web

from . import names
from .cluster import Cluster, connect
from .endpoints import create_endpoints
from .errors import CannotStart, OperatorError, Unreachable
from .handlers import create_kopf_settings, create_registry
from .metrics import Metrics
from .names import Key
from .reconcile import Clock, Policy, Reconciler
from .servers import Servers
from .settings import Settings
from .workqueue import WorkQueue

log = logging.getLogger(__name__)

IDENTITY: Final[Any] = names.MANAGER
"""Of a type that is kopf's own. Left out, kopf asks for the user's name, and in a container the user has none."""
MISSING_S: Final = 2.0
"""How often to look for a CustomResourceDefinition that is not there yet."""


class Operator:
    """All parts of one operator."""

    def __init__(self, settings: Settings, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._settings, self._cluster = settings, cluster
        policy = Policy(settings.rules, settings.defaults, settings.namespaces)
        self._reconciler = Reconciler(cluster, Servers(session), policy, Clock(time.monotonic))
        self.queue: WorkQueue[Key] = WorkQueue(self._work)
        self.metrics = Metrics(lambda: len(self.queue))
        self._resync_now = asyncio.Event()
        self._has_seen_all = False

    async def run(self) -> None:
        """Until a signal comes; raises when a part of it fails."""
        runner = web.AppRunner(
            create_endpoints(self.metrics.registry, self.queue.longest_s, lambda: self._has_seen_all)
        )
        await runner.setup()
        try:
            await self._listen(runner)
            await self._wait_for_definition()
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self.queue.run(self._settings.workers)), group.create_task(self._resync())]
                await self._watch()
                for task in others:
                    task.cancel()
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        try:
            await web.TCPSite(runner, port=self._settings.port).start()
        except OSError as error:
            raise CannotStart(f"port {self._settings.port} cannot be listened on: {error.strerror}") from error

    async def _watch(self) -> None:
        namespaces = self._settings.namespaces
        await kopf.operator(
            registry=create_registry(self.queue.add, self._resync_now.set, self._cluster.url),
            settings=create_kopf_settings(namespaced=bool(namespaces)),
            identity=IDENTITY,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )

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
            except OperatorError as error:
                log.warning("resync: %s", error)
            try:
                async with asyncio.timeout(self._settings.resync_interval_s):
                    await self._resync_now.wait()
            except TimeoutError:
                continue

    async def _wait_for_definition(self) -> None:
        """Before that, kopf would find nothing to watch, and look no more."""
        said = False
        while not await self._is_defined():
            if not said:
                log.warning("the cluster does not know %s.%s yet: apply its definition", names.PLURAL, names.GROUP)
            said = True
            await asyncio.sleep(MISSING_S)

    async def _is_defined(self) -> bool:
        try:
            return await self._cluster.knows(names.LOGSTREAM, next(iter(self._settings.namespaces), None))
        except Unreachable as error:
            log.warning("%s", error)
            return False


async def run_operator(settings: Settings) -> None:
    """Connect, and run until a signal comes."""
    cluster = Cluster(await asyncio.to_thread(connect))
    try:
        async with aiohttp.ClientSession() as session:
            await Operator(settings, cluster, session).run()
    finally:
        cluster.close()
