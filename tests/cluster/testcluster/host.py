"""What the machine must be and have; installs Debian packages where it may. Says by name what is missing.

Nothing here starts or changes anything of the cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

from testcluster import leftovers, settings
from testcluster.commands import environment, run, say
from testcluster.errors import CommandFailed, Unsuitable

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "openssl": "openssl",
    "mount": "mount",
}
"""Commands, each with the Debian package that brings it. Docker's own containerd will do as well."""

CNI_PLUGINS = Path("/usr/lib/cni")  # where Debian's containernetworking-plugins puts them


def check(*, must_be_free: bool) -> None:
    """Sees that the cluster can run here, and installs what is missing.

    Args:
        must_be_free: whether other programs on the cluster's ports are in the way; not while it runs itself.

    Raises:
        Unsuitable: it cannot, and why.
    """
    if os.geteuid() != 0:
        raise Unsuitable("the cluster needs root: it mounts, makes network interfaces and starts containers")
    release = os_release()
    if (release.get("ID"), release.get("VERSION_ID")) != ("debian", "12"):
        name = release.get("PRETTY_NAME", "another system")
        raise Unsuitable(
            f"the cluster is made of Debian 12's packages, and this is {name}; "
            "set KUBECONFIG to use a cluster that is already there, as of minikube or kind"
        )
    _check_cgroups()
    _install_missing()
    if must_be_free:
        _check_ports()
        _check_no_other_kubernetes()


def os_release() -> dict[str, str]:
    """The variables of os-release(5)."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}


def address() -> str:
    """The machine's own IPv4 address, under which pods reach the API server: the one that leads to the world.

    Raises:
        Unsuitable: it has none besides loopback.
    """
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "default"]) or "[]")
    device = routes[0]["dev"] if routes else None
    links = json.loads(run(["ip", "-json", "-4", "address", "show", "scope", "global", "up"]) or "[]")
    found: dict[str, str] = {
        link["ifname"]: each["local"]
        for link in links
        if link.get("ifname") not in {None, settings.BRIDGE}
        for each in link["addr_info"]
    }
    if not found:
        raise Unsuitable("this machine has no IPv4 address besides loopback, which the node needs as its own")
    return found.get(device or "", next(iter(found.values())))


def _check_cgroups() -> None:
    needed = {"cpu", "cpuset", "memory", "pids"}
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        there = set(unified.read_text().split())
    else:
        there = {path.name for path in Path("/sys/fs/cgroup").glob("*") if path.is_dir()}
    if missing := needed - there:
        raise Unsuitable(f"the kubelet needs these cgroup controllers, which are not mounted: {sorted(missing)}")


def _missing_packages() -> list[str]:
    path = environment()["PATH"]
    missing = {package for command, package in PACKAGES.items() if not shutil.which(command, path=path)}
    if not (CNI_PLUGINS / "bridge").exists():
        missing.add("containernetworking-plugins")
    return sorted(missing)


def _install_missing() -> None:
    missing = _missing_packages()
    if not missing:
        return
    if shutil.which("apt-get"):
        say(f"installing {' '.join(missing)}")
        try:
            run([settings.REPOSITORY / "tests" / "system-packages.sh", "--install", *missing])
        except CommandFailed as error:
            say(str(error))
    if missing := _missing_packages():
        raise Unsuitable(f"these system packages are missing: {' '.join(missing)} (apt-get install them)")


def _check_ports() -> None:
    taken = {port: user for port, user in settings.PORTS.items() if not _is_free(port)}
    if taken:
        what = ", ".join(f"{port} ({user})" for port, user in sorted(taken.items()))
        raise Unsuitable(f"these ports must be free for the cluster and are in use by something else: {what}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that were closed do not count
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def _check_no_other_kubernetes() -> None:
    others = leftovers.kubernetes_chains()
    if others:
        raise Unsuitable(f"another Kubernetes seems to run on this machine: it has iptables chains such as {others[0]}")
