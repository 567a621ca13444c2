"""sessions: cookies that any replica can check, that say nothing of the token, and that die with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.access.sessions import CLOCK_SKEW_S, MAX_COOKIES, Session, cookie_name, issue, our_cookies, verify
from logstream_server.access.tokens import Token

ADA, BOB = Token(b"a-token-of-ada-0001", "ada"), Token(b"a-token-of-bob-0001", "bob")
NONCE = bytes(range(16))
HOUR = 3600.0
NOW = 1_800_000_000.0


def test_a_session_is_of_the_token_that_opened_it_until_it_expires() -> None:
    """On every replica that has the token, in whichever place of its files."""
    value = issue(ADA, NOW, NONCE)
    session = Session(ADA, NOW + HOUR)
    assert verify(value, (ADA, BOB), HOUR, NOW) == session
    assert verify(value, (BOB, Token(ADA.secret, "another label"), ADA), HOUR, NOW) == session
    assert verify(value, (ADA,), HOUR, NOW + HOUR - 1) == session
    assert verify(value, (ADA,), HOUR, NOW + HOUR) is None


def test_a_session_dies_with_its_token() -> None:
    assert verify(issue(ADA, NOW, NONCE), (BOB,), HOUR, NOW) is None
    assert verify(issue(ADA, NOW, NONCE), (), HOUR, NOW) is None


def test_a_shorter_time_holds_for_sessions_that_are_there_already() -> None:
    assert verify(issue(ADA, NOW, NONCE), (ADA,), HOUR / 2, NOW + HOUR / 2) is None


def test_a_session_of_the_future_is_nobodys_but_clocks_may_differ() -> None:
    assert verify(issue(ADA, NOW + CLOCK_SKEW_S, NONCE), (ADA,), HOUR, NOW) is not None
    assert verify(issue(ADA, NOW + CLOCK_SKEW_S + 1, NONCE), (ADA,), HOUR, NOW) is None


def test_a_cookie_holds_nothing_of_the_token_and_no_two_are_the_same() -> None:
    value = issue(ADA, NOW, NONCE)
    assert "ada" not in value
    assert ADA.secret.decode() not in value + cookie_name(ADA)
    assert issue(ADA, NOW, bytes(16)) != value
    assert len({cookie_name(token) for token in (ADA, BOB)}) == 2
    assert cookie_name(ADA) == cookie_name(Token(ADA.secret))


@given(st.integers(0, len(issue(ADA, NOW, NONCE)) - 1), st.characters(codec="latin-1"))
def test_a_cookie_that_was_changed_anywhere_is_nobodys(index: int, put: str) -> None:
    """Also its time: who logged in once could else stay for ever."""
    value = issue(ADA, NOW, NONCE)
    changed = value[:index] + put + value[index + 1 :]
    assert (verify(changed, (ADA,), HOUR, NOW) is None) == (changed != value)


@pytest.mark.parametrize("value", ["", ".", "1...", "2" + issue(ADA, NOW, NONCE)[1:], "1." + "f" * 5000, "\0"])
def test_what_is_no_cookie_of_ours_is_nobodys(value: str) -> None:
    assert verify(value, (ADA,), HOUR, NOW) is None


def test_our_cookies_are_known_by_the_beginning_of_their_names_and_not_too_many_are_looked_at() -> None:
    header = "other=1; logstream_ab=2;logstream_cd = x=y ;logstreamish=3; ; logstream_ef"
    assert our_cookies(header) == [("logstream_ab", "2"), ("logstream_cd ", " x=y"), ("logstream_ef", "")]
    assert our_cookies("") == []
    assert len(our_cookies("; ".join(f"logstream_{n}=1" for n in range(100)))) == MAX_COOKIES
