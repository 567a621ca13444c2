"""benchoptions: what can be said, and what is refused with which words."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from logstream_server.bench.benchoptions import BenchOptions
from logstream_server.encoding.view import Format
from logstream_server.errors import SettingsError


def test_arguments_are_read() -> None:
    flags = ["-c", "5", "-d1m", "--source-address=127.0.0.0/8", "--source-address", "::1", "--header", "A: b c "]
    options = BenchOptions.from_argv(["http://h", *flags, "--write", "f", "--size=100", "--insecure"])
    assert (options.clients, options.duration_s, options.line_bytes, options.insecure) == (5, 60, 100, True)
    assert options.sources == (ip_network("127.0.0.0/8"), ip_network("::1"))
    assert options.headers == (("A", "b c"),)


@pytest.mark.parametrize(
    ("argv", "mode"),
    [([], Format.TEXT), (["--reconnect", "1"], Format.JSON), (["--format", "raw"], Format.RAW)],
)
def test_the_format_is_text_unless_said_or_needed(argv: list[str], mode: Format) -> None:
    assert BenchOptions.from_argv(["http://h", *argv]).mode is mode


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        pytest.param([], "URL: say which server, such as http://127.0.0.1:8080", id="no server"),
        pytest.param(
            ["/var/log/x"], "URL '/var/log/x': must begin with one of http://, https://, ws://, wss://", id="a file"
        ),
        pytest.param(["ftp://u:p@h/x?t=1"], "URL 'ftp://h/x': must begin with one of", id="no secret is shown"),
        pytest.param(
            ["http://h", "--reconnect=1", "--format=text"],
            "--reconnect: needs --format json: with text a client learns no cursor",
            id="text has no cursor",
        ),
        pytest.param(["http://h:x"], "URL 'http://h:x': not an address", id="no address"),
        pytest.param(
            ["http://h", "--rate", "5"],
            "--rate: says how to write; say where with --write FILE",
            id="a rate of nothing",
        ),
        pytest.param(
            ["http://h", "--header", "x"], "--header 'x': must be a header such as 'X-Team: logs'", id="header"
        ),
        pytest.param(["http://h", "--header", "A: b\r\nC: d"], "--header 'A: b\\r\\nC: d'", id="two headers in one"),
        pytest.param(["http://h", "--source-address=10.0.0.1/8"], "--source-address", id="no network"),
        pytest.param(
            ["http://h", "--size=10", "--write=f"], "--size '10': must be a whole number from 68", id="too short"
        ),
    ],
)
def test_what_is_wrong_is_said(argv: list[str], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        BenchOptions.from_argv(argv)
    assert problem in str(caught.value)
