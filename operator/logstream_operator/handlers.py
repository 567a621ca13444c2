"""What kopf watches, and what it does with it: nothing but to put the key of a LogStream into the queue.

Only `on.event` handlers: they need no finalizer and leave no annotation on the resource, so that the operator can be
taken away at any time. What such a handler misses, the resync finds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, Final

import kopf

from . import names
from .names import Key

Enqueue = Callable[[Key], None]

WATCHED: Final = tuple(kind for kind in (*names.CHILDREN, names.POD) if kind is not names.POD_MONITOR)
"""What has our labels. A cluster may not know PodMonitors; those are looked at by the resync only."""


class News:
    """What matters of each object: one that reports about itself all the time is news only when that changes."""

    def __init__(self) -> None:
        self._known: dict[Hashable, object] = {}

    def observe(self, name: Hashable, facts: object | None) -> bool:
        """Whether that is new; `facts` None for an object that is gone."""
        if facts is None:
            return self._known.pop(name, None) is not None
        old, self._known[name] = self._known.get(name), facts
        return old != facts


def create_registry(
    enqueue: Enqueue, enqueue_all: Callable[[], None], forget: Callable[[], None], url: str
) -> kopf.OperatorRegistry:
    """The handlers. `enqueue_all`: for what may concern any LogStream; `forget`: what was read of nodes and LogStreams
    is old; `url`: of the API server, seen from a pod."""
    registry = kopf.OperatorRegistry()
    nodes, specs = News(), News()

    @kopf.on.login(registry=registry)
    async def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        in_pod = kopf.login_with_service_account(**arguments)
        # kopf takes the API server's name, which only a cluster with DNS knows.
        return replace(in_pod, server=url) if in_pod else kopf.login_with_kubeconfig(**arguments)

    @kopf.on.event(
        group=names.GROUP, version=names.VERSION, plural=names.PLURAL, id="see_logstreams", registry=registry
    )
    async def see_logstream(
        namespace: str | None,
        name: str,
        meta: Mapping[str, Any],
        type: str | None,  # noqa: A002 - kopf's
        **_: Any,
    ) -> None:
        assert namespace is not None  # the definition says so
        key = Key(namespace, name)
        if specs.observe(key, None if type == "DELETED" else (meta.get("uid"), meta.get("generation"))):
            forget()
        enqueue(key)

    @kopf.on.event(group="", version="v1", plural=names.NODE.plural, id="see_nodes", registry=registry)
    async def see_node(name: str, labels: Mapping[str, str], type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's
        if nodes.observe(name, None if type == "DELETED" else dict(labels)):
            forget()
            enqueue_all()

    _watch_children(registry, enqueue)
    return registry


def _watch_children(registry: kopf.OperatorRegistry, enqueue: Enqueue) -> None:
    async def see_child(labels: Mapping[str, str], **_: Any) -> None:
        key = names.key_of(dict(labels))
        if key is not None:
            enqueue(key)

    for kind in WATCHED:
        group, _, version = kind.api_version.rpartition("/")
        decorate = kopf.on.event(
            group=group,
            version=version,
            plural=kind.plural,
            labels={names.LABEL_MANAGED_BY: names.MANAGER},
            id=f"see_{kind.plural}",
            registry=registry,
        )
        decorate(see_child)


def create_kopf_settings(*, namespaced: bool) -> kopf.OperatorSettings:
    """Kopf's own settings: a watch that ends quietly is begun again, and nothing is written by kopf itself."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.posting.loggers = False
    # A connection that was dropped on the way is noticed after 70 s (inactivity_timeout); these are a second net.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.watching.label_selectors[_has_our_labels] = f"{names.LABEL_MANAGED_BY}={names.MANAGER}"
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.queueing.worker_limit = None
    # Without rights beyond some namespaces, kinds cannot be watched for; they are looked up once.
    settings.scanning.disabled = namespaced
    return settings


def _has_our_labels(resource: kopf.Resource) -> bool:
    """Of such kinds, a cluster has many more than ours: the API server leaves the others out."""
    return any(
        (resource.group, resource.plural) == (kind.api_version.rpartition("/")[0], kind.plural) for kind in WATCHED
    )


def quieten(level: int) -> None:
    """Less of what kopf logs: it has a line for each event."""
    logging.getLogger("kopf").setLevel(max(level, logging.WARNING))
