"""The cluster itself: whether what the other tests of this folder stand on is really there."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from testcluster import settings
from testcluster.commands import run, wait_for
from testcluster.errors import CommandFailed
from testcluster.kubectl import is_ready
from testcluster.target import Cluster

SERVE = """\
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = (socket.gethostname() + " " + self.path).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def pod(cluster: Cluster, name: str, *command: str, **more: Any) -> dict[str, Any]:
    """A pod of one container that runs a command."""
    container = {"name": "main", "image": cluster.image, "imagePullPolicy": "IfNotPresent", "command": list(command)}
    metadata = {"name": name, "labels": {"app": name}}
    spec = {"containers": [container | more], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(name: str) -> Mapping[str, Any]:
    """A Service for the pods that are labelled with its name."""
    ports = [{"name": "http", "port": 80, "targetPort": 8000}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def ingress(name: str, host: str, path: str = "/", **annotations: str) -> Mapping[str, Any]:
    """An Ingress that leads to the Service of its name."""
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    rule = {"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "annotations": {f"nginx.ingress.kubernetes.io/{key}": value for key, value in annotations.items()},
        },
        "spec": {"ingressClassName": "nginx", "rules": [rule]},
    }


def fetch(address: str, host: str, path: str = "/") -> str:
    """What the ingress answers for a host."""
    request = urllib.request.Request(f"http://{address}{path}", headers={"Host": host})
    response: HTTPResponse
    with urllib.request.urlopen(request, timeout=15) as response:  # noqa: S310 - http, as the line above says
        return response.read().decode()


def answers(address: str, host: str) -> Callable[[], bool]:
    """For a wait: whether the ingress leads to a pod already."""

    def ask() -> bool:
        try:
            return bool(fetch(address, host))
        except OSError:  # 404 and 503 among them
            return False

    return ask


def test_the_node_is_ready_and_runs_the_version_that_we_name(cluster: Cluster) -> None:
    nodes = cluster.kubectl.get("nodes")["items"]
    assert nodes
    assert all(is_ready(node) for node in nodes)
    if cluster.is_ours:
        assert nodes[0]["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.34.")
        assert json.loads(cluster.kubectl("get", "--raw=/version"))["gitVersion"].startswith("v1.34.")


@pytest.mark.parametrize("version", [3, 4])
def test_helm_reaches_the_cluster(cluster: Cluster, version: int) -> None:
    assert cluster.helm("version", "--short", version=version).startswith(f"v{version}.")
    cluster.helm("list", "--all-namespaces", version=version)


def test_a_pod_runs_says_something_and_can_be_entered(cluster: Cluster, namespace: str) -> None:
    kubectl, here = cluster.kubectl, f"--namespace={namespace}"
    kubectl.apply(pod(cluster, "one", "sh", "-c", "echo hello; exec sleep 600"), namespace=namespace)
    kubectl.wait_ready("the pod", namespace=namespace, selector="app=one", timeout_s=60)
    assert kubectl("logs", "one", here) == "hello\n"
    assert kubectl("exec", "one", here, "--", "sh", "-c", "echo $KUBERNETES_SERVICE_HOST").strip()


def test_a_pod_reaches_the_api_server_by_its_service(cluster: Cluster, namespace: str) -> None:
    code = (
        "import os, ssl, urllib.request as r\n"
        "at = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "trust = ssl.create_default_context(cafile=at + 'ca.crt')\n"
        "token = {'Authorization': 'Bearer ' + open(at + 'token').read()}\n"
        "url = 'https://' + os.environ['KUBERNETES_SERVICE_HOST'] + '/version'\n"
        "print(r.urlopen(r.Request(url, headers=token), context=trust, timeout=10).read().decode())\n"
    )
    manifest = pod(cluster, "client", "python3", "-c", code)
    manifest["spec"]["restartPolicy"] = "Never"
    cluster.kubectl.apply(manifest, namespace=namespace)
    here = f"--namespace={namespace}"
    cluster.kubectl("wait", "pod/client", here, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=200s")
    assert "gitVersion" in cluster.kubectl("logs", "client", here)


def test_kubectl_top_has_figures_of_the_node_and_of_a_pod(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl.apply(pod(cluster, "busy", "sh", "-c", "while :; do :; done"), namespace=namespace)

    def measured() -> bool:
        line = cluster.kubectl("top", "pod", "busy", f"--namespace={namespace}", "--no-headers").split()
        return line[0] == "busy" and int(line[1].removesuffix("m")) > 0

    wait_for("figures of the pod", measured, timeout_s=120, every_s=2)
    assert "Mi" in cluster.kubectl("top", "node", "--no-headers")


def test_an_autoscaler_sees_the_load(cluster: Cluster, namespace: str) -> None:
    container = pod(cluster, "load", "sh", "-c", "while :; do :; done", resources={"requests": {"cpu": "100m"}})
    template = {
        "metadata": {"labels": {"app": "load"}},
        "spec": container["spec"] | {"terminationGracePeriodSeconds": 0},
    }
    metadata = {"name": "load"}
    deployment = {"replicas": 1, "selector": {"matchLabels": {"app": "load"}}, "template": template}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    scaler = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "load"},
        "minReplicas": 1,
        "maxReplicas": 2,
        "metrics": [metric],
    }
    cluster.kubectl.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment},
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": scaler},
        namespace=namespace,
    )

    def scaled() -> bool:
        return bool(cluster.kubectl.get("deployment", "load", f"--namespace={namespace}")["spec"]["replicas"] == 2)

    wait_for("the second replica", scaled, timeout_s=180, every_s=2)


def test_an_ingress_spreads_requests_over_its_pods(cluster: Cluster, namespace: str) -> None:
    host = f"{namespace}.example"
    pods = [pod(cluster, f"web-{number}", "python3", "-c", SERVE) for number in range(3)]
    for each in pods:
        each["metadata"]["labels"] = {"app": "web"}
    cluster.kubectl.apply(*pods, service("web"), ingress("web", host), namespace=namespace)
    cluster.kubectl.wait_ready("the pods", namespace=namespace, selector="app=web", timeout_s=60)
    wait_for("an answer through the ingress", answers(cluster.address, host), timeout_s=60)

    def all_seen() -> bool:
        return {fetch(cluster.address, host, "/some/where") for _ in range(12)} == {
            f"web-{number} /some/where" for number in range(3)
        }

    wait_for("answers of all three pods", all_seen, timeout_s=30)


def test_a_broken_ingress_is_refused_with_the_reason(cluster: Cluster, namespace: str) -> None:
    broken = ingress("web", f"{namespace}.example", **{"configuration-snippet": "return 204;"})
    with pytest.raises(CommandFailed, match=r"admission webhook.*[Ss]nippet"):
        cluster.kubectl.apply(service("web"), broken, namespace=namespace)
    assert cluster.kubectl.get("ingress", f"--namespace={namespace}")["items"] == []


def test_a_second_ingress_for_the_same_host_and_path_is_refused(cluster: Cluster, namespace: str) -> None:
    host = f"{namespace}.example"
    cluster.kubectl.apply(service("web"), ingress("web", host, "/ws"), namespace=namespace)

    def refused() -> bool:
        try:
            cluster.kubectl.apply(service("other"), ingress("other", host, "/ws"), namespace=namespace)
        except CommandFailed as error:
            return "is already defined in ingress" in error.output
        cluster.kubectl("delete", "ingress", "other", f"--namespace={namespace}")
        return False

    # The webhook knows the first one once the controller has seen it.
    wait_for("the refusal", refused, timeout_s=30, every_s=1)


@pytest.fixture
def host_folder(cluster: Cluster) -> Iterator[Path]:
    """A folder of the node below the one that pods mount."""
    if not cluster.is_ours:
        pytest.skip("KUBECONFIG names a cluster whose node's files are out of reach")
    folder = settings.HOST_ROOT / f"test-{time.time_ns()}"
    folder.mkdir()
    yield folder
    run(["find", folder, "-delete"])


def test_a_file_system_mounted_on_the_host_later_appears_in_a_pod(
    cluster: Cluster, namespace: str, host_folder: Path
) -> None:
    """As when somebody runs `minikube mount` after the pod was started."""
    mount = {"name": "host", "mountPath": "/host", "readOnly": True, "mountPropagation": "HostToContainer"}
    manifest = pod(cluster, "reader", "sleep", "600", volumeMounts=[mount])
    manifest["spec"]["volumes"] = [{"name": "host", "hostPath": {"path": str(settings.HOST_ROOT), "type": "Directory"}}]
    cluster.kubectl.apply(manifest, namespace=namespace)
    cluster.kubectl.wait_ready("the pod", namespace=namespace, selector="app=reader", timeout_s=60)
    run(["mount", "-t", "tmpfs", "late", host_folder])
    try:
        (host_folder / "app.log").write_text("line\n")
        inside = f"/host/{host_folder.name}/app.log"
        assert cluster.kubectl("exec", "reader", f"--namespace={namespace}", "--", "cat", inside) == "line\n"
    finally:
        run(["umount", host_folder])
