"""The API server: get, list, apply, delete, events. The only module that calls it, but for kopf's watches.

Plain dicts in and out. The client is blocking, so each call runs on one of a few threads, and no call waits for ever: a
connection that was dropped silently would otherwise hang for a quarter of an hour. Errors are translated here, once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError, MaxRetryError

from .errors import CannotStart, Refused, Unreachable
from .names import EVENT, KINDS, LOGSTREAM, MANAGER, Kind
from .workload import Manifest

T = TypeVar("T")
TIMEOUT_S: Final = (5, 30)
"""To connect, and between two reads."""
RETRIES: Final = 1
"""For a connection that was closed just when it was to be used again. With the library's three, an API server that does
not answer would hold a thread for two minutes; who asks tries again anyway, and lets others go first."""
THREADS: Final = 8
PAGE: Final = 500
APPLY: Final = "application/apply-patch+yaml"
LATER: Final = frozenset({409, 410, 429})
"""What the API server answers when the same request may be taken a moment later; and all from 500 on."""
NOT_FOUND: Final = 404
GONE_MARK: Final = "being terminated"
"""In the refusal (403) of anything new in a namespace that is being deleted."""
WEBHOOK_MARK: Final = "failed calling webhook"
"""In the refusal (500) for the sake of a webhook that does not answer. The API server itself is well, and refuses this
one object until somebody mends or removes the webhook."""


class _NoDiscovery:
    """Stands in for the dynamic client's discovery, which costs requests and writes a file: we know our kinds."""

    def __init__(self, *_: object) -> None:
        pass


def connect() -> DynamicClient:
    """A client for the cluster that we run in, or else for the one that KUBECONFIG names. Raises CannotStart."""
    settings = client.Configuration()
    settings.retries = RETRIES
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise CannotStart(f"this is no pod of a cluster, and KUBECONFIG names none either: {error}") from error
    return DynamicClient(client.ApiClient(settings), discoverer=_NoDiscovery)  # type: ignore[no-untyped-call]


class Cluster:
    """The API server, for coroutines. `close` ends its threads."""

    def __init__(self, dynamic: DynamicClient) -> None:
        self._client = dynamic
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cluster")

    @property
    def url(self) -> str:
        """Where the API server is."""
        return str(self._client.configuration.host)

    def close(self) -> None:
        """No more calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """One object, None when there is none (or the cluster does not know its kind)."""
        return await self._or_none(partial(self._request, "get", kind.path(namespace, name)), kind, name)

    async def knows(self, kind: Kind, namespace: str | None) -> bool:
        """Whether the cluster has this kind of object."""
        call = partial(self._request, "get", kind.path(namespace), limit=1)
        return await self._or_none(call, kind, "list") is not None

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Manifest]:
        """All objects, in one namespace or (None) in the cluster; none of a kind that the cluster does not know."""
        found: list[Manifest] = []
        query: dict[str, Any] = {"label_selector": labels or None, "field_selector": fields or None, "limit": PAGE}
        while True:
            page = await self._or_none(partial(self._request, "get", kind.path(namespace), **query), kind, "list")
            if page is None:
                return found
            # Objects in a list lack their kind.
            found += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"]]
            query["_continue"] = page["metadata"].get("continue") or None
            if query["_continue"] is None:
                return found

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> Manifest:
        """Server-side apply; fields that others hold become ours. Returns the live object."""
        kind, metadata = KINDS[manifest["kind"]], manifest["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        call = partial(
            self._request, "patch", path, body=manifest, content_type=APPLY, field_manager=manager, force_conflicts=True
        )
        return await self._run(call, kind, metadata["name"])

    async def apply_status(self, namespace: str, name: str, status: Manifest) -> None:
        """Write the status of a LogStream."""
        body = {
            "apiVersion": LOGSTREAM.api_version,
            "kind": LOGSTREAM.kind,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        path = LOGSTREAM.path(namespace, name, "status")
        call = partial(
            self._request, "patch", path, body=body, content_type=APPLY, field_manager=MANAGER, force_conflicts=True
        )
        await self._or_none(call, LOGSTREAM, name)

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object, not another one that has its name by now; that it has gone already is fine."""
        kind, metadata = KINDS[manifest["kind"]], manifest["metadata"]
        body = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        path = kind.path(metadata.get("namespace"), metadata["name"])
        await self._or_none(partial(self._request, "delete", path, body=body), kind, metadata["name"])

    async def record(self, event: Manifest) -> None:
        """Create an event."""
        path = EVENT.path(event["metadata"]["namespace"])
        await self._run(partial(self._request, "post", path, body=event), EVENT, event["reason"])

    # -- one call ------------------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, **query: Any) -> Manifest:
        answer = self._client.request(method, path, serialize=False, _request_timeout=TIMEOUT_S, **query)
        found: Manifest = json.loads(answer.data)
        return found

    async def _or_none(self, call: Callable[[], Manifest], kind: Kind, name: str) -> Manifest | None:
        try:
            return await self._run(call, kind, name)
        except Refused as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def _run(self, call: Callable[[], T], kind: Kind, name: str) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call)
        except ApiException as error:
            raise translate(error, kind, name) from error
        except (HTTPError, OSError) as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            raise Unreachable(f"{kind.kind} {name}", None, str(cause)) from error


def translate(error: ApiException, kind: Kind, name: str) -> Refused | Unreachable:
    """Whose fault it is."""
    status, message = error.status or 0, read_message(error)
    busy = status in LATER or status >= 500 or status == 0
    if (busy and WEBHOOK_MARK not in message) or GONE_MARK in message:
        return Unreachable(f"{kind.kind} {name}", status or None, message)
    return Refused(kind.kind, name, status, message)


def read_message(error: ApiException) -> str:
    """The words in the API server's answer."""
    try:
        found = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        found = error.reason or str(error.body or "no reason was given")
    return str(found)
