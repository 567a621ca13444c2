"""A LogStream on a real cluster, as a user has it: apply it, get lines through NGINX, break things, take it away."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from logstreams import OPERATOR, SYSTEM, LogStream, fetch
from testcluster import settings
from testcluster.commands import wait_for
from testcluster.errors import CommandFailed
from testcluster.target import Cluster
from websockets.exceptions import InvalidStatus

SAMPLE = settings.REPOSITORY / "manifests/samples/minikube.yaml"


# -- the way of a user -------------------------------------------------------------------------------------------------


def test_the_minikube_sample_gives_lines_through_nginx(operator: Cluster, namespace: str) -> None:
    """The file as it is, at /ws: last lines, then live ones; page and REST beside it; metrics nowhere."""
    log = settings.HOST_ROOT / "sample.log"
    log.write_text("".join(f"line {n}\n" for n in range(100)))
    stream = LogStream(operator, namespace)
    try:
        stream.kubectl("apply", f"--filename={SAMPLE}")
        stream.wait("Ready", "True", "Serving")
        url = stream.status["url"]
        assert url.startswith("ws://")
        assert url.endswith("/ws")
        with stream.open("?stream=sample.log&tail=3") as socket:
            assert [socket.recv(timeout=30) for _ in range(3)] == ["line 97", "line 98", "line 99"]
            with log.open("a") as file:
                file.write("now\n")
            assert socket.recv(timeout=30) == "now"
        http = url.replace("ws://", "http://").removesuffix("/ws")
        assert "<html" in fetch(f"{http}/").body
        lines = json.loads(fetch(f"{http}/api/v1/streams/sample.log/lines?limit=1").body)["lines"]
        assert lines == ["now"]
        for path in ("metrics", "readyz"):
            assert fetch(f"{http}/{path}").status == 404
        assert fetch(f"{http}/healthz").body != "ok\n", "NGINX answers there by itself, and not a server"
        stream.wait("AutoscalingActive", "True", timeout_s=120)
    finally:
        stream.kubectl("delete", "--filename", str(SAMPLE), "--ignore-not-found")
        log.unlink()
    # It takes requests for every host name, also those of a LogStream whose own Ingress NGINX does not know yet.
    wait_for("NGINX to forget it", lambda: fetch(f"{http}/").status == 404, timeout_s=60, every_s=0.5)


def test_what_kubectl_shows(stream: LogStream) -> None:
    stream.write("one")
    stream.apply()
    stream.wait("Ready", "True", "Serving")
    with stream.open() as socket:
        assert socket.recv(timeout=30) == "one"

        def is_counted() -> bool:
            assert socket.ping().wait(30), "a connection that is dead is not counted"
            return stream.status.get("clients") == 1

        wait_for("the client to be counted", is_counted, timeout_s=60, every_s=1)
        row = stream.kubectl("get", "lst", "app", "--no-headers", "--output=wide").split()
    assert row[:4] == ["app", "True", "1", "1"]
    assert row[4] == stream.status["url"]
    assert row[6:] == ["Serving", "node1", str(stream.folder)]
    described = stream.kubectl("describe", "lst", "app")
    for words in ("ServesWithoutToken", "1 file is followed", "is mounted read-only", "1 of 1 servers are ready"):
        assert words in described
    assert "Where the files are" in stream.kubectl("explain", "logstream.spec.source")


def test_an_edit_rolls_out(stream: LogStream) -> None:
    stream.write(*"abcdef")
    stream.apply()
    stream.wait("Ready", "True", "Serving")
    stream.apply(server={"tailLines": 2})
    stream.wait_first_lines(["e", "f"])


def test_a_token_is_asked_for(stream: LogStream) -> None:
    stream.write("one")
    stream.kubectl("create", "secret", "generic", "tokens", "--from-literal=tokens=secret")
    stream.apply(server={"authSecretRef": {"name": "tokens"}})
    stream.wait("Ready", "True")
    assert stream.condition("Accepted")["reason"] == "Accepted"
    with pytest.raises(InvalidStatus, match="401"), stream.open():
        pass
    assert stream.first_lines(1, "?access_token=secret") == ["one"]


def test_a_file_of_root_is_read_with_its_group(stream: LogStream) -> None:
    stream.write("one")
    (stream.folder / "app.log").chmod(0o640)
    stream.apply()
    message = stream.wait("Ready", "False", "FilesUnreadable")
    assert "app.log" in message
    stream.apply(source={"supplementalGroups": [0]})
    stream.wait("Ready", "True", "Serving")
    stream.wait_first_lines(["one"])


def test_a_file_that_comes_later_is_waited_for(stream: LogStream) -> None:
    stream.apply()
    message = stream.wait("Ready", "True", "NoFilesYet")
    assert "no such file on the node yet" in message
    stream.write("one")
    stream.wait("Ready", "True", "Serving")


def test_files_of_a_claim_are_served(stream: LogStream) -> None:
    """The claim is the author's own: it is mounted, and neither made nor deleted."""
    stream.write("one")
    name = stream.namespace
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "claimRef": {"namespace": name, "name": "logs"},
            "hostPath": {"path": str(stream.folder), "type": "Directory"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "logs"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    source = {"hostPath": None, "persistentVolumeClaim": {"claimName": "logs"}}
    try:
        stream.apply(source=source)
        stream.wait("Accepted", "True")
        stream.cluster.kubectl.apply(volume, claim, namespace=name)
        stream.wait("Ready", "True", "Serving")
        assert stream.condition("VolumeReady")["reason"] == "OwnClaim"
        stream.wait_first_lines(["one"])
        assert stream.volumes() == []
        stream.kubectl("delete", "logstream", "app")
        wait_for("the servers to go", lambda: not stream.find("deployments,pods"), timeout_s=90, every_s=1)
        assert [each["status"]["phase"] for each in stream.find("pvc")] == ["Bound"]
    finally:
        stream.cluster.kubectl("delete", "persistentvolume", name, "--ignore-not-found", "--wait=false")


# -- repair ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["deployment", "service", "ingress"])
def test_what_is_deleted_by_hand_is_back(stream: LogStream, kind: str) -> None:
    stream.apply()
    stream.wait("Available", "True")
    before = stream.get(kind, "app-logstream")["metadata"]["uid"]
    stream.kubectl("delete", kind, "app-logstream")
    wait_for("it to be back", lambda: before not in str(stream.find(kind)) and bool(stream.find(kind)), timeout_s=10)


def test_what_is_edited_by_hand_is_put_right(stream: LogStream) -> None:
    stream.apply()
    stream.wait("Available", "True")
    stream.kubectl("set", "env", "deployment/app-logstream", "LOGSTREAM_TAIL=99")
    stream.kubectl("label", "service", "app-logstream", "app.kubernetes.io/managed-by-")

    def right() -> bool:
        container = stream.get("deployment", "app-logstream")["spec"]["template"]["spec"]["containers"][0]
        labels = stream.get("service", "app-logstream")["metadata"]["labels"]
        return {"name": "LOGSTREAM_TAIL", "value": "10"} in container[
            "env"
        ] and "app.kubernetes.io/managed-by" in labels

    wait_for("it to be right", right, timeout_s=15)


def test_an_idle_operator_writes_nothing(stream: LogStream) -> None:
    stream.write("one")
    stream.apply(autoscaling={})
    stream.wait("IngressReady", "True", "AddressKnown")
    stream.wait("AutoscalingActive", "True", timeout_s=120)
    stream.wait("Ready", "True", "Serving")

    def versions() -> dict[str, str]:
        kinds = "logstreams,services,ingresses,persistentvolumeclaims,events"
        # Of this test only: those of the ones before are still on their way out.
        mine = f"--selector=logstream.dev/namespace={stream.namespace}"
        items = [*stream.get(kinds)["items"], *stream.cluster.kubectl.get("persistentvolumes", mine)["items"]]
        return {
            f"{item['kind']} {item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in items
            if item["kind"] != "Event" or item["involvedObject"]["kind"] == "LogStream"
        }

    def is_quiet() -> bool:
        before = versions()
        time.sleep(25)  # two resyncs of this installation
        return versions() == before

    # More than once: figures for the autoscaler that come late on a busy machine are news.
    wait_for("a time without a write", is_quiet, timeout_s=40)


def test_an_object_of_somebody_else_is_left_alone(stream: LogStream) -> None:
    ports = [{"name": "x", "port": 1}]
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app-logstream"}, "spec": {"ports": ports}}
    stream.cluster.kubectl.apply(theirs, namespace=stream.namespace)
    stream.apply()
    wait_for("the refusal", lambda: "does not belong" in stream.condition("Available").get("message", ""), timeout_s=60)
    assert stream.get("service", "app-logstream")["spec"]["ports"][0]["port"] == 1


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"source": {"hostPath": "/etc"}}, "one of these folders, or below one: /minikube-host", id="a folder"
        ),
        pytest.param({"source": {"hostPath": "/minikube-host/../etc"}}, "without '..'", id="a way out"),
        pytest.param({"source": {"files": ["../../etc/passwd"]}}, "must be below the folder", id="a file outside"),
        pytest.param({"source": {"files": ["[a"]}}, "is not a glob", id="a glob that is none"),
        pytest.param({"source": {"supplementalGroups": [42]}}, "allowedRoots", id="a group"),
        pytest.param({"source": {"supplementalGroups": [2**31]}}, "equal to 2147483647", id="a group of no pod"),
        pytest.param({"server": {"authSecretRef": {"name": "a/b"}}}, "must be a name", id="a Secret's name"),
        pytest.param({"ingress": {"path": "/x"}}, "must end in /ws", id="a path"),
        pytest.param({"autoscaling": {"minReplicas": 11}}, "minReplicas must not be more", id="numbers"),
    ],
)
def test_what_kubectl_apply_refuses(stream: LogStream, change: dict[str, Any], words: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        stream.apply(**change)
    assert words in caught.value.output
    assert stream.find("logstreams") == []


def test_a_symlink_out_of_the_folder_gives_no_line(stream: LogStream) -> None:
    (stream.folder / "planted.log").symlink_to("/etc/passwd")
    (stream.folder / "folder").symlink_to("/etc")
    stream.apply(source={"files": ["planted.log", "folder/passwd"]})
    message = stream.wait("Ready", "False", "FilesRefused")
    assert "leads to" in message
    stream.apply(source={"hostPath": f"{stream.folder}/folder", "files": ["passwd"]})
    stream.wait("SourceAvailable", "False", "FilesRefused")


def test_a_node_that_is_not_there_is_named(stream: LogStream) -> None:
    stream.apply(source={"nodeSelector": {"disk": "ssd"}})
    assert "no node has the labels disk=ssd; nodes: node1" in stream.wait("Accepted", "False", "NoSuchNode")
    assert stream.find("deployments") == []


def test_two_nodes_are_one_too_many(stream: LogStream) -> None:
    second = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node2"}, "spec": {"unschedulable": True}}
    stream.write("one")
    stream.apply()
    stream.wait("Ready", "True")
    stream.cluster.kubectl.apply(second)
    try:
        message = stream.wait("Accepted", "False", "AmbiguousNode")
        assert "node1, node2" in message
        assert stream.first_lines(1) == ["one"], "what runs goes on"
        stream.patch(source={"sharedAcrossNodes": True})
        stream.wait("Accepted", "True")
        stream.wait("Ready", "True")
        stream.wait_first_lines(["one"])
    finally:
        stream.cluster.kubectl("delete", "node", "node2")
    stream.wait("Ready", "True")


def test_the_younger_of_two_on_one_path_is_told_of_a_free_one(stream: LogStream) -> None:
    stream.apply()
    stream.wait("IngressReady", "True")
    younger = LogStream(stream.cluster, stream.namespace, "younger")
    younger.apply()
    message = younger.wait("IngressReady", "False", "Conflict")
    free = f"/{stream.namespace}/younger/ws"
    assert free in message
    younger.apply(ingress={"path": free})
    younger.wait("IngressReady", "True")
    assert stream.condition("IngressReady")["status"] == "True"
    stream.apply(ingress={"path": free})
    assert "younger has" in stream.wait("IngressReady", "False", "Conflict"), "who has a path keeps it"
    assert younger.condition("IngressReady")["status"] == "True"
    assert len(stream.find("ingresses")) == 1


def test_a_claim_of_ours_is_mounted_read_only_or_not_at_all(stream: LogStream) -> None:
    stream.apply()
    stream.wait("VolumeReady", "True")
    (claim,) = [each["metadata"]["name"] for each in stream.find("pvc")]
    stream.cluster.kubectl("label", "namespace", stream.namespace, "pod-security.kubernetes.io/enforce-")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "thief"},
        "spec": {
            "containers": [{"name": "c", "image": stream.cluster.image}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
    with pytest.raises(CommandFailed) as caught:
        stream.cluster.kubectl.apply(pod, namespace=stream.namespace)
    assert "readOnly: true only" in caught.value.output


def test_a_name_with_dollars_is_followed_as_it_is(stream: LogStream) -> None:
    """Kubernetes would make one of two, and put a variable in the place of the other name."""
    stream.write("one", file="Task$$Lambda.log")
    stream.write("two", file="$(LOGSTREAM_PORT).log")
    stream.apply(source={"files": ["Task$$Lambda.log", "$(LOGSTREAM_PORT).log"]})
    message = stream.wait("SourceAvailable", "True", "Following")
    assert message == "2 files are followed"
    stream.wait_first_lines(["one"])


# -- the end -----------------------------------------------------------------------------------------------------------


def test_deleting_it_leaves_nothing(stream: LogStream) -> None:
    stream.apply(autoscaling={})
    stream.wait("Available", "True")
    assert len(stream.volumes()) == 1
    stream.kubectl("delete", "logstream", "app")
    kinds = "deployments,services,ingresses,hpa,pvc,pods"
    wait_for("everything to go", lambda: not stream.find(kinds) and not stream.volumes(), timeout_s=90, every_s=1)


def test_deleting_the_namespace_leaves_nothing(operator: Cluster, stream: LogStream) -> None:
    stream.apply()
    stream.wait("Available", "True")
    operator.kubectl("delete", "namespace", stream.namespace, "--timeout=200s")
    wait_for("the volume to go", lambda: not stream.volumes(), timeout_s=30, every_s=1)
    operator.kubectl("create", "namespace", stream.namespace)  # the fixture removes it


def test_what_was_deleted_while_the_operator_was_away_is_swept(operator: Cluster, stream: LogStream) -> None:
    stream.apply()
    stream.wait("Available", "True")
    system = f"--namespace={SYSTEM}"
    operator.kubectl("scale", OPERATOR, "--replicas=0", system)
    wait_for("the operator to end", lambda: not operator.kubectl.get("pods", system)["items"], timeout_s=60)
    try:
        stream.kubectl("delete", "logstream", "app")
        wait_for("the pods to go", lambda: not stream.find("pods,pvc,deployments"), timeout_s=90, every_s=1)
        (volume,) = stream.volumes()
        stream.wait_released(volume)  # a labelled volume is all that is left
    finally:
        operator.kubectl("scale", OPERATOR, "--replicas=1", system)
    wait_for("the volume to go", lambda: not stream.volumes(), timeout_s=60, every_s=1)
