"""The command line, `python -m testcluster COMMAND`; `make cluster-up` and its neighbours call it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from testcluster import cluster, host, images, leftovers, settings
from testcluster.commands import run, say
from testcluster.errors import ClusterError, Unsuitable
from testcluster.use import FOR_TESTS

HOW_TO_USE = f"""\
The cluster is up. To use it:

    export KUBECONFIG={settings.KUBECONFIG}
    export PATH={cluster.PROGRAMS}:$PATH      # kubectl, helm (helm3, helm4), kubeconform
    kubectl get pods -A

The ingress controller answers on port 80 of this machine. Pods see the folder {settings.HOST_ROOT} of this machine.
    make cluster-images    builds the project's images ({images.SERVER}, {images.OPERATOR})
    make cluster-down      removes the cluster with everything in it
Logs: {settings.LOGS}"""


def uses_another() -> bool:
    """Whether KUBECONFIG names a cluster that is not this machine's."""
    return os.environ.get("KUBECONFIG", "") not in {"", str(settings.KUBECONFIG)}


def up(cache: settings.Cache) -> None:
    """Brings the cluster up, or sees that the one of KUBECONFIG answers."""
    if uses_another():
        run(["kubectl", "get", "--raw=/readyz"])
        print("KUBECONFIG names another cluster, which answers: nothing was started")
        return
    cluster.up(cache)
    FOR_TESTS.unlink(missing_ok=True)  # from now on it is somebody's, and no test ends it
    print(HOW_TO_USE)


def down(_: settings.Cache) -> None:
    """Removes the cluster."""
    cluster.down()


def build_images(cache: settings.Cache) -> None:
    """Builds the project's images into the cluster."""
    if not cluster.is_up():
        raise ClusterError("there is no cluster to build images into: make cluster-up")
    images.build_project(cache)


def prepare(cache: settings.Cache) -> None:
    """Builds what the tests will need. A machine that cannot run them is told so by the tests, as skips or failures."""
    try:
        cluster.prepare(cache, ours=not uses_another())
    except Unsuitable as error:
        say(str(error))


def status(_: settings.Cache) -> None:
    """Says what of a cluster is on this machine."""
    print("up" if cluster.is_up() else "not up")
    if settings.STATE.exists():
        print("\n".join(leftovers.find()))


COMMANDS: dict[str, Callable[[settings.Cache], None]] = {
    "up": up,
    "down": down,
    "images": build_images,
    "prepare": prepare,
    "status": status,
}


def main(argv: Sequence[str]) -> int:
    """Runs one command; 1 and a sentence where it fails."""
    parser = argparse.ArgumentParser(prog="testcluster", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(argv).command
    try:
        if command in {"down", "images"} and os.geteuid() != 0:
            host.check(must_be_free=False)
        COMMANDS[command](settings.Cache.from_env())
    except ClusterError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
