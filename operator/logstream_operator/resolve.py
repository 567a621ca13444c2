"""What a spec leaves open, decided from what the cluster has: folder, node, flavour of the Ingress, who has a path.

The result is complete: `render` looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from .errors import NotAccepted
from .names import DEFAULT_CLASS, LABEL_UID, SOURCE_PREFIX, Key
from .placement import Node, Placement, place
from .roots import DEFAULT_ROOTS, Root, find_root
from .spec import Flavor, LogStream

CONTROLLERS: Final = {
    "k8s.io/ingress-nginx": Flavor.NGINX,
    "traefik.io/ingress-controller": Flavor.TRAEFIK,
}
"""Which controller an IngressClass names, as its makers have it in their documentation."""


Route = tuple[str, str, str]
"""Class, host and path: what only one Ingress can have. "" is the default class, and any host."""
Held = Mapping[str, frozenset[Route]]
"""The routes that Ingresses of ours have now, by the UID of the LogStream."""
NOTHING: Final[Held] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rules:
    """What the administrator says about all resources."""

    roots: tuple[Root, ...] = DEFAULT_ROOTS
    require_auth: bool = False


@dataclass(frozen=True, slots=True)
class IngressClass:
    """One of the cluster's classes."""

    name: str
    controller: str
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class IngressFault:
    """Why there can be no Ingress: the condition's reason and words."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A LogStream with nothing open. `root` and `placement` are None for a claim, `class_name` None for no class."""

    stream: LogStream
    root: Root | None = None
    placement: Placement | None = None
    class_name: str | None = None
    flavor: Flavor = Flavor.NONE
    ingress_fault: IngressFault | None = None

    @property
    def has_ingress(self) -> bool:
        """Whether there is to be an Ingress."""
        return self.stream.spec.ingress.enabled and self.ingress_fault is None

    @property
    def has_token(self) -> bool:
        """Whether clients need one."""
        return self.stream.spec.server.auth_secret is not None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cluster has besides the LogStream itself; `others` may contain it."""

    nodes: Sequence[Node] = ()
    classes: Sequence[IngressClass] = ()
    others: Sequence[LogStream] = field(default_factory=tuple)
    held: Held = field(default_factory=dict)


def parse_ingress_class(body: Mapping[str, Any]) -> IngressClass:
    """A class from the API server's object."""
    metadata = body["metadata"]
    default = (metadata.get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    return IngressClass(metadata["name"], (body.get("spec") or {}).get("controller", ""), default)


def parse_held(ingresses: Iterable[Mapping[str, Any]]) -> Held:
    """Who has which route, from the API server's objects."""
    held: dict[str, frozenset[Route]] = {}
    for body in ingresses:
        uid, spec = (body["metadata"].get("labels") or {}).get(LABEL_UID, ""), body.get("spec") or {}
        held[uid] = held.get(uid, frozenset()) | {
            (spec.get("ingressClassName") or "", rule.get("host") or "", path.get("path") or "")
            for rule in spec.get("rules") or ()
            for path in (rule.get("http") or {}).get("paths") or ()
        }
    return held


def resolve(stream: LogStream, rules: Rules, around: Surroundings) -> Resolved:
    """Decide everything. Raises NotAccepted; what only an Ingress lacks becomes `ingress_fault`."""
    spec = stream.spec
    root, placement = _locate(stream, rules, around.nodes)
    if not spec.ingress.enabled:
        return Resolved(stream, root, placement)
    found = _find_class(spec.ingress.class_name, around.classes)
    if isinstance(found, IngressFault):
        return Resolved(stream, root, placement, ingress_fault=found)
    flavor = spec.ingress.flavor
    if flavor is Flavor.AUTO:
        flavor = CONTROLLERS.get(found.controller, Flavor.NONE)
    default = next((each.name for each in around.classes if each.is_default), "")

    def can_have(other: LogStream) -> bool:
        return not other.ingress_refused and _is_accepted(other, rules, around.nodes)

    fault = find_conflict(stream, around.others, default, around.held, can_have)
    return Resolved(stream, root, placement, spec.ingress.class_name or None, flavor, fault)


def _locate(stream: LogStream, rules: Rules, nodes: Sequence[Node]) -> tuple[Root | None, Placement | None]:
    """Which folder on which node; None for a claim. Raises NotAccepted."""
    spec = stream.spec
    if rules.require_auth and spec.server.auth_secret is None:
        raise NotAccepted(
            "TokenRequired",
            "spec.server.authSecretRef is missing: the administrator requires a token from every client",
            stop=True,
        )
    if (spec.source.claim_name or "").startswith(SOURCE_PREFIX):
        raise NotAccepted(
            "ClaimNotAllowed",
            f"{spec.source.claim_name} is the claim of a LogStream: say spec.source.hostPath, as that one does, so "
            "that the administrator's rules for the folder hold",
            stop=True,
        )
    if spec.source.host_path is None:
        return None, None
    root = find_root(rules.roots, stream.key.namespace, spec.source.host_path, spec.source.supplemental_groups)
    return root, place(spec.source, nodes)


def _is_accepted(stream: LogStream, rules: Rules, nodes: Sequence[Node]) -> bool:
    try:
        _locate(stream, rules, nodes)
    except NotAccepted:
        return False
    return True


def _find_class(name: str, classes: Sequence[IngressClass]) -> IngressClass | IngressFault:
    found = [each for each in classes if (each.name == name if name else each.is_default)]
    if found:
        return found[0]
    there = ", ".join(sorted(each.name for each in classes)) or "none, so no ingress controller seems to be installed"
    if name:
        return IngressFault("ClassMissing", f"there is no IngressClass {name}; the cluster has: {there}")
    return IngressFault(
        "ClassMissing", f"no IngressClass is the default, so spec.ingress.className must name one; there are: {there}"
    )


def find_conflict(
    stream: LogStream,
    others: Iterable[LogStream],
    default_class: str = "",
    held: Held = NOTHING,
    can_have: Callable[[LogStream], bool] = lambda _: True,
) -> IngressFault | None:
    """Why a LogStream cannot have its path: another one has it, on the same host and under the same class.

    Who has the path keeps it: clients know it by that. Before anybody has it, it is the oldest one's. One that has it
    not, and cannot have it (`can_have`), keeps nobody from it. `default_class`: whose it is that names none.
    """
    mine = _routes(stream, default_class)
    for other in sorted(others, key=_age):
        if other.uid == stream.uid or not other.spec.ingress.enabled:
            continue
        shared = mine & _routes(other, default_class)
        if not shared:
            continue
        has, i_have = (bool(shared & _held_by(each, held, default_class)) for each in (other, stream))
        if (not has, _age(other)) < (not i_have, _age(stream)) and (has or can_have(other)):
            _, host, path = min(shared)
            is_older = "is older and " if _age(other) < _age(stream) else ""
            return IngressFault(
                "Conflict",
                f"LogStream {other.key} {is_older}has {host or 'any host'}, path {path} already; set spec.ingress.path "
                f"to one that is free, such as {_free_path(stream.key)}",
            )
    return None


def _age(stream: LogStream) -> tuple[str, Key]:
    return stream.created, stream.key


def _routes(stream: LogStream, default_class: str) -> set[Route]:
    ingress = stream.spec.ingress
    paths = [ingress.path, ingress.base_path or "/"] if ingress.viewer else [ingress.path]
    return {(ingress.class_name or default_class, ingress.host, path) for path in paths}


def _held_by(stream: LogStream, held: Held, default_class: str) -> set[Route]:
    return {(name or default_class, host, path) for name, host, path in held.get(stream.uid, ())}


def _free_path(key: Key) -> str:
    """Names are unique in a namespace, so nobody who follows this advice has it."""
    return f"/{key.namespace}/{key.name}/ws"
