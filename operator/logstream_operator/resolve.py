"""What a spec leaves open, decided from what the cluster has: folder, node, flavour of the Ingress, who has a path.

The result is complete: `render` looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import NotAccepted
from .names import DEFAULT_CLASS, SOURCE_PREFIX, Key
from .placement import Node, Placement, place
from .roots import DEFAULT_ROOTS, Root, find_root
from .spec import Flavor, LogStream

CONTROLLERS: Final = {
    "k8s.io/ingress-nginx": Flavor.NGINX,
    "traefik.io/ingress-controller": Flavor.TRAEFIK,
}
"""Which controller an IngressClass names, as its makers have it in their documentation."""


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


def parse_ingress_class(body: Mapping[str, Any]) -> IngressClass:
    """A class from the API server's object."""
    metadata = body["metadata"]
    default = (metadata.get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    return IngressClass(metadata["name"], (body.get("spec") or {}).get("controller", ""), default)


def resolve(stream: LogStream, rules: Rules, around: Surroundings) -> Resolved:
    """Decide everything. Raises NotAccepted; what only an Ingress lacks becomes `ingress_fault`."""
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
    root = placement = None
    if spec.source.host_path is not None:
        groups = spec.source.supplemental_groups
        root = find_root(rules.roots, stream.key.namespace, spec.source.host_path, groups)
        placement = place(spec.source, around.nodes)
    if not spec.ingress.enabled:
        return Resolved(stream, root, placement)
    found = _find_class(spec.ingress.class_name, around.classes)
    if isinstance(found, IngressFault):
        return Resolved(stream, root, placement, ingress_fault=found)
    flavor = spec.ingress.flavor
    if flavor is Flavor.AUTO:
        flavor = CONTROLLERS.get(found.controller, Flavor.NONE)
    default = next((each.name for each in around.classes if each.is_default), "")
    fault = find_conflict(stream, around.others, default)
    return Resolved(stream, root, placement, spec.ingress.class_name or None, flavor, fault)


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


def find_conflict(stream: LogStream, others: Iterable[LogStream], default_class: str = "") -> IngressFault | None:
    """Why a LogStream cannot have its path: an older one has it, on the same host and under the same class.

    `default_class`: whose it is that names none.
    """
    mine = _routes(stream, default_class)
    for other in sorted(others, key=_age):
        if other.uid == stream.uid or not other.spec.ingress.enabled or _age(other) >= _age(stream):
            continue
        shared = sorted(mine & _routes(other, default_class))
        if shared:
            _, host, path = shared[0]
            where = f"{host or 'any host'}, path {path}"
            return IngressFault(
                "Conflict",
                f"LogStream {other.key} is older and has {where} already; set spec.ingress.path to one that is "
                f"free, such as {_free_path(stream.key)}",
            )
    return None


def _age(stream: LogStream) -> tuple[str, Key]:
    return stream.created, stream.key


def _routes(stream: LogStream, default_class: str) -> set[tuple[str, str, str]]:
    ingress = stream.spec.ingress
    paths = [ingress.path, ingress.base_path or "/"] if ingress.viewer else [ingress.path]
    return {(ingress.class_name or default_class, ingress.host, path) for path in paths}


def _free_path(key: Key) -> str:
    """Names are unique in a namespace, so nobody who follows this advice has it."""
    return f"/{key.namespace}/{key.name}/ws"
