"""assess: live objects in, conditions that a person understands out."""

from __future__ import annotations

from typing import Any

import pytest

from logstream_operator.assess import Observed, Report, assess, find_url
from logstream_operator.errors import Refused
from logstream_operator.resolve import Resolved, Surroundings
from logstream_operator.status import Condition, State, Type

from .examples import NODE, resolved

READY = {
    "PersistentVolumeClaim": {"status": {"phase": "Bound"}},
    "Deployment": {"spec": {"replicas": 2}, "status": {"replicas": 2, "readyReplicas": 2}},
    "Ingress": {"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}},
}


NOT_SHARED = 'path "/minikube-host" is mounted on "/" but it is not a shared or slave mount'


def look(kind: Type, found: Resolved | None = None, **seen: Any) -> Condition:
    objects = {**READY, **seen.pop("objects", {})}
    conditions = assess(found or resolved(), Observed(objects=objects, **seen))
    assert [each.type for each in conditions] == [kind for kind in Type if kind is not Type.READY]
    return next(each for each in conditions if each.type is kind)


def a_pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "app-1", "uid": "p", "creationTimestamp": "2026"}, "status": status}


def refusal(kind: str, status: int = 403, words: str = "quota exceeded") -> dict[str, Refused]:
    return {kind: Refused(kind, "app-logstream", status, words)}


@pytest.mark.parametrize(
    ("kind", "seen", "state", "reason", "words"),
    [
        pytest.param(Type.VOLUME_READY, {}, State.TRUE, "Bound", "/minikube-host", id="a bound claim"),
        pytest.param(
            Type.VOLUME_READY,
            {"objects": {"PersistentVolumeClaim": {"status": {"phase": "Lost"}}}},
            State.FALSE,
            "Lost",
            "deleted",
            id="a claim without its volume",
        ),
        pytest.param(
            Type.VOLUME_READY,
            {"objects": {"PersistentVolumeClaim": {}}},
            State.FALSE,
            "Binding",
            "waits",
            id="a new claim",
        ),
        pytest.param(
            Type.VOLUME_READY,
            {"refused": refusal("PersistentVolumeClaim")},
            State.FALSE,
            "Refused",
            "quota",
            id="a claim over the quota",
        ),
        pytest.param(Type.AVAILABLE, {}, State.TRUE, "ServersReady", "2 of 2", id="servers run"),
        pytest.param(
            Type.AVAILABLE,
            {"objects": {"Deployment": {"spec": {"replicas": 0}}}},
            State.FALSE,
            "ScaledToZero",
            "no server",
            id="scaled to nothing",
        ),
        pytest.param(
            Type.AVAILABLE, {"objects": {"Deployment": {}}}, State.FALSE, "Starting", "starting", id="no server yet"
        ),
        pytest.param(
            Type.AVAILABLE,
            {"objects": {"Deployment": {}}, "refused": refusal("Deployment")},
            State.FALSE,
            "Refused",
            "quota exceeded",
            id="a Deployment that is refused",
        ),
        pytest.param(
            Type.AVAILABLE,
            {"refused": refusal("PodMonitor", 404, "not found")},
            State.TRUE,
            "Refused",
            "needs the Prometheus operator",
            id="monitoring that is not installed leaves the servers be",
        ),
        pytest.param(
            Type.AVAILABLE,
            {
                "objects": {
                    "Deployment": {
                        "status": {
                            "conditions": [
                                {
                                    "type": "ReplicaFailure",
                                    "status": "True",
                                    "reason": "FailedCreate",
                                    "message": "violates PodSecurity",
                                }
                            ]
                        }
                    }
                }
            },
            State.FALSE,
            "FailedCreate",
            "violates PodSecurity",
            id="pods that may not be made",
        ),
        pytest.param(
            Type.AVAILABLE,
            {
                "objects": {"Deployment": {}},
                "pods": [
                    a_pod(
                        conditions=[
                            {
                                "type": "PodScheduled",
                                "status": "False",
                                "reason": "Unschedulable",
                                "message": "0/1 nodes",
                            }
                        ]
                    )
                ],
            },
            State.FALSE,
            "Unschedulable",
            "pod app-1: 0/1 nodes",
            id="a pod without a node",
        ),
        pytest.param(
            Type.AVAILABLE,
            {
                "objects": {"Deployment": {}},
                "pods": [
                    a_pod(containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such"}}}])
                ],
            },
            State.FALSE,
            "ImagePullBackOff",
            "no such",
            id="an image that is not there",
        ),
        pytest.param(
            Type.AVAILABLE,
            {
                "objects": {"Deployment": {}},
                "pods": [
                    a_pod(
                        containerStatuses=[
                            {
                                "state": {
                                    "waiting": {
                                        "reason": "CreateContainerError",
                                        "message": NOT_SHARED,
                                    }
                                }
                            }
                        ]
                    )
                ],
            },
            State.FALSE,
            "CreateContainerError",
            "mountPropagation: None",
            id="a mount that is not shared, with what to do",
        ),
        pytest.param(
            Type.AVAILABLE,
            {
                "objects": {"Deployment": {}},
                "pods": [
                    a_pod(
                        containerStatuses=[
                            {
                                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                                "lastState": {"terminated": {"exitCode": 2}},
                            }
                        ]
                    )
                ],
            },
            State.FALSE,
            "CrashLoopBackOff",
            "exit code 2",
            id="a server that ends",
        ),
        pytest.param(
            Type.AVAILABLE,
            {
                "objects": {"Deployment": {}},
                "pods": [a_pod(phase="Pending")],
                "events": [
                    {
                        "involvedObject": {"uid": "p"},
                        "type": "Warning",
                        "reason": "FailedMount",
                        "message": "hostPath type check failed: /minikube-host is not a directory",
                    }
                ],
            },
            State.FALSE,
            "FailedMount",
            "make the folder /minikube-host on the node",
            id="a folder that is not there, with what to do",
        ),
        pytest.param(
            Type.AVAILABLE,
            {"pods": [a_pod(containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}])]},
            State.TRUE,
            "ImagePullBackOff",
            "2 of 2 servers are ready; pod app-1: no",
            id="a rollout that is stuck while others serve",
        ),
        pytest.param(Type.SOURCE_AVAILABLE, {}, State.UNKNOWN, "NotAsked", "yet", id="nobody could be asked"),
        pytest.param(
            Type.SOURCE_AVAILABLE,
            {"report": Report(0, {"following": 1})},
            State.TRUE,
            "Following",
            "1 file is followed",
            id="a file",
        ),
        pytest.param(
            Type.SOURCE_AVAILABLE,
            {"report": Report(0, {"following": 2, "waiting": 1})},
            State.TRUE,
            "Following",
            "2 files are followed, 1 awaited",
            id="two files and one to come",
        ),
        pytest.param(
            Type.SOURCE_AVAILABLE,
            {"report": Report(0, {"waiting": 1})},
            State.FALSE,
            "NoFilesYet",
            "/minikube-host: *.log: no such file",
            id="a file that is awaited",
        ),
        pytest.param(
            Type.SOURCE_AVAILABLE,
            {"report": Report(0, {})},
            State.FALSE,
            "NoFilesYet",
            "no such file on the node yet",
            id="a glob that matches nothing",
        ),
        pytest.param(
            Type.SOURCE_AVAILABLE,
            {"report": Report(0, {"unreadable": 2})},
            State.FALSE,
            "FilesUnreadable",
            "user 65532",
            id="files of somebody else, with what to do",
        ),
        pytest.param(
            Type.SOURCE_AVAILABLE,
            {"report": Report(0, {"unreadable": 1}, ("a.log: Permission denied",))},
            State.FALSE,
            "FilesUnreadable",
            "a.log: Permission denied; user 65532",
            id="a file of somebody else in the server's words, with what to do",
        ),
        pytest.param(
            Type.SOURCE_AVAILABLE,
            {"report": Report(0, {"following": 1, "refused": 1}, ("x.log: it leads to '/etc'",))},
            State.TRUE,
            "FilesRefused",
            "leads to '/etc'",
            id="one of several that leads outside",
        ),
        pytest.param(Type.INGRESS_READY, {}, State.TRUE, "AddressKnown", "10.0.0.1", id="an address"),
        pytest.param(
            Type.INGRESS_READY, {"objects": {"Ingress": {}}}, State.FALSE, "AddressPending", "running", id="none yet"
        ),
        pytest.param(
            Type.INGRESS_READY,
            {"refused": refusal("Ingress", 400, 'admission webhook "validate.nginx" denied: path taken')},
            State.FALSE,
            "Refused",
            "path taken",
            id="the words of the controller's webhook",
        ),
        pytest.param(Type.AUTOSCALING_ACTIVE, {}, State.FALSE, "Disabled", "absent", id="no autoscaling"),
    ],
)
def test_conditions(kind: Type, seen: dict[str, Any], state: State, reason: str, words: str) -> None:
    found = look(kind, **seen)
    assert (found.state, found.reason) == (state, reason)
    assert words in found.message


def test_who_may_read_is_said() -> None:
    assert look(Type.ACCEPTED).reason == "ServesWithoutToken"
    assert look(Type.ACCEPTED, resolved({"server": {"authSecretRef": {"name": "t"}}})).reason == "Accepted"


def test_a_claim_that_is_being_bound_is_no_complaint() -> None:
    words = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    event = {"involvedObject": {"uid": "p"}, "type": "Warning", "reason": "FailedScheduling", "message": words}
    for pod in (a_pod(conditions=[condition]), a_pod(phase="Pending")):
        found = look(Type.AVAILABLE, objects={"Deployment": {}}, pods=[pod], events=[event])
        assert found.reason == "Starting"


def test_a_pod_that_ends_has_nothing_to_complain_of() -> None:
    pod = a_pod(containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull"}}}])
    pod["metadata"]["deletionTimestamp"] = "now"
    assert look(Type.AVAILABLE, pods=[pod]).reason == "ServersReady"


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        pytest.param({}, State.UNKNOWN, "NoMetricsYet", id="not looked yet"),
        pytest.param(
            {"conditions": [{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}]},
            State.TRUE,
            "Active",
            id="figures",
        ),
        pytest.param(
            {"conditions": [{"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric"}]},
            State.FALSE,
            "FailedGetResourceMetric",
            id="no figures",
        ),
        pytest.param(
            {
                "conditions": [
                    {
                        "type": "ScalingActive",
                        "status": "False",
                        "reason": "FailedGetResourceMetric",
                        "message": "did not receive metrics for targeted pods (pods might be unready)",
                    }
                ]
            },
            State.UNKNOWN,
            "NoMetricsYet",
            id="servers that were not measured yet",
        ),
    ],
)
def test_autoscaling(status: dict[str, Any], state: State, reason: str) -> None:
    found = look(
        Type.AUTOSCALING_ACTIVE,
        resolved({"autoscaling": {}}),
        objects={"HorizontalPodAutoscaler": {"status": status}},
    )
    assert (found.state, found.reason) == (state, reason)
    refused = look(Type.AUTOSCALING_ACTIVE, resolved({"autoscaling": {}}), refused=refusal("HorizontalPodAutoscaler"))
    assert refused.reason == "Refused"


@pytest.mark.parametrize(("reason", "advised"), [("FailedGetResourceMetric", True), ("FailedGetScale", False)])
def test_metrics_server_is_named_where_figures_are_missing_only(reason: str, advised: bool) -> None:
    status = {"conditions": [{"type": "ScalingActive", "status": "False", "reason": reason, "message": "words"}]}
    found = look(
        Type.AUTOSCALING_ACTIVE,
        resolved({"autoscaling": {}}),
        objects={"HorizontalPodAutoscaler": {"status": status}},
    )
    assert ("metrics-server" in found.message) is advised


def test_an_image_that_cannot_be_pulled_is_one_state() -> None:
    """The kubelet says one after the other, for ever: each would be an event."""
    reasons = set()
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        pod = a_pod(containerStatuses=[{"state": {"waiting": {"reason": reason, "message": "no such image"}}}])
        reasons.add(look(Type.AVAILABLE, resolved(), objects={"Deployment": {}}, pods=[pod]).reason)
    assert reasons == {"ImagePullBackOff"}


def test_an_ingress_that_cannot_be() -> None:
    found = look(Type.INGRESS_READY, resolved(around=Surroundings([NODE], [])))
    assert (found.state, found.reason) == (State.FALSE, "ClassMissing")
    assert look(Type.INGRESS_READY, resolved({"ingress": {"enabled": False}})).reason == "Disabled"


def test_a_host_is_enough_for_an_ingress() -> None:
    found = look(Type.INGRESS_READY, resolved({"ingress": {"host": "a.example"}}), objects={"Ingress": {}})
    assert (found.state, found.reason) == (State.TRUE, "HostKnown")


def test_a_claim_of_the_author_is_theirs() -> None:
    source = {"hostPath": None, "persistentVolumeClaim": {"claimName": "logs"}}
    found = look(Type.VOLUME_READY, resolved({"source": source}), objects={"PersistentVolumeClaim": {}})
    assert (found.state, found.reason) == (State.TRUE, "OwnClaim")


@pytest.mark.parametrize(
    ("ingress", "objects", "url"),
    [
        pytest.param({}, READY, "ws://10.0.0.1/ws", id="the controller's address"),
        pytest.param({"path": "/a/ws"}, READY, "ws://10.0.0.1/a/ws", id="a path"),
        pytest.param({"host": "a.example"}, READY, "ws://a.example/ws", id="a host"),
        pytest.param(
            {"host": "a.example", "tls": [{"secretName": "t"}]}, READY, "wss://a.example/ws", id="a certificate"
        ),
        pytest.param({"enabled": False}, READY, "ws://app-logstream.team.svc/ws", id="inside the cluster"),
        pytest.param({}, {}, None, id="no address yet"),
        pytest.param(
            {},
            {"Ingress": {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}}},
            "ws://lb.example/ws",
            id="a load balancer's name",
        ),
        pytest.param(
            {},
            {"Ingress": {"status": {"loadBalancer": {"ingress": [{"ip": "fd00::1"}]}}}},
            "ws://[fd00::1]/ws",
            id="IPv6",
        ),
    ],
)
def test_the_url(ingress: dict[str, Any], objects: dict[str, Any], url: str | None) -> None:
    assert find_url(resolved({"ingress": ingress}), Observed(objects=objects)) == url


def test_no_url_for_an_ingress_that_was_refused() -> None:
    found = resolved({"ingress": {"host": "a.example"}})
    assert find_url(found, Observed(objects=READY, refused=refusal("Ingress"))) is None
