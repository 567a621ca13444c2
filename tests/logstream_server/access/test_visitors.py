"""visitors: whose address a request comes from, whatever it claims."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from logstream_server.access.visitors import claimed_visitor, is_trusted, visitor_of

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8", "192.0.2.1/32")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "visitor"),
    [
        pytest.param("198.51.100.7", [], "198.51.100.7", id="no proxy"),
        pytest.param("198.51.100.7", ["203.0.113.9"], "198.51.100.7", id="a claim of somebody who is no proxy"),
        pytest.param("10.1.2.3", ["203.0.113.9"], "203.0.113.9", id="a proxy's word"),
        pytest.param("10.1.2.3", ["1.2.3.4, 203.0.113.9"], "203.0.113.9", id="what the visitor itself had written"),
        pytest.param("10.1.2.3", ["1.2.3.4", "203.0.113.9"], "203.0.113.9", id="in headers of its own"),
        pytest.param("10.1.2.3", ["203.0.113.9, 192.0.2.1"], "203.0.113.9", id="two proxies"),
        pytest.param("10.1.2.3", ["203.0.113.9,10.9.9.9 , 192.0.2.1"], "203.0.113.9", id="three, with blanks"),
        pytest.param("10.1.2.3", [], "10.1.2.3", id="a proxy that says nothing"),
        pytest.param("10.1.2.3", ["10.4.4.4"], "10.4.4.4", id="nothing but proxies"),
        pytest.param("10.1.2.3", ["unknown"], "10.1.2.3", id="a proxy that does not know"),
        pytest.param("10.1.2.3", ["203.0.113.9, unknown, 10.4.4.4"], "10.4.4.4", id="one that does not, further on"),
        pytest.param("10.1.2.3", [""], "10.1.2.3", id="an empty header"),
        pytest.param("10.1.2.3", ["203.0.113.9:4711"], "203.0.113.9", id="with a port"),
        pytest.param("10.1.2.3", ["[2001:db8::1]:4711"], "2001:db8::/64", id="IPv6 with a port"),
        pytest.param("10.1.2.3", ["2001:db8::1:2:3:4"], "2001:db8::/64", id="IPv6 counts by its network"),
        pytest.param("2001:db8:0:1:ffff::9", [], "2001:db8:0:1::/64", id="a peer's too"),
        pytest.param("fd00::1", ["203.0.113.9"], "203.0.113.9", id="an IPv6 proxy"),
        pytest.param("::ffff:10.1.2.3", ["203.0.113.9"], "203.0.113.9", id="IPv4 on an IPv6 socket"),
        pytest.param("fe80::1%eth0", [], "fe80::/64", id="with a zone"),
        pytest.param("", [], "", id="no address: not a network's socket"),
        pytest.param("testclient", ["203.0.113.9"], "testclient", id="a name"),
    ],
)
def test_the_visitor_is_the_first_who_is_no_trusted_proxy(peer: str, forwarded: list[str], visitor: str) -> None:
    assert visitor_of(peer, forwarded, PROXIES) == visitor


def test_a_header_of_many_hops_is_believed_so_far_only() -> None:
    hops = ["203.0.113.9", *["10.0.0.1"] * 10_000]
    assert visitor_of("10.1.2.3", [", ".join(hops)], PROXIES) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "claimed"),
    [([], ""), (["1.2.3.4, 203.0.113.9"], "203.0.113.9"), (["x"], ""), (["a", "2001:db8::1"], "2001:db8::/64")],
)
def test_who_the_nearest_proxy_names_is_what_is_claimed(forwarded: list[str], claimed: str) -> None:
    assert claimed_visitor(forwarded) == claimed


def test_only_listed_proxies_are_trusted() -> None:
    assert is_trusted("10.255.0.1", PROXIES)
    assert not is_trusted("11.0.0.1", PROXIES)
    assert not is_trusted("10.255.0.1", ())
    assert not is_trusted("nobody", PROXIES)
