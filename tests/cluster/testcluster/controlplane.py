"""etcd, API server, controller-manager and scheduler, as processes of the machine."""

from __future__ import annotations

from testcluster import processes, settings
from testcluster.binaries import Binaries
from testcluster.certificates import Authority
from testcluster.commands import wait_for
from testcluster.kubectl import Kubectl

PKI = settings.STATE / "pki"
FRONT_PROXY = settings.STATE / "pki-front-proxy"


def make_certificates(address: str) -> Authority:
    """Makes the two authorities and every certificate of the cluster, and the kubeconfigs below STATE."""
    authority = Authority.make(PKI, "logstream-cluster")
    service_names = [f"DNS:kubernetes.default.svc.{settings.DNS_DOMAIN}", "DNS:kubernetes.default.svc"]
    addresses = [f"IP:{each}" for each in ("127.0.0.1", settings.KUBERNETES_SERVICE, address)]
    names = [*addresses, "DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", *service_names]
    authority.sign("apiserver", common_name="kube-apiserver", alternatives=names)
    authority.sign("admin", common_name="admin", group="system:masters")
    authority.sign("controller-manager", common_name="system:kube-controller-manager")
    authority.sign("scheduler", common_name="system:kube-scheduler")
    authority.sign("proxy", common_name="system:kube-proxy")
    authority.sign("metrics-server", common_name="system:serviceaccount:kube-system:metrics-server")
    authority.sign(
        "node",
        common_name=f"system:node:{settings.NODE}",
        group="system:nodes",
        alternatives=[f"IP:{address}", f"DNS:{settings.NODE}"],
    )
    authority.key("service-accounts")
    # The API server speaks for users to metrics-server with this one; an authority of its own, or every user could.
    Authority.make(FRONT_PROXY, "logstream-cluster-front-proxy").sign("front-proxy", common_name="front-proxy-client")
    for name in ("controller-manager", "scheduler", "proxy", "metrics-server", "node"):
        authority.write_kubeconfig(name, settings.STATE / f"{name}.kubeconfig")
    authority.write_kubeconfig("admin", settings.KUBECONFIG)
    return authority


def start_etcd(binaries: Binaries) -> None:
    """Starts the store. Without fsync: what survives a crash of the machine is of no use to anybody."""
    client = f"http://127.0.0.1:{settings.ETCD_PORT}"
    peer = f"http://127.0.0.1:{settings.ETCD_PEER_PORT}"
    processes.start(
        "etcd",
        [
            binaries["etcd"],
            f"--data-dir={settings.STATE / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ],
    )


def start_apiserver(binaries: Binaries, address: str) -> None:
    """Starts the API server; it waits for etcd by itself."""
    processes.start(
        "kube-apiserver",
        [
            binaries["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{settings.ETCD_PORT}",
            f"--advertise-address={address}",
            f"--secure-port={settings.API_PORT}",
            f"--service-cluster-ip-range={settings.SERVICE_NETWORK}",
            f"--tls-cert-file={PKI / 'apiserver.crt'}",
            f"--tls-private-key-file={PKI / 'apiserver.key'}",
            f"--cert-dir={PKI}",
            f"--client-ca-file={PKI / 'ca.crt'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={PKI / 'service-accounts.key'}",
            f"--service-account-signing-key-file={PKI / 'service-accounts.key'}",
            # The node by its address: its name is in no DNS.
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={PKI / 'ca.crt'}",
            f"--kubelet-client-certificate={PKI / 'admin.crt'}",
            f"--kubelet-client-key={PKI / 'admin.key'}",
            f"--requestheader-client-ca-file={FRONT_PROXY / 'ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={FRONT_PROXY / 'front-proxy.crt'}",
            f"--proxy-client-key-file={FRONT_PROXY / 'front-proxy.key'}",
            "--enable-aggregator-routing=true",
            # Tests that stop the cluster do not wait for open watches.
            "--shutdown-delay-duration=0s",
        ],
    )


def wait_apiserver(kubectl: Kubectl) -> None:
    """Waits until it serves."""

    def ready() -> bool:
        processes.check_running("etcd")
        processes.check_running("kube-apiserver")
        return kubectl("get", "--raw=/readyz", timeout_s=10).strip() == "ok"

    wait_for("API server ready", ready, timeout_s=90, hint=f"logs: {settings.LOGS}")


def start_controllers(binaries: Binaries) -> None:
    """Starts controller-manager and scheduler, which need the API server."""
    processes.start(
        "kube-controller-manager",
        [
            binaries["kube-controller-manager"],
            f"--kubeconfig={settings.STATE / 'controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={PKI / 'service-accounts.key'}",
            f"--root-ca-file={PKI / 'ca.crt'}",
            f"--cluster-signing-cert-file={PKI / 'ca.crt'}",
            f"--cluster-signing-key-file={PKI / 'ca.key'}",
            f"--cert-dir={PKI}",
            "--use-service-account-credentials",
            f"--cluster-cidr={settings.POD_NETWORK}",
            f"--flex-volume-plugin-dir={settings.STATE / 'volume-plugins'}",
            "--leader-elect=false",
            # An autoscaler that is looked at by a test or a person must not take minutes for its first figures.
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=20s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        ],
    )
    processes.start(
        "kube-scheduler",
        [
            binaries["kube-scheduler"],
            f"--kubeconfig={settings.STATE / 'scheduler.kubeconfig'}",
            f"--cert-dir={PKI}",
            "--leader-elect=false",
        ],
    )
