"""patience: a slow file system is called hung once or twice, a dead one is soon enough."""

from __future__ import annotations

import pytest

from logstream_server.tailing.patience import LEAST_S, MOST_S, PROMPT_S, Patience


def alarms(patience: Patience, looks_s: list[float], now: float = 1000.0) -> list[int]:
    """Which of the looks, that take so long one after the other, are called hung."""
    out = []
    for number, took_s in enumerate(looks_s):
        if took_s > patience.limit_s:
            out.append(number)
        now += took_s
        patience.answered(now, took_s)
    return out


@pytest.mark.parametrize(
    ("looks_s", "expected"),
    [
        pytest.param([0.001] * 5, [], id="a healthy one"),
        pytest.param([LEAST_S + 1] * 100, [0], id="a slow one"),
        pytest.param([4.0, 0.1, 7.0, 5.0, 0.1] * 20, [0], id="now slow, now not"),
        pytest.param([4.0, 9.0, 17.0, 9.0, 17.0], [0, 1], id="slower and slower"),
        pytest.param([600.0, 0.01, MOST_S + 1], [0, 2], id="dead for ten minutes, and again"),
    ],
)
def test_what_is_called_hung(looks_s: list[float], expected: list[int]) -> None:
    assert alarms(Patience(), looks_s) == expected


def test_prompt_answers_for_a_while_make_it_healthy_again() -> None:
    patience = Patience()
    patience.answered(1000.0, 4.0)
    patience.answered(1000.0 + PROMPT_S, 0.01)
    assert patience.limit_s == 8.0
    patience.answered(1000.1 + PROMPT_S, 0.01)
    assert patience.limit_s == LEAST_S
