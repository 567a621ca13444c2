"""The images of server and operator: what is in them, and what must not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testcluster import images
from testcluster.target import Cluster

PARTS = ["server", "operator"]


@pytest.fixture(autouse=True, scope="module")
def built(cluster: Cluster, project_images: dict[str, str]) -> dict[str, str]:
    if not cluster.is_ours:
        pytest.skip("KUBECONFIG names a cluster: its images are not built here")
    return project_images


def config(image: str) -> dict[str, Any]:
    """What the image says of how to run it."""
    inspected = json.loads(images.buildah("inspect", "--type=image", image))
    found: dict[str, Any] = inspected["Docker"]["config"]
    return found


@pytest.fixture(params=PARTS)
def image(request: pytest.FixtureRequest, built: dict[str, str]) -> str:
    """One image after the other, by its name."""
    return built[request.param]


@pytest.fixture
def root(image: str) -> Iterator[Path]:
    """The image's file system."""
    container = images.buildah("from", "--pull-never", image).strip()
    yield Path(images.buildah("mount", container).strip())
    images.buildah("rm", container)


def test_an_image_runs_as_a_number_that_is_not_root(image: str) -> None:
    """Kubernetes cannot tell by a name whether it is root's."""
    assert config(image)["User"] == "65532:65532"


def test_an_image_starts_its_program_without_a_shell(image: str) -> None:
    """A shell in between would keep the signal to end from the program."""
    assert config(image)["Entrypoint"][0] not in {"/bin/sh", "sh"}


def test_an_image_does_not_look_for_modules_where_it_is_started(image: str) -> None:
    assert "PYTHONSAFEPATH=1" in config(image)["Env"]


def test_nothing_of_the_build_is_left_in_an_image(root: Path) -> None:
    found = [*root.glob("opt/logstream/lib/python3*/site-packages/pip*"), *root.glob("root/.cache/*")]
    found += [path for name in ("pip", "src", "run/pip", "etc/pip.conf") if (path := root / name).exists()]
    assert found == []


def test_what_an_image_adds_to_its_base_is_small(root: Path) -> None:
    """Measured: 27 MB for the server, 99 MB for the operator, of which 57 MB are the Kubernetes client."""
    files = [path for path in (root / "opt" / "logstream").rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < 120e6


def test_an_image_belongs_to_root_and_is_not_writable_for_its_user(root: Path) -> None:
    owners = {path.lstat().st_uid for path in (root / "opt" / "logstream").rglob("*")}
    assert owners == {0}


def test_what_the_operator_imports_is_in_its_image(cluster: Cluster, namespace: str, built: dict[str, str]) -> None:
    code = "import logstream_operator.__main__"
    container = {"name": "main", "image": built["operator"], "imagePullPolicy": "Never"}
    spec = {"containers": [container | {"command": ["python", "-c", code]}], "restartPolicy": "Never"}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "import"}, "spec": spec}
    cluster.kubectl.apply(manifest, namespace=namespace)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", "pod/import", f"--namespace={namespace}", done, "--timeout=200s")


def test_the_server_of_the_image_runs_in_a_pod(cluster: Cluster, namespace: str, built: dict[str, str]) -> None:
    """As the strictest namespace wants it: no root, no capabilities, nothing writable."""
    kubectl = cluster.kubectl
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    security = {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "server",
        "image": built["server"],
        "imagePullPolicy": "Never",
        "args": ["serve", "--host=0.0.0.0", "--insecure-open", "/etc/os-release"],
        "securityContext": security,
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
    }
    metadata = {"name": "server", "labels": {"app": "server"}}
    spec = {"containers": [container], "automountServiceAccountToken": False}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace=namespace)
    kubectl.wait_ready("the server", namespace=namespace, selector="app=server", timeout_s=60)
