"""paint: colours stay, and whatever else a line tries to do to a terminal does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.client.paint import harmless, painted, plain, prefixes

RED, YELLOW, DIM, END = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-11-24 10:00:00 ERROR no disk", f"{RED}2026-11-24 10:00:00 ERROR no disk{END}"),
        ("[error] 12#12: upstream", f"{RED}[error] 12#12: upstream{END}"),
        ('{"level":"error","msg":"x"}', f'{RED}{{"level":"error","msg":"x"}}{END}'),
        ("time=1 level=warning msg=x", f"{YELLOW}time=1 level=warning msg=x{END}"),
        ("WARN slow", f"{YELLOW}WARN slow{END}"),
        ("DEBUG x", f"{DIM}DEBUG x{END}"),
        ("INFO all is well", "INFO all is well"),
        ("an error occurred, said the poet", "an error occurred, said the poet"),
        ("TERRORS", "TERRORS"),
        ("x" * 300 + " ERROR", "x" * 300 + " ERROR"),
        ("\x1b[1;32mok\x1b[0m ERROR", "\x1b[1;32mok\x1b[0m ERROR\x1b[0m"),
        ("tab\there", "tab\there"),
    ],
)
def test_lines_keep_their_colours_or_get_one_by_their_level(line: str, expected: str) -> None:
    assert painted(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("\x1b[2Jgone", "\\x1b[2Jgone", id="clears the screen"),
        pytest.param("\x1b]0;root#\x07", "\\x1b]0;root#\\x07", id="sets the title"),
        pytest.param("\x1b]52;c;cm0=\x1b\\", "\\x1b]52;c;cm0=\\x1b\\", id="writes the clipboard"),
        pytest.param("\x1b[6n\x1bP+q\x1b\\", "\\x1b[6n\\x1bP+q\\x1b\\", id="asks for an answer"),
        pytest.param("safe\rlies", "safe\\x0dlies", id="writes over itself"),
        pytest.param("a\x08b\x00\x0e\x9b2J\x7f", "a\\x08b\\x00\\x0e\\x9b2J\\x7f", id="other control characters"),
        pytest.param("\u202egol\u2028", "\\u202egol\\u2028", id="turns the direction of text"),
        pytest.param("\x1b[31;1Hx", "\\x1b[31;1Hx", id="moves the cursor"),
        pytest.param("\x1b[3\x1b[31m1m", "\\x1b[3\x1b[31m1m\x1b[0m", id="a sequence in a sequence"),
    ],
)
def test_what_could_harm_is_shown(line: str, expected: str) -> None:
    assert painted(line) == expected


def test_without_colours_there_are_none() -> None:
    assert plain("\x1b[31mred\x1b[0m \x1b[2J") == "red \\x1b[2J"


@given(st.text(alphabet=st.one_of(st.sampled_from("\x1b[]0;1mJH\x07\x9b\r\n\\"), st.characters())))
def test_nothing_but_colours_comes_through(text: str) -> None:
    left = re.sub(r"\x1b\[[0-9;:]*m", "", painted(text))
    assert not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f]", left)
    assert not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f]", plain(text))
    assert "\x1b" not in harmless(text)


def test_prefixes_are_equally_wide_and_each_in_its_colour() -> None:
    assert prefixes(["a", "bcd"], colors=False) == ["a   | ", "bcd | "]
    assert prefixes(["a", "b"], colors=True) == ["\x1b[36ma | \x1b[0m", "\x1b[32mb | \x1b[0m"]
    assert prefixes(["\x1b[2J"], colors=False) == ["\\x1b[2J | "]
    assert prefixes([], colors=True) == []
