"""errors: each makes its sentence."""

from __future__ import annotations

import pytest

from logstream_operator.errors import NotAccepted, OperatorError, Problem, Refused, SettingsError, Unreachable


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NotAccepted("NoSuchNode", "no node"), "no node"),
        (Refused("Ingress", "a", 400, "denied"), "Ingress a was refused (400): denied"),
        (Unreachable("Pod a", None, "no route"), "Pod a: no route"),
        (Unreachable("Pod a", 503, "busy"), "Pod a: busy (503)"),
        (
            SettingsError((Problem("--a", "x", "must be y"), Problem("B", None, "is missing"))),
            "--a 'x': must be y\nB: is missing",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_makes_its_sentence(error: OperatorError, sentence: str) -> None:
    assert str(error) == sentence
    assert isinstance(error, OperatorError)
