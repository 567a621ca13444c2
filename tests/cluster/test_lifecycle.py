"""Starting and ending this machine's cluster: after a crash it comes up again, and when it is down nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from testcluster import cluster as ours
from testcluster import leftovers, processes, settings, use
from testcluster.commands import environment, wait_for
from testcluster.kubectl import is_ready
from testcluster.target import Cluster

pytestmark = pytest.mark.last


@pytest.fixture
def _may_end(cluster: Cluster) -> None:
    """Nobody's cluster is ended for a test."""
    if not cluster.is_ours:
        pytest.skip("KUBECONFIG names a cluster, which is not ours to end")
    if not use.FOR_TESTS.exists():
        pytest.skip("the cluster was there before the tests, which therefore do not end it: make cluster-down first")


def shown(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=True).stdout


def mount_points() -> list[str]:
    """Everything that is mounted. Below the folder for temporary files that is other programs', which come and go."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def state_of_the_machine() -> dict[str, Any]:
    """What a cluster changes, as the machine itself tells it; without asking the code that cleans up."""
    chains = [line.split()[0] for each in ("iptables-save", "ip6tables-save") for line in shown(each).splitlines()]
    return {
        "mounts": sorted(path for path in mount_points() if not path.startswith(tempfile.gettempdir())),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "chains": sorted({word for word in chains if word.startswith(":") and word[1:5] in {"KUBE", "CNI-"}}),
        "network namespaces": shown("ip", "netns", "list").split(),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("**/kubepods")),
        "programs": sorted(
            Path(words[0]).name
            for pid in processes.all_pids()
            if (words := processes.command_line(pid)) and Path(words[0]).name in {*leftovers.PROGRAMS, "pause"}
        ),
        "sysctls": {name: (leftovers.SYSCTLS / name).read_text() for name in leftovers.SYSCTL_NAMES},
        "folders": [
            str(path)
            for path in (
                settings.STATE,
                Path("/var/lib/cni"),
                Path("/var/lib/kubelet"),
                Path("/var/log/containers"),
                Path("/var/log/pods"),
                Path("/run/containerd"),
                Path("/run/netns"),
            )
            if path.exists()
        ],
    }


@pytest.mark.usefixtures("_may_end")
def test_up_works_after_everything_was_killed_and_down_leaves_nothing(cluster: Cluster) -> None:
    """One test for all of it, as each start takes most of a minute."""
    ours.down()
    clean = state_of_the_machine()
    assert (clean["chains"], clean["cgroups"]) == ([], [])
    assert str(settings.STATE) not in clean["folders"]
    cache = settings.Cache.from_env()

    assert use.up(cache)
    killed = processes.recorded()
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    wait_for("the end of all", lambda: not processes.recorded(), timeout_s=10)
    assert state_of_the_machine() != clean, "the containers went on, and their mounts and interfaces are there"

    assert use.up(cache), "a cluster without its processes is not taken for one that is up"
    assert is_ready(cluster.kubectl.get("node", settings.NODE))
    assert not use.up(cache), "and one that is up is left as it is"

    ours.down()
    assert state_of_the_machine() == clean
    assert leftovers.find() == []
