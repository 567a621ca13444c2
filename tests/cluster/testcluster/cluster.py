"""Brings the cluster up and takes it down. Both may be called at any time, whatever state the machine is in."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testcluster import (
    binaries,
    controlplane,
    host,
    images,
    ingress,
    leftovers,
    metrics,
    node,
    processes,
    rootfs,
    settings,
)
from testcluster.commands import say
from testcluster.errors import ClusterError
from testcluster.kubectl import Kubectl

LOCK = Path("/run/logstream-cluster.lock")
READY = settings.STATE / "ready"
"""Written at the end of `up`: what is without it was interrupted and is started afresh."""

PROGRAMS = settings.STATE / "bin"
SERVICES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "metrics-server",
)


def up(cache: settings.Cache) -> bool:
    """Brings the cluster up unless it is; what is left of one that crashed is removed first.

    Returns:
        Whether it was started now.

    Raises:
        Unsuitable: the machine cannot run it, and why.
        ClusterError: a part failed. What was started is left for a look at its logs; `down` or `up` remove it.
    """
    host.check(must_be_free=False)
    with _alone():
        if is_up():
            return False
        if settings.STATE.exists():
            say("removing what is left of a cluster that did not end properly")
            _remove()
        host.check(must_be_free=True)
        _make(cache, _built(cache, binaries.GROUPS))
        return True


def down() -> None:
    """Takes the cluster down and removes every trace of it; does nothing where there is none.

    Raises:
        ClusterError: something could not be removed, and what.
    """
    if not settings.STATE.exists():
        say("there is no cluster on this machine")
        return
    with _alone():
        started = time.monotonic()
        _remove()
        say(f"down after {time.monotonic() - started:.0f} s")


def is_up() -> bool:
    """Whether a cluster that came up whole still has all of its processes."""
    return READY.exists() and all(processes.is_running(name) for name in SERVICES)


def prepare(cache: settings.Cache, *, ours: bool) -> binaries.Binaries:
    """Builds the programs, and installs the packages, that `up` needs; for another's cluster only what tests need.

    Raises:
        Unsuitable: the machine cannot run or build them, and why.
    """
    if ours:
        host.check(must_be_free=False)
    return _built(cache, binaries.GROUPS if ours else binaries.CLIENTS)


def kubectl() -> Kubectl:
    """To speak to the cluster of this machine."""
    return Kubectl(PROGRAMS / "kubectl", settings.KUBECONFIG)


def _make(cache: settings.Cache, built: binaries.Binaries) -> None:
    started = time.monotonic()
    address = host.address()
    settings.STATE.mkdir(parents=True)
    leftovers.remember()
    built.link(PROGRAMS)
    speak = kubectl()
    say("starting etcd, API server, controllers and containerd")
    authority = controlplane.make_certificates(address)
    controlplane.start_etcd(built)
    controlplane.start_apiserver(built, address)
    node.make_host_root()
    node.start_containerd()
    images.import_pause(cache, built["pause"])
    controlplane.wait_apiserver(speak)
    controlplane.start_controllers(built)
    say("starting kubelet, kube-proxy, metrics-server and the ingress controller")
    node.start_kubelet(built, address)
    node.start_proxy(built)
    metrics.start(speak, built, authority, address)
    ingress.import_image(cache, built)
    ingress.deploy(speak, built, authority, address)
    images.import_base(cache)
    node.wait_node(speak)
    metrics.wait(speak)
    speak.wait_ready("ingress controller", namespace=ingress.NAMESPACE, selector=ingress.SELECTOR, timeout_s=90)
    READY.touch()
    say(f"up after {time.monotonic() - started:.0f} s")


def _built(cache: settings.Cache, groups: Sequence[binaries.Group]) -> binaries.Binaries:
    cache.root.mkdir(parents=True, exist_ok=True)
    with _alone(cache.root / "tools.lock", "building what the cluster is made of"):
        built = binaries.ensure(cache, groups)
        if groups is binaries.GROUPS:
            rootfs.prepare(cache)
        return built


def _remove() -> None:
    if left := leftovers.remove():
        raise ClusterError("these are left of the cluster and could not be removed:\n" + "\n".join(left))


@contextmanager
def _alone(path: Path = LOCK, doing: str = "starting or stopping the cluster") -> Iterator[None]:
    """One at a time: two people's checkouts share the machine's ports, and the cache."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: another command is {doing}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
