"""What the tests of LogStreams on a cluster share: the operator, one LogStream with its folder, and its clients."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_connection
from typing import Any

from testcluster import settings
from testcluster.commands import wait_for
from testcluster.errors import CommandFailed
from testcluster.target import Cluster
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

RELEASE = "logstream-operator"
SYSTEM = "logstream-system"
DEFINITION = "logstreams.logstream.dev"
CHART = settings.REPOSITORY / "charts/logstream-operator"
TAKEN_UP_S = 60.0
"""On an idle machine NGINX answers 404, then 503, for a second or two after an Ingress or its first server has come."""
OPERATOR = f"deployment/{RELEASE}"


def split_image(image: str) -> tuple[str, str]:
    """Repository and tag."""
    repository, _, tag = image.rpartition(":")
    return repository, tag


def chart_values(images: Mapping[str, str]) -> dict[str, Any]:
    """Values with which the chart runs on the test cluster."""
    (operator, operator_tag), (server, server_tag) = split_image(images["operator"]), split_image(images["server"])
    return {
        "image": {"repository": operator, "tag": operator_tag},
        "server": {"image": {"repository": server, "tag": server_tag}},
        "allowedRoots": [{"path": str(settings.HOST_ROOT), "groups": [0]}],
        "operator": {"resyncInterval": "10s", "logFormat": "text"},
    }


def install(cluster: Cluster, images: Mapping[str, str], **change: Any) -> None:
    """Install the operator with Helm from the chart in this checkout, or change its values, and wait until it runs."""
    values = json.dumps({**chart_values(images), **change})
    words = ["--create-namespace", "--wait", "--timeout=4m", "--values=-"]
    cluster.helm("upgrade", "--install", RELEASE, CHART, f"--namespace={SYSTEM}", *words, stdin=values)


def situation(cluster: Cluster, namespace: str) -> str:
    """What is in a namespace, and what operator and servers said last, for whoever reads why a test failed."""
    here = f"--namespace={namespace}"
    said = []
    for words in (
        ["get", "pods,deployments,services,ingresses,hpa,pvc", "--output=wide", here],
        ["get", "events", "--sort-by=.metadata.creationTimestamp", here],
        ["describe", "logstreams", here],
        ["describe", "hpa", here],
        ["logs", "--selector=app.kubernetes.io/managed-by=logstream-operator", "--prefix", "--tail=30", here],
        ["logs", OPERATOR, "--tail=60", f"--namespace={SYSTEM}"],
    ):
        try:
            said.append(f"$ kubectl {' '.join(words)}\n{cluster.kubectl(*words, timeout_s=30)}")
        except CommandFailed as error:  # no such kind, or no operator: both are normal
            said.append(str(error))
    return "\n".join(said)


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an HTTP request."""

    status: int
    body: str


def fetch(url: str) -> Answer:
    """An answer of any status."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - http, on the test cluster
            return Answer(response.status, response.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode())


@dataclass(slots=True)
class LogStream:
    """One LogStream in a namespace of its own, and the folder on the node that it follows."""

    cluster: Cluster
    namespace: str
    name: str = "app"
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = settings.HOST_ROOT / self.namespace

    def spec(self, **change: Any) -> dict[str, Any]:
        """The least spec, under a host name that is the test's own.

        NGINX tells its address once a minute only; where there is a host name, nobody waits for that.
        """
        source = {"hostPath": str(self.folder), "files": ["*.log"], **change.pop("source", {})}
        ingress = {"host": f"{self.namespace}.example", **change.pop("ingress", {})}
        return {"source": source, "ingress": ingress, **change}

    def apply(self, **change: Any) -> None:
        """Apply it with a change of its spec."""
        manifest = {
            "apiVersion": "logstream.dev/v1alpha1",
            "kind": "LogStream",
            "metadata": {"name": self.name},
            "spec": self.spec(**change),
        }
        self.cluster.kubectl.apply(manifest, namespace=self.namespace)

    def patch(self, **change: Any) -> None:
        """Change parts of its spec; None takes one away."""
        self.kubectl("patch", "logstream", self.name, "--type=merge", "--patch", json.dumps({"spec": change}))

    def kubectl(self, *words: str) -> str:
        """In its namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *words)  # first: a command may follow words

    def get(self, *words: str) -> Any:
        """An object of its namespace, by default its own."""
        return self.cluster.kubectl.get(*(words or ("logstream", self.name)), f"--namespace={self.namespace}")

    def find(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind in its namespace."""
        found: list[dict[str, Any]] = self.get(kind)["items"]
        return found

    @property
    def status(self) -> dict[str, Any]:
        """As the operator wrote it."""
        found: dict[str, Any] = self.get().get("status") or {}
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """One condition; an empty one while it is not there."""
        found: list[dict[str, Any]] = self.status.get("conditions") or []
        return next((each for each in found if each["type"] == kind), {})

    def wait(self, kind: str, status: str, reason: str = "", timeout_s: float = 90) -> str:
        """Until a condition is so and about the newest spec; its message then."""
        message = ""

        def so() -> bool:
            nonlocal message
            body = self.get()
            now: list[dict[str, Any]] = (body.get("status") or {}).get("conditions") or []
            found = next((each for each in now if each["type"] == kind), {})
            message = found.get("message", "")
            newest = found.get("observedGeneration") == body["metadata"]["generation"]
            return newest and found["status"] == status and reason in ("", found["reason"])

        hint = f"kubectl describe logstream {self.name} --namespace={self.namespace}"
        wait_for(f"{kind}={status} {reason}", so, timeout_s=timeout_s, every_s=0.5, hint=hint)
        return message

    def wait_rolled_out(self) -> None:
        """Until all servers run the newest spec."""
        self.kubectl("rollout", "status", f"deployment/{self.name}-logstream", "--timeout=200s")

    @contextmanager
    def open(self, query: str = "") -> Iterator[ClientConnection]:
        """A client through the ingress, once NGINX has taken the Ingress up."""
        with self._connect(self.status["url"] + query) as socket:
            yield socket

    def _connect(self, url: str) -> ClientConnection:
        end = time.monotonic() + TAKEN_UP_S
        while True:
            try:
                return connect(url, sock=create_connection((self.cluster.address, 80), timeout=30), open_timeout=30)
            except (OSError, InvalidHandshake) as error:  # a reload of NGINX may also cut the connection
                status = error.response.status_code if isinstance(error, InvalidStatus) else 502
                if status not in (404, 502, 503) or time.monotonic() > end:
                    raise
            time.sleep(0.5)

    def first_lines(self, count: int, query: str = "") -> list[str]:
        """What a new client gets first."""
        with self.open(query) as socket:
            return [str(socket.recv(timeout=30)) for _ in range(count)]

    def wait_first_lines(self, lines: list[str], query: str = "") -> None:
        """Until a new client gets these: in a rollout, the old servers still answer for a moment."""

        def so() -> bool:
            try:
                return self.first_lines(len(lines), query) == lines
            except (ConnectionClosed, TimeoutError):
                return False

        wait_for(f"the lines {lines}", so, timeout_s=60, every_s=0.5)

    def write(self, *lines: str, file: str = "app.log") -> None:
        """Append lines on the node."""
        with (self.folder / file).open("a") as log:
            log.writelines(f"{line}\n" for line in lines)

    def volumes(self) -> list[str]:
        """The PersistentVolumes of its namespace, also when the namespace is gone."""
        found = self.cluster.kubectl.get("persistentvolumes", f"--selector=logstream.dev/namespace={self.namespace}")
        return [each["metadata"]["name"] for each in found["items"]]

    def wait_released(self, volume: str) -> None:
        """Until the cluster says that the claim is gone, which it finds out after the claim itself has gone."""

        def so() -> bool:
            return bool(self.cluster.kubectl.get("persistentvolume", volume)["status"]["phase"] == "Released")

        wait_for(f"the volume {volume} to be released", so, timeout_s=30)


def json_lines(socket: ClientConnection, timeout_s: float = 30) -> list[str]:
    """The lines of the next message that has some."""
    while True:
        message = json.loads(socket.recv(timeout=timeout_s))
        if message["type"] == "lines":
            lines: list[str] = message["lines"]
            return lines


def are_all_reached(stream: LogStream) -> bool:
    """Whether a few connections go to every server."""
    with ExitStack() as sockets:
        for _ in range(12):
            sockets.enter_context(stream.open())
        return min(clients_by_pod(stream).values()) > 0


def clients_by_pod(stream: LogStream) -> dict[str, int]:
    """From each server's own metrics, inside its pod."""
    code = (
        "import urllib.request as r;"
        "t = r.urlopen('http://127.0.0.1:9090/metrics').read().decode().splitlines();"
        "print(sum(int(float(l.split()[-1])) for l in t if l.startswith('logstream_clients{')))"
    )
    pods = [pod["metadata"] for pod in stream.find("pods")]
    names = [pod["name"] for pod in pods if "deletionTimestamp" not in pod]
    return {name: int(stream.kubectl("exec", name, "--", "python3", "-c", code)) for name in names}
