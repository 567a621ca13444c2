"""The folders on nodes that the administrator allows, for whom, and with what.

Whoever may create a LogStream makes the operator, which may do much more, mount a folder: so an administrator's list
decides, and not the resource. The admission policy in the chart says the same at `kubectl apply`; this is what counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from .errors import NotAccepted


class Propagation(StrEnum):
    """Whether mounts that come and go on the node below the root show in the servers."""

    NONE = "None"
    HOST_TO_CONTAINER = "HostToContainer"


@dataclass(frozen=True, slots=True)
class Root:
    """One allowed folder. `namespaces`: who may use it, empty for all; `groups`: which ones may be asked for."""

    path: str
    namespaces: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    propagation: Propagation = Propagation.HOST_TO_CONTAINER

    def holds(self, path: str) -> bool:
        """Whether the folder is this root or below it."""
        return path == self.path or path.startswith(self.path + "/")


FORBIDDEN: Final = tuple(
    ("/" + name)
    for name in (
        *("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "tmp"),
        *("usr", "var/run", "var/lib/containerd", "var/lib/docker", "var/lib/etcd", "var/lib/kubelet"),
    )
)
"""Neither these folders nor what lies below or above them can be a root: they hold secrets of the node, or the server's
own program, in place of which a root is mounted."""
OCCUPIED: Final = ("/app", "/home", "/opt", "/srv", "/var", "/var/lib")
"""Folders that are no root themselves, while those below may be: too much lies there, or the server's own program."""

_DEFAULT: Final = Root("/minikube-host")
DEFAULT_ROOTS: Final = (_DEFAULT,)


def parse_roots(text: str) -> tuple[Root, ...]:
    """The roots from JSON, a list of objects as in the chart's `allowedRoots`. ValueError says what is wrong."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(found, list):
        raise ValueError("must be a list of objects with path, namespaces, groups and mountPropagation")  # noqa: TRY004
    roots = tuple(_parse_root(each) for each in found)
    problems = [problem for root in roots for problem in _problems(root)]
    if problems:
        raise ValueError("; ".join(problems))
    return roots


def _parse_root(given: Any) -> Root:
    known = {"path", "namespaces", "groups", "mountPropagation"}
    if not isinstance(given, dict) or not isinstance(given.get("path"), str) or given.keys() - known:
        raise ValueError(
            f"{json.dumps(given)} must be an object with path, and of these only: {', '.join(sorted(known))}"
        )
    namespaces, groups = given.get("namespaces") or [], given.get("groups") or []
    if not isinstance(namespaces, list) or not all(isinstance(each, str) for each in namespaces):
        raise ValueError(f"{given['path']}: namespaces must be a list of names")
    if not isinstance(groups, list) or not all(type(each) is int and each >= 0 for each in groups):
        raise ValueError(f"{given['path']}: groups must be a list of numbers")
    try:
        propagation = Propagation(given.get("mountPropagation") or Propagation.HOST_TO_CONTAINER)
    except ValueError:
        raise ValueError(f"{given['path']}: mountPropagation must be one of {', '.join(Propagation)}") from None
    return Root(given["path"], tuple(namespaces), tuple(groups), propagation)


def _problems(root: Root) -> Iterator[str]:
    path = root.path
    parts = path.split("/")[1:]
    if not path.startswith("/") or not all(parts) or {".", ".."} & set(parts):
        yield f"{path!r} must be an absolute path without '..' and without a slash at its end"
    elif path in OCCUPIED or any(Root(bad).holds(path) or root.holds(bad) for bad in FORBIDDEN):
        yield f"{path!r} cannot be allowed: it holds more than logs; name a folder of logs"


def find_root(roots: tuple[Root, ...], namespace: str, path: str, groups: tuple[int, ...] = ()) -> Root:
    """The root that lets a LogStream of `namespace` follow `path` with these groups, the narrowest of several.

    Raises NotAccepted, which names what is allowed.
    """
    here = [root for root in roots if not root.namespaces or namespace in root.namespaces]
    holding = sorted((root for root in here if root.holds(path)), key=lambda root: len(root.path), reverse=True)
    if not holding or ".." in path.split("/"):
        allowed = ", ".join(root.path for root in here) or "none"
        raise NotAccepted(
            "HostPathNotAllowed",
            f"hostPath {path} is in none of the folders allowed for the namespace {namespace}: {allowed}; "
            "an administrator can add it to the operator chart's allowedRoots",
            stop=True,
        )
    for root in holding:
        if set(groups) <= set(root.groups):
            return root
    excess = sorted(set(groups) - set(holding[0].groups))
    allowed = ", ".join(map(str, holding[0].groups)) or "none"
    raise NotAccepted(
        "GroupNotAllowed",
        f"supplementalGroups {', '.join(map(str, excess))} may not be asked for under {holding[0].path} "
        f"(allowed: {allowed}); an administrator can add them to the operator chart's allowedRoots",
        stop=True,
    )
