"""The charts as releases: which namespaces are looked after, what `helm test` sees, and one end after another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from logstreams import CHART, DEFINITION, RELEASE, SYSTEM, LogStream, chart_values, install
from testcluster import settings
from testcluster.commands import wait_for
from testcluster.errors import CommandFailed
from testcluster.target import Cluster

LOGSTREAM = settings.REPOSITORY / "charts/logstream"


@pytest.fixture
def reinstalled(operator: Cluster, project_images: dict[str, str]) -> Iterator[None]:
    """What a test does to the release is undone."""
    yield
    install(operator, project_images)


@pytest.mark.usefixtures("reinstalled")
def test_only_the_watched_namespaces_are_looked_after(stream: LogStream, project_images: dict[str, str]) -> None:
    kubectl = stream.cluster.kubectl
    other = LogStream(stream.cluster, f"{stream.namespace}-other")
    roots = [{"path": str(stream.folder)}]
    install(stream.cluster, project_images, watchNamespaces=[stream.namespace], allowedRoots=roots)
    kubectl("create", "namespace", other.namespace)
    try:
        other.apply()  # the allowed folders are for the watched namespaces
        with pytest.raises(CommandFailed, match="must be one of these folders"):
            stream.apply(source={"hostPath": str(other.folder)})
        stream.write("one")
        stream.apply()
        stream.wait("Ready", "True", "Serving")
        stream.wait_first_lines(["one"])
        assert other.status == {}
        account = f"--as=system:serviceaccount:{SYSTEM}:{RELEASE}"
        assert may_list(kubectl("auth", "can-i", "list", "logstreams", f"--namespace={stream.namespace}", account))
        with pytest.raises(CommandFailed):
            kubectl("auth", "can-i", "list", "logstreams", f"--namespace={other.namespace}", account)
        install(stream.cluster, project_images)
        other.wait("Accepted", "True")
    finally:
        kubectl("delete", "namespace", other.namespace)


@pytest.mark.usefixtures("reinstalled")
@pytest.mark.parametrize("version", [3, 4])
def test_a_second_release_that_would_undo_the_firsts_work_is_refused(
    operator: Cluster, namespace: str, project_images: dict[str, str], version: int
) -> None:
    def install_another(**change: Any) -> str:
        where = [f"--namespace={namespace}", "--dry-run=server", "--values=-"]
        values = json.dumps({**chart_values(project_images), **change})
        return operator.helm("install", "another", CHART, *where, stdin=values, version=version)

    for change in ({}, {"watchNamespaces": [namespace]}):
        with pytest.raises(CommandFailed) as caught:
            install_another(**change)
        assert f"the release {RELEASE} in the namespace {SYSTEM} " in caught.value.output
        assert "in all namespaces; two operators would undo each other's work" in caught.value.output
    install(operator, project_images, watchNamespaces=[namespace])
    for change in ({}, {"watchNamespaces": ["default", namespace]}):
        with pytest.raises(CommandFailed) as caught:
            install_another(**change)
        assert f"in the namespace {namespace}; two operators would undo each other's work" in caught.value.output
    assert "another" in install_another(watchNamespaces=["default"])


def may_list(answer: str) -> bool:
    """What `kubectl auth can-i` says."""
    return answer.strip() == "yes"


@pytest.mark.parametrize("version", [3, 4])
def test_helm_test_waits_for_a_line(stream: LogStream, project_images: dict[str, str], version: int) -> None:
    values = {
        "source": {"hostPath": str(stream.folder), "files": ["*.log"]},
        "ingress": {"host": f"{stream.namespace}.example"},
        "autoscaling": None,
        "test": {"image": project_images["server"], "timeoutSeconds": 5},
    }
    where = f"--namespace={stream.namespace}"
    helm = stream.cluster.helm
    helm("install", "app", LOGSTREAM, where, "--values=-", stdin=json.dumps(values), version=version)
    stream.wait("Ready", "True", "NoFilesYet")
    with pytest.raises(CommandFailed):
        helm("test", "app", where, version=version)
    stream.write("one")
    stream.wait("Ready", "True", "Serving")
    assert "Succeeded" in helm("test", "app", where, version=version)
    helm("uninstall", "app", where, version=version)
    wait_for("everything to go", lambda: not stream.find("logstreams,deployments,services,ingresses"), timeout_s=30)


@pytest.mark.usefixtures("reinstalled")
def test_servers_outlive_the_release_and_the_next_one_sweeps(stream: LogStream, project_images: dict[str, str]) -> None:
    """The release goes first, then the namespace."""
    stream.write("one")
    stream.apply()
    stream.wait("Ready", "True", "Serving")
    stream.wait_first_lines(["one"])
    stream.cluster.helm("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait")
    stream.wait_first_lines(["one"])
    stream.kubectl("delete", "namespace", stream.namespace)
    (volume,) = stream.volumes()
    stream.wait_released(volume)  # a labelled volume is all that is left
    install(stream.cluster, project_images)
    wait_for("the volume to go", lambda: not stream.volumes(), timeout_s=30, every_s=1)
    stream.cluster.kubectl("create", "namespace", stream.namespace)  # the fixture removes it


@pytest.mark.usefixtures("reinstalled")
def test_deleting_the_definition_leaves_nothing(stream: LogStream, project_images: dict[str, str]) -> None:
    """With the operator running, which goes on when the definition is back."""
    stream.apply()
    stream.wait("Available", "True")
    stream.cluster.kubectl("delete", "crd", DEFINITION)
    wait_for("the servers to go", lambda: not stream.find("deployments,pods,services,pvc"), timeout_s=90, every_s=1)
    wait_for("the volume to go", lambda: not stream.volumes(), timeout_s=60, every_s=1)
    install(stream.cluster, project_images)
    stream.write("one")
    stream.apply()
    stream.wait("Ready", "True", "Serving")
