"""tailoptions: what can be said, and what is refused with which words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from logstream_server.client.tailoptions import Color, TailOptions, shown
from logstream_server.errors import SettingsError

CURSOR = "AQAFYS5sb2cBAAAAAACYaNsAAAAAAAAACM4kvFDi2vX4ziS8UOLa9fiEpI6M"


def test_tail_needs_only_what_to_follow() -> None:
    assert TailOptions.from_argv(["http://h:8080"]) == TailOptions(("http://h:8080",), lines=10)


def test_every_option_of_tail_reaches_its_field() -> None:
    flags = ["--stream=s", "--grep=g", "--exclude=e", "--json", "-n", "5", "--no-resume", "--token-file=t", "-fF"]
    more = ["--color=never", "--no-prefix", "--ca-file=c", "--insecure", "--exclude=f"]
    wanted = TailOptions(("http://h",), 5, grep=("g",), json=True, follow=True, retry=True, streams=("s",))
    expected = replace(
        replace(wanted, exclude=("e", "f"), no_resume=True, token_file="t", color=Color.NEVER),
        no_prefix=True,
        ca_file="c",
        insecure=True,
    )
    flags += more
    assert TailOptions.from_argv(["http://h", *flags]) == expected
    assert TailOptions.from_argv(["x", f"--cursor={CURSOR}"]) == TailOptions(("x",), cursor=CURSOR)
    assert TailOptions.from_argv(["x", "y", "--since=1h"]) == TailOptions(("x", "y"), since="1h")
    assert TailOptions.from_argv(["x", "-fn5"]) == TailOptions(("x",), lines=5, follow=True)
    assert TailOptions.from_argv(["-200", "x"]) == TailOptions(("x",), lines=200)
    assert TailOptions.from_argv(["x", "--no-follow", "--follow=no"]) == TailOptions(("x",), no_follow=True)
    assert TailOptions.from_argv(["x", "--from-start"]) == TailOptions(("x",), from_start=True)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        pytest.param([], "FILE|URL: say what to follow", id="nothing to follow"),
        pytest.param([""], "FILE|URL '': must be a file, or a server's address", id="an empty word to follow"),
        pytest.param(
            ["a", "b", f"--cursor={CURSOR}"], "--cursor: is of one stream; give one source", id="a cursor for two"
        ),
        pytest.param(
            ["-"], "FILE|URL '-': standard input is no file that grows; ./- is a file of that name", id="a single dash"
        ),
        pytest.param(["a", "-1000001"], "--lines '1000001': must be a whole number from 0 to 1000000", id="too many"),
        pytest.param(["a", "-xn5"], "-xn5: no such option", id="no such letter"),
        pytest.param(
            ["a", "-n5", f"--cursor={CURSOR}"],
            "--lines and --cursor: each say where to begin; keep one",
            id="two starts",
        ),
        pytest.param(
            ["ftp://u:secret@h/log?token=secret"],
            "FILE|URL 'ftp://h/log': must be a file, or a URL that begins with one of http, https, ws, wss",
            id="a URL of another kind",
        ),
        pytest.param(
            ["a", "--no-follow", "-F", "-f"], "--follow: is the opposite of --no-follow; keep one", id="both ways"
        ),
        pytest.param(
            ["http://", "HTTP://u:s@h:99999/?s", "http://[::1"],
            "FILE|URL 'http://': not an address; it must be like http://HOST:PORT or wss://HOST/ws\n"
            "FILE|URL 'HTTP://h:99999/': not an address: Port out of range 0-65535\n"
            "FILE|URL 'http://[::1': not an address: Invalid IPv6 URL",
            id="addresses that are none",
        ),
        pytest.param(
            ["a", "--no-resume", "--stream=s", "--token-file=t"],
            "--no-resume: is for servers, and 'a' is a file\n"
            "--stream: is for servers, and 'a' is a file\n"
            "--token-file: is for servers, and 'a' is a file",
            id="options for servers, with a file",
        ),
        pytest.param(
            ["a", "--color=pink", "--since=soon", "--grep=(", "--exclude=["],
            "--color 'pink': must be one of auto, always, never\n"
            "--since 'soon': must be a span such as 90s, 10m, 1h30m or 2d, or now, today or yesterday, "
            "or a time such as 14:30, 2026-11-24 or "
            "'2026-11-24 14:30'\n"
            "--grep '(': missing ): \"(\"\n"
            "--exclude '[': missing ]: \"[\"",
            id="a time and both patterns, with all other faults",
        ),
    ],
)
def test_tail_says_what_is_wrong(argv: list[str], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TailOptions.from_argv(argv)
    assert str(caught.value) == expected


def test_what_is_shown_of_a_target_holds_no_secret() -> None:
    assert shown("https://u:p@h/x?access_token=t") == "https://h/x"
    assert shown("/var/log/x?y") == "/var/log/x?y"
