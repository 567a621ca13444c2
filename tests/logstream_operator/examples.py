"""LogStreams and live objects that the operator's tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from logstream_operator import names
from logstream_operator.names import Key
from logstream_operator.placement import Node
from logstream_operator.resolve import IngressClass, Resolved, Rules, Surroundings, resolve
from logstream_operator.roots import Root
from logstream_operator.spec import LogStream, parse_spec
from logstream_operator.workload import Defaults, Manifest

NODE = Node("node-1", {names.LABEL_HOSTNAME: "node-1"})
NGINX = IngressClass("nginx", "k8s.io/ingress-nginx")
AROUND = Surroundings([NODE], [NGINX])
DEFAULTS = Defaults("logstream-server:1")
RULES = Rules((Root("/minikube-host"), Root("/var/log/apps", groups=(4,))))
UID = "3b0d3f0e-2f41-4b6e-9d0c-1d5f0a8c7e11"


def merge(base: Any, change: Any) -> Any:
    """`base` with `change` put over it; None takes a key away."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    merged = dict(base)
    for key, value in change.items():
        merged[key] = merge(base.get(key), value)
        if value is None:
            del merged[key]
    return merged


def a_spec(change: Any = None) -> dict[str, Any]:
    """The least spec there is, with a change."""
    spec: dict[str, Any] = merge({"source": {"hostPath": "/minikube-host", "files": ["*.log"]}}, change or {})
    return spec


def a_body(
    change: Any = None, *, name: str = "app", namespace: str = "team", uid: str = UID, **metadata: Any
) -> Manifest:
    """A LogStream as the API server has it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "LogStream",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **metadata,
        },
        "spec": a_spec(change),
    }


def a_stream(
    change: Any = None, *, name: str = "app", namespace: str = "team", uid: str = UID, created: str = "2026-01-01"
) -> LogStream:
    """A LogStream as a value."""
    return LogStream(Key(namespace, name), uid, 1, created, parse_spec(a_spec(change)))


def resolved(change: Any = None, *, rules: Rules = RULES, around: Surroundings = AROUND, **metadata: Any) -> Resolved:
    """A LogStream with everything decided, on a cluster of one node and one class."""
    return resolve(a_stream(change, **metadata), rules, around)


def applied(manifest: Manifest, **more: Any) -> Manifest:
    """A manifest as the API server gives it back, with what it and others add."""
    live: Manifest = merge(
        manifest,
        {
            "metadata": {
                "uid": "u-" + manifest["metadata"]["name"],
                "resourceVersion": "7",
                "annotations": {"other": "x"},
            }
        },
    )
    return {**live, **more}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks bring about; the test's own time-out bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for is not always an event
        await asyncio.sleep(0.005)


label_names = st.from_regex(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)
"""Names of LogStreams that the definition takes."""

specs = st.fixed_dictionaries(
    {
        "source": st.one_of(
            st.fixed_dictionaries(
                {
                    "hostPath": st.sampled_from(["/minikube-host", "/minikube-host/a", "/var/log/apps/b"]),
                    "files": st.lists(
                        st.sampled_from(["*.log", "a,b", "x/**/*.log", "ü.log"]), min_size=1, unique=True
                    ),
                },
                optional={"sharedAcrossNodes": st.booleans()},
            ),
            st.fixed_dictionaries(
                {
                    "persistentVolumeClaim": st.just({"claimName": "logs"}),
                    "files": st.just(["*.log"]),
                }
            ),
        ),
    },
    optional={
        "replicas": st.integers(0, 100),
        "autoscaling": st.fixed_dictionaries({}, optional={"minReplicas": st.integers(1, 9)}),
        "server": st.fixed_dictionaries(
            {},
            optional={
                "tailLines": st.integers(0, 1000),
                "allowedOrigins": st.just(["https://a.example", "*"]),
                "authSecretRef": st.just({"name": "tokens"}),
                "resources": st.just({"requests": {"cpu": "0.5", "memory": "1024Mi"}}),
            },
        ),
        "ingress": st.fixed_dictionaries(
            {},
            optional={
                "enabled": st.booleans(),
                "host": st.sampled_from(["", "logs.example.com"]),
                "path": st.sampled_from(["/ws", "/a/b/ws"]),
                "viewer": st.booleans(),
                "flavor": st.sampled_from(["auto", "nginx", "traefik", "none"]),
                "annotations": st.just({"a/b": "c"}),
            },
        ),
        "monitoring": st.just({"podMonitor": True}),
    },
)
"""Specs that the definition takes."""
