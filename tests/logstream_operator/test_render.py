"""render: all objects of a LogStream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from logstream_operator import names
from logstream_operator.plan import plan
from logstream_operator.render import claim_name, render
from logstream_operator.resolve import IngressClass, Surroundings, resolve
from logstream_operator.workload import Access, Manifest

from .examples import AROUND, DEFAULTS, NODE, RULES, UID, a_stream, label_names, resolved, specs

CLASSES = [IngressClass("nginx", "k8s.io/ingress-nginx")]


def rendered(change: Any = None, **more: Any) -> dict[str, Manifest]:
    return {manifest["kind"]: manifest for manifest in render(resolved(change, **more), DEFAULTS)}


def test_the_least_spec_becomes_five_objects() -> None:
    assert list(rendered()) == ["PersistentVolume", "PersistentVolumeClaim", "Deployment", "Service", "Ingress"]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        pytest.param({"autoscaling": {}}, {"HorizontalPodAutoscaler"}, id="autoscaling"),
        pytest.param({"monitoring": {"podMonitor": True}}, {"PodMonitor"}, id="monitoring"),
    ],
)
def test_what_is_asked_for_comes_as_well(change: dict[str, Any], kinds: set[str]) -> None:
    assert rendered(change).keys() - rendered().keys() == kinds


def test_who_reaches_the_servers_is_for_the_administrator_to_say() -> None:
    scraper, ingress = {"podSelector": {"matchLabels": {"a": "b"}}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}
    open_to_all = replace(DEFAULTS, access=Access((scraper,)))
    found = {each["kind"]: each for each in render(resolved(), open_to_all)}
    spec = found["NetworkPolicy"]["spec"]
    assert spec["podSelector"]["matchLabels"] == found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert spec["policyTypes"] == ["Ingress", "Egress"], "servers reach nobody"
    assert spec["ingress"] == [{"ports": [{"port": "http"}]}, {"ports": [{"port": "metrics"}], "from": [scraper]}]
    narrow = render(resolved(), replace(DEFAULTS, access=Access((scraper,), (ingress,))))[-1]
    client = {"podSelector": {"matchLabels": {"logstream.dev/client": "app"}}}
    assert narrow["spec"]["ingress"][0] == {"ports": [{"port": "http"}], "from": [ingress, client]}


def test_what_is_not_wanted_is_not_there() -> None:
    claim = {"source": {"hostPath": None, "persistentVolumeClaim": {"claimName": "logs"}}}
    assert "Ingress" not in rendered({"ingress": {"enabled": False}})
    assert {"PersistentVolume", "PersistentVolumeClaim"} & rendered(claim).keys() == set()


@given(specs, label_names)
def test_every_object_is_named_labelled_and_owned(spec: dict[str, Any], name: str) -> None:
    stream = a_stream(name=name)
    found = render(resolved(_change(spec), name=name), DEFAULTS)
    for manifest in found:
        metadata = manifest["metadata"]
        assert len(metadata["name"]) <= 63
        assert metadata["labels"].items() >= names.labels(stream.key, UID).items()
        assert names.key_of(metadata["labels"]) == stream.key
        if manifest["kind"] == "PersistentVolume":
            assert "namespace" not in metadata
            assert "ownerReferences" not in metadata, "the garbage collector would delete it at once"
        else:
            assert metadata["namespace"] == "team"
            assert metadata["ownerReferences"][0]["uid"] == UID
            assert metadata["ownerReferences"][0]["controller"] is True
    assert len({names.object_id(manifest) for manifest in found}) == len(found)


def _change(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as a change of the least one, whose folder it may not have."""
    return {**spec, "source": {"hostPath": None, **spec["source"]}}


@given(specs)
def test_rendering_twice_is_the_same(spec: dict[str, Any]) -> None:
    change = _change(spec)
    first, second = render(resolved(change), DEFAULTS), render(resolved(change), DEFAULTS)
    assert json.dumps(first) == json.dumps(second)
    assert not plan(first, second)


def test_only_our_claim_can_bind_the_volume() -> None:
    found = rendered()
    volume, claim = found["PersistentVolume"], found["PersistentVolumeClaim"]
    name = claim["metadata"]["name"]
    assert volume["spec"]["claimRef"] | {"namespace": "team", "name": name} == volume["spec"]["claimRef"]
    assert claim["metadata"]["name"] == volume["metadata"]["name"] == name
    wanted = claim["spec"]["selector"]["matchLabels"]
    assert wanted == {names.LABEL_UID: UID}, "and it can bind no volume but ours"
    assert wanted.items() <= volume["metadata"]["labels"].items()
    assert "volumeName" not in claim["spec"], "two workers would write the volume's phase, and one wait for 15 s"
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["hostPath"] == {"path": "/minikube-host", "type": "Directory"}


def test_the_volume_says_where_it_is() -> None:
    (term,) = rendered()["PersistentVolume"]["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}]}
    assert "nodeAffinity" not in rendered({"source": {"sharedAcrossNodes": True}})["PersistentVolume"]["spec"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"source": {"hostPath": "/var/log/apps"}}, id="another root"),
        pytest.param({"source": {"sharedAcrossNodes": True}}, id="other nodes"),
    ],
)
def test_another_source_is_another_volume(change: dict[str, Any]) -> None:
    """Nothing in a volume can be changed once it is bound."""
    assert claim_name(resolved(change)) != claim_name(resolved())
    assert claim_name(resolved(uid="another")) != claim_name(resolved())


def test_a_path_below_the_same_root_keeps_the_volume() -> None:
    assert claim_name(resolved({"source": {"hostPath": "/minikube-host/a"}})) == claim_name(resolved())


@pytest.mark.parametrize(
    ("ingress", "paths"),
    [
        pytest.param({}, [("/ws", "Exact")], id="the socket and nothing else"),
        pytest.param({"viewer": True}, [("/ws", "Exact"), ("/", "Prefix")], id="with the page"),
        pytest.param(
            {"viewer": True, "path": "/a/ws"}, [("/a/ws", "Exact"), ("/a", "Prefix")], id="with the page below a path"
        ),
    ],
)
def test_paths_of_the_ingress(ingress: dict[str, Any], paths: list[tuple[str, str]]) -> None:
    (rule,) = rendered({"ingress": ingress})["Ingress"]["spec"]["rules"]
    assert [(path["path"], path["pathType"]) for path in rule["http"]["paths"]] == paths
    assert "host" not in rule


def test_annotations_of_the_author_beat_those_of_the_flavour() -> None:
    key = "nginx.ingress.kubernetes.io/proxy-read-timeout"
    plain = rendered()["Ingress"]["metadata"]["annotations"]
    own = rendered({"ingress": {"annotations": {key: "60", "a/b": "c"}}})["Ingress"]["metadata"]["annotations"]
    assert (plain[key], own[key], own["a/b"]) == ("3600", "60", "c")
    assert key not in rendered({"ingress": {"flavor": "traefik"}})["Ingress"]["metadata"]["annotations"]


def test_host_class_and_certificates() -> None:
    tls = [{"secretName": "cert"}, {"hosts": ["b.example"], "secretName": "b"}]
    spec = rendered({"ingress": {"host": "a.example", "tls": tls}})["Ingress"]["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["rules"][0]["host"] == "a.example"
    assert spec["tls"] == [{"hosts": ["a.example"], "secretName": "cert"}, {"hosts": ["b.example"], "secretName": "b"}]
    around = Surroundings([NODE], [IngressClass("x", "y", is_default=True)])
    assert "ingressClassName" not in rendered({"ingress": {"className": ""}}, around=around)["Ingress"]["spec"]


def test_the_autoscaler() -> None:
    scaling = {
        "minReplicas": 2,
        "maxReplicas": 5,
        "targetCPUUtilizationPercentage": 60,
        "scaleDown": {"stabilizationWindowSeconds": 60},
    }
    found = rendered({"autoscaling": scaling})
    spec = found["HorizontalPodAutoscaler"]["spec"]
    assert spec["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 60
    requests = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert "cpu" in requests, "the percentage is of the request"


def test_selectors_are_the_same_whatever_the_spec_says() -> None:
    expected = {"app.kubernetes.io/name": "logstream", "app.kubernetes.io/instance": "app"}
    change = {"autoscaling": {}, "monitoring": {"podMonitor": True}, "ingress": {"path": "/a/ws"}}
    for found in (rendered(), rendered(change)):
        assert found["Deployment"]["spec"]["selector"]["matchLabels"] == expected
    assert rendered(change)["PodMonitor"]["spec"]["selector"]["matchLabels"] == expected


def test_a_resource_without_its_path_has_no_ingress() -> None:
    old = a_stream(name="old", uid="o", created="2025")
    found = resolve(a_stream(), RULES, Surroundings(AROUND.nodes, AROUND.classes, [old]))
    assert "Ingress" not in {manifest["kind"] for manifest in render(found, DEFAULTS)}
