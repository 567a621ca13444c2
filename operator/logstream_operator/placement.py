"""Which node holds the files: a folder on a node exists exactly there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .errors import NotAccepted
from .names import LABEL_HOSTNAME
from .spec import Source

MAX_NAMED: Final = 8
"""Nodes that a message names: more cannot be read."""


@dataclass(frozen=True, slots=True)
class Node:
    """What of a node matters: its name, and its labels, one of which the scheduler pins by."""

    name: str
    labels: Mapping[str, str]

    @property
    def hostname(self) -> str:
        """The value of the label that names one node; some clouds give it another one than the node's name."""
        return self.labels.get(LABEL_HOSTNAME, self.name)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where servers can run: `labels` that a node must have. `node`: the only one, None when files are shared."""

    labels: tuple[tuple[str, str], ...]
    node: str | None


def parse_node(body: Mapping[str, Any]) -> Node:
    """A node from the API server's object."""
    metadata = body["metadata"]
    return Node(metadata["name"], dict(metadata.get("labels") or {}))


def place(source: Source, nodes: Sequence[Node]) -> Placement:
    """Where the source's folder is. Raises NotAccepted when that is nowhere, or anyone's guess."""
    wanted = dict(source.node_selector)
    matching = [node for node in nodes if wanted.items() <= node.labels.items()]
    words = ", ".join(f"{key}={value}" for key, value in source.node_selector)
    if not matching:
        there = _names(nodes)
        what = f"no node has the labels {words}" if wanted else "the cluster has no nodes"
        raise NotAccepted("NoSuchNode", f"{what}; nodes: {there}")
    if source.shared_across_nodes:
        return Placement(source.node_selector, None)
    if len(matching) > 1:
        which = f"nodeSelector {words} matches" if wanted else "the cluster has"
        raise NotAccepted(
            "AmbiguousNode",
            f"{which} {len(matching)} nodes, and a folder is on one: {_names(matching)}. Name it in "
            f"spec.source.nodeSelector, for example {LABEL_HOSTNAME}: {matching[0].hostname}, or set "
            "sharedAcrossNodes if all have the same files",
        )
    node = matching[0]
    return Placement(((LABEL_HOSTNAME, node.hostname),), node.name)


def _names(nodes: Sequence[Node]) -> str:
    names = sorted(node.name for node in nodes)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return (", ".join(names[:MAX_NAMED]) or "none") + more
