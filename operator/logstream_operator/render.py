"""Everything that a LogStream becomes: `render` is the whole list. Pure: values in, plain manifests out.

Here are the volume, its claim, the Ingress, the autoscaler, the NetworkPolicy and the PodMonitor; the servers are in
`workload`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from . import names
from .names import child_name, labels, selector, source_name
from .resolve import Resolved
from .spec import Flavor
from .workload import Access, Defaults, Manifest, render_deployment, render_service

ANNOTATIONS: Final = {
    Flavor.NGINX: {
        # Time between two reads or writes, 60 s by default. The server pings every 20 s, so an hour is for its hiccups.
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
    },
    # Neither needs any: Traefik passes WebSockets on, and has no timeout for them.
    Flavor.TRAEFIK: {},
    Flavor.NONE: {},
}


def render(resolved: Resolved, defaults: Defaults) -> list[Manifest]:
    """All objects of a LogStream, in the order in which to apply them."""
    spec = resolved.stream.spec
    claim = claim_name(resolved)
    manifests: list[Manifest] = []
    if resolved.root is not None:
        manifests += [render_volume(resolved, claim), render_claim(resolved, claim)]
    manifests += [render_deployment(resolved, claim, defaults), render_service(resolved)]
    if resolved.has_ingress:
        manifests.append(render_ingress(resolved))
    if spec.autoscaling is not None:
        manifests.append(render_autoscaler(resolved))
    if defaults.access is not None:
        manifests.append(render_network_policy(resolved, defaults.access))
    if spec.pod_monitor:
        manifests.append(render_pod_monitor(resolved))
    return [_finish(resolved, manifest) for manifest in manifests]


def claim_name(resolved: Resolved) -> str:
    """The claim that the servers mount: the author's own, or ours, named by all that can never change in a volume."""
    source = resolved.stream.spec.source
    if resolved.root is None or resolved.placement is None:
        assert source.claim_name is not None
        return source.claim_name
    places = [f"{key}={value}" for key, value in resolved.placement.labels]
    return source_name(resolved.stream.uid, resolved.root.path, *places)


def render_volume(resolved: Resolved, name: str) -> Manifest:
    """The root as a volume that only our claim can bind, and that outlives it as data (Retain)."""
    assert resolved.root is not None
    assert resolved.placement is not None
    spec: Manifest = {
        "capacity": {"storage": "1Mi"},  # must be there, and means nothing for a folder of the node
        "accessModes": ["ReadOnlyMany"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "volumeMode": "Filesystem",
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": resolved.stream.key.namespace,
            "name": name,
        },
        # Directory, never DirectoryOrCreate: that would hide a mount that is missing.
        "hostPath": {"path": resolved.root.path, "type": "Directory"},
    }
    if resolved.placement.labels:
        expressions = [{"key": key, "operator": "In", "values": [value]} for key, value in resolved.placement.labels]
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}
    return {
        "apiVersion": names.VOLUME.api_version,
        "kind": names.VOLUME.kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def render_claim(resolved: Resolved, name: str) -> Manifest:
    """The claim on that volume: pods with one are allowed where a hostPath of their own would not be.

    It finds the volume by a label that no other has. With its name (volumeName), two workers of Kubernetes' controller
    write the volume's phase at one time; who comes second leaves the claim as it is for 15 s, in one of three cases.
    """
    return {
        "apiVersion": names.CLAIM.api_version,
        "kind": names.CLAIM.kind,
        "metadata": {"name": name, "namespace": resolved.stream.key.namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "selector": {"matchLabels": {names.LABEL_UID: resolved.stream.uid}},
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }


def render_ingress(resolved: Resolved) -> Manifest:
    """The Ingress: exactly the socket's path, and with `viewer` everything below the base path."""
    key, ingress = resolved.stream.key, resolved.stream.spec.ingress
    backend = {"service": {"name": child_name(key.name), "port": {"name": "http"}}}
    paths: list[Manifest] = [{"path": ingress.path, "pathType": "Exact", "backend": backend}]
    if ingress.viewer:
        paths.append({"path": ingress.base_path or "/", "pathType": "Prefix", "backend": backend})
    rule: Manifest = {"http": {"paths": paths}}
    if ingress.host:
        rule["host"] = ingress.host
    spec: Manifest = {"rules": [rule]}
    if resolved.class_name is not None:
        spec["ingressClassName"] = resolved.class_name
    if ingress.tls:
        spec["tls"] = [{"hosts": [ingress.host], **entry} for entry in ingress.tls]
    return {
        "apiVersion": names.INGRESS.api_version,
        "kind": names.INGRESS.kind,
        "metadata": {
            "name": child_name(key.name),
            "namespace": key.namespace,
            "annotations": {**ANNOTATIONS[resolved.flavor], **dict(ingress.annotations)},
        },
        "spec": spec,
    }


def render_autoscaler(resolved: Resolved) -> Manifest:
    """The HorizontalPodAutoscaler: quick to add, slow to take away, since clients of a server that goes must move."""
    key, scaling = resolved.stream.key, resolved.stream.spec.autoscaling
    assert scaling is not None
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
    return {
        "apiVersion": names.AUTOSCALER.api_version,
        "kind": names.AUTOSCALER.kind,
        "metadata": {"name": child_name(key.name), "namespace": key.namespace},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": names.DEPLOYMENT.api_version,
                "kind": names.DEPLOYMENT.kind,
                "name": child_name(key.name),
            },
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": scaling.scale_down_window_s,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                }
            },
        },
    }


def render_network_policy(resolved: Resolved, access: Access) -> Manifest:
    """Who reaches the servers. They themselves reach nobody: a server reads files and answers.

    Beside those whom the administrator names, a pod of the same namespace may say that it is a client, as that of
    `helm test` does. That lets in nobody who could not read the files anyway, as whoever makes pods there can.
    """
    key = resolved.stream.key
    http: Manifest = {"ports": [{"port": "http"}]}
    if access.clients:
        client = {"podSelector": {"matchLabels": {names.LABEL_CLIENT: key.name}}}
        http["from"] = [*access.clients, client]
    return {
        "apiVersion": names.NETWORK_POLICY.api_version,
        "kind": names.NETWORK_POLICY.kind,
        "metadata": {"name": child_name(key.name), "namespace": key.namespace},
        "spec": {
            "podSelector": {"matchLabels": selector(key.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [http, {"ports": [{"port": "metrics"}], "from": list(access.scrapers)}],
        },
    }


def render_pod_monitor(resolved: Resolved) -> Manifest:
    """How the Prometheus operator finds the servers."""
    key = resolved.stream.key
    return {
        "apiVersion": names.POD_MONITOR.api_version,
        "kind": names.POD_MONITOR.kind,
        "metadata": {"name": child_name(key.name), "namespace": key.namespace},
        "spec": {
            "selector": {"matchLabels": selector(key.name)},
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics"}],
        },
    }


def render_owner(resolved: Resolved) -> Manifest:
    """The reference by which the cluster deletes what belongs to a LogStream that is gone."""
    stream = resolved.stream
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.LOGSTREAM.kind,
        "name": stream.key.name,
        "uid": stream.uid,
        "controller": True,
    }


def _finish(resolved: Resolved, manifest: Manifest) -> Manifest:
    """Labels and owner, and the hash of all of it. A volume is in no namespace, and so cannot have an owner in one."""
    stream, metadata = resolved.stream, dict(manifest["metadata"])
    metadata["labels"] = labels(stream.key, stream.uid)
    if manifest["kind"] != names.VOLUME.kind:
        metadata["ownerReferences"] = [render_owner(resolved)]
    finished = {**manifest, "metadata": metadata}
    metadata["annotations"] = {**metadata.get("annotations", {}), names.ANNOTATION_APPLIED: digest(finished)}
    return finished


def digest(manifest: Any) -> str:
    """The same text for the same manifest, in whatever order its fields stand."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
