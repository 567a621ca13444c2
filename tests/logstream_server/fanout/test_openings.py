"""openings: of what a client says about a stream that is being opened, the last counts."""

from __future__ import annotations

from logstream_server.fanout.openings import Openings


def test_the_newest_of_a_client_and_a_stream_is_wanted() -> None:
    openings = Openings()
    first = openings.begin("one", "a.log")
    others = openings.begin("one", "b.log"), openings.begin("two", "a.log")
    second = openings.begin("one", "a.log")
    assert [openings.is_wanted(each) for each in (first, second, *others)] == [False, True, True, True]
    assert openings.find("one", "a.log") is second
    assert openings.streams("one") == {"a.log", "b.log"}
    assert not openings.end(first)
    assert openings.end(second)
    assert not openings.end(second)
    assert openings.find("one", "a.log") is None


def test_nothing_is_left_of_what_has_ended() -> None:
    openings = Openings()
    given_up, forgotten = openings.begin("one", "a.log"), openings.begin("two", "a.log")
    assert openings.give_up("one", "a.log")
    assert not openings.give_up("one", "a.log")
    openings.forget("two")
    openings.forget("three")
    assert not openings.end(given_up)
    assert not openings.end(forgotten)
    assert openings.streams("two") == set()
    assert len(openings) == 0
