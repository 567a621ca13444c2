"""status: conditions, the status that holds them, and events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from logstream_operator.status import (
    OPEN,
    Condition,
    Counts,
    Facts,
    State,
    Type,
    carry_over,
    conclude,
    cut,
    find_transitions,
    keep_counts,
    render_event,
    render_status,
)

from .examples import a_body

GOOD = [
    Condition(Type.ACCEPTED, State.TRUE, "Accepted"),
    Condition(Type.VOLUME_READY, State.TRUE, "Bound"),
    Condition(Type.AVAILABLE, State.TRUE, "ServersReady"),
    Condition(Type.SOURCE_AVAILABLE, State.TRUE, "Following"),
    Condition(Type.INGRESS_READY, State.TRUE, "AddressKnown"),
    Condition(Type.AUTOSCALING_ACTIVE, State.FALSE, "Disabled"),
]
FACTS = Facts(3, "a=b", 2, 1, "ws://1.2.3.4/ws", "node-1", Counts(5, 2))


def but(*changed: Condition) -> list[Condition]:
    return [next((new for new in changed if new.type == old.type), old) for old in GOOD]


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        pytest.param(GOOD, (State.TRUE, "Serving"), id="all is well"),
        pytest.param(
            but(Condition(Type.AVAILABLE, State.FALSE, "ImagePullBackOff", "x")),
            (State.FALSE, "ImagePullBackOff"),
            id="the one in the way gives its reason",
        ),
        pytest.param(
            but(
                Condition(Type.VOLUME_READY, State.FALSE, "Binding"), Condition(Type.AVAILABLE, State.FALSE, "Starting")
            ),
            (State.FALSE, "Binding"),
            id="the first of several",
        ),
        pytest.param(
            but(Condition(Type.SOURCE_AVAILABLE, State.FALSE, "NoFilesYet")),
            (State.TRUE, "NoFilesYet"),
            id="a file may come at any time",
        ),
        pytest.param(
            but(Condition(Type.SOURCE_AVAILABLE, State.FALSE, "FilesUnreadable")),
            (State.FALSE, "FilesUnreadable"),
            id="a file that cannot be read gives no lines",
        ),
        pytest.param(
            but(Condition(Type.INGRESS_READY, State.FALSE, "Disabled")), (State.TRUE, "Serving"), id="no Ingress wanted"
        ),
        pytest.param(
            but(Condition(Type.AUTOSCALING_ACTIVE, State.FALSE, "FailedGetResourceMetric")),
            (State.TRUE, "Serving"),
            id="servers serve without an autoscaler",
        ),
        pytest.param(
            but(Condition(Type.AVAILABLE, State.UNKNOWN, "Who")), (State.UNKNOWN, "Who"), id="what is not known"
        ),
    ],
)
def test_ready(conditions: list[Condition], ready: tuple[State, str]) -> None:
    found = conclude(conditions)
    assert (found.state, found.reason) == ready


def test_the_whole_status() -> None:
    status = render_status({}, GOOD, FACTS, "T1")
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "observedGeneration": 3,
        "replicas": 2,
        "readyReplicas": 1,
        "selector": "a=b",
        "url": "ws://1.2.3.4/ws",
        "node": "node-1",
        "clients": 5,
        "streams": 2,
    }
    assert [each["type"] for each in status["conditions"]][-1] == "Ready"
    assert all(each["observedGeneration"] == 3 for each in status["conditions"])


def test_what_is_not_known_is_left_out() -> None:
    assert not {"url", "node", "clients", "streams"} & render_status({}, GOOD, Facts(1, "s"), "T").keys()


def test_the_same_again_is_the_same() -> None:
    first = render_status({}, GOOD, FACTS, "T1")
    assert render_status(first, GOOD, FACTS, "T2") == first
    assert find_transitions(first, first) == []


def test_the_time_is_that_of_the_last_change_of_state() -> None:
    first = render_status({}, GOOD, FACTS, "T1")
    reason = render_status(first, but(Condition(Type.ACCEPTED, State.TRUE, OPEN)), FACTS, "T2")
    state = render_status(reason, but(Condition(Type.ACCEPTED, State.FALSE, "No")), FACTS, "T3")
    times = [status["conditions"][0]["lastTransitionTime"] for status in (first, reason, state)]
    assert times == ["T1", "T1", "T3"]


def transitions(before: list[Condition] | None, after: list[Condition]) -> list[tuple[str, bool]]:
    previous = {} if before is None else render_status({}, before, FACTS, "T1")
    return [(note.reason, note.warning) for note in find_transitions(previous, render_status({}, after, FACTS, "T2"))]


def test_an_event_for_each_step_and_none_for_what_stays() -> None:
    waiting = but(Condition(Type.AVAILABLE, State.FALSE, "Starting"))
    assert transitions(None, waiting) == [
        ("Accepted", False),
        ("VolumeReady", False),
        ("SourceAvailable", False),
        ("IngressReady", False),
    ]
    assert transitions(waiting, GOOD) == [("Available", False), ("Ready", False)]
    assert transitions(GOOD, GOOD) == []


@pytest.mark.parametrize(
    ("changed", "events"),
    [
        pytest.param(Condition(Type.INGRESS_READY, State.FALSE, "Conflict"), [("Conflict", True)], id="a fault"),
        pytest.param(Condition(Type.AVAILABLE, State.FALSE, "Starting"), [], id="a stage on the way"),
        pytest.param(Condition(Type.SOURCE_AVAILABLE, State.FALSE, "NoFilesYet"), [], id="a file that is awaited"),
        pytest.param(Condition(Type.ACCEPTED, State.TRUE, OPEN), [(OPEN, True)], id="an open door is a warning"),
    ],
)
def test_events(changed: Condition, events: list[tuple[str, bool]]) -> None:
    assert transitions(GOOD, but(changed)) == events


def test_counts_alone_are_not_written_too_often() -> None:
    previous = render_status({}, GOOD, FACTS, "T1")
    counted = {**previous, "clients": 99}
    assert keep_counts(previous, counted, since_s=5, least_s=30) == previous
    assert keep_counts(previous, counted, since_s=31, least_s=30) == counted
    other = {**counted, "url": "ws://other/ws"}
    assert keep_counts(previous, other, since_s=5, least_s=30) == other
    unknown = {key: value for key, value in previous.items() if key != "clients"}
    assert keep_counts(previous, unknown, since_s=5, least_s=30) == previous


def test_a_spec_that_is_not_followed_leaves_the_rest_as_it_was() -> None:
    previous = render_status({}, GOOD, FACTS, "T1")
    refused = Condition(Type.ACCEPTED, State.FALSE, "AmbiguousNode", "which?")
    carried = carry_over(previous, refused)
    assert carried == [refused, *(replace(each, generation=3) for each in GOOD[1:])]
    shown = render_status(previous, carried, replace(FACTS, generation=4), "T2")["conditions"]
    assert [each["observedGeneration"] for each in shown] == [4, 3, 3, 3, 3, 3, 4], "only what was looked at is news"
    assert conclude(carried).reason == "AmbiguousNode"
    assert carry_over({"conditions": [{"type": "Old", "status": "True", "reason": "R", "message": ""}]}, refused) == [
        refused
    ]


@pytest.mark.parametrize("message", ["x" * 5000, "ü" * 5000])
def test_a_long_message_is_cut(message: str) -> None:
    assert len(cut(message).encode()) <= 1024
    assert cut(message).endswith("...")
    assert cut("short") == "short"


def test_an_event_is_about_the_resource() -> None:
    body = a_body()
    note = find_transitions({}, render_status({}, GOOD, FACTS, "T"))[0]
    event: dict[str, Any] = render_event(body, note, "2026-01-01T00:00:00Z")
    assert event["involvedObject"]["uid"] == body["metadata"]["uid"]
    assert event["metadata"]["namespace"] == "team"
    assert (event["type"], event["reason"]) == ("Normal", "Accepted")
