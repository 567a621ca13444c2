"""metrics-server, which `kubectl top` and autoscalers ask: a process of the machine behind a Service without pods."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from testcluster import processes, settings
from testcluster.binaries import Binaries
from testcluster.certificates import Authority
from testcluster.commands import wait_for
from testcluster.controlplane import PKI
from testcluster.kubectl import Kubectl

NAMESPACE = "kube-system"
USER = f"system:serviceaccount:{NAMESPACE}:metrics-server"
"""The certificate speaks as the account that metrics-server's own roles are bound to."""


def start(kubectl: Kubectl, binaries: Binaries, authority: Authority, address: str) -> None:
    """Starts it and makes the API server pass `metrics.k8s.io` on to it."""
    rules = binaries.modules["metrics-server"] / "manifests" / "base" / "rbac.yaml"
    host_name = f"metrics-server.{NAMESPACE}.svc"
    authority.sign("metrics-server-tls", common_name=host_name, alternatives=[f"DNS:{host_name}"])
    kubectl.apply(*kubectl.read(rules), *_manifests(authority, address))
    processes.start(
        "metrics-server",
        [
            binaries["metrics-server"],
            f"--kubeconfig={settings.STATE / 'metrics-server.kubeconfig'}",
            f"--authentication-kubeconfig={settings.STATE / 'metrics-server.kubeconfig'}",
            f"--authorization-kubeconfig={settings.STATE / 'metrics-server.kubeconfig'}",
            f"--secure-port={settings.METRICS_PORT}",
            f"--tls-cert-file={PKI / 'metrics-server-tls.crt'}",
            f"--tls-private-key-file={PKI / 'metrics-server-tls.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={PKI / 'ca.crt'}",
            "--metric-resolution=15s",  # it refuses less than 10 s, and the kubelet measures every 10 s
        ],
    )


def wait(kubectl: Kubectl) -> None:
    """Waits until the API server reaches it. The first figures come some 20 s later."""

    def available() -> bool:
        processes.check_running("metrics-server")
        conditions = kubectl.get("apiservice", "v1beta1.metrics.k8s.io").get("status", {}).get("conditions", [])
        return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)

    wait_for("metrics-server available", available, timeout_s=60, hint=f"log: {settings.LOGS / 'metrics-server.log'}")


def _manifests(authority: Authority, address: str) -> list[Mapping[str, Any]]:
    metadata = {"name": "metrics-server", "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "https", "port": 443}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "metrics-server"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": settings.METRICS_PORT, "protocol": "TCP"}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "service": {"name": "metrics-server", "namespace": NAMESPACE},
                "caBundle": base64.b64encode(authority.path("ca.crt").read_bytes()).decode(),
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
