"""handlers: what is watched, and that it only fills the queue; kopf itself runs in the cluster's tests."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import kopf
import pytest

from logstream_operator import names
from logstream_operator.handlers import WATCHED, News, create_kopf_settings, create_registry
from logstream_operator.names import Key, labels


class Seen:
    """Collects what handlers enqueue."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.all = 0
        self.forgotten = 0
        self.registry = create_registry(self.keys.append, self.see_all, self.forget, "https://10.0.0.1:443")

    def see_all(self) -> None:
        self.all += 1

    def forget(self) -> None:
        self.forgotten += 1

    def tell(self, handler: str, **event: Any) -> None:
        (found,) = [each for each in self.registry._watching.get_all_handlers() if each.id == handler]
        asyncio.run(found.fn(**{"type": "MODIFIED", "memo": None, **event}))


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_in_a_pod_the_api_server_is_found_without_dns(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kopf's own answer would be the name kubernetes.default.svc."""
    in_pod = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: in_pod)
    (login,) = seen.registry._activities.get_all_handlers()
    found = asyncio.run(login.fn())
    assert (found.server, found.token) == ("https://10.0.0.1:443", "t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: None)
    monkeypatch.setattr(kopf, "login_with_kubeconfig", lambda **_: "from a file")
    assert asyncio.run(login.fn()) == "from a file"


def test_nothing_needs_a_finalizer(seen: Seen) -> None:
    """Only handlers of raw events: the operator can be taken away at any time."""
    assert not list(seen.registry._changing.get_all_handlers())
    assert not list(seen.registry._spawning.get_all_handlers())
    assert len(list(seen.registry._watching.get_all_handlers())) == 2 + len(WATCHED)


def test_a_logstream_and_its_objects_lead_to_its_key(seen: Seen) -> None:
    key = Key("team", "app")
    seen.tell("see_logstreams", namespace="team", name="app", meta={})
    seen.tell("see_deployments", namespace="team", name="app-logstream", labels=labels(key, "u"))
    seen.tell("see_persistentvolumes", namespace=None, name="v", labels=labels(key, "u"))
    seen.tell("see_pods", namespace="team", name="other", labels={"app": "other"})
    assert seen.keys == [key, key, key]


def test_a_node_leads_to_everything_when_its_labels_change(seen: Seen) -> None:
    for node_labels in ({"a": "b"}, {"a": "b"}, {"a": "c"}):
        seen.tell("see_nodes", name="node-1", labels=node_labels)
    assert (seen.all, seen.forgotten) == (2, 2)
    seen.tell("see_nodes", name="node-1", labels={}, type="DELETED")
    assert (seen.all, seen.keys) == (3, [])


def test_only_a_changed_spec_makes_what_was_read_of_logstreams_old(seen: Seen) -> None:
    """A status is written all the time."""
    event = {"namespace": "team", "name": "app"}
    for meta in ({"uid": "u", "generation": 1}, {"uid": "u", "generation": 1, "resourceVersion": "9"}):
        seen.tell("see_logstreams", **event, meta=meta)
    assert (seen.forgotten, len(seen.keys)) == (1, 2)
    seen.tell("see_logstreams", **event, meta={"uid": "u", "generation": 2})
    seen.tell("see_logstreams", **event, meta={"uid": "v", "generation": 2})
    seen.tell("see_logstreams", **event, meta={"uid": "v", "generation": 2}, type="DELETED")
    assert seen.forgotten == 4


def test_a_node_that_is_gone_twice_is_gone_once() -> None:
    nodes = News()
    assert nodes.observe("a", {})
    assert nodes.observe("a", None)
    assert not nodes.observe("a", None)


@pytest.mark.parametrize("kind", [*names.CHILDREN, names.POD, names.LOGSTREAM, names.NODE], ids=lambda kind: kind.kind)
def test_only_what_has_our_labels_is_asked_for(kind: names.Kind) -> None:
    settings = create_kopf_settings(namespaced=False)
    group, _, version = kind.api_version.rpartition("/")
    resource: Any = SimpleNamespace(group=group, version=version, plural=kind.plural)
    (matches,) = [selector.fn for selector in settings.watching.label_selectors]
    assert matches is not None
    assert matches(resource) is (kind in WATCHED)


def test_kopf_writes_nothing_and_needs_no_other_rights() -> None:
    settings = create_kopf_settings(namespaced=True)
    assert isinstance(settings, kopf.OperatorSettings)
    assert settings.peering.standalone
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.queueing.worker_limit is None, "a limit can hang the start: nolar/kopf#1243"
