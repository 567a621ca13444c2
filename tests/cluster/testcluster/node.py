"""The one node: containerd with its network plugins, kubelet, kube-proxy, and the host's folder that pods mount."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from testcluster import host, images, processes, settings
from testcluster.binaries import Binaries
from testcluster.commands import run, wait_for
from testcluster.controlplane import PKI
from testcluster.kubectl import Kubectl, is_ready

CNI_CONFIG = settings.STATE / "cni"


def make_host_root() -> None:
    """Makes HOST_ROOT a shared mount of its own.

    Mounts below it propagate into pods only then, and making `/` shared would change the whole machine.
    """
    if not settings.HOST_ROOT.exists():
        (settings.STATE / "made-host-root").touch()
        settings.HOST_ROOT.mkdir()
    run(["mount", "--bind", settings.HOST_ROOT, settings.HOST_ROOT])
    run(["mount", "--make-shared", settings.HOST_ROOT])


def start_containerd() -> None:
    """Starts containerd with everything of its own below STATE, and waits until it answers."""
    CNI_CONFIG.mkdir(parents=True, exist_ok=True)
    (CNI_CONFIG / "10-bridge.conflist").write_text(json.dumps(_network(), indent=1))
    settings.CONTAINERD_SOCKET.parent.mkdir(parents=True, exist_ok=True)
    config = settings.STATE / "containerd.toml"
    config.write_text(_containerd_config())
    processes.start("containerd", ["containerd", "--config", config])

    def answers() -> bool:
        processes.check_running("containerd")
        return bool(run(["ctr", "--address", settings.CONTAINERD_SOCKET, "version"]))

    wait_for("containerd answering", answers, timeout_s=30, hint=f"log: {settings.LOGS / 'containerd.log'}")


def start_kubelet(binaries: Binaries, address: str) -> None:
    """Starts the kubelet, which registers the node."""
    config = settings.STATE / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(), indent=1))
    processes.start(
        "kubelet",
        [
            binaries["kubelet"],
            f"--config={config}",
            f"--kubeconfig={settings.STATE / 'node.kubeconfig'}",
            f"--hostname-override={settings.NODE}",
            f"--node-ip={address}",
            f"--root-dir={settings.STATE / 'kubelet'}",
            f"--cert-dir={PKI}",
            # ingress-nginx's own manifest for a single node asks for it.
            "--node-labels=ingress-ready=true",
        ],
    )


def start_proxy(binaries: Binaries) -> None:
    """Starts kube-proxy, which makes Services reachable."""
    config = settings.STATE / "kube-proxy.json"
    config.write_text(json.dumps(_proxy_config(), indent=1))
    processes.start("kube-proxy", [binaries["kube-proxy"], f"--config={config}"])


def wait_node(kubectl: Kubectl) -> None:
    """Waits until the node takes pods."""

    def ready() -> bool:
        processes.check_running("kubelet")
        return is_ready(kubectl.get("node", settings.NODE))

    wait_for("node ready", ready, timeout_s=60, hint=f"log: {settings.LOGS / 'kubelet.log'}")


def _network() -> Mapping[str, Any]:
    """Pods hang on a bridge, reach the world through the machine's address, and may have ports of the machine."""
    addresses = {
        "type": "host-local",
        "dataDir": str(settings.STATE / "cni-addresses"),
        "ranges": [[{"subnet": settings.POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": settings.BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True}
    return {
        "cniVersion": "0.4.0",
        "name": settings.CNI_NETWORK,
        "plugins": [{**bridge, "ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _containerd_config() -> str:
    state = settings.STATE
    return f"""\
version = 2
root = "{state}/containerd"
state = "{state}/run/containerd"

[grpc]
address = "{settings.CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{state}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{images.PAUSE}"
# Without CAP_SYS_RESOURCE no process may lower its score, and every pod would fail to start.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
# As containerd 2 does by itself, and ingress-nginx expects: its user without root's rights listens on port 80.
enable_unprivileged_ports = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{host.CNI_PLUGINS}"
conf_dir = "{CNI_CONFIG}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{state}/run/runc"
"""


def _kubelet_config() -> Mapping[str, Any]:
    state = settings.STATE
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(PKI / "node.crt"),
        "tlsPrivateKeyFile": str(PKI / "node.key"),
        "containerRuntimeEndpoint": f"unix://{settings.CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",  # there may be no systemd
        "failSwapOn": False,
        "clusterDomain": settings.DNS_DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "podLogsDir": str(state / "pod-logs"),
        "volumePluginDir": str(state / "volume-plugins"),
        "maxPods": 200,
        # The disk belongs to the machine's owner: it may be fuller than a node's should be.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageMaximumGCAge": "0s",
        "serializeImagePulls": False,
    }


def _proxy_config() -> Mapping[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(settings.STATE / "proxy.kubeconfig")},
        "clusterCIDR": settings.POD_NETWORK,
        "hostnameOverride": settings.NODE,
        "mode": "iptables",
        "iptables": {"minSyncPeriod": "200ms"},
        # Zeros leave the machine's own limits for connections alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
