"""What is said about a LogStream: conditions from what was observed, the status that holds them, events. Pure.

Time is an argument. A condition that says the same as before keeps its time, so that an unchanged cluster gives an
unchanged status; an event is only for a condition that has become another one.
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from . import names
from .workload import Manifest

MAX_MESSAGE: Final = 1024
"""Bytes of an event's message that the API server takes; for conditions more than enough."""


class Type(StrEnum):
    """The conditions, in the order in which one leads to the next."""

    ACCEPTED = "Accepted"
    VOLUME_READY = "VolumeReady"
    AVAILABLE = "Available"
    SOURCE_AVAILABLE = "SourceAvailable"
    INGRESS_READY = "IngressReady"
    AUTOSCALING_ACTIVE = "AutoscalingActive"
    READY = "Ready"


class State(StrEnum):
    """A condition's status."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, without its time. `message` says what is wrong and what to do; `generation` is that of the spec
    that it is about, None for the newest."""

    type: Type
    state: State
    reason: str
    message: str = ""
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """An event to be recorded: `warning` or else normal."""

    reason: str
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """What the servers say of themselves: None where none could be asked."""

    clients: int | None = None
    streams: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The part of the status that is no condition."""

    generation: int
    selector: str
    replicas: int = 0
    ready_replicas: int = 0
    url: str | None = None
    node: str | None = None
    counts: Counts = Counts()


NEEDED: Final = (Type.ACCEPTED, Type.VOLUME_READY, Type.AVAILABLE, Type.SOURCE_AVAILABLE, Type.INGRESS_READY)
"""What Ready is made of. Autoscaling is not: without figures, the servers that run still serve."""
HARMLESS: Final = frozenset({"Disabled", "NoFilesYet", "NotAsked"})
"""Reasons for which a condition that is not True does not make the whole unready: a file may come at any time."""


def carry_over(previous: Mapping[str, Any], accepted: Condition) -> list[Condition]:
    """All conditions of a spec that is not followed: what runs goes on as it is described already."""
    known = {kind.value: kind for kind in Type}
    return [
        accepted,
        *(
            Condition(
                known[each["type"]],
                State(each["status"]),
                each["reason"],
                each["message"],
                each.get("observedGeneration"),
            )
            for each in previous.get("conditions") or ()
            if each["type"] in known and each["type"] not in (Type.ACCEPTED, Type.READY)
        ),
    ]


def conclude(conditions: Sequence[Condition]) -> Condition:
    """Ready, from all others: the first that is in the way gives its reason and words."""
    found = {condition.type: condition for condition in conditions}
    for kind in NEEDED:
        condition = found.get(kind)
        if condition is None or condition.state is State.TRUE or condition.reason in HARMLESS:
            continue
        state = State.FALSE if condition.state is State.FALSE else State.UNKNOWN
        return Condition(Type.READY, state, condition.reason, condition.message)
    source = found.get(Type.SOURCE_AVAILABLE)
    if source is not None and source.state is not State.TRUE:
        return Condition(Type.READY, State.TRUE, source.reason, source.message)
    return Condition(Type.READY, State.TRUE, "Serving", "clients can connect and get lines")


def render_status(
    previous: Mapping[str, Any], conditions: Sequence[Condition], facts: Facts, now: str
) -> dict[str, Any]:
    """The whole status. `now`: RFC 3339, the time of conditions whose state is another one than in `previous`."""
    before = {condition["type"]: condition for condition in previous.get("conditions") or ()}
    status: dict[str, Any] = {
        "observedGeneration": facts.generation,
        "replicas": facts.replicas,
        "readyReplicas": facts.ready_replicas,
        "selector": facts.selector,
        "conditions": [
            _render_condition(before.get(condition.type), condition, facts.generation, now)
            for condition in (*conditions, conclude(conditions))
        ],
    }
    optional = {
        "url": facts.url,
        "node": facts.node,
        "clients": facts.counts.clients,
        "streams": facts.counts.streams,
    }
    return {**status, **{key: value for key, value in optional.items() if value is not None}}


def _render_condition(
    before: Mapping[str, Any] | None, condition: Condition, generation: int, now: str
) -> dict[str, Any]:
    same = before is not None and before["status"] == condition.state
    return {
        "type": condition.type.value,
        "status": condition.state.value,
        "reason": condition.reason,
        "message": cut(condition.message),
        "observedGeneration": generation if condition.generation is None else condition.generation,
        "lastTransitionTime": before["lastTransitionTime"] if same and before is not None else now,
    }


def keep_counts(
    previous: Mapping[str, Any], status: dict[str, Any], *, since_s: float, least_s: float
) -> dict[str, Any]:
    """The status with the previous counts, when only they differ and the last write is too recent."""
    if since_s >= least_s:
        return status
    kept = {key: value for key, value in status.items() if key not in ("clients", "streams")}
    kept |= {key: previous[key] for key in ("clients", "streams") if key in previous}
    return kept if kept == dict(previous) else status


def find_transitions(previous: Mapping[str, Any], status: Mapping[str, Any]) -> list[Note]:
    """An event for each condition that has become another one; none for a stage on the way, which nobody must mend."""
    before = {each["type"]: (each["status"], each["reason"]) for each in previous.get("conditions") or ()}
    notes = []
    for condition in status["conditions"]:
        kind, state, reason = condition["type"], condition["status"], condition["reason"]
        if before.get(kind) == (state, reason) or reason in PASSING | HARMLESS:
            continue
        if state == State.TRUE:
            is_open = reason == OPEN
            notes.append(Note(OPEN if is_open else kind, condition["message"], warning=is_open))
        elif kind != Type.READY:  # what makes it unready has an event of its own
            notes.append(Note(reason, condition["message"], warning=True))
    return notes


OPEN: Final = "ServesWithoutToken"
"""Why a resource is accepted that lets everybody read; said as a warning."""
PASSING: Final = frozenset({"Starting", "Binding", "AddressPending", "NoMetricsYet", "NotAsked"})
"""Reasons that are a stage on the way and nobody's fault."""


def cut(message: str) -> str:
    """As much of a message as an event takes; a cut is marked with three dots."""
    data = message.encode()
    if len(data) <= MAX_MESSAGE:
        return message
    return data[: MAX_MESSAGE - len(b"...")].decode("utf-8", "ignore") + "..."


def render_event(body: Manifest, note: Note, now: str) -> Manifest:
    """An event about a LogStream."""
    metadata: dict[str, Any] = body["metadata"]
    return {
        "apiVersion": names.EVENT.api_version,
        "kind": names.EVENT.kind,
        "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.LOGSTREAM.kind,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": "Warning" if note.warning else "Normal",
        "reason": note.reason,
        "message": note.message,
        "source": {"component": names.MANAGER},
        "reportingComponent": names.MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
