"""addresses: what people type, as the URL of a socket, and without its secrets."""

from __future__ import annotations

import pytest

from logstream_server.client.addresses import (
    api_url,
    display_url,
    fault_of,
    is_encrypted,
    own_stream,
    socket_url,
    with_query,
)
from logstream_server.client.client import LogStreamClient
from logstream_server.errors import CannotFollow


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("http://h", "ws://h/ws", id="a bare host"),
        pytest.param("http://h:8080/", "ws://h:8080/ws", id="a port"),
        pytest.param("https://h/team/app/", "wss://h/team/app/ws", id="a base path, encrypted"),
        pytest.param("https://h/team/app/ws", "wss://h/team/app/ws", id="the socket itself by http"),
        pytest.param("ws://h/ws?tail=3", "ws://h/ws?tail=3", id="the socket itself"),
        pytest.param("HTTPS://h", "wss://h/ws", id="in capitals"),
        pytest.param("ws://h", "ws://h/ws", id="the socket's scheme without its path"),
        pytest.param("http://h/a b/%C3%BC/ü/(1)", "ws://h/a%20b/%C3%BC/%C3%BC/(1)/ws", id="a path as people write it"),
        pytest.param("http://[::1]:80/x#part", "ws://[::1]:80/x/ws", id="a literal address; a fragment goes"),
    ],
)
def test_an_address_leads_to_its_socket(url: str, expected: str) -> None:
    """However a person writes it."""
    assert socket_url(url) == expected


@pytest.mark.parametrize(
    "url",
    ["ftp://h", "http://", "app.log", "http://[::1", "http://h:port/?token=s", "ws:///ws", "http://h/\udcff?token=s"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """By name, without its query."""
    with pytest.raises(CannotFollow, match="not an address") as caught:
        LogStreamClient(url)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "http://h/api/v1/streams"),
        ("wss://u:p@h:8/team/ws?tail=3&access_token=t", "https://h:8/team/api/v1/streams?access_token=t"),
        ("ws://[::1]/ws/", "http://[::1]/api/v1/streams"),
        ("http://h/ü b?access_token=t", "http://h/%C3%BC%20b/api/v1/streams?access_token=t"),
    ],
)
def test_an_address_leads_to_its_api(url: str, expected: str) -> None:
    assert api_url(url, "streams") == expected


def test_an_address_s_own_query_counts_for_lines() -> None:
    """As it does for the socket."""
    url = "http://h/?stream=s&tail=3&grep=a&grep=b&lag=skip"
    assert api_url(url, "x", {"tail": 10}) == "http://h/api/v1/x?tail=3&grep=a&grep=b"
    assert api_url(url, "x", {"cursor": "c", "grep": ["d"]}) == "http://h/api/v1/x?cursor=c&grep=d"
    assert (own_stream(url), own_stream("http://h")) == ("s", None)


def test_the_name_of_a_stream_may_have_bytes_that_are_no_text() -> None:
    """There is none of that name, which is for the server to say."""
    assert with_query("ws://h/ws", {"stream": "\udcff"}) == "ws://h/ws?stream=%3F"


@pytest.mark.parametrize(("url", "encrypted"), [("http://h", False), ("WSS://h", True), ("https://h", True)])
def test_an_address_says_whether_to_speak_tls(url: str, encrypted: bool) -> None:
    assert is_encrypted(url) == encrypted
    assert fault_of(url) is None


def test_what_is_no_address_may_say_so_too() -> None:
    """What else is wrong can be told with it."""
    assert is_encrypted("https://[::1")
    assert fault_of("https://[::1") == "not an address: Invalid IPv6 URL"


def test_an_address_is_shown_without_its_secrets() -> None:
    """Queries and passwords hold tokens."""
    assert display_url("https://user:secret@h:1/b?access_token=s#f") == "https://h:1/b"
