"""throttle: how many wrong tokens a visitor may try."""

from __future__ import annotations

from logstream_server.access.throttle import MAX_BUCKETS, PEER, VISITOR, Rate, Throttle

QUICK = Rate(3, 10.0)
ONE = (("one", QUICK),)


def test_a_visitor_has_some_tries_at_once_and_then_one_at_a_time() -> None:
    throttle = Throttle()
    for _ in range(3):
        assert throttle.wait_s(ONE, 100.0) == 0
        throttle.failed(ONE, 100.0)
    assert throttle.wait_s(ONE, 100.0) == 10
    assert throttle.wait_s(ONE, 109.0) == 1
    assert throttle.wait_s(ONE, 110.0) == 0
    throttle.failed(ONE, 110.0)
    assert throttle.wait_s(ONE, 110.0) == 10


def test_time_gives_the_tries_back() -> None:
    throttle = Throttle()
    for _ in range(3):
        throttle.failed(ONE, 0.0)
    for _ in range(3):
        assert throttle.wait_s(ONE, 1000.0) == 0
        throttle.failed(ONE, 1000.0)
    assert throttle.wait_s(ONE, 1000.0) == 10


def test_others_are_not_concerned() -> None:
    throttle = Throttle()
    for _ in range(10):
        throttle.failed(ONE, 0.0)
    assert throttle.wait_s((("two", QUICK),), 0.0) == 0


def test_who_has_two_buckets_waits_for_both() -> None:
    """However many names somebody makes up, all together take from the bucket that they share."""
    throttle = Throttle()
    shared = ("peer", Rate(5, 1.0))
    for number in range(5):
        assert throttle.wait_s(((str(number), QUICK), shared), 0.0) == 0
        throttle.failed(((str(number), QUICK), shared), 0.0)
    assert throttle.wait_s((("another", QUICK), shared), 0.0) == 1


def test_no_more_than_so_many_are_remembered_and_the_latest_are() -> None:
    throttle = Throttle()
    for number in range(MAX_BUCKETS + 100):
        throttle.failed(((str(number), QUICK),), float(number))
    assert len(throttle._empty_at) == MAX_BUCKETS
    assert (str(MAX_BUCKETS + 99), QUICK) in throttle._empty_at


def test_a_visitor_guesses_too_seldom_to_find_a_password_and_a_crowd_behind_a_proxy_is_not_locked_out() -> None:
    day_s = 24 * 3600
    assert VISITOR.tries + day_s / VISITOR.seconds < 20_000
    assert PEER.tries >= 500
