"""demooptions: what can be said."""

from __future__ import annotations

import pytest

from logstream_server.demo.demooptions import DemoOptions
from logstream_server.errors import SettingsError


def test_arguments_are_read() -> None:
    assert DemoOptions.from_argv([]) == DemoOptions(port=8080, rate=5, rotate_after=300, keep=False)
    given = DemoOptions.from_argv(["-p", "0", "--rate=9", "--rotate-after", "7", "--keep"])
    assert given == DemoOptions(0, 9, 7, keep=True)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(SettingsError, match="--rate '0': must be a whole number from 1 to 10000"):
        DemoOptions.from_argv(["--rate", "0"])
