"""access: what a request says of its page, the host that it asks for and its token."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from starlette.requests import HTTPConnection

from logstream_server.access.access import is_https, is_own_name, origin_allowed, page_allowed, presented_token


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
    pytest.param("http://me@logs.example.com", "logs.example.com", id="a user, which no browser's origin has"),
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


@pytest.mark.parametrize(
    ("origin", "allowed", "passes"),
    [
        pytest.param("https://logs.example.com", (), True, id="our own page"),
        pytest.param("http://logs.example.com", (), False, id="a page by our name that came without TLS"),
        pytest.param("http://logs.example.com", ("http://logs.example.com",), True, id="one that is listed"),
    ],
)
def test_where_tls_ends_here_our_own_page_came_by_it(origin: str, allowed: tuple[str, ...], passes: bool) -> None:
    asked = request(host="logs.example.com", origin=origin)
    assert page_allowed(asked, allowed) or not passes
    asked.scope["scheme"] = "wss"
    assert page_allowed(asked, allowed) is passes


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


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        pytest.param({}, True, id="a tool has no origin"),
        pytest.param({"origin": "http://logs.example.com"}, True, id="our own page"),
        pytest.param({"origin": "http://evil.example"}, False, id="a foreign page"),
        pytest.param({"origin": "null"}, False, id="an opaque origin"),
        pytest.param({"origin": "null", "sec-fetch-site": "same-origin"}, True, id="our page without a referrer"),
        pytest.param({"origin": "null", "sec-fetch-site": "same-site"}, False, id="a neighbour's"),
        pytest.param({"origin": "null", "sec-fetch-site": "cross-site"}, False, id="a sandboxed frame"),
        pytest.param({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, False, id="a contradiction"),
    ],
)
def test_a_request_comes_from_a_page_that_may_talk_to_us_or_from_a_tool(headers: dict[str, str], allowed: bool) -> None:
    assert page_allowed(request(host="logs.example.com", **headers), ()) is allowed


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "own"),
    [
        pytest.param("127.0.0.1:8080", True, id="an address"),
        pytest.param("192.168.49.2", True, id="another: no name can be made to point there"),
        pytest.param("[::1]:8080", True, id="an IPv6 address"),
        pytest.param("LocalHost:8080", True, id="localhost"),
        pytest.param("logs.localhost", True, id="a name that is always this machine"),
        pytest.param("logs.example.com", True, id="a name that is listed"),
        pytest.param("logs.example.com:8080", True, id="it at our port"),
        pytest.param("", True, id="none: no browser"),
        pytest.param("evil.example", False, id="a name that its owner may point anywhere"),
        pytest.param("localhost.evil.example", False, id="one that begins well"),
        pytest.param("127.0.0.1.evil.example", False, id="one that begins with an address"),
        pytest.param("evil.example:x", False, id="nonsense"),
        pytest.param("[::1", False, id="half an address"),
    ],
)
def test_a_server_for_its_own_machine_goes_by_few_names(host: str, own: bool) -> None:
    assert is_own_name(host, ("https://logs.example.com:8443",)) is own
    assert is_own_name("anything.example", ("*",))


@pytest.mark.parametrize(
    ("scheme", "headers", "https"),
    [
        ("http", {}, False),
        ("https", {}, True),
        ("wss", {}, True),
        ("http", {"x-forwarded-proto": "https"}, True),
        ("http", {"x-forwarded-proto": "http, HTTPS"}, True),
        ("http", {"x-forwarded-proto": "http"}, False),
        ("http", {"origin": "https://logs.example.com"}, True),
    ],
)
def test_https_is_known_by_whoever_says_so(scheme: str, headers: dict[str, str], https: bool) -> None:
    asked = request(**headers)
    asked.scope["scheme"] = scheme
    assert is_https(asked) is https


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
        pytest.param({}, {"access_token": "\ufffd"}, "\ufffd".encode(), id="bytes that are no letters"),
    ],
)
def test_a_token_comes_in_the_header_or_in_the_query(
    headers: dict[str, str], query: dict[str, str], token: bytes | None
) -> None:
    assert presented_token(request(query, **headers)) == token
