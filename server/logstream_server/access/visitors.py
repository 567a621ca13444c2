"""Whose address a request comes from, where proxies stand between, and which addresses count as one visitor. Pure.

`X-Forwarded-For` is what anybody may write. It counts as far as proxies that we were told to trust (`--trusted-proxy`)
have written it: each adds the address that it was asked by at the end, so it is read from there, and the first address
that is no trusted proxy's is the visitor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from logstream_server.commandline.forms import Network

MAX_HOPS: Final = 16
"""Proxies in a row that are believed; a longer header is nobody's honest one."""
_PREFIX_V6: Final = 64
"""What one subscriber has at least (RFC 6177): the rest of the address is theirs to choose."""


def visitor_of(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The visitor behind a request from the address `peer` with these `X-Forwarded-For` headers: an IPv4 address, or
    an IPv6 network, as text."""
    current = _parse(peer)
    if current is None:
        return peer[:64]
    hops = ",".join(forwarded).rsplit(",", MAX_HOPS)[-MAX_HOPS:] if forwarded else []
    for hop in reversed(hops):
        if not _is_in(current, trusted):
            break
        before = _parse(hop.strip())
        if before is None:
            break  # "unknown", or nonsense: the proxy that says so is all that is known
        current = before
    return _group(current)


def claimed_visitor(forwarded: Sequence[str]) -> str:
    """Who the nearest proxy says was before it, believed or not: fit to tell one neighbour from another, and for
    nothing that somebody could gain by. Empty where nobody says anything."""
    if not forwarded:
        return ""
    claimed = _parse(forwarded[-1].rpartition(",")[2].strip())
    return "" if claimed is None else _group(claimed)


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether a peer is one of the proxies."""
    address = _parse(peer)
    return address is not None and _is_in(address, trusted)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, also with a port (some proxies add it), in brackets, or with a zone."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _group(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, _PREFIX_V6), strict=False))
