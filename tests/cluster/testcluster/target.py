"""What the tests of this folder run on: this machine's cluster or another, with the programs to speak to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from testcluster.binaries import Binaries
from testcluster.commands import run
from testcluster.kubectl import Kubectl


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster for tests.

    Attributes:
        kubectl: speaks to it as its administrator.
        kubeconfig: how others may.
        programs: helm3, helm4 and kubeconform by name.
        is_ours: whether it is this machine's own, so that its processes and its node's files are at hand.
        address: where the ingress controller answers, on ports 80 and 443.
        image: a plain image with a Python 3 that the node has.
    """

    kubectl: Kubectl
    kubeconfig: Path
    programs: Binaries
    is_ours: bool
    address: str
    image: str

    def helm(self, *words: str | Path, version: int = 3, stdin: str | None = None) -> str:
        """Runs helm, version 3 or 4, and returns what it printed."""
        env = {"KUBECONFIG": str(self.kubeconfig)}
        return run([self.programs[f"helm{version}"], *words], env=env, stdin=stdin, timeout_s=400)
