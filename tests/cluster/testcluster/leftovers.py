"""Finds and removes every trace of a cluster: processes, mounts, interfaces, iptables chains, cgroups, files.

`down` and the beginning of `up` both come here, and it asks nothing of the cluster, so a cluster that was killed leaves
no more behind than one that was taken down. What counts as ours is told by where it lies: below STATE, or named by us.
`find` and `remove` are written side by side: what one sees, the other takes away.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from testcluster import processes, settings
from testcluster.commands import run
from testcluster.errors import CommandFailed

PROGRAMS = frozenset(
    {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "kubelet",
        "metrics-server",
        "containerd",
        "containerd-shim-runc-v2",
    }
)
"""What we start, or what that starts in turn. Others that merely name STATE, such as an editor, are not ours."""

CGROUPS = Path("/sys/fs/cgroup")
CNI_STATE = Path("/var/lib/cni")
CONTAINER_LOGS = Path("/var/log/containers")
SHIM_SOCKETS = Path("/run/containerd/s")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
FOLDERS = (CNI_STATE / "results", CONTAINER_LOGS, SHIM_SOCKETS, DEVICE_PLUGINS)
"""Folders outside STATE that the programs make, and that go again, with those above them, where they are empty."""

SYSCTLS = Path("/proc/sys")
SYSCTL_NAMES = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
)
"""What kubelet, kube-proxy and the CNI plugins change of the whole machine."""
TABLES = ("nat", "filter", "mangle", "raw")
KUBERNETES_CHAIN = re.compile(r"KUBE-[A-Z0-9-]+")


def remember() -> None:
    """Notes, before anything is started, what `remove` is to restore."""
    values = {name: (SYSCTLS / name).read_text().strip() for name in SYSCTL_NAMES if (SYSCTLS / name).exists()}
    (settings.STATE / "sysctls.json").write_text(json.dumps(values))


def find() -> list[str]:
    """Everything of a cluster that is on this machine, one line each for people to read; empty when it is clean."""
    return [
        *(f"process {pid}: {' '.join(processes.command_line(pid))[:120]}" for pid in _processes()),
        *(f"mount {path}" for path in _mounts()),
        *(f"interface {name}" for name in _interfaces()),
        *(f"iptables chain {chain}" for chain in [*kubernetes_chains(), *_cni_chains()]),
        *(f"cgroup {path}" for path in _cgroups()),
        *(f"file {path}" for path in _files()),
        *([f"folder {settings.STATE}"] if settings.STATE.exists() else []),
    ]


def remove() -> list[str]:
    """Removes all of it, and returns what stayed in spite of that, as `find` words it."""
    # At once and without asking: an orderly end takes half a minute, and all that it would save is removed below. The
    # kubelet first, or it starts again what we end, and once more for what was just being started.
    kubelet = processes.recorded().get("kubelet")
    processes.kill([kubelet] if kubelet else [])
    for _ in range(3):
        processes.kill(_processes())
    _unmount()
    for name in _interfaces():
        _try("ip", "link", "delete", name)
    _remove_chains()
    for path in _cgroups():
        _remove_cgroup(path)
    for path in _files():
        path.unlink(missing_ok=True)
    _remove_folders()
    _remove_host_root()
    _restore_sysctls()
    _remove_state()
    return find()


# --- processes --------------------------------------------------------------------------------------------------------


def _processes() -> Iterator[int]:
    recorded = set(processes.recorded().values())
    for pid in processes.all_pids():
        if pid in recorded or _is_our_program(pid) or _is_in_our_container(pid):
            yield pid


def _is_our_program(pid: int) -> bool:
    words = processes.command_line(pid)
    return bool(words) and Path(words[0]).name in PROGRAMS and any(str(settings.STATE) in word for word in words)


def _is_in_our_container(pid: int) -> bool:
    """Whether the root of its file system is an overlay of our containerd's."""
    try:
        mounts = (processes.PROC / str(pid) / "mountinfo").read_text()
    except OSError:  # it has gone
        return False
    return any(" / / " in line and f"upperdir={settings.STATE}/" in line for line in mounts.splitlines())


# --- mounts -----------------------------------------------------------------------------------------------------------


def _mounts() -> list[Path]:
    """Where our file systems are mounted, the last one first."""
    found = []
    for line in (processes.PROC / "self" / "mountinfo").read_text().splitlines():
        fields = line.split(" ")
        root, point = fields[3], Path(_unescape(fields[4]))
        ours_on_itself = point == settings.HOST_ROOT and root == str(settings.HOST_ROOT)
        if ours_on_itself or point.is_relative_to(settings.STATE):
            found.append(point)
    return found[::-1]


def _unescape(path: str) -> str:
    """proc(5) writes spaces and their like in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _unmount() -> None:
    for point in _mounts():
        _try("umount", point) or _try("umount", "--lazy", point)


# --- interfaces -------------------------------------------------------------------------------------------------------


def _interfaces() -> list[str]:
    """The bridge, and what is still plugged into it; a pod's end goes with its network namespace, which was a mount."""
    bridge = Path("/sys/class/net") / settings.BRIDGE
    if not bridge.exists():
        return []
    return [*(path.name for path in (bridge / "brif").iterdir()), settings.BRIDGE]


# --- iptables ---------------------------------------------------------------------------------------------------------


def kubernetes_chains() -> list[str]:
    """Chains that the kubelet and kube-proxy make, on this machine ours or another Kubernetes's."""
    return sorted({chain for _, _, rules in _all_rules() for chain in rules.chains if KUBERNETES_CHAIN.match(chain)})


def _cni_chains() -> list[str]:
    """Chains of the CNI plugins that have a rule of our network."""
    return sorted({chain for _, _, rules in _all_rules() for chain in rules.cni_chains()})


class Rules:
    """The rules of one table of one address family, as iptables-save writes them."""

    def __init__(self, saved: str) -> None:
        lines = saved.splitlines()
        self.chains = {line[1:].split()[0] for line in lines if line.startswith(":")}
        self.rules = [line for line in lines if line.startswith("-A ")]

    def cni_chains(self) -> set[str]:
        """The chains that hold a rule of our network, or are the target of one."""
        ours = [rule for rule in self.rules if f'name: \\"{settings.CNI_NETWORK}\\"' in rule]
        named = {word for rule in ours for word in rule.split() if word.startswith("CNI-")}
        return named & self.chains

    def removal(self) -> list[str]:
        """Commands for iptables-restore that take away our chains and the rules that lead to them."""
        ours = {chain for chain in self.chains if KUBERNETES_CHAIN.match(chain)} | self._emptied_cni_chains()
        leading = [rule for rule in self.rules if self._target(rule) in ours and rule.split()[1] not in ours]
        return [
            *(f"-D {rule.removeprefix('-A ')}" for rule in leading),
            *(f"-F {chain}" for chain in sorted(ours)),
            *(f"-X {chain}" for chain in sorted(ours)),
        ]

    def _emptied_cni_chains(self) -> set[str]:
        """Our network's own chains, and the common ones unless another network has rules in them."""
        named = self.cni_chains()
        own = {chain for chain in named if not chain.startswith("CNI-HOSTPORT")}
        common = {chain for chain in self.chains if chain.startswith("CNI-HOSTPORT")} if named else set()
        others = {
            rule.split()[1]
            for rule in self.rules
            if rule.split()[1] in common and "name: " in rule and settings.CNI_NETWORK not in rule
        }
        return own | (set() if others else common)

    @staticmethod
    def _target(rule: str) -> str:
        words = rule.split()
        return words[words.index("-j") + 1] if "-j" in words else ""


def _all_rules() -> Iterator[tuple[str, str, Rules]]:
    """Each address family's command, with each table and its rules."""
    for command in ("iptables", "ip6tables"):
        for table in TABLES:
            try:
                yield command, table, Rules(run([f"{command}-save", "-t", table]))
            except CommandFailed:  # no such family or table in this kernel, so no rules
                continue


def _remove_chains() -> None:
    for command, table, rules in _all_rules():
        if changes := rules.removal():
            run([f"{command}-restore", "--noflush"], stdin="\n".join([f"*{table}", *changes, "COMMIT", ""]))


# --- cgroups and files ------------------------------------------------------------------------------------------------


def _cgroups() -> list[Path]:
    """The kubelet's groups, in each hierarchy."""
    return [path for pattern in ("kubepods", "*/kubepods") for path in CGROUPS.glob(pattern)]


def _remove_cgroup(top: Path) -> None:
    """Groups are removed from the innermost out; one whose last process has just gone may be busy for a moment."""
    for path in [*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top]:
        for _ in range(50):
            try:
                path.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.05)


def _files() -> list[Path]:
    """What programs write outside STATE without a way to tell them otherwise."""
    return [*_cni_results(), *_container_logs(), *_dead_sockets()]


def _cni_results() -> Iterable[Path]:
    return CNI_STATE.glob(f"results/{settings.CNI_NETWORK}-*")


def _container_logs() -> Iterable[Path]:
    """Links that the kubelet makes to the logs of containers."""
    for path in CONTAINER_LOGS.glob("*.log"):
        if path.is_symlink() and path.readlink().is_relative_to(settings.STATE):
            yield path


def _dead_sockets() -> Iterable[Path]:
    """Sockets of containerd's shims, and of the kubelet for devices, that nobody listens on any more."""
    live = {line.split()[-1] for line in (processes.PROC / "net" / "unix").read_text().splitlines()[1:]}
    found = [*SHIM_SOCKETS.glob("*"), *DEVICE_PLUGINS.glob("*.sock")]
    return [path for path in found if path.is_socket() and str(path) not in live]


def _remove_host_root() -> None:
    """Removes the folder if we made it and nobody has put anything into it."""
    if (settings.STATE / "made-host-root").exists():
        try:
            settings.HOST_ROOT.rmdir()
        except OSError:
            return


def _remove_folders() -> None:
    for folder in FOLDERS:
        try:
            folder.rmdir()
            folder.parent.rmdir()
        except OSError:  # it holds something, or is not there
            continue


def _restore_sysctls() -> None:
    try:
        values: dict[str, str] = json.loads((settings.STATE / "sysctls.json").read_text())
    except (OSError, ValueError):  # interrupted before anything was changed
        return
    for name, value in values.items():
        if (SYSCTLS / name).read_text().strip() != value:
            (SYSCTLS / name).write_text(value)


def _remove_state() -> None:
    """The whole of STATE, unless something is still mounted below it, whose files would be removed instead."""
    if not any(point.is_relative_to(settings.STATE) for point in _mounts()):
        shutil.rmtree(settings.STATE, ignore_errors=True)


def _try(*command: str | Path) -> bool:
    try:
        run(command)
    except CommandFailed:
        return False
    return True
