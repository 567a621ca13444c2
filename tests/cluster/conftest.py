"""The cluster that the tests of this folder run on: this machine's own, or the one that KUBECONFIG names.

This machine's cluster is started when the first test asks for it, and removed after the last; one that a person started
(`make cluster-up`) is used and left. `make e2e` runs this folder, and nothing else does: it is collected only when a
path below it is named.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from logstreams import DEFINITION, RELEASE, SYSTEM, LogStream, install, situation
from testcluster import cluster as ours
from testcluster import images, processes, settings, use
from testcluster.commands import say
from testcluster.errors import ClusterError, Unsuitable
from testcluster.kubectl import Kubectl
from testcluster.target import Cluster

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves this folder out of runs that do not name it: a cluster is minutes of work."""
    named = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    if collection_path.is_relative_to(HERE) and not any(path.is_relative_to(HERE) for path in named):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What ends the cluster comes last."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Waits for other runs here: what a fixture waits counts as the first test's time, which is limited."""
    # Of this folder: the hook is called for other folders' tests, too.
    wanted = any(
        item.path.is_relative_to(HERE) and "cluster" in getattr(item, "fixturenames", ()) for item in session.items
    )
    if not wanted or session.config.option.collectonly or _named() or os.geteuid() != 0:
        return (yield)
    with use.alone():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed tells what was there, before its namespace goes."""
    report = yield
    found: dict[str, Any] = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and {"cluster", "namespace"} <= found.keys():
        report.sections.append(("The cluster", situation(found["cluster"], found["namespace"])))
    return report


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, up; see the module."""
    cache = settings.Cache.from_env()
    if named := _named():
        yield _another(cache, Path(named))
        return
    if os.geteuid() != 0:
        pytest.skip("the cluster of this machine needs root; KUBECONFIG may name another one")
    try:
        use.up(cache)
    except Unsuitable as error:
        pytest.skip(str(error))
    except ClusterError:
        say(processes.last_words())
        raise
    yield _ours(cache)
    use.end()


@pytest.fixture(scope="session")
def project_images(cluster: Cluster) -> dict[str, str]:
    """The images of `server` and `operator`, built from this checkout's Dockerfiles and known to the node.

    On another's cluster they are named by LOGSTREAM_SERVER_IMAGE and LOGSTREAM_OPERATOR_IMAGE, and are there already.
    """
    if cluster.is_ours:
        # Named after the checkout: another one's tests may run on the same cluster.
        tag = f"test-{hashlib.sha256(bytes(settings.REPOSITORY)).hexdigest()[:8]}"
        return images.build_project(settings.Cache.from_env(), tag)
    variables = {each: f"LOGSTREAM_{each.upper()}_IMAGE" for each in ("server", "operator")}
    if missing := [name for name in variables.values() if name not in os.environ]:
        pytest.skip(f"KUBECONFIG names a cluster whose images are not known: set {' and '.join(missing)}")
    return {each: os.environ[name] for each, name in variables.items()}


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace, removed with everything in it after the test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def _named() -> str:
    """The kubeconfig of a cluster that is not this machine's own; empty where there is none."""
    named = os.environ.get("KUBECONFIG", "")
    return "" if named == str(settings.KUBECONFIG) else named


def _ours(cache: settings.Cache) -> Cluster:
    return Cluster(
        kubectl=ours.kubectl(),
        kubeconfig=settings.KUBECONFIG,
        programs=ours.prepare(cache, ours=True),
        is_ours=True,
        address="127.0.0.1",
        image=images.BASE,
    )


def _another(cache: settings.Cache, kubeconfig: Path) -> Cluster:
    if not (program := shutil.which("kubectl")):
        pytest.skip("KUBECONFIG names a cluster, and kubectl, which speaks to it, is not on PATH")
    kubectl = Kubectl(program, kubeconfig)
    return Cluster(
        kubectl=kubectl,
        kubeconfig=kubeconfig,
        programs=ours.prepare(cache, ours=False),
        is_ours=False,
        address=os.environ.get("LOGSTREAM_INGRESS_ADDRESS") or _node_address(kubectl),
        image=os.environ.get("LOGSTREAM_PYTHON_IMAGE", "docker.io/library/python:3.13-slim"),
    )


def _node_address(kubectl: Kubectl) -> str:
    """Where minikube's and kind's ingress controllers answer: on the node."""
    nodes: list[Any] = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    found: str = next(each["address"] for each in nodes[0]["status"]["addresses"] if each["type"] == "InternalIP")
    return found


# -- LogStreams --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _may_define(cluster: Cluster) -> None:
    """Nobody's LogStreams go with their definition, which tests replace and delete."""
    tests_own = cluster.is_ours and use.FOR_TESTS.exists()
    if not tests_own and cluster.kubectl("get", "crd", DEFINITION, "--ignore-not-found"):
        pytest.skip(f"the cluster knows LogStreams, which tests would delete: kubectl delete crd {DEFINITION}")


@pytest.fixture(scope="module")
def operator(cluster: Cluster, project_images: dict[str, str], _may_define: None) -> Iterator[Cluster]:
    """The cluster with the operator."""
    if not cluster.is_ours:
        pytest.skip("KUBECONFIG names a cluster: these tests write to a folder of its node")
    install(cluster, project_images)
    yield cluster
    cluster.helm("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")
    cluster.kubectl("delete", "crd", DEFINITION, "--ignore-not-found")
    cluster.kubectl("delete", "namespace", SYSTEM)


@pytest.fixture
def stream(operator: Cluster, namespace: str) -> Iterator[LogStream]:
    """A LogStream that is not applied yet, in a namespace that takes restricted pods only."""
    operator.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    found = LogStream(operator, namespace)
    found.folder.mkdir(mode=0o755)
    yield found
    operator.kubectl("delete", "logstream", "--all", f"--namespace={namespace}", "--ignore-not-found")
    shutil.rmtree(found.folder)
