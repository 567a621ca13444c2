"""The Deployment of servers, and the Service before them. Pure: values in, manifests out.

The pods pass the Pod Security Standard `restricted`: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from . import names
from .names import child_name, selector
from .resolve import Resolved

Manifest = dict[str, Any]
Resources = Mapping[str, Mapping[str, str | int]]

USER: Final = 65532
"""Not root, and no user of the node: the image has the same one; `minikube mount --uid 65532` gives it the files."""
PRE_STOP_S: Final = 5
"""How long a server that is to end goes on taking clients: proxies hear of its end only after a moment."""
DRAIN_S: Final = 15
"""Over how long its clients are asked to leave, so that they do not all arrive elsewhere at once."""
GRACE_S: Final = PRE_STOP_S + DRAIN_S + 15
"""Fifteen more for those who do not leave: the server ends sooner."""

DEFAULT_RESOURCES: Final[Resources] = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"memory": "512Mi"},
}
"""The request is what the autoscaler's percentage is of. 10,000 idle clients take some 30 MiB."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who reaches the servers, as peers of a NetworkPolicy: `clients` the page, the API and `/ws` (none: everybody),
    `scrapers` metrics and health."""

    scrapers: tuple[Manifest, ...]
    clients: tuple[Manifest, ...] = ()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the administrator decides about every server."""

    image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    resources: Resources = field(default_factory=lambda: DEFAULT_RESOURCES)
    access: Access | None = None


def render_deployment(resolved: Resolved, claim: str, defaults: Defaults) -> Manifest:
    """The Deployment, without replicas when an autoscaler decides about them."""
    stream = resolved.stream
    spec: Manifest = {
        "selector": {"matchLabels": selector(stream.key.name)},
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 120,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {
            "metadata": {
                "labels": names.labels(stream.key, stream.uid),
                "annotations": {
                    "kubectl.kubernetes.io/default-container": names.CONTAINER,
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": str(names.METRICS_PORT),
                    "prometheus.io/path": "/metrics",
                },
            },
            "spec": _render_pod(resolved, claim, defaults),
        },
    }
    if stream.spec.autoscaling is None:
        spec["replicas"] = stream.spec.replicas
    return {
        "apiVersion": names.DEPLOYMENT.api_version,
        "kind": names.DEPLOYMENT.kind,
        "metadata": {"name": child_name(stream.key.name), "namespace": stream.key.namespace},
        "spec": spec,
    }


def render_service(resolved: Resolved) -> Manifest:
    """The Service that the Ingress, and clients in the cluster, connect to."""
    key = resolved.stream.key
    port = {"name": "http", "port": names.SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    return {
        "apiVersion": names.SERVICE.api_version,
        "kind": names.SERVICE.kind,
        "metadata": {"name": child_name(key.name), "namespace": key.namespace},
        "spec": {"type": "ClusterIP", "selector": selector(key.name), "ports": [port]},
    }


def mount_path(resolved: Resolved) -> str:
    """Where the root, or the claim, is mounted in the server."""
    return names.CLAIM_FOLDER if resolved.root is None else resolved.root.path


def _render_pod(resolved: Resolved, claim: str, defaults: Defaults) -> Manifest:
    spec = resolved.stream.spec
    security: Manifest = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if spec.source.supplemental_groups:
        security["supplementalGroups"] = list(spec.source.supplemental_groups)
    volumes: list[Manifest] = [
        {"name": names.SOURCE_VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    ]
    if spec.server.auth_secret is not None:
        secret = spec.server.auth_secret
        items = [{"key": secret.key, "path": names.TOKENS_FILE}]
        volumes.append({"name": names.TOKENS_VOLUME, "secret": {"secretName": secret.name, "items": items}})
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": security,
        "containers": [_render_container(resolved, defaults)],
        "volumes": volumes,
    }
    if resolved.placement is not None and resolved.placement.labels:
        pod["nodeSelector"] = dict(resolved.placement.labels)
    if defaults.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in defaults.pull_secrets]
    return pod


def _render_container(resolved: Resolved, defaults: Defaults) -> Manifest:
    spec = resolved.stream.spec
    mount: Manifest = {
        "name": names.SOURCE_VOLUME,
        "mountPath": mount_path(resolved),
        "readOnly": True,
    }
    if resolved.root is not None:
        mount["mountPropagation"] = resolved.root.propagation.value
    mounts = [mount]
    if spec.server.auth_secret is not None:
        mounts.append({"name": names.TOKENS_VOLUME, "mountPath": names.TOKENS_FOLDER, "readOnly": True})
    return {
        "name": names.CONTAINER,
        "image": defaults.image,
        "imagePullPolicy": defaults.pull_policy,
        "command": ["logstream", "serve"],
        "env": [{"name": name, "value": _escape(value)} for name, value in render_environment(resolved).items()],
        "ports": [
            {"name": "http", "containerPort": names.HTTP_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": merge_resources(spec.server.resources, defaults.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "livenessProbe": _probe("/healthz", period_s=10, failures=3),
        "readinessProbe": _probe("/readyz", period_s=5, failures=2),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
        "volumeMounts": mounts,
    }


def render_environment(resolved: Resolved) -> dict[str, str]:
    """The server's options, as its variables."""
    spec = resolved.stream.spec
    mounted = mount_path(resolved)
    folder = spec.source.host_path or mounted
    environment = {
        # A line each, and a newline at the end: otherwise a comma in a single name would split it.
        "LOGSTREAM_PATHS": "".join(f"{folder}/{file}\n" for file in spec.source.files),
        # What is mounted and not the path below it: a symlink in the path's place would choose its own root.
        "LOGSTREAM_ROOT": mounted + "\n",
        "LOGSTREAM_HOST": "::",  # all addresses of the pod, in clusters of either kind and of both
        "LOGSTREAM_PORT": str(names.HTTP_PORT),
        "LOGSTREAM_METRICS_PORT": str(names.METRICS_PORT),
        "LOGSTREAM_TAIL": str(spec.server.tail_lines),
        "LOGSTREAM_MAX_CLIENTS": str(spec.server.max_clients),
        "LOGSTREAM_DRAIN": str(DRAIN_S),
        "LOGSTREAM_LOG_FORMAT": "json",
    }
    if spec.ingress.base_path:
        environment["LOGSTREAM_BASE_PATH"] = spec.ingress.base_path
    if spec.server.allowed_origins:
        environment["LOGSTREAM_ALLOWED_ORIGIN"] = "".join(f"{origin}\n" for origin in spec.server.allowed_origins)
    if spec.server.auth_secret is not None:
        environment["LOGSTREAM_TOKEN_FILE"] = f"{names.TOKENS_FOLDER}/{names.TOKENS_FILE}"
    else:
        environment["LOGSTREAM_INSECURE_OPEN"] = "yes"
    return environment


def _escape(value: str) -> str:
    """As the kubelet must be given it: of two dollars it leaves one, and $(NAME) it takes for a variable.

    https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables
    """
    return value.replace("$", "$$")


def merge_resources(given: Resources, defaults: Resources) -> dict[str, dict[str, str | int]]:
    """The author's resources, and defaults where they say nothing about CPU or memory at all.

    A default limit beside a request of theirs, or a default request beside their limit, might contradict it.
    """
    spoken = {name for part in given.values() for name in part}
    merged: dict[str, dict[str, str | int]] = {}
    for part in ("requests", "limits"):
        values = {name: value for name, value in defaults.get(part, {}).items() if name not in spoken}
        values.update(given.get(part, {}))
        if values:
            merged[part] = values
    return merged


def _probe(path: str, *, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
