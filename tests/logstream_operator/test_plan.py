"""plan: from what should be and what is, what to do."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from logstream_operator import names
from logstream_operator.names import object_id
from logstream_operator.plan import (
    Plan,
    covers,
    hands_over_replicas,
    is_ours,
    mounted_claims,
    name_taken,
    plan,
)
from logstream_operator.render import render
from logstream_operator.workload import Manifest

from .examples import DEFAULTS, applied, resolved, specs

DESIRED = render(resolved({"autoscaling": {}}), DEFAULTS)
OTHER_SOURCE = render(resolved({"source": {"hostPath": "/var/log/apps"}}), DEFAULTS)


def live(manifests: list[Manifest] = DESIRED) -> list[Manifest]:
    return [applied(manifest) for manifest in manifests]


def kinds(manifests: Any) -> list[str]:
    return [manifest["kind"] for manifest in manifests]


def find(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


@given(specs)
def test_what_was_applied_is_left_alone(spec: dict[str, Any]) -> None:
    change = {"source": {"hostPath": None, **spec["source"]}, **{k: v for k, v in spec.items() if k != "source"}}
    found = render(resolved(change), DEFAULTS)
    assert not plan(found, live(found))
    assert plan(found, []) == Plan(tuple(found))
    assert [object_id(manifest) for manifest in plan([], live(found)).delete] == [
        object_id(manifest) for manifest in found if manifest["kind"] != "PersistentVolume"
    ], "the volume stays as long as its claim is there"


def change_image(manifest: Manifest) -> None:
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"


def drop_label(manifest: Manifest) -> None:
    del manifest["metadata"]["labels"][names.LABEL_INSTANCE]


def drop_mark(manifest: Manifest) -> None:
    del manifest["metadata"]["annotations"][names.ANNOTATION_APPLIED]


def drop_variable(manifest: Manifest) -> None:
    manifest["spec"]["template"]["spec"]["containers"][0]["env"].pop()


@pytest.mark.parametrize("edit", [change_image, drop_label, drop_mark, drop_variable])
def test_an_edit_by_hand_is_undone(edit: Any) -> None:
    owned = deepcopy(live())
    edit(find(owned, "Deployment"))
    assert kinds(plan(DESIRED, owned).apply) == ["Deployment"]


def test_what_others_add_is_theirs() -> None:
    owned = deepcopy(live())
    deployment = find(owned, "Deployment")
    deployment["spec"]["replicas"] = 7
    deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "3"
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["terminationMessagePath"] = "/dev/termination-log"
    container["env"].append({"name": "OTHER", "value": "x"})
    deployment["spec"]["template"]["spec"]["containers"].append({"name": "sidecar"})
    assert not plan(DESIRED, owned)


def test_an_object_that_was_deleted_comes_back() -> None:
    owned = [manifest for manifest in live() if manifest["kind"] != "Service"]
    assert kinds(plan(DESIRED, owned).apply) == ["Service"]


def test_what_is_no_longer_wanted_goes() -> None:
    without = render(resolved({"ingress": {"enabled": False}}), DEFAULTS)
    found = plan(without, live())
    assert kinds(found.delete) == ["Ingress", "HorizontalPodAutoscaler"]
    assert kinds(found.apply) == ["Deployment"]


def test_what_is_being_deleted_is_neither_deleted_nor_applied() -> None:
    owned = live()
    find(owned, "Ingress")["metadata"]["deletionTimestamp"] = "now"
    assert not plan(DESIRED, owned)
    assert not plan([m for m in DESIRED if m["kind"] != "Ingress"], owned)


def test_an_old_claim_stays_while_a_pod_mounts_it() -> None:
    old, new = live(), live(OTHER_SOURCE)
    claim = find(old, "PersistentVolumeClaim")
    both = [*new, claim, find(old, "PersistentVolume")]
    assert plan(OTHER_SOURCE, both, mounted={claim["metadata"]["name"]}) == Plan()
    assert plan(OTHER_SOURCE, both) == Plan(delete=(claim,))


def test_an_old_volume_goes_after_its_claim() -> None:
    volume = find(live(), "PersistentVolume")
    assert plan(OTHER_SOURCE, [*live(OTHER_SOURCE), volume]) == Plan(delete=(volume,))


def test_a_volume_whose_claim_was_deleted_is_made_anew() -> None:
    """It still refers to the claim that is gone, and takes no other, even of the same name."""
    owned = [manifest for manifest in live() if manifest["kind"] != "PersistentVolumeClaim"]
    volume = find(owned, "PersistentVolume")
    volume["status"] = {"phase": "Released"}
    found = plan(DESIRED, owned)
    assert found.delete == (volume,)
    assert kinds(found.apply) == ["PersistentVolumeClaim"]


def test_an_object_of_somebody_else_is_not_taken_over() -> None:
    foreign = {"kind": "Service", "metadata": {"name": "app-logstream"}}
    owned = [manifest for manifest in live() if manifest["kind"] != "Service"]
    assert plan(DESIRED, owned, [foreign]) == Plan(taken=(foreign,))
    assert "does not belong to this LogStream" in str(name_taken(foreign))


def test_whose_an_object_is() -> None:
    deployment, volume = find(DESIRED, "Deployment"), find(DESIRED, "PersistentVolume")
    assert is_ours(applied(deployment), deployment)
    assert is_ours({"metadata": {"ownerReferences": deployment["metadata"]["ownerReferences"]}}, deployment)
    assert not is_ours({"metadata": {"labels": deployment["metadata"]["labels"]}}, deployment)
    assert is_ours({"metadata": {}}, volume), "its name is a hash of our own, and it can have no owner"
    assert not is_ours({"metadata": {"labels": {names.LABEL_UID: "other"}}}, volume)


@pytest.mark.parametrize(
    ("there", "wanted", "same"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, True, id="more keys"),
        pytest.param({}, {"a": 1}, False, id="a key that is missing"),
        pytest.param({}, {"a": {}, "b": [], "c": ""}, True, id="what is empty is left out"),
        pytest.param({}, {"a": False}, False, id="false is not empty"),
        pytest.param({"cpu": "500m"}, {"cpu": "0.5"}, True, id="one quantity in two ways"),
        pytest.param({"memory": "1Gi"}, {"memory": "1024Mi"}, True, id="one size in two ways"),
        pytest.param({"cpu": "2"}, {"cpu": 2}, True, id="a quantity as a number"),
        pytest.param({"cpu": "1"}, {"cpu": "1m"}, False, id="two quantities"),
        pytest.param({"cpu": "1m"}, {"cpu": "0.0001"}, True, id="a quantity that is finer than the API server's"),
        pytest.param({"memory": "214748364800m"}, {"memory": "0.2Gi"}, True, id="a part of a byte"),
        pytest.param({"memory": "9E"}, {"memory": "9000P"}, True, id="a large quantity"),
        pytest.param({"a": "1k"}, {"a": "1000"}, True, id="a thousand"),
        pytest.param({"a": True}, {"a": "1"}, False, id="a truth value is no quantity"),
        pytest.param(["a", "b"], ["a"], False, id="plain lists are compared in full"),
        pytest.param([{"host": "a"}, {"host": "b"}], [{"host": "a"}], False, id="so are lists of unnamed things"),
        pytest.param([{"name": "b"}, {"name": "a", "x": 1}], [{"name": "a"}], True, id="named things are found"),
        pytest.param("abc", ["a", "b", "c"], False, id="a text is no list"),
        pytest.param(None, {"a": 1}, False, id="nothing there"),
    ],
)
def test_covers(there: Any, wanted: Any, same: bool) -> None:
    assert covers(there, wanted) is same


def with_replicas(replicas: int, *managers: str, subresource: str = "") -> Manifest:
    deployment = deepcopy(applied(find(DESIRED, "Deployment")))
    deployment["spec"]["replicas"] = replicas
    entry = {"fieldsV1": {"f:spec": {"f:replicas": {}}}, **({"subresource": subresource} if subresource else {})}
    deployment["metadata"]["managedFields"] = [{"manager": manager, **entry} for manager in managers]
    return deployment


@pytest.mark.parametrize(
    ("deployment", "replicas"),
    [
        pytest.param(None, None, id="nothing yet"),
        pytest.param(with_replicas(3, names.MANAGER), 3, id="ours: as many as there are"),
        pytest.param(with_replicas(0, names.MANAGER), 1, id="none: an autoscaler would leave it so"),
        pytest.param(with_replicas(0, "kubectl", subresource="scale"), 1, id="none, by hand"),
        pytest.param(with_replicas(3, names.HANDOVER_MANAGER), None, id="handed over already"),
        pytest.param(with_replicas(3, "kube-controller-manager", subresource="scale"), None, id="the autoscaler's"),
        pytest.param(with_replicas(3), None, id="nobody's"),
    ],
)
def test_replicas_are_handed_over_once(deployment: Manifest | None, replicas: int | None) -> None:
    assert hands_over_replicas(find(DESIRED, "Deployment"), deployment) == replicas


def test_what_was_scaled_to_nothing_by_hand_under_an_autoscaler_is_put_right() -> None:
    stopped, two = with_replicas(0, "kubectl", subresource="scale"), with_replicas(2, "kubectl", subresource="scale")
    others = [manifest for manifest in live() if manifest["kind"] != "Deployment"]
    assert kinds(plan(DESIRED, [*others, stopped]).apply) == ["Deployment"]
    assert not plan(DESIRED, [*others, two])


def test_replicas_are_not_handed_over_while_we_set_them() -> None:
    fixed = find(render(resolved({"replicas": 2}), DEFAULTS), "Deployment")
    assert hands_over_replicas(fixed, with_replicas(3, names.MANAGER)) is None


def test_mounted_claims() -> None:
    pods = [
        {
            "spec": {
                "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "x"}}, {"name": "b", "emptyDir": {}}]
            }
        },
        {"spec": {}},
    ]
    assert mounted_claims(pods) == {"x"}
