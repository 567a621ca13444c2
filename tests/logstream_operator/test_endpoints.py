"""endpoints: the operator's health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp.test_utils import TestClient, TestServer

from logstream_operator.endpoints import STUCK_S, create_endpoints, sickness
from logstream_operator.metrics import Metrics

STUCK = "a look at a LogStream has been lasting for 700 s\n"


def get(path: str, *, longest_s: float = 0.0, ready: bool = True) -> tuple[int, str]:
    app = create_endpoints(Metrics(lambda: 3).registry, lambda: longest_s, lambda: ready)

    async def ask() -> tuple[int, str]:
        async with TestClient(TestServer(app)) as client:
            answer = await client.get(path)
            return answer.status, await answer.text()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(lambda: get("/healthz"), (200, "ok\n"), id="well"),
        pytest.param(lambda: get("/readyz"), (200, "ok\n"), id="ready"),
        pytest.param(lambda: get("/readyz", ready=False), (503, "starting\n"), id="not ready before all was seen"),
        pytest.param(
            lambda: get("/healthz", longest_s=700),
            (503, STUCK),
            id="stuck",
        ),
    ],
)
def test_health(answer: Callable[[], tuple[int, str]], expected: tuple[int, str]) -> None:
    assert answer() == expected


def test_metrics() -> None:
    status, text = get("/metrics")
    assert status == 200
    assert "logstream_operator_queue_depth 3.0" in text


def test_long_work_is_no_sickness_before_it_must_be() -> None:
    assert sickness(STUCK_S - 1) is None
    assert sickness(STUCK_S) is not None
