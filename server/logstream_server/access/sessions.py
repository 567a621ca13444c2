"""The sessions of browsers that have logged in: cookies that any server with the same token files can check. Pure.

A cookie says when it was issued, and is signed with a key made from the token that was presented. So it does not hold
the token, needs no memory of ours, is valid on every replica, and dies with the token. What it cannot be is called back
alone: who logs out gives the cookie up, and whoever has a copy of it may use that until it expires.

    1.<seconds since 1970, in hex>.<16 random bytes>.<HMAC-SHA256 of what is before>       (url-safe base64)

Time is an argument: seconds since 1970, as the clocks of several replicas agree on them.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

COOKIE: Final = "logstream_"
"""How the names of our cookies begin. Cookies do not know ports (RFC 6265, 8.5): two servers on one machine must not
take each other's, so the rest of the name tells whose it is."""
MAX_COOKIES: Final = 8
"""Cookies of a request that are looked at; the other servers of one machine are fewer."""
CLOCK_SKEW_S: Final = 300
"""How much another replica's clock may be ahead of ours."""
NONCE_BYTES: Final = 16

_VALUE: Final = re.compile(r"1\.([0-9a-f]{1,11})\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}")


class Signer(Protocol):
    """A token."""

    @property
    def session_key(self) -> bytes:
        """What signs its sessions."""


S = TypeVar("S", bound=Signer)


@dataclass(frozen=True, slots=True)
class Session(Generic[S]):
    """A cookie that is ours: which token it stands for, and until when."""

    token: S
    expires_s: float


def issue(token: Signer, now_s: float, nonce: bytes) -> str:
    """A cookie's value for who presented `token`. `nonce`: random bytes, so that no two are the same."""
    said = f"1.{int(now_s):x}.{_encode(nonce)}"
    return f"{said}.{_sign(token, said)}"


def cookie_name(token: Signer) -> str:
    """The cookie's name: another one for another token, and so for another server."""
    return COOKIE + hmac.digest(token.session_key, b"name", "sha256")[:4].hex()


def verify(value: str, tokens: Iterable[S], lifetime_s: float, now_s: float) -> Session[S] | None:
    """Whose session `value` is; None when it is nobody's, or has expired. Takes as long whosever it is."""
    match = _VALUE.fullmatch(value)
    if match is None:
        return None
    said, _, signature = value.rpartition(".")
    found: S | None = None
    for token in tokens:
        if hmac.compare_digest(_sign(token, said), signature):
            found = token
    issued_s = int(match[1], 16)
    if found is None or not issued_s - CLOCK_SKEW_S <= now_s < issued_s + lifetime_s:
        return None
    return Session(found, issued_s + lifetime_s)


def our_cookies(header: str) -> list[tuple[str, str]]:
    """Names and values of the cookies in a `Cookie` header that may be sessions of ours."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return [(name, value) for name, _, value in pairs if name.startswith(COOKIE)][:MAX_COOKIES]


def _sign(token: Signer, said: str) -> str:
    return _encode(hmac.digest(token.session_key, said.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
