"""Names that Kubernetes, the operator, the server and the charts share. Nothing else spells them out.

The server's variables and ports are the server's own; tests/logstream_operator/test_shared_names.py compares them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

GROUP: Final = "logstream.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
PLURAL: Final = "logstreams"

MANAGER: Final = "logstream-operator"
"""Our field manager, our events' component and the value of `app.kubernetes.io/managed-by`."""
HANDOVER_MANAGER: Final = "logstream-operator-handover"
"""Who owns a Deployment's replicas from when we let go of them until the autoscaler writes them."""

LABEL_APP: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_NAME: Final = f"{GROUP}/name"
LABEL_NAMESPACE: Final = f"{GROUP}/namespace"
LABEL_UID: Final = f"{GROUP}/uid"
LABEL_CLIENT: Final = f"{GROUP}/client"
"""With a LogStream's name, on a pod of its namespace that is to reach its servers past a NetworkPolicy of ours."""
ANNOTATION_APPLIED: Final = f"{GROUP}/applied"
"""Hash of the manifest as we applied it last: a changed one is applied again, also where a field only went away."""

LABEL_HOSTNAME: Final = "kubernetes.io/hostname"
DEFAULT_CLASS: Final = "ingressclass.kubernetes.io/is-default-class"

APP: Final = "logstream"
MAX_NAME: Final = 52
"""Longest name of a LogStream (crd.yaml): with the suffix, a Service's name must stay below 64 characters."""
SUFFIX: Final = "-logstream"
"""Sets our objects apart from those of the application whose logs they serve, which often has the same name."""
SOURCE_PREFIX: Final = "logstream-source-"
"""Begins the names of our volumes and claims; the admission policy knows them by it."""

CONTAINER: Final = "server"
HTTP_PORT: Final = 8080
METRICS_PORT: Final = 9090
SERVICE_PORT: Final = 80
SOURCE_VOLUME: Final = "source"
TOKENS_VOLUME: Final = "tokens"
TOKENS_FOLDER: Final = "/run/logstream"
TOKENS_FILE: Final = "tokens"
CLAIM_FOLDER: Final = "/logs"
"""Where a claim is mounted. A host's folder is mounted under its own path, so that absolute symlinks inside it hold."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object as the API server's paths name it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of one object, or of all of them in a namespace, or (None) in the cluster."""
        parts = ["apis" if "/" in self.api_version else "api", self.api_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(parts)


LOGSTREAM: Final = Kind(API_VERSION, "LogStream", PLURAL)
VOLUME: Final = Kind("v1", "PersistentVolume", "persistentvolumes", namespaced=False)
CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
SERVICE: Final = Kind("v1", "Service", "services")
INGRESS: Final = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
AUTOSCALER: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD_MONITOR: Final = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
POD: Final = Kind("v1", "Pod", "pods")
EVENT: Final = Kind("v1", "Event", "events")
INGRESS_CLASS: Final = Kind("networking.k8s.io/v1", "IngressClass", "ingressclasses", namespaced=False)

CHILDREN: Final = (VOLUME, CLAIM, DEPLOYMENT, SERVICE, INGRESS, AUTOSCALER, NETWORK_POLICY, POD_MONITOR)
"""The kinds that we make, in the order in which they are applied."""
KINDS: Final = {kind.kind: kind for kind in (*CHILDREN, LOGSTREAM, NODE, POD, EVENT, INGRESS_CLASS)}


class Key(NamedTuple):
    """Which LogStream."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def child_name(name: str) -> str:
    """The name of all objects of a LogStream that exist once."""
    return name + SUFFIX


def source_name(uid: str, *identity: str) -> str:
    """The name of the volume and its claim: another one for another LogStream, source or node."""
    digest = hashlib.sha256("\0".join((uid, *identity)).encode()).hexdigest()
    return SOURCE_PREFIX + digest[:20]


def selector(name: str) -> dict[str, str]:
    """The labels that a LogStream's pods are found by. A Deployment's can never change."""
    return {LABEL_APP: APP, LABEL_INSTANCE: name}


def selector_text(name: str) -> str:
    """The pods' labels, as the scale subresource wants them."""
    return ",".join(f"{key}={value}" for key, value in selector(name).items())


def labels(key: Key, uid: str) -> dict[str, str]:
    """The labels of every object of a LogStream."""
    return {
        **selector(key.name),
        LABEL_MANAGED_BY: MANAGER,
        LABEL_NAMESPACE: key.namespace,
        LABEL_NAME: key.name,
        LABEL_UID: uid,
    }


def key_of(labels: dict[str, str]) -> Key | None:
    """The LogStream that an object with these labels belongs to; None when they name none."""
    namespace, name = labels.get(LABEL_NAMESPACE), labels.get(LABEL_NAME)
    return Key(namespace, name) if namespace and name else None


def object_id(manifest: dict[str, object]) -> tuple[str, str]:
    """Kind and name: unique among the objects of one LogStream."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    return str(manifest["kind"]), str(metadata["name"])
