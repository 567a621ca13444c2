"""placement: the node that holds the files."""

from __future__ import annotations

from typing import Any

import pytest

from logstream_operator.errors import NotAccepted
from logstream_operator.names import LABEL_HOSTNAME
from logstream_operator.placement import Node, Placement, parse_node, place
from logstream_operator.spec import Source

A = Node("a", {LABEL_HOSTNAME: "host-a", "disk": "ssd"})
B = Node("b", {LABEL_HOSTNAME: "host-b", "disk": "ssd"})


def source(**change: Any) -> Source:
    return Source(("*.log",), "/minikube-host", **change)


@pytest.mark.parametrize(
    ("given", "nodes", "placement"),
    [
        pytest.param(source(), [A], Placement(((LABEL_HOSTNAME, "host-a"),), "a"), id="the only node"),
        pytest.param(
            source(node_selector=((LABEL_HOSTNAME, "host-b"),)),
            [A, B],
            Placement(((LABEL_HOSTNAME, "host-b"),), "b"),
            id="the one that is named",
        ),
        pytest.param(
            source(node_selector=(("disk", "ssd"),), shared_across_nodes=True),
            [A, B],
            Placement((("disk", "ssd"),), None),
            id="any of those that share the files",
        ),
        pytest.param(source(shared_across_nodes=True), [A, B], Placement((), None), id="any node"),
        pytest.param(
            source(), [Node("c", {})], Placement(((LABEL_HOSTNAME, "c"),), "c"), id="a node without the label"
        ),
    ],
)
def test_where_files_are(given: Source, nodes: list[Node], placement: Placement) -> None:
    assert place(given, nodes) == placement


@pytest.mark.parametrize(
    ("given", "nodes", "reason", "words"),
    [
        pytest.param(source(), [B, A], "AmbiguousNode", "2 nodes, and a folder is on one: a, b.", id="two nodes"),
        pytest.param(
            source(node_selector=(("disk", "ssd"),)),
            [A, B],
            "AmbiguousNode",
            "nodeSelector disk=ssd matches",
            id="two match",
        ),
        pytest.param(source(node_selector=(("x", "y"),)), [A], "NoSuchNode", "labels x=y; nodes: a", id="none matches"),
        pytest.param(source(), [], "NoSuchNode", "no nodes", id="no node"),
        pytest.param(
            source(),
            [Node(f"n{i:02}", {}) for i in range(20)],
            "AmbiguousNode",
            "n07 and 12 more",
            id="too many to name",
        ),
    ],
)
def test_where_files_might_be(given: Source, nodes: list[Node], reason: str, words: str) -> None:
    with pytest.raises(NotAccepted) as caught:
        place(given, nodes)
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert not caught.value.stop, "a node more must not end what runs"


def test_a_node_is_read_from_its_object() -> None:
    assert parse_node({"metadata": {"name": "a", "labels": dict(A.labels)}}) == A
    assert parse_node({"metadata": {"name": "c"}}) == Node("c", {})
