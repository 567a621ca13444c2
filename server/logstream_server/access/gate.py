"""The gate: who comes in, and for how long.

`admit` looks at a request before anything else does: at its page (`access`), and at its token or its session
(`tokens`, `sessions`), unless its visitor has guessed too often (`throttle`). Who comes in is a `Guest`, and takes a
seat as long as it is a client, so that one visitor has not all of them. A guest whose token was withdrawn, or whose
session has expired, is one no longer (`is_welcome`): `service` then closes its connection.

Everything but `look` runs on the event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from starlette.requests import HTTPConnection

from logstream_server.settings import Settings

from . import access, sessions, throttle, visitors
from .sessions import NONCE_BYTES, Session
from .tokens import Token, TokenFiles

log = logging.getLogger(__name__)

CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class Why(StrEnum):
    """Why somebody was not let in: the labels of a metric, so there are few of them, and none holds what a client
    sent."""

    TOKEN = "token"  # noqa: S105 - the reason, no secret
    SESSION = "session"
    LOGIN = "login"
    TRIES = "tries"
    ORIGIN = "origin"
    HOST = "host"
    ADDRESS = "address"
    CLIENTS = "clients"
    HANDSHAKES = "handshakes"
    DRAINING = "draining"
    DESCRIPTORS = "descriptors"


class Refused(Exception):
    """A request that does not come in: an HTTP status, a sentence for people, and headers."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


@dataclass(eq=False, slots=True)
class Guest:
    """Somebody who came in. `token`: what they showed (None where none is needed); `session`: the cookie, if they came
    by one; `expires_s`: its end, in seconds since 1970."""

    visitor: str
    token: Token | None = field(default=None, repr=False)
    session: str = field(default="", repr=False)
    expires_s: float = math.inf
    end: Callable[[str], None] | None = None
    """Ends what the guest is being sent, with a reason to read; set by who sends."""


class Gate:
    """All guests of a server go through one."""

    def __init__(self, settings: Settings, files: TokenFiles) -> None:
        self._settings = settings
        self._files = files
        self._throttle = throttle.Throttle()
        self._seats: Counter[str] = Counter()
        self._guests: set[Guest] = set()
        self.take()
        self.refusals: dict[Why, int] = dict.fromkeys(Why, 0)
        """How many were not let in, for the metrics."""

    @property
    def needs_token(self) -> bool:
        """Whether anybody must show one."""
        return bool(self._settings.token_files)

    # -- coming in -----------------------------------------------------------------------------------------------------

    def admit(self, request: HTTPConnection) -> Guest:
        """Who a request comes from. Raises Refused."""
        self.check_page(request)
        guest = Guest(self._visitor(request))
        if not self.needs_token:
            return guest
        presented = access.presented_token(request)
        if presented is not None:
            guest.token = self.check_token(request, presented)
            return guest
        cookies = sessions.our_cookies("; ".join(request.headers.getlist("cookie")))
        if not cookies:
            raise self.refused(Why.TOKEN, 401, "a valid token is needed", CHALLENGE)
        buckets = self._buckets(request)
        self._check_tries(buckets)
        for _, value in cookies:
            session = self._session(value)
            if session is not None:
                guest.token, guest.session, guest.expires_s = session.token, value, session.expires_s
                return guest
        self._failed(buckets)
        raise self.refused(Why.SESSION, 401, "the session has ended; log in again", CHALLENGE)

    def check_page(self, request: HTTPConnection) -> None:
        """Raises Refused where the page that it comes from may not talk to us."""
        if not access.page_allowed(request, self._settings.allowed_origins):
            origin = request.headers.get("origin", "")[:200]
            raise self.refused(Why.ORIGIN, 403, f"origin {origin} is not allowed (--allowed-origin)")

    def check_token(self, request: HTTPConnection, presented: bytes, why: Why = Why.TOKEN) -> Token:
        """The token that this is. Raises Refused for a wrong one, which counts as `why`, and for any after too many of
        them."""
        buckets = self._buckets(request)
        self._check_tries(buckets)
        token = find_token(presented, self.tokens)
        if token is None:
            self._failed(buckets)
            raise self.refused(why, 401, "a valid token is needed", CHALLENGE)
        return token

    def refused(self, why: Why, status: int, reason: str, headers: Mapping[str, str] | None = None) -> Refused:
        """The answer to who is not let in, counted; to be raised."""
        self.refusals[why] += 1
        return Refused(status, reason, headers)

    def open_session(self, token: Token) -> tuple[str, str]:
        """Name and value of a new cookie for who showed the token."""
        value = sessions.issue(token, time.time(), secrets.token_bytes(NONCE_BYTES))
        return sessions.cookie_name(token), value

    def sessions_of(self, request: HTTPConnection) -> list[tuple[str, str]]:
        """Names and values of the request's cookies that are valid sessions of this server."""
        cookies = sessions.our_cookies("; ".join(request.headers.getlist("cookie")))
        return [(name, value) for name, value in cookies if self._session(value) is not None]

    def _session(self, value: str) -> Session[Token] | None:
        return sessions.verify(value, self.tokens, self._settings.session_s, time.time())

    # -- staying -------------------------------------------------------------------------------------------------------

    def is_welcome(self, guest: Guest) -> bool:
        """Whether what let the guest in still does."""
        if guest.token is None:
            return True
        return guest.token.secret in self._known and time.time() < guest.expires_s

    def warn(self) -> None:
        """Mention in the log what is unwise about the token files."""
        self._files.warn()

    def look(self) -> bool:
        """Look at the token files, on a thread; `take` what is new there when this is True."""
        return self._files.look()

    def take(self) -> None:
        """Go by what the last look has found."""
        self.tokens = self._files.tokens
        self._known = frozenset(token.secret for token in self.tokens)

    # -- seats ---------------------------------------------------------------------------------------------------------

    def sit_down(self, guest: Guest) -> None:
        """The guest is a client from now on. Raises Refused where its visitor has all the clients that one may have."""
        most = self._settings.max_clients_per_address
        if most is not None and self._seats[guest.visitor] >= most:
            reason = f"this address has its {most} clients (--max-clients-per-address)"
            raise self.refused(Why.ADDRESS, 429, reason, {"Retry-After": "5"})
        self._guests.add(guest)
        self._seats[guest.visitor] += 1

    def stand_up(self, guest: Guest) -> None:
        """It is none any more."""
        if guest not in self._guests:
            return
        self._guests.remove(guest)
        guest.end = None
        self._seats[guest.visitor] -= 1
        if not self._seats[guest.visitor]:
            del self._seats[guest.visitor]

    def turn_out(self, reason: str, session: str | None = None) -> int:
        """End what is sent to those who are welcome no longer, or who came by that session; returns how many."""
        gone = [g for g in self._guests if (not self.is_welcome(g) if session is None else g.session == session)]
        for guest in gone:
            if guest.end is not None:
                guest.end(reason)
        return len(gone)

    # -- who asks ------------------------------------------------------------------------------------------------------

    def _visitor(self, request: HTTPConnection) -> str:
        return visitors.visitor_of(*_way_of(request), self._settings.trusted_proxies)

    def _buckets(self, request: HTTPConnection) -> tuple[tuple[str, throttle.Rate], ...]:
        """Where the visitor's wrong tokens are counted; see `throttle`."""
        (peer, forwarded), visitor = _way_of(request), self._visitor(request)
        claimed = visitors.claimed_visitor(forwarded)
        if not claimed or visitors.is_trusted(peer, self._settings.trusted_proxies):
            return ((visitor, throttle.VISITOR),)
        return ((f"{visitor}, which forwards {claimed}", throttle.VISITOR), (visitor, throttle.PEER))

    def _check_tries(self, buckets: tuple[tuple[str, throttle.Rate], ...]) -> None:
        wait_s = self._throttle.wait_s(buckets, time.monotonic())
        if wait_s > 0:
            retry = {"Retry-After": str(math.ceil(wait_s))}
            raise self.refused(Why.TRIES, 429, "too many wrong tokens from this address; try again later", retry)

    def _failed(self, buckets: tuple[tuple[str, throttle.Rate], ...]) -> None:
        now = time.monotonic()
        self._throttle.failed(buckets, now)
        if self._throttle.wait_s(buckets, now) > 0:
            log.warning("%s: too many wrong tokens, refused for a while", buckets[0][0])


def find_token(presented: bytes, tokens: tuple[Token, ...]) -> Token | None:
    """Which of ours it is; takes as long whichever it is, and however long it is."""
    digest = hashlib.sha256(presented).digest()
    found = None
    for token in tokens:
        if hmac.compare_digest(digest, token.digest):
            found = token
    return found


def _way_of(request: HTTPConnection) -> tuple[str, list[str]]:
    """The peer's address, and what proxies have added."""
    return request.client.host if request.client else "", request.headers.getlist("x-forwarded-for")
