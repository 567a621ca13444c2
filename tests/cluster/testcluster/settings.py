"""Where the cluster lives, and its names, addresses and ports. Everything else takes them from here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

STATE = Path("/var/lib/logstream-cluster")
"""Everything of a running cluster, and nothing else: `down` removes it whole. One place, as there is one port 80."""

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = REPOSITORY / "tests" / "cluster"

KUBECONFIG = STATE / "kubeconfig"
LOGS = STATE / "log"
CONTAINERD_SOCKET = STATE / "run" / "containerd.sock"

NODE = "node1"
POD_NETWORK = "10.88.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"  # the first address of SERVICE_NETWORK, which the API server takes for itself
DNS_DOMAIN = "cluster.local"

BRIDGE = "logstream0"
CNI_NETWORK = "logstream-cluster"  # stands in the comments of the rules that the CNI plugins add

HOST_ROOT = Path("/minikube-host")
"""The folder that `minikube mount` fills; here a folder of the machine, as a shared mount so that mounts propagate."""

API_PORT = 6443
ETCD_PORT = 12379  # not etcd's own 2379: a developer's etcd may be there
ETCD_PEER_PORT = 12380
METRICS_PORT = 14443

PORTS = {
    80: "ingress-nginx",
    443: "ingress-nginx",
    API_PORT: "kube-apiserver",
    ETCD_PORT: "etcd",
    ETCD_PEER_PORT: "etcd",
    METRICS_PORT: "metrics-server",
    10249: "kube-proxy",
    10250: "kubelet",
    10256: "kube-proxy",
    10257: "kube-controller-manager",
    10259: "kube-scheduler",
}
"""What must be free on the machine, and for whom."""


@dataclass(frozen=True, slots=True)
class Cache:
    """What is kept from one cluster to the next, outside the checkout."""

    root: Path

    @classmethod
    def from_env(cls) -> Cache:
        """LOGSTREAM_CACHE, by default ~/.cache/logstream, as in .ci/run."""
        named = os.environ.get("LOGSTREAM_CACHE")
        if named:
            return cls(Path(named).absolute())
        base = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/tmp")) / ".cache"
        return cls(Path(base).absolute() / "logstream")

    @property
    def tools(self) -> Path:
        """One folder of built programs for each hash of its sources."""
        return self.root / "tools"

    @property
    def images(self) -> Path:
        """Image archives and root file systems, each named by a hash of what it is made from."""
        return self.root / "images"

    @property
    def go_build(self) -> Path:
        """Go's build cache; only there while something is built."""
        return self.root / "go-build"

    @property
    def go_modules(self) -> Path:
        """Go's module cache; only there while something is built."""
        return self.root / "go-mod"
