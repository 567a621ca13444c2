"""One look at one LogStream: read, resolve, render, plan, apply, assess, write the status. Every cause takes this path.

Nothing is remembered between two looks but what saves work (when counts were last written, what the log has said, what
was read of the whole cluster just now), so an operator that restarts goes on as if nothing had happened. What a look
cannot finish, such as an object that is still being deleted, it comes back for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from . import names
from .assess import Observed, Report, assess, find_url
from .errors import NotAccepted, Refused
from .names import Key, Kind, object_id, selector_text
from .placement import Node, parse_node
from .plan import Plan, hands_over_replicas, is_ours, mounted_claims, name_taken, plan
from .render import render
from .resolve import Held, IngressClass, Resolved, Rules, Surroundings, parse_held, parse_ingress_class, resolve
from .shared import Shared
from .spec import LogStream, parse_all, parse_logstream
from .status import (
    Condition,
    Counts,
    Facts,
    Note,
    State,
    Type,
    carry_over,
    find_transitions,
    keep_counts,
    render_event,
    render_status,
)
from .workload import Defaults, Manifest

log = logging.getLogger(__name__)

COUNTS_S: Final = 30.0
"""Least time between two writes of a status in which only the counts are new."""
SOON_S: Final = 3.0
"""When to look again at what is on its way and sends no event of its own."""


class Api(Protocol):
    """What is asked of the API server (`cluster.Cluster`)."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """One object, or None."""
        ...

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Manifest]:
        """All objects that match."""
        ...

    async def apply(self, manifest: Manifest, *, manager: str = names.MANAGER) -> Manifest:
        """Server-side apply; raises Refused."""
        ...

    async def apply_status(self, namespace: str, name: str, status: Manifest) -> None:
        """Write a LogStream's status."""
        ...

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object."""
        ...

    async def record(self, event: Manifest) -> None:
        """Create an event; raises Refused."""
        ...


class Asks(Protocol):
    """What is asked of the servers (`servers.Servers`)."""

    async def ask(self, pods: Sequence[Manifest]) -> Report | None:
        """What the servers say, None when none does."""
        ...


@dataclass(frozen=True, slots=True)
class Clock:
    """Both kinds of time, so that tests can stop them."""

    monotonic_s: Callable[[], float]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def stamp(self) -> str:
        """Now, as Kubernetes writes it."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the administrator decided. `namespaces`: the only ones to look at, empty for all."""

    rules: Rules
    defaults: Defaults
    namespaces: tuple[str, ...] = ()


class Reconciler:
    """Looks at LogStreams, one call each; calls for different ones may run at the same time."""

    def __init__(self, api: Api, servers: Asks, policy: Policy, clock: Clock) -> None:
        self._api, self._servers, self._clock = api, servers, clock
        self._policy = policy
        self._written: dict[Key, float] = {}
        self._refused: set[tuple[str, str]] = set()
        self._nodes = Shared(self._list_nodes, clock.monotonic_s)
        self._classes = Shared(self._list_classes, clock.monotonic_s)
        self._others = Shared(self._list_others, clock.monotonic_s)
        self._held = Shared(self._list_held, clock.monotonic_s)

    def forget(self) -> None:
        """Nodes or LogStreams have changed: what was read of them is old."""
        self._nodes.forget()
        self._others.forget()
        self._held.forget()

    async def reconcile(self, key: Key) -> float | None:
        """Make the cluster what the LogStream says. Returns after how many seconds to look again, if at all.

        Raises Unreachable, for another try.
        """
        if not self._looks_after(key):
            return None
        body = await self._read(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._written.pop(key, None)
            await self.sweep(key)
            return None
        owned = await self._list_owned(key, body["metadata"]["uid"])
        try:
            resolved = await self._resolve(parse_logstream(body))
        except NotAccepted as error:
            await self._report_refusal(body, error, owned)
            return None
        desired = render(resolved, self._policy.defaults)
        pods = await self._api.list(names.POD, key.namespace, labels=f"{names.LABEL_NAME}={key.name}")
        todo = plan(desired, owned, await self._list_foreign(desired, owned), mounted_claims(pods))
        seen = await self._carry_out(resolved, todo, desired, owned, pods)
        await self._write_status(body, assess(resolved, seen), self._facts(resolved, seen))
        waits = todo.delete or any("deletionTimestamp" in each["metadata"] for each in owned)
        return SOON_S if waits else None

    async def sweep(self, key: Key | None = None) -> None:
        """Delete volumes whose LogStream is gone, of one that is known to be gone or (None) of all that are."""
        labels = f"{names.LABEL_MANAGED_BY}={names.MANAGER}"
        if key is not None:
            labels += f",{names.LABEL_NAMESPACE}={key.namespace},{names.LABEL_NAME}={key.name}"
        for volume in await self._api.list(names.VOLUME, labels=labels):
            metadata = volume["metadata"]
            owner = names.key_of(metadata["labels"])
            phase = (volume.get("status") or {}).get("phase")
            if owner is None or phase == "Bound" or "deletionTimestamp" in metadata or not self._looks_after(owner):
                continue
            try:
                body = await self._read(owner)
            except Refused as error:
                log.warning("%s: volume %s stays: %s", owner, metadata["name"], error)
                continue
            if body is None or body["metadata"]["uid"] != metadata["labels"].get(names.LABEL_UID):
                await self._api.delete(volume)
                log.info("%s: volume %s deleted: its LogStream is gone", owner, metadata["name"])

    def _looks_after(self, key: Key) -> bool:
        """Volumes are in no namespace, so that those of others are seen, too, whose LogStreams may not be read."""
        return not self._policy.namespaces or key.namespace in self._policy.namespaces

    # -- reading -------------------------------------------------------------------------------------------------------

    async def list_logstreams(self) -> list[Manifest]:
        """All LogStreams that are looked after."""
        return await self._list_all(names.LOGSTREAM)

    async def _list_all(self, kind: Kind, labels: str = "") -> list[Manifest]:
        """Where we look. One namespace that may not be read is not in the way of the others."""
        if not self._policy.namespaces:
            return await self._api.list(kind, labels=labels)
        found: list[Manifest] = []
        for namespace in self._policy.namespaces:
            place = (kind.kind, namespace)
            try:
                found += await self._api.list(kind, namespace, labels=labels)
            except Refused as error:
                log.log(logging.DEBUG if place in self._refused else logging.WARNING, "%s: %s", namespace, error)
                self._refused.add(place)
            else:
                self._refused.discard(place)
        return found

    async def _read(self, key: Key) -> Manifest | None:
        """The LogStream, None for one that is gone. With its namespace the right to look there goes, too."""
        try:
            return await self._api.get(names.LOGSTREAM, key.namespace, key.name)
        except Refused:
            if await self._api.get(names.NAMESPACE, None, key.namespace) is not None:
                raise
            return None

    async def _list_owned(self, key: Key, uid: str) -> list[Manifest]:
        labels = f"{names.LABEL_UID}={uid}"
        lists = await asyncio.gather(
            *(
                self._api.list(kind, key.namespace if kind.namespaced else None, labels=labels)
                for kind in names.CHILDREN
            )
        )
        return [manifest for found in lists for manifest in found]

    async def _list_foreign(self, desired: Sequence[Manifest], owned: Sequence[Manifest]) -> list[Manifest]:
        """Objects that have our names without being ours: they must not be taken over."""
        known = {object_id(manifest) for manifest in owned}
        foreign = []
        for manifest in desired:
            if object_id(manifest) in known:
                continue
            kind, metadata = names.KINDS[manifest["kind"]], manifest["metadata"]
            found = await self._api.get(kind, metadata.get("namespace"), metadata["name"])
            if found is not None and not is_ours(found, manifest):
                foreign.append({**found, "kind": manifest["kind"]})
        return foreign

    async def _resolve(self, stream: LogStream) -> Resolved:
        if not stream.spec.ingress.enabled:
            nodes = await self._nodes.get() if stream.spec.source.host_path is not None else []
            return resolve(stream, self._policy.rules, Surroundings(nodes))
        nodes, classes = await self._nodes.get(), await self._classes.get()
        others, held = await self._others.get(), await self._held.get()
        return resolve(stream, self._policy.rules, Surroundings(nodes, classes, others, held))

    async def _list_nodes(self) -> list[Node]:
        return [parse_node(body) for body in await self._api.list(names.NODE)]

    async def _list_classes(self) -> list[IngressClass]:
        return [parse_ingress_class(body) for body in await self._api.list(names.INGRESS_CLASS)]

    async def _list_others(self) -> list[LogStream]:
        return parse_all(await self.list_logstreams())

    async def _list_held(self) -> Held:
        return parse_held(await self._list_all(names.INGRESS, f"{names.LABEL_MANAGED_BY}={names.MANAGER}"))

    # -- writing -------------------------------------------------------------------------------------------------------

    async def _carry_out(
        self,
        resolved: Resolved,
        todo: Plan,
        desired: Sequence[Manifest],
        owned: Sequence[Manifest],
        pods: Sequence[Manifest],
    ) -> Observed:
        """Deletes, then applies; what the API server does not take is kept for the conditions."""
        key = resolved.stream.key
        live = {object_id(manifest): manifest for manifest in owned}
        refused = {manifest["kind"]: name_taken(manifest) for manifest in todo.taken}
        for manifest in todo.delete:
            await self._api.delete(manifest)
            live.pop(object_id(manifest))
            log.info("%s: %s %s deleted", key, *object_id(manifest))
        for manifest in todo.apply:
            try:
                if manifest["kind"] == names.DEPLOYMENT.kind:
                    await self._hand_over(manifest, live.get(object_id(manifest)))
                live[object_id(manifest)] = await self._api.apply(manifest)
                log.info("%s: %s %s applied", key, *object_id(manifest))
            except Refused as error:
                refused[manifest["kind"]] = error
        wanted = {object_id(manifest) for manifest in desired}
        objects = {manifest["kind"]: manifest for ident, manifest in live.items() if ident in wanted}
        report = await self._servers.ask(pods)
        return Observed(objects, pods, await self._list_events(key, pods), refused, report)

    async def _hand_over(self, manifest: Manifest, live: Manifest | None) -> None:
        """Before we stop applying replicas, somebody else holds them: else they would be reset to one."""
        replicas = hands_over_replicas(manifest, live)
        if replicas is not None:
            part = {
                "apiVersion": manifest["apiVersion"],
                "kind": manifest["kind"],
                "metadata": {key: manifest["metadata"][key] for key in ("name", "namespace")},
                "spec": {"replicas": replicas},
            }
            await self._api.apply(part, manager=names.HANDOVER_MANAGER)

    async def _list_events(self, key: Key, pods: Sequence[Manifest]) -> list[Manifest]:
        """The kubelet's complaints, when a pod does not come up: what it cannot mount stands nowhere else."""
        found: list[Manifest] = []
        for pod in pods:
            if (pod.get("status") or {}).get("phase") == "Pending" and len(found) == 0:
                fields = f"involvedObject.uid={pod['metadata']['uid']},type=Warning"
                found = await self._api.list(names.EVENT, key.namespace, fields=fields)
        return found

    async def _report_refusal(self, body: Manifest, error: NotAccepted, owned: Sequence[Manifest]) -> None:
        """A spec that is not followed: what runs goes on as it was, unless it is not allowed to."""
        accepted = Condition(Type.ACCEPTED, State.FALSE, error.reason, error.message)
        previous = body.get("status") or {}
        metadata, live = body["metadata"], {manifest["kind"]: manifest for manifest in owned}
        conditions = carry_over(previous, accepted)
        if error.stop:
            conditions, live = [accepted], {}
            for manifest in plan([], owned).delete:
                await self._api.delete(manifest)
        deployment = (live.get(names.DEPLOYMENT.kind) or {}).get("status") or {}
        facts = Facts(
            metadata.get("generation", 0),
            selector_text(metadata["name"]),
            deployment.get("replicas", 0),
            deployment.get("readyReplicas", 0),
            None if error.stop else previous.get("url"),
            None if error.stop else previous.get("node"),
        )
        await self._write_status(body, conditions, facts)

    async def _write_status(self, body: Manifest, conditions: Sequence[Condition], facts: Facts) -> None:
        metadata, previous = body["metadata"], body.get("status") or {}
        key = Key(metadata["namespace"], metadata["name"])
        status = render_status(previous, conditions, facts, self._clock.stamp())
        since_s = self._clock.monotonic_s() - self._written.get(key, float("-inf"))
        status = keep_counts(previous, status, since_s=since_s, least_s=COUNTS_S)
        if status == previous:
            return
        await self._api.apply_status(key.namespace, key.name, status)
        self._written[key] = self._clock.monotonic_s()
        for note in find_transitions(previous, status):
            await self._record(body, note)

    async def _record(self, body: Manifest, note: Note) -> None:
        """An event; one that cannot be recorded (a namespace on its way out) is not worth another try."""
        try:
            await self._api.record(render_event(body, note, self._clock.stamp()))
        except Refused as error:
            log.warning("%s", error)

    @staticmethod
    def _facts(resolved: Resolved, seen: Observed) -> Facts:
        status, stream = seen.part(names.DEPLOYMENT, "status"), resolved.stream
        report = seen.report
        counts = Counts() if report is None else Counts(report.clients, sum(report.streams.values()))
        return Facts(
            stream.generation,
            selector_text(stream.key.name),
            status.get("replicas", 0),
            status.get("readyReplicas", 0),
            find_url(resolved, seen),
            resolved.placement.node if resolved.placement is not None else None,
            counts,
        )
