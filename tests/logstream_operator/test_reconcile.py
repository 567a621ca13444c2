"""reconcile: one look at a LogStream, against an API server in memory; the real one is in the cluster's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from logstream_operator import names
from logstream_operator.assess import Report
from logstream_operator.errors import Refused, Unreachable
from logstream_operator.names import Key, Kind
from logstream_operator.reconcile import COUNTS_S, Clock, Policy, Reconciler
from logstream_operator.resolve import Rules
from logstream_operator.roots import Root
from logstream_operator.workload import Manifest

from .examples import DEFAULTS, RULES, a_body, merge

KEY = Key("team", "app")


class Memory:
    """The part of an API server that is needed: objects by kind, namespace and name; applies merge."""

    def __init__(self, bodies: Iterable[Manifest]) -> None:
        self.objects: dict[tuple[str, str | None, str], Manifest] = {}
        self.writes: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.refuse: dict[str, Exception] = {}
        self.managers: list[tuple[str, str, Any]] = []
        self.forbid = ""
        self.lists: list[str] = []
        self._count = 0
        for body in bodies:
            self.put(body)

    def put(self, body: Manifest) -> Manifest:
        metadata = body["metadata"]
        self.objects[body["kind"], metadata.get("namespace"), metadata["name"]] = body
        return body

    def find(self, kind: str) -> list[Manifest]:
        return [body for (found, _, _), body in self.objects.items() if found == kind]

    def only(self, kind: str) -> Manifest:
        (found,) = self.find(kind)
        return found

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        if namespace is not None and namespace == self.forbid:
            raise Refused(kind.kind, name, 403, "forbidden")
        return deepcopy(self.objects.get((kind.kind, namespace if kind.namespaced else None, name)))

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Manifest]:
        assert not fields or kind is names.EVENT
        self.lists.append(kind.kind)
        if namespace is not None and namespace == self.forbid:
            raise Refused(kind.kind, "list", 403, "forbidden")
        wanted = dict(pair.split("=", 1) for pair in labels.split(",") if pair)
        return [
            deepcopy(body)
            for (found, space, _), body in self.objects.items()
            if found == kind.kind
            and (namespace is None or space == namespace)
            and wanted.items() <= (body["metadata"].get("labels") or {}).items()
        ]

    async def apply(self, manifest: Manifest, *, manager: str = names.MANAGER) -> Manifest:
        kind, metadata = manifest["kind"], manifest["metadata"]
        if kind in self.refuse:
            raise self.refuse[kind]
        self.writes.append(f"apply {kind}")
        self.managers.append((manager, kind, manifest["spec"].get("replicas")))
        key = kind, metadata.get("namespace"), metadata["name"]
        self._count += 1
        old = self.objects.get(key, {"metadata": {"uid": f"uid-{self._count}"}})
        live: Manifest = merge(old, deepcopy(manifest))
        if kind == "Deployment":
            owned = {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
            live["metadata"]["managedFields"] = [owned] if "replicas" in manifest["spec"] else []
            live["spec"].setdefault("replicas", 1)
        return deepcopy(self.put(live))

    async def apply_status(self, namespace: str, name: str, status: Manifest) -> None:
        self.writes.append("status")
        self.objects["LogStream", namespace, name]["status"] = deepcopy(status)

    async def delete(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        self.writes.append(f"delete {manifest['kind']}")
        del self.objects[manifest["kind"], metadata.get("namespace"), metadata["name"]]

    async def record(self, event: Manifest) -> None:
        self.events.append((event["type"], event["reason"]))
        if "Event" in self.refuse:
            raise self.refuse["Event"]


class Talk:
    """Servers that say what they are told to."""

    def __init__(self) -> None:
        self.report: Report | None = None

    async def ask(self, _pods: Sequence[Manifest]) -> Report | None:
        return self.report


class World:
    """A reconciler with everything around it, and a clock that stands still."""

    def __init__(self, *bodies: Manifest, rules: Rules = RULES, namespaces: tuple[str, ...] = ()) -> None:
        self.time_s = 0.0
        self.api = Memory([*bodies, NODE, CLASS])
        self.talk = Talk()
        self.change_rules(rules, namespaces)

    def change_rules(self, rules: Rules, namespaces: tuple[str, ...] = ()) -> None:
        """As after a restart with other settings."""
        start = datetime(2026, 1, 1, tzinfo=UTC)
        clock = Clock(lambda: self.time_s, lambda: start + timedelta(seconds=self.time_s))
        self.reconciler = Reconciler(self.api, self.talk, Policy(rules, DEFAULTS, namespaces), clock)

    def look(self, key: Key = KEY) -> float | None:
        self.reconciler.forget()  # as after an event
        return asyncio.run(self.reconciler.reconcile(key))

    def edit(self, change: Any, key: Key = KEY) -> None:
        body = self.api.objects["LogStream", *key]
        body["spec"] = merge(body["spec"], change)
        body["metadata"]["generation"] += 1

    def condition(self, kind: str, key: Key = KEY) -> tuple[str, str, str]:
        conditions = self.api.objects["LogStream", *key]["status"]["conditions"]
        (found,) = [each for each in conditions if each["type"] == kind]
        return found["status"], found["reason"], found["message"]

    def become_ready(self) -> None:
        """What controllers and kubelets do."""
        self.api.only("PersistentVolumeClaim")["status"] = {"phase": "Bound"}
        self.api.only("PersistentVolume")["status"] = {"phase": "Bound"}
        self.api.only("Deployment")["status"] = {"replicas": 1, "readyReplicas": 1}
        self.api.only("Ingress")["status"] = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}
        self.talk.report = Report(4, {"following": 2})

    def forget(self) -> list[str]:
        """What was written since the last time."""
        written, self.api.writes = self.api.writes, []
        return written


NODE = {
    "kind": "Node",
    "metadata": {"name": "node-1", "labels": {names.LABEL_HOSTNAME: "node-1"}},
}
CLASS = {
    "kind": "IngressClass",
    "metadata": {"name": "nginx"},
    "spec": {"controller": "k8s.io/ingress-nginx"},
}


@pytest.fixture
def world() -> World:
    return World(a_body())


def test_a_logstream_becomes_its_objects_and_then_is_left_alone(world: World) -> None:
    assert world.look() is None
    assert world.forget() == [
        "apply PersistentVolume",
        "apply PersistentVolumeClaim",
        "apply Deployment",
        "apply Service",
        "apply Ingress",
        "status",
    ]
    world.become_ready()
    world.look()
    assert world.forget() == ["status"]
    assert world.condition("Ready") == ("True", "Serving", "clients can connect and get lines")
    status = world.api.only("LogStream")["status"]
    assert (status["url"], status["node"], status["clients"], status["streams"]) == (
        "ws://10.0.0.1/ws",
        "node-1",
        4,
        2,
    )
    for _ in range(3):
        world.time_s += 60
        world.look()
    assert world.forget() == [], "an idle operator writes nothing"


def test_events_tell_of_steps_once(world: World) -> None:
    world.look()
    world.become_ready()
    world.look()
    world.look()
    assert world.api.events == [
        ("Warning", "ServesWithoutToken"),
        ("Normal", "VolumeReady"),
        ("Normal", "Available"),
        ("Normal", "SourceAvailable"),
        ("Normal", "IngressReady"),
        ("Normal", "Ready"),
    ]


def test_an_event_that_cannot_be_recorded_is_let_go(world: World) -> None:
    world.api.refuse["Event"] = Refused("Event", "x", 403, "no")
    world.look()
    assert world.condition("Accepted")[0] == "True"


def test_what_concerns_all_is_read_once_for_many() -> None:
    keys = [Key("team", f"app-{n}") for n in range(9)]
    world = World(*(a_body({"ingress": {"path": f"/{key.name}/ws"}}, name=key.name, uid=key.name) for key in keys))

    async def look_at_all() -> None:
        await asyncio.gather(*map(world.reconciler.reconcile, keys))

    asyncio.run(look_at_all())
    assert [world.api.lists.count(kind) for kind in ("Node", "IngressClass", "LogStream")] == [1, 1, 1]
    assert len(world.api.find("Ingress")) == 9


def test_counts_are_written_now_and_then(world: World) -> None:
    world.look()
    world.become_ready()
    world.look()
    world.forget()
    world.talk.report = Report(5, {"following": 2})
    world.time_s += COUNTS_S - 1
    world.look()
    assert world.forget() == []
    world.time_s += 2
    world.look()
    assert world.forget() == ["status"]
    assert world.api.only("LogStream")["status"]["clients"] == 5


@pytest.mark.parametrize("kind", ["Deployment", "Service", "Ingress"])
def test_what_was_deleted_by_hand_comes_back(world: World, kind: str) -> None:
    world.look()
    world.forget()
    del world.api.objects[kind, "team", "app-logstream"]
    world.look()
    assert world.forget() == [f"apply {kind}"]


def test_what_is_no_longer_wanted_goes(world: World) -> None:
    world.edit({"autoscaling": {}})
    world.look()
    world.forget()
    world.edit({"autoscaling": None, "ingress": {"enabled": False}})
    assert world.look() is not None, "it looks again until all is gone"
    assert world.forget() == [
        "delete Ingress",
        "delete HorizontalPodAutoscaler",
        "apply Deployment",
        "status",
    ]


def test_replicas_are_handed_to_the_autoscaler(world: World) -> None:
    """Without that they would be one for a moment."""
    world.edit({"replicas": 4})
    world.look()
    world.edit({"autoscaling": {}})
    world.look()
    handed = [entry for entry in world.api.managers if entry[1] == "Deployment"]
    assert handed == [
        (names.MANAGER, "Deployment", 4),
        (names.HANDOVER_MANAGER, "Deployment", 4),
        (names.MANAGER, "Deployment", None),
    ]


def a_pod(claim: str) -> Manifest:
    return {
        "kind": "Pod",
        "metadata": {"name": "p", "uid": "p", "namespace": "team", "labels": {names.LABEL_NAME: "app"}},
        "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": "Running"},
    }


def test_a_changed_source_gets_a_new_volume_and_the_old_one_goes_after_its_last_pod(world: World) -> None:
    world.look()
    old = world.api.only("PersistentVolume")["metadata"]["name"]
    world.api.put(a_pod(old))
    world.forget()
    world.edit({"source": {"hostPath": "/var/log/apps"}})
    world.look()
    assert world.forget() == [
        "apply PersistentVolume",
        "apply PersistentVolumeClaim",
        "apply Deployment",
        "status",
    ]
    del world.api.objects["Pod", "team", "p"]
    world.look()
    assert world.forget() == ["delete PersistentVolumeClaim"]
    world.look()
    assert world.forget() == ["delete PersistentVolume"]
    assert world.api.only("PersistentVolume")["metadata"]["name"] != old


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        pytest.param({"source": {"hostPath": "/etc"}}, "HostPathNotAllowed", "allowedRoots", id="a folder"),
        pytest.param({"source": {"supplementalGroups": [0]}}, "GroupNotAllowed", "allowedRoots", id="a group"),
        pytest.param({"source": {"nodeSelector": {"a": "b"}}}, "NoSuchNode", "nodes: node-1", id="a node"),
        pytest.param({"source": {"files": ["../x"]}}, "InvalidSpec", "below the folder", id="a spec"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_made(world: World, change: Any, reason: str, words: str) -> None:
    world.edit(change)
    assert world.look() is None
    assert world.forget() == ["status"]
    assert world.condition("Accepted")[:2] == ("False", reason)
    assert world.condition("Ready")[:2] == ("False", reason)
    assert words in world.condition("Accepted")[2]
    assert world.api.events == [("Warning", reason)]
    world.look()
    assert world.forget() == []


def test_a_second_node_does_not_end_what_runs(world: World) -> None:
    world.look()
    world.become_ready()
    world.look()
    world.forget()
    world.api.put({"kind": "Node", "metadata": {"name": "node-2", "labels": {}}})
    world.look()
    assert world.forget() == ["status"]
    assert world.condition("Accepted")[:2] == ("False", "AmbiguousNode")
    assert world.condition("Available")[0] == "True"
    assert world.api.only("LogStream")["status"]["url"] == "ws://10.0.0.1/ws"


def test_what_is_no_longer_allowed_ends(world: World) -> None:
    world.look()
    world.become_ready()
    world.look()
    world.forget()
    world.change_rules(Rules((Root("/var/log/apps"),)))
    world.look()
    assert sorted(world.forget()) == [
        "delete Deployment",
        "delete Ingress",
        "delete PersistentVolumeClaim",
        "delete Service",
        "status",
    ]
    assert world.condition("Accepted")[:2] == ("False", "HostPathNotAllowed")
    assert "url" not in world.api.only("LogStream")["status"]


def test_the_younger_of_two_on_one_path_has_servers_and_no_ingress(world: World) -> None:
    old = a_body(name="old", uid="o")
    old["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    world.api.put(old)
    world.look()
    assert "apply Ingress" not in world.forget()
    assert world.condition("IngressReady")[:2] == ("False", "Conflict")
    assert "/team/app/ws" in world.condition("IngressReady")[2]
    del world.api.objects["LogStream", "team", "old"]
    world.look()
    assert "apply Ingress" in world.forget()


def test_an_older_one_that_is_accepted_later_does_not_take_the_path_away(world: World) -> None:
    old = a_body({"source": {"hostPath": "/etc"}}, name="old", uid="o")
    old["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    world.api.put(old)
    world.look(Key("team", "old"))
    world.look()
    assert "apply Ingress" in world.forget(), "the older one is refused, and keeps nobody from the path"
    old["spec"]["source"]["hostPath"] = "/minikube-host"
    world.reconciler.forget()
    world.look(Key("team", "old"))
    assert "apply Ingress" not in world.forget()
    (said,) = [each for each in old["status"]["conditions"] if each["type"] == "IngressReady"]
    assert said["reason"] == "Conflict"
    assert "team/app has any host, path /ws already" in said["message"]
    world.look()
    assert "delete Ingress" not in world.forget()
    assert world.condition("IngressReady")[1] != "Conflict"


def test_the_words_of_a_webhook_are_passed_on_and_the_rest_is_done(world: World) -> None:
    world.api.refuse["Ingress"] = Refused("Ingress", "app-logstream", 400, "host and path already defined")
    world.look()
    assert world.condition("IngressReady") == ("False", "Refused", "host and path already defined")
    assert "apply Service" in world.forget()


def test_an_api_server_that_is_busy_is_asked_again(world: World) -> None:
    world.api.refuse["Service"] = Unreachable("Service", 503, "busy")
    with pytest.raises(Unreachable):
        world.look()
    del world.api.refuse["Service"]
    world.look()
    assert world.api.find("Service")


def test_an_object_of_somebody_else_stays_theirs(world: World) -> None:
    theirs = {"kind": "Service", "metadata": {"name": "app-logstream", "namespace": "team"}, "spec": {"x": 1}}
    world.api.put(theirs)
    world.look()
    assert "apply Service" not in world.forget()
    assert world.api.only("Service") == theirs
    assert "does not belong" in world.condition("Available")[2]


def test_labels_that_were_taken_off_are_put_back(world: World) -> None:
    world.look()
    world.forget()
    del world.api.only("Service")["metadata"]["labels"]
    world.look()
    assert world.forget() == ["apply Service"]


@pytest.mark.parametrize("gone", ["gone", "deleting", "another of the name"])
def test_volumes_of_a_logstream_that_is_gone_are_swept(world: World, gone: str) -> None:
    world.look()
    volume = world.api.only("PersistentVolume")
    volume["status"] = {"phase": "Released"}
    body = world.api.objects.pop(("LogStream", "team", "app"))
    world.forget()
    if gone == "deleting":
        body["metadata"]["deletionTimestamp"] = "now"
        world.api.put(body)
        world.look()
        assert world.forget() == [], "not before it has gone"
        return
    if gone == "another of the name":
        world.api.put(a_body(uid="another"))
    asyncio.run(world.reconciler.sweep())
    assert world.forget() == ["delete PersistentVolume"]


def test_nothing_else_is_swept(world: World) -> None:
    world.look()
    bound = world.api.only("PersistentVolume")
    bound["status"] = {"phase": "Bound"}
    world.api.put({"kind": "PersistentVolume", "metadata": {"name": "other"}, "status": {"phase": "Released"}})
    marked = {
        "kind": "PersistentVolume",
        "metadata": {"name": "odd", "labels": {names.LABEL_MANAGED_BY: names.MANAGER}},
    }
    world.api.put(marked)
    del world.api.objects["LogStream", "team", "app"]
    world.forget()
    assert world.look() is None
    asyncio.run(world.reconciler.sweep())
    assert world.forget() == []


def test_only_some_namespaces() -> None:
    other = a_body(namespace="other", uid="o")
    other["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    world = World(a_body(), other, namespaces=("team",))
    world.look()
    assert world.condition("IngressReady")[1] != "Conflict", "others are not looked at"


def test_volumes_of_other_namespaces_are_left_to_those_who_look_after_them() -> None:
    """Their LogStreams may not be read, and one such volume must not keep our own from being swept."""
    world = World(a_body())
    world.look()
    ours = world.api.only("PersistentVolume")
    ours["status"] = {"phase": "Released"}
    theirs = merge(ours, {"metadata": {"name": "a-theirs", "labels": {names.LABEL_NAMESPACE: "other"}}})
    world.api.objects = {("PersistentVolume", None, "a-theirs"): theirs, **world.api.objects}
    del world.api.objects["LogStream", "team", "app"]
    world.change_rules(RULES, ("team",))
    world.api.forbid = "other"
    world.forget()
    assert world.look(Key("other", "app")) is None
    asyncio.run(world.reconciler.sweep())
    assert world.forget() == ["delete PersistentVolume"]
    assert world.api.only("PersistentVolume") == theirs


@pytest.mark.parametrize("gone", [True, False])
def test_a_namespace_that_may_not_be_read_any_more(gone: bool) -> None:
    """The rights in a namespace go with it; that must stop nothing elsewhere, and leave no volume."""
    world = World(a_body(), a_body(namespace="other", uid="o"), namespaces=("other", "team"))
    world.look(Key("other", "app"))
    world.api.only("PersistentVolume")["status"] = {"phase": "Released"}
    world.api.forbid = "other"
    if not gone:
        world.api.put({"kind": "Namespace", "metadata": {"name": "other"}})
    world.forget()
    found = asyncio.run(world.reconciler.list_logstreams())
    assert [body["metadata"]["namespace"] for body in found] == ["team"]
    asyncio.run(world.reconciler.sweep())
    assert world.forget() == (["delete PersistentVolume"] if gone else [])
    if gone:
        assert world.look(Key("other", "app")) is None
    else:
        with pytest.raises(Refused):
            world.look(Key("other", "app"))


def test_the_kubelets_complaints_are_read(world: World) -> None:
    world.look()
    pod = a_pod("x")
    pod["status"] = {"phase": "Pending"}
    world.api.put(pod)
    world.api.put(
        {
            "kind": "Event",
            "metadata": {"name": "e", "namespace": "team"},
            "involvedObject": {"uid": "p"},
            "type": "Warning",
            "reason": "FailedMount",
            "message": 'references non-existent secret key "tokens"',
        }
    )
    world.look()
    assert world.condition("Available")[:2] == ("False", "FailedMount")
