"""resolve: what a spec leaves open, decided from the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from logstream_operator.errors import NotAccepted
from logstream_operator.names import LABEL_UID
from logstream_operator.placement import Node
from logstream_operator.render import render
from logstream_operator.resolve import (
    IngressClass,
    Resolved,
    Rules,
    Surroundings,
    find_conflict,
    parse_held,
    parse_ingress_class,
    resolve,
)
from logstream_operator.roots import Root
from logstream_operator.spec import Flavor

from .examples import AROUND, DEFAULTS, NGINX, NODE, RULES, a_stream, merge, resolved

TRAEFIK = IngressClass("traefik", "traefik.io/ingress-controller", is_default=True)
OTHER = IngressClass("other", "example.com/other")


def test_the_least_spec_on_a_cluster_of_one_node() -> None:
    found = resolved()
    assert isinstance(found, Resolved)
    assert found.root == Root("/minikube-host")
    assert found.placement is not None
    assert found.placement.node == "node-1"
    assert (found.class_name, found.flavor, found.ingress_fault) == ("nginx", Flavor.NGINX, None)
    assert found.has_ingress
    assert not found.has_token


def test_a_claim_needs_neither_root_nor_node() -> None:
    source = {"hostPath": None, "persistentVolumeClaim": {"claimName": "logs"}}
    found = resolved({"source": source}, rules=Rules(()), around=Surroundings([], [NGINX]))
    assert (found.root, found.placement) == (None, None)


@pytest.mark.parametrize(
    ("ingress", "name", "flavor"),
    [
        pytest.param({}, "nginx", Flavor.NGINX, id="by the class that is named"),
        pytest.param({"className": ""}, None, Flavor.TRAEFIK, id="by the default class, which stays unnamed"),
        pytest.param({"className": "other"}, "other", Flavor.NONE, id="none for a controller that is not known"),
        pytest.param({"className": "other", "flavor": "nginx"}, "other", Flavor.NGINX, id="as the author says"),
    ],
)
def test_the_flavour(ingress: dict[str, Any], name: str | None, flavor: Flavor) -> None:
    found = resolved({"ingress": ingress}, around=Surroundings([NODE], [NGINX, TRAEFIK, OTHER]))
    assert (found.class_name, found.flavor) == (name, flavor)


@pytest.mark.parametrize(
    ("ingress", "classes", "words"),
    [
        pytest.param({}, [TRAEFIK], "no IngressClass nginx; the cluster has: traefik", id="another class"),
        pytest.param({}, [], "no ingress controller seems to be installed", id="no class"),
        pytest.param({"className": ""}, [NGINX], "must name one; there are: nginx", id="no default class"),
    ],
)
def test_a_class_that_is_missing_leaves_the_rest(
    ingress: dict[str, Any], classes: list[IngressClass], words: str
) -> None:
    found = resolved({"ingress": ingress}, around=Surroundings([NODE], classes))
    assert found.ingress_fault is not None
    assert found.ingress_fault.reason == "ClassMissing"
    assert words in found.ingress_fault.message
    assert not found.has_ingress


def test_without_an_ingress_no_class_is_needed() -> None:
    found = resolved({"ingress": {"enabled": False}}, around=Surroundings([NODE], []))
    assert (found.ingress_fault, found.has_ingress) == (None, False)


def test_a_token_can_be_required() -> None:
    rules = Rules(RULES.roots, require_auth=True)
    with pytest.raises(NotAccepted) as caught:
        resolve(a_stream(), rules, AROUND)
    assert caught.value.reason == "TokenRequired"
    assert caught.value.stop
    assert resolve(a_stream({"server": {"authSecretRef": {"name": "t"}}}), rules, AROUND).has_token


def test_a_claim_of_the_operators_is_no_way_around_the_allowed_groups() -> None:
    source = {"hostPath": None, "persistentVolumeClaim": {"claimName": "logstream-source-0"}, "supplementalGroups": [0]}
    with pytest.raises(NotAccepted, match="hostPath") as caught:
        resolved({"source": source})
    assert caught.value.reason == "ClaimNotAllowed"
    assert caught.value.stop
    source["persistentVolumeClaim"] = {"claimName": "logs"}
    assert resolved({"source": source}).root is None


def test_folder_and_node_are_checked() -> None:
    with pytest.raises(NotAccepted, match="allowed"):
        resolved({"source": {"hostPath": "/etc"}})
    with pytest.raises(NotAccepted, match="2 nodes"):
        resolved(around=Surroundings([NODE, Node("node-2", {})], [NGINX]))


OLD = a_stream(name="old", namespace="ops", uid="o", created="2025-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        pytest.param({"ingress": {"host": "a.example"}}, {}, id="another host"),
        pytest.param({"ingress": {"path": "/a/ws"}}, {}, id="another path"),
        pytest.param({"ingress": {"className": "traefik"}}, {}, id="another class"),
        pytest.param({}, {"ingress": {"enabled": False}}, id="one without an Ingress"),
        pytest.param({"ingress": {"path": "/a/ws"}}, {"ingress": {"viewer": True}}, id="a path below another's page"),
    ],
)
def test_no_conflict(mine: dict[str, Any], others: dict[str, Any]) -> None:
    other = a_stream(others, name="old", namespace="ops", uid="o", created="2025-01-01T00:00:00Z")
    assert find_conflict(a_stream(mine), [other]) is None


def test_the_younger_of_two_on_one_path_has_none() -> None:
    young = a_stream()
    fault = find_conflict(young, [young, OLD])
    assert fault is not None
    assert fault.reason == "Conflict"
    assert "ops/old is older and has any host, path /ws already" in fault.message
    assert "/team/app/ws" in fault.message, "a path that is free"
    assert find_conflict(OLD, [young, OLD]) is None


def test_of_two_that_are_equally_old_one_has_the_path() -> None:
    """Never both, never none."""
    streams = [a_stream(name="a", uid="1"), a_stream(name="b", uid="2")]
    assert [find_conflict(stream, streams) is None for stream in streams] == [True, False]


ROUTE = ("nginx", "", "/ws")


def test_who_has_the_path_keeps_it() -> None:
    """An older one whose path is changed, or that is accepted later, does not take it away: clients know it by that."""
    young = a_stream()
    held = {young.uid: frozenset({ROUTE})}
    assert find_conflict(young, [young, OLD], held=held) is None
    fault = find_conflict(OLD, [young, OLD], held=held)
    assert fault is not None
    assert fault.message.startswith("LogStream team/app has any host, path /ws already; ")
    assert "/ops/old/ws" in fault.message


@pytest.mark.parametrize("holds", ["both", "neither", "another path"])
def test_of_two_that_are_alike_the_older_has_the_path(holds: str) -> None:
    young = a_stream()
    held = {
        "both": {each.uid: frozenset({ROUTE}) for each in (young, OLD)},
        "neither": {},
        "another path": {young.uid: frozenset({("nginx", "", "/b/ws"), ("nginx", "a.example", "/ws")})},
    }[holds]
    assert find_conflict(young, [young, OLD], held=held) is not None
    assert find_conflict(OLD, [young, OLD], held=held) is None


REFUSED_ELSEWHERE = [
    pytest.param({"source": {"hostPath": "/etc"}}, id="its folder is not allowed"),
    pytest.param({"source": {"nodeSelector": {"disk": "gone"}}}, id="its node is not there"),
    pytest.param({"source": {"supplementalGroups": [0]}}, id="its group is not allowed"),
    pytest.param(
        {"source": {"hostPath": None, "persistentVolumeClaim": {"claimName": "logstream-source-0"}}}, id="its claim"
    ),
]


@pytest.mark.parametrize("change", REFUSED_ELSEWHERE)
@pytest.mark.parametrize("has_it", [True, False])
def test_an_older_one_that_cannot_have_the_path_keeps_nobody_from_it(change: dict[str, Any], has_it: bool) -> None:
    """Unless it has it: what ran before a spec that is not followed goes on."""
    old = a_stream(change, name="old", uid="o", created="2025")
    held = {"o": frozenset({ROUTE})} if has_it else {}
    found = resolve(a_stream(), RULES, Surroundings([NODE], [NGINX], [old], held))
    assert (found.ingress_fault is not None) is has_it


def test_an_older_one_whose_ingress_was_refused_keeps_nobody_from_it() -> None:
    old = replace(a_stream(name="old", uid="o", created="2025"), ingress_refused=True)
    assert resolve(a_stream(), RULES, Surroundings([NODE], [NGINX], [old])).has_ingress
    held = {"o": frozenset({ROUTE})}
    assert not resolve(a_stream(), RULES, Surroundings([NODE], [NGINX], [old], held)).has_ingress


def test_an_older_one_without_a_token_keeps_nobody_from_the_path_where_one_is_required() -> None:
    rules = Rules(RULES.roots, require_auth=True)
    old = a_stream(name="old", uid="o", created="2025")
    assert resolve(
        a_stream({"server": {"authSecretRef": {"name": "t"}}}), rules, replace(AROUND, others=[old])
    ).has_ingress


@pytest.mark.parametrize("change", [{}, {"ingress": {"host": "a.example", "viewer": True, "path": "/a/ws"}}])
@pytest.mark.parametrize("class_name", ["", "nginx"])
def test_what_an_ingress_of_ours_holds_is_what_its_logstream_asks_for(change: dict[str, Any], class_name: str) -> None:
    """Read back from what is rendered; with the default class, named or not."""
    around = Surroundings([NODE], [replace(NGINX, is_default=True)])
    mine = merge(change, {"ingress": {"className": class_name}})
    ingresses = [each for each in render(resolved(mine, around=around), DEFAULTS) if each["kind"] == "Ingress"]
    old = a_stream(mine, name="old", uid="o", created="2025")
    around = replace(around, others=[old], held=parse_held(ingresses))
    assert resolve(a_stream(mine), RULES, around).has_ingress
    assert not resolve(old, RULES, replace(around, others=[a_stream(mine)])).has_ingress


def test_odd_ingresses_hold_nothing() -> None:
    bodies = [{"metadata": {"name": "x"}}, {"metadata": {"labels": {LABEL_UID: "u"}}, "spec": {"rules": [{}]}}]
    assert set().union(*parse_held(bodies).values()) == set()


def test_two_pages_on_one_base_path_are_a_conflict() -> None:
    old = a_stream({"ingress": {"viewer": True, "path": "/a/ws"}}, uid="o", name="old", created="2025")
    fault = find_conflict(a_stream({"ingress": {"viewer": True, "path": "/a/ws"}}), [old])
    assert fault is not None


def test_the_default_class_is_the_same_with_and_without_its_name() -> None:
    classes = [IngressClass("nginx", NGINX.controller, is_default=True)]
    old = a_stream({"ingress": {"className": "nginx"}}, uid="o", name="old", created="2025")
    young = a_stream({"ingress": {"className": ""}})
    fault = resolve(young, RULES, Surroundings([NODE], classes, [young, old])).ingress_fault
    assert fault is not None
    assert fault.reason == "Conflict"


def test_a_class_is_read_from_its_object() -> None:
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"}
    body = {"metadata": {"name": "traefik", "annotations": annotations}, "spec": {"controller": TRAEFIK.controller}}
    assert parse_ingress_class(body) == TRAEFIK
    assert parse_ingress_class({"metadata": {"name": "x"}}) == IngressClass("x", "")
