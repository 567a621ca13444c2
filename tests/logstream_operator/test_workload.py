"""workload: the servers' Deployment and Service."""

from __future__ import annotations

from typing import Any

import pytest

from logstream_operator.names import selector
from logstream_operator.resolve import Resolved
from logstream_operator.workload import (
    DEFAULT_RESOURCES,
    DRAIN_S,
    GRACE_S,
    PRE_STOP_S,
    Defaults,
    merge_resources,
    render_deployment,
    render_environment,
    render_service,
)

from .examples import DEFAULTS, resolved

CLAIM = {"source": {"hostPath": None, "persistentVolumeClaim": {"claimName": "logs"}}}


def pod(found: Resolved, defaults: Defaults = DEFAULTS) -> dict[str, Any]:
    template: dict[str, Any] = render_deployment(found, "claim", defaults)["spec"]["template"]
    return template


def container(found: Resolved) -> dict[str, Any]:
    (only,) = pod(found)["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_dollars_reach_the_server_as_they_are() -> None:
    """The kubelet makes one of two, and takes $(NAME) for a variable."""
    found = resolved({"source": {"files": ["Task$$Lambda.log", "$(HOSTNAME).log"]}})
    (paths,) = [each["value"] for each in container(found)["env"] if each["name"] == "LOGSTREAM_PATHS"]
    assert paths == "/minikube-host/Task$$$$Lambda.log\n/minikube-host/$$(HOSTNAME).log\n"


def test_the_pod_passes_the_restricted_standard() -> None:
    """Field by field as in the standard; the cluster's own check is in the tests of the cluster."""
    spec = pod(resolved({"server": {"authSecretRef": {"name": "t"}}}))["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in spec["containers"]:
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert each["securityContext"]["readOnlyRootFilesystem"]
    assert {key for volume in spec["volumes"] for key in volume} <= {"name", "persistentVolumeClaim", "secret"}


def test_the_pod_can_write_nowhere_and_knows_no_token_of_the_cluster() -> None:
    spec = pod(resolved({"server": {"authSecretRef": {"name": "t"}}}))["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert all(mount["readOnly"] for mount in spec["containers"][0]["volumeMounts"])
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": "claim", "readOnly": True}


def test_the_root_is_mounted_and_not_the_path_below_it() -> None:
    """A symlink in the place of the path would otherwise be followed by the node."""
    found = resolved({"source": {"hostPath": "/minikube-host/a"}})
    (mount,) = container(found)["volumeMounts"]
    assert mount["mountPath"] == "/minikube-host"
    assert mount["mountPropagation"] == "HostToContainer"
    environment = render_environment(found)
    assert environment["LOGSTREAM_PATHS"] == "/minikube-host/a/*.log\n"
    assert environment["LOGSTREAM_ROOT"] == "/minikube-host\n"


def test_a_claim_is_mounted_under_a_path_of_ours() -> None:
    (mount,) = container(resolved(CLAIM))["volumeMounts"]
    assert mount == {"name": "source", "mountPath": "/logs", "readOnly": True}
    assert render_environment(resolved(CLAIM))["LOGSTREAM_PATHS"] == "/logs/*.log\n"
    assert "nodeSelector" not in pod(resolved(CLAIM))["spec"]


def test_a_comma_in_a_name_does_not_split_it() -> None:
    """The server splits a variable of one line at its commas."""
    environment = render_environment(resolved({"source": {"files": ["a,b.log"]}}))
    assert environment["LOGSTREAM_PATHS"].endswith("\n")


@pytest.mark.parametrize(
    ("change", "variables"),
    [
        pytest.param({}, {"LOGSTREAM_INSECURE_OPEN": "yes"}, id="without a token, that is said"),
        pytest.param(
            {"server": {"authSecretRef": {"name": "t"}}},
            {"LOGSTREAM_TOKEN_FILE": "/run/logstream/tokens"},
            id="with one, its file",
        ),
        pytest.param({"ingress": {"path": "/a/b/ws"}}, {"LOGSTREAM_BASE_PATH": "/a/b"}, id="the base path"),
        pytest.param({"server": {"tailLines": 3}}, {"LOGSTREAM_TAIL": "3"}, id="last lines"),
        pytest.param({"server": {"maxClients": 9}}, {"LOGSTREAM_MAX_CLIENTS": "9"}, id="the limit of clients"),
        pytest.param(
            {"server": {"allowedOrigins": ["https://a", "https://b"]}},
            {"LOGSTREAM_ALLOWED_ORIGIN": "https://a\nhttps://b\n"},
            id="origins",
        ),
    ],
)
def test_options_of_the_server(change: dict[str, Any], variables: dict[str, str]) -> None:
    assert variables.items() <= render_environment(resolved(change)).items()


def test_with_a_token_the_server_is_not_open() -> None:
    assert "LOGSTREAM_INSECURE_OPEN" not in render_environment(resolved({"server": {"authSecretRef": {"name": "t"}}}))


def test_the_token_is_one_key_of_the_secret() -> None:
    spec = pod(resolved({"server": {"authSecretRef": {"name": "t", "key": "k"}}}))["spec"]
    assert spec["volumes"][1] == {
        "name": "tokens",
        "secret": {"secretName": "t", "items": [{"key": "k", "path": "tokens"}]},
    }


def test_groups_are_asked_for() -> None:
    found = resolved({"source": {"hostPath": "/var/log/apps", "supplementalGroups": [4]}})
    assert pod(found)["spec"]["securityContext"]["supplementalGroups"] == [4]


def test_the_drain_fits_into_the_grace_period() -> None:
    assert PRE_STOP_S + DRAIN_S < GRACE_S
    found = resolved()
    assert pod(found)["spec"]["terminationGracePeriodSeconds"] == GRACE_S
    assert container(found)["lifecycle"] == {"preStop": {"sleep": {"seconds": PRE_STOP_S}}}
    assert render_environment(found)["LOGSTREAM_DRAIN"] == str(DRAIN_S)


def test_a_rollout_takes_no_server_away_before_its_successor_is_ready() -> None:
    strategy = render_deployment(resolved(), "claim", DEFAULTS)["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def test_replicas_are_ours_only_without_an_autoscaler() -> None:
    assert render_deployment(resolved({"replicas": 0}), "claim", DEFAULTS)["spec"]["replicas"] == 0
    assert "replicas" not in render_deployment(resolved({"autoscaling": {}}), "claim", DEFAULTS)["spec"]


def test_servers_are_pinned_to_the_node_of_the_files() -> None:
    assert pod(resolved())["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}


def test_the_service_finds_the_pods() -> None:
    found = resolved()
    service = render_service(found)
    labels = pod(found)["metadata"]["labels"]
    assert service["spec"]["selector"] == selector("app")
    assert service["spec"]["selector"].items() <= labels.items()
    ports = {port["name"] for port in container(found)["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {"http"}
    assert "http" in ports
    assert "metrics" not in {port["name"] for port in service["spec"]["ports"]}, "metrics stay off the Service"


def test_the_administrator_chooses_the_image() -> None:
    defaults = Defaults("registry/x:2", "Always", ("secret",))
    spec = pod(resolved(), defaults)["spec"]
    assert (spec["containers"][0]["image"], spec["containers"][0]["imagePullPolicy"]) == ("registry/x:2", "Always")
    assert spec["imagePullSecrets"] == [{"name": "secret"}]


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        pytest.param({}, dict(DEFAULT_RESOURCES), id="nothing said"),
        pytest.param(
            {"requests": {"memory": "2Gi"}},
            {"requests": {"cpu": "100m", "memory": "2Gi"}},
            id="a request over the default limit takes that away",
        ),
        pytest.param(
            {"limits": {"memory": "64Mi"}},
            {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
            id="a limit below the default request takes that away",
        ),
        pytest.param(
            {"requests": {"cpu": 2}},
            {"requests": {"memory": "128Mi", "cpu": 2}, "limits": {"memory": "512Mi"}},
            id="only CPU",
        ),
    ],
)
def test_defaults_of_resources(given: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge_resources(given, DEFAULT_RESOURCES) == merged
