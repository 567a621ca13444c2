"""The charts with both versions of Helm: a cluster takes what they render; what cannot be is refused in words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from logstreams import CHART, DEFINITION
from testcluster import settings
from testcluster.commands import environment
from testcluster.errors import CommandFailed
from testcluster.target import Cluster

REPOSITORY = settings.REPOSITORY
LOGSTREAM = REPOSITORY / "charts/logstream"
VERSIONS = pytest.mark.parametrize("version", [3, 4])
SCENARIOS = [
    (chart, values) for chart in (CHART, LOGSTREAM) for values in (None, *sorted((chart / "ci").glob("*.yaml")))
]
KUBE_VERSION = "--kube-version=1.30.0"


def render(cluster: Cluster, chart: Path, *words: str, version: int = 3, namespace: str = "default") -> str:
    return cluster.helm("template", "x", str(chart), f"--namespace={namespace}", KUBE_VERSION, *words, version=version)


@pytest.fixture
def defined(cluster: Cluster, _may_define: None) -> None:
    """The definition is there, for resources of its kind."""
    text = render(cluster, CHART, "--show-only=templates/crd.yaml")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=text)
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{DEFINITION}", "--timeout=200s")


@VERSIONS
@pytest.mark.usefixtures("defined")
@pytest.mark.parametrize(
    ("chart", "values"), SCENARIOS, ids=lambda path: path.stem if isinstance(path, Path) else "defaults"
)
def test_what_is_rendered_is_taken(
    cluster: Cluster, namespace: str, chart: Path, values: Path | None, version: int
) -> None:
    words = [f"--values={values}"] if values else []
    text = render(cluster, chart, *words, version=version, namespace=namespace)
    for name in ("team", "ops"):  # of one scenario
        text = text.replace(f"namespace: {name}\n", f"namespace: {namespace}\n")
    shown = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename=-", stdin=text
    )
    assert "serverside-applied" in shown


@VERSIONS
@pytest.mark.parametrize("chart", [CHART, LOGSTREAM], ids=lambda chart: chart.name)
def test_the_chart_passes_helms_own_look(cluster: Cluster, chart: Path, version: int) -> None:
    cluster.helm("lint", "--strict", str(chart), KUBE_VERSION, version=version)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param("allowedRoots[0].path=logs", "/allowedRoots/0/path", id="a relative folder"),
        pytest.param("allowedRoots[0].path=/a/../b", "/allowedRoots/0/path", id="a way out"),
        pytest.param("allowedRoots[0].path=/etc/x", "holds more than logs", id="a folder of the node's own"),
        pytest.param("allowedRoots[0].mountPropagation=Bidirectional", "mountPropagation", id="one that writes"),
        pytest.param("requireAuth=perhaps", "requireAuth", id="neither yes nor no"),
        pytest.param("serverImage=x", "serverImage", id="a value that there is not"),
        pytest.param(
            "watchNamespaces={ops},allowedRoots[0].path=/a,allowedRoots[0].namespaces={team}",
            "which is not in watchNamespaces",
            id="a folder for a namespace that is not watched",
        ),
        pytest.param("metrics.podMonitor=true", "does not know PodMonitor", id="monitoring that is not installed"),
        pytest.param("metrics.prometheusRule=true", "does not know PrometheusRule", id="alerts for nobody"),
    ],
)
def test_values_that_cannot_be_are_refused(cluster: Cluster, values: str, words: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        render(cluster, CHART, f"--set={values}")
    assert words in caught.value.output


def test_a_name_that_means_something_else_in_yaml_is_a_name(cluster: Cluster) -> None:
    text = cluster.helm("template", "on", str(LOGSTREAM), KUBE_VERSION)
    found = [each["metadata"] for each in yaml.safe_load_all(text)]
    assert {(each["name"], each["labels"]["app.kubernetes.io/instance"]) for each in found} == {
        ("on", "on"),
        ("on-test", "on"),
    }


def test_a_name_that_is_too_long_is_refused(cluster: Cluster) -> None:
    with pytest.raises(CommandFailed, match="more than 52 characters"):
        cluster.helm("template", "x" * 53, str(LOGSTREAM), KUBE_VERSION)


def test_what_is_generated_is_what_is_committed(cluster: Cluster) -> None:
    """With Helm, so that install.yaml is looked at too."""
    program = [sys.executable, str(REPOSITORY / "charts/generate"), "--check"]
    env = {**environment(), "HELM": str(cluster.programs["helm3"])}
    ended = subprocess.run(program, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_manifests_for_kubectl_alone_are_taken(cluster: Cluster, namespace: str) -> None:
    text = (REPOSITORY / "manifests/install.yaml").read_text().replace("logstream-system", namespace)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename=-", stdin=text)


@VERSIONS
@pytest.mark.usefixtures("_may_define")
def test_the_definition_outlives_the_release_and_another_release_goes_on_with_it(
    cluster: Cluster, namespace: str, version: int
) -> None:
    cluster.kubectl("delete", "crd", DEFINITION, "--ignore-not-found")
    where = f"--namespace={namespace}"
    stream = {
        "apiVersion": "logstream.dev/v1alpha1",
        "kind": "LogStream",
        "metadata": {"name": "kept"},
        "spec": {"source": {"hostPath": "/minikube-host", "files": ["*.log"]}},
    }
    try:
        cluster.helm("install", "first", str(CHART), where, version=version)
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{DEFINITION}", "--timeout=200s")
        cluster.kubectl.apply(stream, namespace=namespace)
        cluster.helm("uninstall", "first", where, version=version)
        shown = cluster.helm("install", "second", str(CHART), where, version=version)
        assert "is not this release's own" in shown
        assert cluster.kubectl.get("logstream", "kept", where)
        cluster.helm("upgrade", "second", str(CHART), where, version=version)
        releases = json.loads(cluster.helm("list", where, "--output=json", version=version))
        assert [each["name"] for each in releases] == ["second"]
    finally:
        cluster.helm("uninstall", "second", where, "--ignore-not-found", version=version)
        cluster.kubectl("delete", "crd", DEFINITION, "--ignore-not-found")
