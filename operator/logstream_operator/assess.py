"""Conditions from live objects: what volume, servers, files, Ingress and autoscaler are like. Pure.

Each message is for who wrote the resource: it says what is wrong and, where there is one thing to do, what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from . import names
from .errors import Refused
from .resolve import Resolved
from .status import OPEN, Condition, State, Type
from .workload import USER, Manifest

BAD_STATES: Final = ("unreadable", "refused", "unsupported", "hung")
"""States of a stream in which a file is there and gives no lines (the server's `StreamStatus`)."""


DENIED: Final = "Permission denied"
"""In the servers' words for a file whose mode or owner is in the way, and not its file system."""
UNBOUND: Final = "unbound immediate PersistentVolumeClaims"
"""In the scheduler's words while a claim is still being bound."""
NO_FIGURES_YET: Final = ("no metrics returned from resource metrics API", "did not receive metrics for")
"""In the autoscaler's words while metrics-server answers and has not measured the servers yet: for half a minute."""
NO_FIGURES: Final = "FailedGetResourceMetric"
"""The autoscaler's reason when it asks for figures in vain."""
ALIKE: Final = {"ErrImagePull": "ImagePullBackOff"}
"""Reasons between which the kubelet goes to and fro for one cause: they are one state, and no transition."""
EVENTS: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})
"""The kubelet's complaints that stand in no condition of the pod."""


@dataclass(frozen=True, slots=True)
class Report:
    """What servers answered: `clients` over all of them, `streams` by state. None: no server could be asked."""

    clients: int
    streams: Mapping[str, int]
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """The cluster after the plan was carried out. `objects`: by kind; `refused`: what the API server said no to."""

    objects: Mapping[str, Manifest] = field(default_factory=dict)
    pods: Sequence[Manifest] = ()
    events: Sequence[Manifest] = ()
    refused: Mapping[str, Refused] = field(default_factory=dict)
    report: Report | None = None

    def part(self, kind: names.Kind, part: str) -> Mapping[str, Any]:
        """`spec` or `status` of the object of this kind, empty when there is none."""
        return (self.objects.get(kind.kind) or {}).get(part) or {}


def assess(resolved: Resolved, seen: Observed) -> list[Condition]:
    """All conditions but Ready."""
    return [
        assess_accepted(resolved),
        assess_volume(resolved, seen),
        assess_servers(resolved, seen),
        assess_source(resolved, seen),
        assess_ingress(resolved, seen),
        assess_autoscaling(resolved, seen),
    ]


def assess_accepted(resolved: Resolved) -> Condition:
    """Whether the spec is followed: here it is."""
    if resolved.has_token:
        return Condition(Type.ACCEPTED, State.TRUE, "Accepted", "clients need a token")
    message = "everybody who reaches the URL can read the lines: spec.server.authSecretRef would ask for a token"
    return Condition(Type.ACCEPTED, State.TRUE, OPEN, message)


def assess_volume(resolved: Resolved, seen: Observed) -> Condition:
    """Whether the folder's claim is bound. A claim of the author's own is theirs to look after."""
    refused = _refusal(seen, names.VOLUME, names.CLAIM)
    if refused is not None:
        return Condition(Type.VOLUME_READY, State.FALSE, "Refused", str(refused))
    if resolved.root is None:
        claim = resolved.stream.spec.source.claim_name
        return Condition(Type.VOLUME_READY, State.TRUE, "OwnClaim", f"the servers mount the claim {claim}")
    phase = seen.part(names.CLAIM, "status").get("phase")
    if phase == "Bound":
        return Condition(Type.VOLUME_READY, State.TRUE, "Bound", f"{resolved.root.path} is mounted read-only")
    if phase == "Lost":
        return Condition(Type.VOLUME_READY, State.FALSE, "Lost", "the volume was deleted; it is made anew")
    return Condition(Type.VOLUME_READY, State.FALSE, "Binding", "the claim waits for its volume")


def assess_servers(resolved: Resolved, seen: Observed) -> Condition:
    """Whether a server runs that is ready; if not, what the first pod or the Deployment complains of."""
    refused = _refusal(seen, names.DEPLOYMENT, names.SERVICE, names.POD_MONITOR)
    status = seen.part(names.DEPLOYMENT, "status")
    ready, wanted = status.get("readyReplicas", 0), seen.part(names.DEPLOYMENT, "spec").get("replicas", 1)
    complaint = _find_complaint(resolved, seen)
    if refused is not None:
        return Condition(Type.AVAILABLE, State.TRUE if ready else State.FALSE, "Refused", _explain(refused))
    if wanted == 0:
        return Condition(Type.AVAILABLE, State.FALSE, "ScaledToZero", "spec.replicas is 0: no server runs")
    if ready:
        reason, message = complaint or ("ServersReady", "")
        text = f"{ready} of {wanted} servers are ready" + (f"; {message}" if message else "")
        return Condition(Type.AVAILABLE, State.TRUE, reason, text)
    reason, message = complaint or ("Starting", "the first server is starting")
    return Condition(Type.AVAILABLE, State.FALSE, reason, message)


def assess_source(resolved: Resolved, seen: Observed) -> Condition:
    """Whether there are files that can be read."""
    report, source = seen.report, resolved.stream.spec.source
    where = f"{source.host_path or 'the claim'}: {', '.join(source.files)}"
    if report is None:
        return Condition(Type.SOURCE_AVAILABLE, State.UNKNOWN, "NotAsked", "no server could be asked yet")
    bad = {state: report.streams.get(state, 0) for state in BAD_STATES if report.streams.get(state)}
    following, waiting = report.streams.get("following", 0), report.streams.get("waiting", 0)
    details = "".join(f"; {detail}" for detail in report.details)
    if bad:
        counted = ", ".join(f"{number} {state}" for state, number in bad.items())
        message = f"{where}: {following} followed, {counted}{details}"
        if "unreadable" in bad and (not details or DENIED in details):
            message += f"; user {USER}, or a group in spec.source.supplementalGroups, must be able to read the files"
        state = State.TRUE if following else State.FALSE
        return Condition(Type.SOURCE_AVAILABLE, state, f"Files{next(iter(bad)).title()}", message)
    if following:
        more = f", {waiting} awaited" if waiting else ""
        plural = "file is" if following == 1 else "files are"
        return Condition(Type.SOURCE_AVAILABLE, State.TRUE, "Following", f"{following} {plural} followed{more}")
    message = f"{where}: no such file on the node yet; the servers wait for it"
    return Condition(Type.SOURCE_AVAILABLE, State.FALSE, "NoFilesYet", message)


def assess_ingress(resolved: Resolved, seen: Observed) -> Condition:
    """Whether a controller has taken the Ingress up."""
    ingress = resolved.stream.spec.ingress
    if not ingress.enabled:
        return Condition(Type.INGRESS_READY, State.FALSE, "Disabled", "spec.ingress.enabled is false")
    if resolved.ingress_fault is not None:
        fault = resolved.ingress_fault
        return Condition(Type.INGRESS_READY, State.FALSE, fault.reason, fault.message)
    refused = _refusal(seen, names.INGRESS)
    if refused is not None:
        return Condition(Type.INGRESS_READY, State.FALSE, "Refused", refused.message)
    address = find_address(seen)
    if address is not None:
        return Condition(Type.INGRESS_READY, State.TRUE, "AddressKnown", f"the controller's address is {address}")
    if ingress.host:
        message = f"made for {ingress.host}; the controller has not told its address"
        return Condition(Type.INGRESS_READY, State.TRUE, "HostKnown", message)
    message = "no controller has told its address yet; is one running for this IngressClass?"
    return Condition(Type.INGRESS_READY, State.FALSE, "AddressPending", message)


def assess_autoscaling(resolved: Resolved, seen: Observed) -> Condition:
    """Whether the autoscaler gets figures."""
    scaling = resolved.stream.spec.autoscaling
    if scaling is None:
        return Condition(Type.AUTOSCALING_ACTIVE, State.FALSE, "Disabled", "spec.autoscaling is absent")
    refused = _refusal(seen, names.AUTOSCALER)
    if refused is not None:
        return Condition(Type.AUTOSCALING_ACTIVE, State.FALSE, "Refused", str(refused))
    active = _condition(seen.part(names.AUTOSCALER, "status"), "ScalingActive")
    if active is None:
        return Condition(Type.AUTOSCALING_ACTIVE, State.UNKNOWN, "NoMetricsYet", "the autoscaler has not looked yet")
    if active["status"] == State.TRUE:
        message = f"between {scaling.min_replicas} and {scaling.max_replicas} servers, by CPU"
        return Condition(Type.AUTOSCALING_ACTIVE, State.TRUE, "Active", message)
    words = active.get("message", "")
    if any(each in words for each in NO_FIGURES_YET):
        message = f"metrics-server has no figures of the servers yet ({words})"
        return Condition(Type.AUTOSCALING_ACTIVE, State.UNKNOWN, "NoMetricsYet", message)
    reason = active.get("reason", "Inactive")
    message = f"{words}; is metrics-server installed?" if reason == NO_FIGURES else words
    return Condition(Type.AUTOSCALING_ACTIVE, State.FALSE, reason, message)


# -- what it is made of ------------------------------------------------------------------------------------------------


def find_address(seen: Observed) -> str | None:
    """Where the ingress controller can be reached, as it says itself."""
    found = (seen.part(names.INGRESS, "status").get("loadBalancer") or {}).get("ingress") or ()
    return next((entry.get("hostname") or entry.get("ip") for entry in found), None)


def find_url(resolved: Resolved, seen: Observed) -> str | None:
    """Where to open a WebSocket: through the Ingress, or without one at the Service; None while that is not known."""
    key, ingress = resolved.stream.key, resolved.stream.spec.ingress
    if not ingress.enabled:
        return f"ws://{names.child_name(key.name)}.{key.namespace}.svc{ingress.path}"
    host = ingress.host or find_address(seen)
    if not resolved.has_ingress or host is None or names.INGRESS.kind in seen.refused:
        return None
    if ":" in host:
        host = f"[{host}]"
    return f"{'wss' if ingress.tls else 'ws'}://{host}{ingress.path}"


def _refusal(seen: Observed, *kinds: names.Kind) -> Refused | None:
    return next((seen.refused[kind.kind] for kind in kinds if kind.kind in seen.refused), None)


def _explain(refused: Refused) -> str:
    if refused.kind == names.POD_MONITOR.kind and refused.status == 404:
        return "spec.monitoring.podMonitor needs the Prometheus operator, and the cluster does not know PodMonitor"
    return str(refused)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    found: Sequence[Mapping[str, Any]] = status.get("conditions") or ()
    return next((condition for condition in found if condition["type"] == kind), None)


def _find_complaint(resolved: Resolved, seen: Observed) -> tuple[str, str] | None:
    """Reason and words for a server that does not come up: the newest pods' trouble is what a change has brought."""
    failure = _condition(seen.part(names.DEPLOYMENT, "status"), "ReplicaFailure")
    if failure is not None and failure["status"] == State.TRUE:
        return failure.get("reason", "ReplicaFailure"), failure.get("message", "")
    pods = sorted(seen.pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)
    for pod in pods:
        found = _find_pod_complaint(pod, seen.events)
        if found is not None:
            reason, message = found
            return reason, f"pod {pod['metadata']['name']}: {message}{_advice(resolved, message)}"
    return None


def _find_pod_complaint(pod: Manifest, events: Sequence[Manifest]) -> tuple[str, str] | None:
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        return None
    scheduled = _condition(status, "PodScheduled")
    if scheduled is not None and scheduled["status"] == State.FALSE:
        if UNBOUND in scheduled.get("message", ""):
            return None  # what the claim waits for is told by VolumeReady
        return scheduled.get("reason", "Unschedulable"), scheduled.get("message", "")
    for container in status.get("containerStatuses") or ():
        waiting = container["state"].get("waiting") or {}
        ended = (container.get("lastState") or {}).get("terminated") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            words = waiting.get("message", "")
            if ended:
                words += f" (it ended with exit code {ended.get('exitCode')}; see kubectl logs --previous)"
            return ALIKE.get(waiting["reason"], waiting["reason"]), words
    if status.get("phase") == "Pending":
        mine = [event for event in events if event["involvedObject"].get("uid") == pod["metadata"].get("uid")]
        for event in mine:
            if event.get("type") == "Warning" and event.get("reason") in EVENTS:
                return event["reason"], event.get("message", "")
    return None


def _advice(resolved: Resolved, message: str) -> str:
    """What to do about messages of the kubelet that do not say it."""
    root = resolved.root.path if resolved.root is not None else ""
    if "not a shared or slave mount" in message:
        return (
            f"; on the node, make the mount of {root} shared (mount --make-shared), or set mountPropagation: None "
            "for it in the operator chart's allowedRoots"
        )
    if "hostPath type check failed" in message:
        return f"; make the folder {root} on the node, or mount it there"
    return ""
