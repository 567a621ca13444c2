"""A LogStream as values: what crd.yaml lets through, with the defaults that it gives.

The API server checks and fills in what users write; this reads it. What was stored under an older schema, or past a
rule that is newer, must not stop the operator: it becomes NotAccepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .errors import NotAccepted
from .names import Key


class Flavor(StrEnum):
    """Whose annotations the Ingress gets."""

    AUTO = "auto"
    NGINX = "nginx"
    TRAEFIK = "traefik"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files are: exactly one of `host_path` and `claim_name` is given."""

    files: tuple[str, ...]
    host_path: str | None = None
    claim_name: str | None = None
    node_selector: tuple[tuple[str, str], ...] = ()
    shared_across_nodes: bool = False
    supplemental_groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretRef:
    """One key of a Secret."""

    name: str
    key: str = "tokens"


@dataclass(frozen=True, slots=True)
class Server:
    """The servers' options; `resources` as in a container."""

    tail_lines: int = 10
    max_clients: int = 10_000
    allowed_origins: tuple[str, ...] = ()
    auth_secret: SecretRef | None = None
    resources: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """How many servers, by their CPU."""

    min_replicas: int = 1
    max_replicas: int = 10
    target_cpu_percent: int = 70
    scale_down_window_s: int = 300


@dataclass(frozen=True, slots=True)
class Ingress:
    """How clients come in; `class_name` "" is the cluster's default class, `host` "" any."""

    enabled: bool = True
    class_name: str = "nginx"
    host: str = ""
    path: str = "/ws"
    viewer: bool = False
    tls: tuple[Mapping[str, Any], ...] = ()
    flavor: Flavor = Flavor.AUTO
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def base_path(self) -> str:
        """What stands before the path's `/ws`: "" for the root."""
        return self.path.removesuffix("/ws")


@dataclass(frozen=True, slots=True)
class LogStreamSpec:
    """What the author wrote."""

    source: Source
    server: Server = Server()
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    ingress: Ingress = Ingress()
    pod_monitor: bool = False


@dataclass(frozen=True, slots=True)
class LogStream:
    """One resource; `created` is a timestamp whose text sorts by time. `ingress_refused`: what the status says of the
    Ingress of this very spec."""

    key: Key
    uid: str
    generation: int
    created: str
    spec: LogStreamSpec
    ingress_refused: bool = False


def parse_logstream(body: Mapping[str, Any]) -> LogStream:
    """The API server's object as a value. Raises NotAccepted."""
    metadata = body["metadata"]
    try:
        spec = parse_spec(body["spec"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise NotAccepted("InvalidSpec", f"the spec cannot be read: {detail}") from error
    return LogStream(
        Key(metadata["namespace"], metadata["name"]),
        metadata["uid"],
        metadata.get("generation", 0),
        metadata.get("creationTimestamp", ""),
        spec,
        _is_ingress_refused(body),
    )


def _is_ingress_refused(body: Mapping[str, Any]) -> bool:
    said = {each["type"]: each for each in (body.get("status") or {}).get("conditions") or ()}.get("IngressReady", {})
    is_about_this = said.get("observedGeneration") == body["metadata"].get("generation")
    return bool(is_about_this and said.get("reason") == "Refused")


def parse_all(bodies: Iterable[Mapping[str, Any]]) -> list[LogStream]:
    """The LogStreams among them that can be read: one that cannot must not be in the way of others."""
    found = []
    for body in bodies:
        try:
            found.append(parse_logstream(body))
        except NotAccepted:
            continue
    return found


def parse_spec(given: Mapping[str, Any]) -> LogStreamSpec:
    """The spec as a value. Raises KeyError, TypeError, ValueError for what crd.yaml would refuse."""
    autoscaling = given.get("autoscaling")
    return LogStreamSpec(
        _parse_source(given["source"]),
        _parse_server(given.get("server") or {}),
        int(given.get("replicas", 1)),
        None if autoscaling is None else _parse_autoscaling(autoscaling),
        _parse_ingress(given.get("ingress") or {}),
        bool((given.get("monitoring") or {}).get("podMonitor", False)),
    )


def _parse_source(given: Mapping[str, Any]) -> Source:
    claim = given.get("persistentVolumeClaim")
    host_path = given.get("hostPath")
    if (claim is None) == (host_path is None):
        raise ValueError("source must have exactly one of hostPath and persistentVolumeClaim")
    files = tuple(given["files"])
    if not files or any(file.startswith("/") or ".." in file.split("/") for file in files):
        raise ValueError("source.files must be names or globs below the folder")
    return Source(
        files,
        host_path,
        None if claim is None else claim["claimName"],
        tuple(sorted((given.get("nodeSelector") or {}).items())),
        bool(given.get("sharedAcrossNodes", False)),
        tuple(given.get("supplementalGroups") or ()),
    )


def _parse_server(given: Mapping[str, Any]) -> Server:
    secret = given.get("authSecretRef")
    return Server(
        int(given.get("tailLines", 10)),
        int(given.get("maxClients", 10_000)),
        tuple(given.get("allowedOrigins") or ()),
        None if secret is None else SecretRef(secret["name"], secret.get("key", "tokens")),
        given.get("resources") or {},
    )


def _parse_autoscaling(given: Mapping[str, Any]) -> Autoscaling:
    window = (given.get("scaleDown") or {}).get("stabilizationWindowSeconds", 300)
    return Autoscaling(
        int(given.get("minReplicas", 1)),
        int(given.get("maxReplicas", 10)),
        int(given.get("targetCPUUtilizationPercentage", 70)),
        int(window),
    )


def _parse_ingress(given: Mapping[str, Any]) -> Ingress:
    path = given.get("path", "/ws")
    if not path.startswith("/") or not path.endswith("/ws"):
        raise ValueError(f"ingress.path {path!r} must end in /ws")
    return Ingress(
        bool(given.get("enabled", True)),
        given.get("className", "nginx"),
        given.get("host", ""),
        path,
        bool(given.get("viewer", False)),
        tuple(given.get("tls") or ()),
        Flavor(given.get("flavor", "auto")),
        tuple(sorted((given.get("annotations") or {}).items())),
    )
