"""access: who may connect, by origin and by token."""

from __future__ import annotations

import hmac
from urllib.parse import urlencode

import pytest
from starlette.requests import HTTPConnection

from logstream_server.access import (
    check,
    origin_allowed,
    presented_token,
    token_allowed,
)
from logstream_server.settings import Settings


def request(query: dict[str, str] | None = None, **headers: str) -> HTTPConnection:
    """A request with these headers and query parameters."""
    raw = [(name.encode(), value.encode("utf-8")) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw, "query_string": urlencode(query or {}).encode()})


# -- origins ----------------------------------------------------------------------------------------------------------

HERE = [
    pytest.param("http://logs.example.com", "logs.example.com", id="the very host"),
    pytest.param("https://logs.example.com", "logs.example.com", id="TLS ended before us"),
    pytest.param("http://logs.example.com:8080", "logs.example.com:8080", id="with a port"),
    pytest.param("https://logs.example.com", "logs.example.com:443", id="the scheme's own port in Host"),
    pytest.param("http://logs.example.com:80", "logs.example.com", id="the scheme's own port in Origin"),
    pytest.param("HTTP://Logs.Example.COM", "LOGS.example.com", id="letters of either case"),
    pytest.param("http://logs.example.com/", "logs.example.com", id="a slash at the end"),
    pytest.param("http://127.0.0.1:8080", "127.0.0.1:8080", id="an IPv4 address"),
    pytest.param("http://[::1]:8080", "[::1]:8080", id="an IPv6 address"),
    pytest.param("http://[2001:DB8::1]", "[2001:db8::1]", id="an IPv6 address without a port"),
    pytest.param("ws://localhost:9", "localhost:9", id="a socket's own scheme"),
    pytest.param("wss://localhost", "localhost:443", id="a socket's own scheme with TLS"),
]

ELSEWHERE = [
    pytest.param("http://evil.example.com", "logs.example.com", id="another host"),
    pytest.param("http://logs.example.com.evil.com", "logs.example.com", id="our name as a beginning"),
    pytest.param("http://evil-logs.example.com", "logs.example.com", id="our name as an end"),
    pytest.param("http://logs.example.com:81", "logs.example.com", id="another port"),
    pytest.param("http://logs.example.com", "logs.example.com:8080", id="a port where we have another"),
    pytest.param("https://logs.example.com", "logs.example.com:80", id="the port of another scheme"),
    pytest.param("http://logs.example.com@evil.com", "logs.example.com", id="our name before an at sign"),
    pytest.param("http://localhost:8080", "127.0.0.1:8080", id="another name of the same machine"),
    pytest.param("http://[::1]:8080", "[::2]:8080", id="another IPv6 address"),
    pytest.param("null", "logs.example.com", id="an opaque origin"),
    pytest.param("null", "null", id="an opaque origin, and a host of that name"),
    pytest.param("", "logs.example.com", id="an empty origin"),
    pytest.param("", "", id="nothing at all"),
    pytest.param("logs.example.com", "logs.example.com", id="no scheme"),
    pytest.param("file://logs.example.com", "logs.example.com", id="a scheme without a host of its own"),
    pytest.param("chrome-extension://abcdef", "abcdef", id="an extension"),
    pytest.param("http://", "", id="a scheme alone"),
    pytest.param("http://logs.example.com:x", "logs.example.com", id="no port"),
    pytest.param("http://logs.example.com:99999", "logs.example.com", id="a port that there is not"),
    pytest.param("http://[::1", "[::1", id="half an IPv6 address"),
    pytest.param("http://logs.example.com", "logs.example.com:x", id="a Host without sense"),
    pytest.param("http://logs.example.com", "[", id="a Host with half an address"),
    pytest.param("http://logs.example.com", "", id="no Host"),
]


@pytest.mark.parametrize(("origin", "host"), HERE)
def test_a_page_from_this_very_host_may_connect(origin: str, host: str) -> None:
    assert origin_allowed(origin, host, ())


@pytest.mark.parametrize(("origin", "host"), ELSEWHERE)
def test_a_page_from_elsewhere_may_not(origin: str, host: str) -> None:
    assert not origin_allowed(origin, host, ())


@pytest.mark.parametrize(
    ("origin", "allowed", "passes"),
    [
        pytest.param("https://a.example", ("https://a.example",), True, id="listed"),
        pytest.param("https://A.example", ("https://a.EXAMPLE/",), True, id="listed in other letters"),
        pytest.param("https://a.example", ("https://b.example", "https://a.example"), True, id="listed second"),
        pytest.param("http://a.example", ("https://a.example",), False, id="listed with another scheme"),
        pytest.param("https://a.example:444", ("https://a.example",), False, id="listed without its port"),
        pytest.param("https://x.a.example", ("https://a.example",), False, id="a name below a listed one"),
        pytest.param("https://a.example", ("*",), True, id="any"),
        pytest.param("null", ("*",), True, id="even an opaque one"),
    ],
)
def test_other_origins_may_be_listed(origin: str, allowed: tuple[str, ...], passes: bool) -> None:
    assert origin_allowed(origin, "logs.example.com", allowed) is passes


def test_a_tool_has_no_origin_and_passes() -> None:
    assert check(Settings(), (), request(host="logs.example.com")) is None


def test_a_foreign_page_is_told_which_option_lets_it_in() -> None:
    refused = check(Settings(), (), request(host="logs.example.com", origin="http://evil.example" + "x" * 500))
    assert refused is not None
    assert refused.status_code == 403
    assert bytes(refused.body).startswith(b"origin http://evil.example")
    assert bytes(refused.body).endswith(b"xxx is not allowed (--allowed-origin)\n")
    assert len(refused.body) < 300


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query", "token"),
    [
        pytest.param({}, {}, None, id="none"),
        pytest.param({"authorization": "Bearer abc"}, {}, b"abc", id="in the header"),
        pytest.param({"authorization": "bEARER   abc "}, {}, b"abc", id="case and blanks do not matter"),
        pytest.param({"authorization": "Basic YWJj"}, {}, None, id="another scheme"),
        pytest.param({"authorization": "Bearer"}, {}, None, id="a scheme alone"),
        pytest.param({}, {"access_token": "abc"}, b"abc", id="in the query"),
        pytest.param({}, {"access_token": ""}, None, id="empty in the query"),
        pytest.param({"authorization": "Bearer abc"}, {"access_token": "x"}, b"abc", id="the header counts"),
        pytest.param({"authorization": "Basic x"}, {"access_token": "abc"}, b"abc", id="another scheme, and the query"),
        pytest.param({"authorization": "Bearer zwölf"}, {}, "zwölf".encode(), id="other letters in the header"),
        pytest.param({"authorization": "Bearer voilà"}, {}, "voilà".encode(), id="a last byte that looks like a blank"),
        pytest.param({}, {"access_token": "zwölf"}, "zwölf".encode(), id="other letters in the query"),
    ],
)
def test_a_token_comes_in_the_header_or_in_the_query(
    headers: dict[str, str], query: dict[str, str], token: bytes | None
) -> None:
    assert presented_token(request(query, **headers)) == token


@pytest.mark.parametrize(
    ("token", "allowed"),
    [
        pytest.param(b"alpha", True, id="the first"),
        pytest.param(b"beta", True, id="the last"),
        pytest.param(b"alph", False, id="a beginning"),
        pytest.param(b"alphabet", False, id="more"),
        pytest.param(b"ALPHA", False, id="other letters"),
        pytest.param(b"", False, id="nothing"),
        pytest.param(None, False, id="none"),
        pytest.param("älpha".encode(), False, id="letters that are not ASCII"),
    ],
)
def test_only_the_very_tokens_are_allowed(token: bytes | None, allowed: bool) -> None:
    assert token_allowed(token, (b"alpha", b"beta")) is allowed
    assert not token_allowed(token, ())


@pytest.mark.parametrize("token", [b"alpha", b"beta", b"no"])
def test_every_known_token_is_compared_in_constant_time(token: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the first one fits: the time tells nobody which it was."""
    compared: list[tuple[object, object]] = []
    real = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    token_allowed(token, (b"alpha", b"beta"))
    assert compared == [(token, b"alpha"), (token, b"beta")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 401, id="no token"),
        pytest.param({"authorization": "Bearer wrong"}, 401, id="a wrong one"),
        pytest.param({"authorization": "Bearer alpha"}, None, id="the right one"),
        pytest.param({"authorization": "Bearer alpha", "origin": "http://evil.example"}, 403, id="a foreign page"),
    ],
)
def test_with_token_files_a_token_is_needed(headers: dict[str, str], status: int | None) -> None:
    settings = Settings(token_files=("somewhere",))
    refused = check(settings, (b"alpha",), request(host="logs.example.com", **headers))
    assert (None if refused is None else refused.status_code) == status
    if status == 401:
        assert refused is not None
        assert refused.headers["www-authenticate"] == "Bearer"


def test_an_empty_token_file_lets_nobody_in() -> None:
    refused = check(Settings(token_files=("empty",)), (), request(authorization="Bearer x"))
    assert refused is not None
    assert refused.status_code == 401
