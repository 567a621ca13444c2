"""What to do so that the cluster has what it should: the difference between rendered manifests and live objects. Pure.

An object is applied when our last application was of another manifest (the hash in its annotation), or when something
that we set reads otherwise now. What others added to our objects is theirs. So an idle operator writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final

from . import names
from .errors import Refused
from .names import object_id
from .workload import Manifest

SUFFIXES: Final[dict[str, Decimal | int]] = {
    "": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": 10**3, "M": 10**6, "G": 10**9,
    "T": 10**12, "P": 10**15, "E": 10**18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip
"""https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/"""


@dataclass(frozen=True, slots=True)
class Plan:
    """Objects to delete first, then those to apply, in this order. `taken`: names that somebody else's objects have."""

    apply: tuple[Manifest, ...] = ()
    delete: tuple[Manifest, ...] = ()
    taken: tuple[Manifest, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.apply or self.delete or self.taken)


def plan(
    desired: Sequence[Manifest],
    owned: Sequence[Manifest],
    foreign: Sequence[Manifest] = (),
    mounted: Collection[str] = (),
) -> Plan:
    """`owned`: the live objects with our labels; `foreign`: live objects without, under names that we want.

    `mounted`: the claims that some pod still uses: they and their volumes stay until nobody does.
    """
    wanted = {object_id(manifest) for manifest in desired}
    live = {object_id(manifest): manifest for manifest in owned}
    taken = tuple(manifest for manifest in foreign if object_id(manifest) in wanted)
    not_ours = {object_id(manifest) for manifest in taken}
    spent = {object_id(manifest) for manifest in owned if _is_spent(manifest, owned)}
    return Plan(
        tuple(
            manifest
            for manifest in desired
            if object_id(manifest) not in not_ours | spent and not _is_current(manifest, live.get(object_id(manifest)))
        ),
        tuple(
            manifest
            for manifest in owned
            if "deletionTimestamp" not in manifest["metadata"]
            and (object_id(manifest) in spent or object_id(manifest) not in wanted | not_ours)
            and _may_go(manifest, owned, mounted)
        ),
        taken,
    )


def _may_go(manifest: Manifest, owned: Sequence[Manifest], mounted: Collection[str]) -> bool:
    """A claim goes when no pod mounts it, its volume when the claim has gone."""
    kind, name = object_id(manifest)
    if kind == names.CLAIM.kind:
        return name not in mounted
    if kind == names.VOLUME.kind:
        return not any(object_id(other) == (names.CLAIM.kind, name) for other in owned)
    return True


def _is_spent(manifest: Manifest, owned: Sequence[Manifest]) -> bool:
    """Whether it is a volume whose claim was deleted by hand: no other claim, even of the same name, can bind it."""
    released = manifest["kind"] == names.VOLUME.kind and is_released(manifest)
    return released and _may_go(manifest, owned, ())


def is_released(volume: Manifest) -> bool:
    """Whether a volume's claim has come and gone."""
    return (volume.get("status") or {}).get("phase") in ("Released", "Failed")


def _is_current(manifest: Manifest, live: Manifest | None) -> bool:
    if live is None:
        return False
    if "deletionTimestamp" in live["metadata"]:
        return True  # what is being deleted takes nothing any more; it is made anew when it has gone
    return covers(live, manifest) and not _is_stopped(manifest, live)


def _is_stopped(manifest: Manifest, live: Manifest) -> bool:
    """Whether somebody has scaled to nothing what an autoscaler should scale: it leaves that as it is, for ever."""
    is_scaled = manifest["kind"] == names.DEPLOYMENT.kind and "replicas" not in manifest["spec"]
    return is_scaled and live["spec"].get("replicas") == 0


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` stands so in `live`, which may hold more.

    Lists of named things (containers, variables, ports) may have more of them too; all others are compared in full.
    """
    if live is None and wanted in ("", {}, [], ()):
        return True  # the API server leaves out what is empty
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return isinstance(live, Sequence) and not isinstance(live, str) and _covers_list(live, wanted)
    return bool(live == wanted) or _same_quantity(live, wanted)


def _covers_list(live: Sequence[Any], wanted: Sequence[Any]) -> bool:
    if wanted and all(isinstance(each, Mapping) and "name" in each for each in wanted):
        return all(any(covers(there, each) for there in live) for each in wanted)
    return len(live) == len(wanted) and all(map(covers, live, wanted))


def _same_quantity(live: object, wanted: object) -> bool:
    """The API server writes 0.5 as 500m and 1024Mi as 1Gi, and rounds what is finer than a thousandth up."""
    first, second = _quantity(live), _quantity(wanted)
    return first is not None and first == second


def _quantity(given: object) -> Decimal | None:
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        return None
    text = str(given)
    number = text.rstrip("numkMGTPEi")
    try:
        return (Decimal(number) * SUFFIXES[text[len(number) :]]).quantize(Decimal("0.001"), ROUND_CEILING)
    except (InvalidOperation, KeyError):
        return None


def hands_over_replicas(desired: Manifest, live: Manifest | None) -> int | None:
    """How many replicas to keep while we let go of the field; None when there is nothing to let go of.

    A field that its only owner no longer applies is reset to its default, which is 1:
    https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
    """
    if live is None or "replicas" in desired["spec"]:
        return None
    if _is_stopped(desired, live):
        return 1
    for entry in live["metadata"].get("managedFields", ()):
        owns = "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        if entry.get("manager") == names.MANAGER and owns and not entry.get("subresource"):
            return int(live["spec"].get("replicas", 1))
    return None


def mounted_claims(pods: Sequence[Manifest]) -> set[str]:
    """The claims that these pods mount, those that are ending included."""
    return {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pods
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    }


def is_ours(found: Manifest, wanted: Manifest) -> bool:
    """Whether a live object belongs to the LogStream that wants it: its labels may have been taken off by hand."""
    owners = wanted["metadata"].get("ownerReferences") or ()
    uids = {owner["uid"] for owner in found["metadata"].get("ownerReferences") or ()}
    if owners:
        return any(owner["uid"] in uids for owner in owners)
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(names.LABEL_UID, "") in ("", wanted["metadata"]["labels"][names.LABEL_UID]))


def name_taken(manifest: Manifest) -> Refused:
    """The refusal that we make ourselves: an object of somebody else is not taken over."""
    kind, name = object_id(manifest)
    message = "there is one that does not belong to this LogStream; delete it, or give the LogStream another name"
    return Refused(kind, name, 409, message)
