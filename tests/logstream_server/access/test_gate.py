"""gate: who comes in, how often one may try, and for how long one stays."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import HTTPConnection

from logstream_server.access import throttle
from logstream_server.access.gate import Gate, Guest, Refused, Why, find_token
from logstream_server.access.tokens import Token, TokenFiles
from logstream_server.settings import Settings

ALPHA, BETA = "alpha-alpha-alpha-alpha", "beta-beta-beta-beta"

Gates = Callable[..., Gate]


@pytest.fixture
def gate(tmp_path: Path) -> Gates:
    """Make a gate with two tokens."""

    def make(**settings: Any) -> Gate:
        path = tmp_path / "tokens"
        path.write_text(f"{ALPHA} ada\n{BETA} bob\n")
        chosen = Settings(token_files=(str(path),), **settings)
        return Gate(chosen, TokenFiles(chosen.token_files))

    return make


def request(peer: str = "192.0.2.7", query: dict[str, str] | None = None, **headers: str) -> HTTPConnection:
    """A request from an address, with these headers."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw, "query_string": urlencode(query or {}).encode(), "client": (peer, 1)}
    return HTTPConnection(scope)


def bearer(token: str, peer: str = "192.0.2.7", **headers: str) -> HTTPConnection:
    return request(peer, authorization=f"Bearer {token}", **headers)


def refusal(gate: Gate, asked: HTTPConnection) -> Refused:
    with pytest.raises(Refused) as caught:
        gate.admit(asked)
    return caught.value


def test_without_token_files_everybody_comes_in() -> None:
    gate = Gate(Settings(), TokenFiles(()))
    guest = gate.admit(request())
    assert (guest.visitor, guest.token) == ("192.0.2.7", None)
    assert gate.is_welcome(guest)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param(request(), 401, id="no token"),
        pytest.param(bearer("wrong"), 401, id="a wrong one"),
        pytest.param(bearer(ALPHA), None, id="the first"),
        pytest.param(bearer(BETA), None, id="the last"),
        pytest.param(request(query={"access_token": ALPHA}), None, id="in the query"),
        pytest.param(request(cookie=f"token={ALPHA}"), 401, id="in a cookie of no session"),
        pytest.param(request(cookie=f"logstream_ab={ALPHA}"), 401, id="in place of a session"),
        pytest.param(bearer(ALPHA, origin="http://evil.example", host="h"), 403, id="a foreign page"),
    ],
)
def test_with_token_files_a_token_is_needed(gate: Gates, asked: HTTPConnection, status: int | None) -> None:
    if status is None:
        assert gate().admit(asked).token is not None
        return
    refused = refusal(gate(), asked)
    assert refused.status == status
    assert refused.headers == ({"WWW-Authenticate": "Bearer"} if status == 401 else {})


def test_a_foreign_page_is_told_which_option_lets_it_in(gate: Gates) -> None:
    refused = refusal(gate(), request(host="logs.example.com", origin="http://evil.example" + "x" * 500))
    assert refused.reason.startswith("origin http://evil.example")
    assert refused.reason.endswith("xxx is not allowed (--allowed-origin)")
    assert len(refused.reason) < 300


@pytest.mark.parametrize(
    ("token", "label"),
    [
        pytest.param(b"alpha", "ada", id="the first"),
        pytest.param(b"beta", "bob", id="the last"),
        pytest.param(b"alph", None, id="a beginning"),
        pytest.param(b"alphabet", None, id="more"),
        pytest.param(b"ALPHA", None, id="other letters"),
        pytest.param(b"", None, id="nothing"),
        pytest.param("älpha".encode(), None, id="letters that are not ASCII"),
    ],
)
def test_only_the_very_tokens_are_found(token: bytes, label: str | None) -> None:
    found = find_token(token, (Token(b"alpha", "ada"), Token(b"beta", "bob")))
    assert (None if found is None else found.label) == label
    assert find_token(token, ()) is None


@pytest.mark.parametrize("token", [b"alpha", b"beta", b"no", b"x" * 1000])
def test_every_known_token_is_compared_in_constant_time(token: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the first one fits, and whatever the lengths: the time tells nothing about which it was."""
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    find_token(token, (Token(b"alpha"), Token(b"beta")))
    assert compared == [(32, 32), (32, 32)]


# -- guesses ----------------------------------------------------------------------------------------------------------


def test_after_too_many_wrong_tokens_even_the_right_one_is_refused(
    gate: Gates, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the guesses would go on. Other visitors are not concerned, and the log names the visitor, not the token."""
    here = gate()
    for _ in range(throttle.VISITOR.tries):
        assert refusal(here, bearer("guess-guess")).status == 401
    refused = refusal(here, bearer(ALPHA))
    assert (refused.status, refused.headers) == (429, {"Retry-After": "5"})
    assert here.admit(bearer(ALPHA, peer="192.0.2.8")).token is not None
    assert {why: n for why, n in here.refusals.items() if n} == {Why.TOKEN: throttle.VISITOR.tries, Why.TRIES: 1}
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert messages == ["192.0.2.7: too many wrong tokens, refused for a while"]


def test_forged_sessions_are_guesses_too(gate: Gates) -> None:
    """Who guesses a token can make its cookie."""
    here = gate()
    name, value = here.open_session(Token(b"guess"))
    for _ in range(throttle.VISITOR.tries):
        assert refusal(here, request(cookie=f"{name}={value}")).status == 401
    assert refusal(here, request(cookie=f"{name}={value}")).status == 429
    assert refusal(here, bearer(ALPHA)).status == 429


def test_who_shows_no_token_has_not_guessed(gate: Gates) -> None:
    here = gate()
    for _ in range(3 * throttle.VISITOR.tries):
        assert refusal(here, request()).status == 401
    assert here.admit(bearer(ALPHA)).token is not None


def test_behind_a_trusted_proxy_each_visitor_has_their_own_tries(gate: Gates) -> None:
    here = gate(trusted_proxies=(ip_network("10.0.0.0/8"),))
    for _ in range(throttle.VISITOR.tries):
        refusal(here, bearer("guess", peer="10.0.0.1", x_forwarded_for="203.0.113.9"))
    assert refusal(here, bearer(ALPHA, peer="10.0.0.1", x_forwarded_for="spoofed, 203.0.113.9")).status == 429
    assert here.admit(bearer(ALPHA, peer="10.0.0.1", x_forwarded_for="203.0.113.10")).visitor == "203.0.113.10"


def test_behind_a_proxy_that_nobody_named_one_visitor_does_not_lock_the_others_out(gate: Gates) -> None:
    here = gate()
    for _ in range(throttle.VISITOR.tries):
        refusal(here, bearer("guess", x_forwarded_for="203.0.113.9"))
    assert refusal(here, bearer(ALPHA, x_forwarded_for="203.0.113.9")).status == 429
    assert here.admit(bearer(ALPHA, x_forwarded_for="203.0.113.10")).token is not None


def test_who_makes_visitors_up_comes_to_an_end_too(gate: Gates) -> None:
    """A visitor that is only claimed has no tries beyond those of the peer that claims it."""
    here = gate()
    statuses = [refusal(here, bearer("guess", x_forwarded_for=f"203.0.{n >> 8}.{n & 255}")).status for n in range(3000)]
    assert statuses.count(401) <= throttle.PEER.tries + 300  # some come back while the test runs
    assert statuses[-1] == 429


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_is_as_good_as_its_token_on_every_replica(gate: Gates) -> None:
    name, value = gate().open_session(Token(ALPHA.encode()))
    guest = gate().admit(request(cookie=f"theme=dark; {name}={value}"))
    assert guest.token is not None
    assert (guest.token.label, guest.session) == ("ada", value)


def test_the_session_of_another_server_on_this_machine_is_in_nobodys_way(gate: Gates) -> None:
    """Cookies do not know ports."""
    here = gate()
    own, others = here.open_session(Token(ALPHA.encode())), here.open_session(Token(b"of another server"))
    assert own[0] != others[0]
    cookie = f"{others[0]}={others[1]}; {own[0]}={own[1]}"
    assert here.admit(request(cookie=cookie)).token is not None
    assert here.sessions_of(request(cookie=cookie)) == [own]


def test_a_token_that_is_shown_counts_before_a_session(gate: Gates) -> None:
    here = gate()
    name, value = here.open_session(Token(ALPHA.encode()))
    assert refusal(here, bearer("wrong", cookie=f"{name}={value}")).status == 401


# -- staying ----------------------------------------------------------------------------------------------------------


def change(gate: Gate, path: Path, content: str) -> None:
    path.write_text(content)
    while not gate.look():
        pass
    gate.take()


def test_guests_whose_token_is_withdrawn_are_turned_out_and_no_others(gate: Gates, tmp_path: Path) -> None:
    here = gate()
    said: list[str] = []
    name, value = here.open_session(Token(ALPHA.encode()))
    for asked in (bearer(ALPHA), bearer(BETA), request(cookie=f"{name}={value}")):
        guest = here.admit(asked)
        here.sit_down(guest)
        assert guest.token is not None
        guest.end = lambda reason, label=guest.token.label: said.append(f"{label}: {reason}")
    assert here.turn_out("bye") == 0
    change(here, tmp_path / "tokens", f"{BETA}\n")
    assert here.turn_out("bye") == 2
    assert said == ["ada: bye", "ada: bye"]
    assert refusal(here, bearer(ALPHA)).status == 401
    assert refusal(here, request(cookie=f"{name}={value}")).status == 401


def test_guests_whose_session_has_expired_are_turned_out(gate: Gates) -> None:
    here = gate()
    said: list[str] = []
    guest = Guest("192.0.2.7", here.tokens[0], "a session", expires_s=1.0, end=said.append)
    here.sit_down(guest)
    here.turn_out("bye")
    assert said == ["bye"]


def test_who_logs_out_is_turned_out_alone(gate: Gates) -> None:
    here = gate()
    said: list[str] = []
    for session in ("one", "two"):
        here.sit_down(Guest("v", here.tokens[0], session, end=said.append))
    assert here.turn_out("logged out", "one") == 1
    assert said == ["logged out"]


def test_a_visitor_has_so_many_seats_and_one_that_is_given_back_is_free(gate: Gates) -> None:
    here = gate(max_clients_per_address=2)
    first, second, third, other = Guest("a"), Guest("a"), Guest("a"), Guest("b")
    here.sit_down(first)
    here.sit_down(second)
    with pytest.raises(Refused, match="this address has its 2 clients") as caught:
        here.sit_down(third)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "5"})
    here.sit_down(other)
    here.stand_up(first)
    here.stand_up(first)
    here.stand_up(third)
    here.sit_down(third)
    for guest in (second, third, other):
        here.stand_up(guest)
    assert not here._seats
    assert not here._guests
