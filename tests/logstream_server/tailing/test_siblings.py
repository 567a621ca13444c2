"""siblings: what lies beside a file, and which of it is news."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logstream_server.lines.cursor import Generation, Mark, Position
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.tailing import siblings
from logstream_server.tailing.files import LogFile
from logstream_server.tailing.siblings import (
    Listing,
    Neighbours,
    Sibling,
    find_content,
    list_siblings,
    marker_at,
    settled_siblings,
)

CONTENT = b"".join(b"%06d a line\n" % number for number in range(100))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def names(listing: Listing) -> list[str]:
    return [sibling.name for sibling in listing.siblings]


def test_numbers_say_which_is_newer_and_else_times_do(log: Path) -> None:
    for at, name in enumerate(["app.log.10", "app.log.2", "app.log.1", "app.log.2.gz", "other.log.1"]):
        path = log.with_name(name)
        path.write_bytes(b"x\n")
        os.utime(path, (at, at))
    assert names(settled_siblings(str(log), rotated_only=True)) == ["app.log.1", "app.log.2", "app.log.10"]
    dated = log.with_name("app.log-20261123")
    dated.write_bytes(b"x\n")
    assert names(settled_siblings(str(log), rotated_only=True))[0] == dated.name
    for path in log.parent.iterdir():
        os.utime(path, (5, 5))
    assert names(settled_siblings(str(log), rotated_only=True)) == [dated.name, "app.log.1", "app.log.2", "app.log.10"]


def test_what_was_beside_it_is_no_news_whatever_its_name_is(log: Path) -> None:
    old, new = log.with_name("app.log.1"), log.with_name("app.log.2")
    old.write_bytes(CONTENT)
    neighbours = Neighbours()
    neighbours.learn(settled_siblings(str(log), rotated_only=True), ())
    old.rename(new)
    with new.open("ab") as file:
        file.write(b"late\n")
    old.write_bytes(b"came and went\n")
    known = {s.name: neighbours.knows(s, ()) for s in list_siblings(str(log), rotated_only=True)}
    assert known == {"app.log.1": False, "app.log.2": True}


def test_what_a_listing_missed_because_names_changed_is_no_news_at_the_next_one(log: Path) -> None:
    for number in (1, 2):
        log.with_name(f"app.log.{number}").write_bytes(CONTENT[number:])
    whole = settled_siblings(str(log), rotated_only=True)
    neighbours = Neighbours()
    neighbours.learn(whole, ())
    neighbours.learn(Listing(whole.siblings[:1], is_settled=False), ())
    assert all(neighbours.knows(sibling, ()) for sibling in whole.siblings)
    neighbours.learn(Listing(whole.siblings[:1]), ())
    assert [neighbours.knows(sibling, ()) for sibling in whole.siblings] == [True, False]


def test_names_that_change_without_end_are_said_to_do_so(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program renames after each listing: one beside this would do so when the machine has time for it."""
    names = [log.with_name(f"app.log.{number}") for number in range(1, 20)]
    names[0].write_bytes(CONTENT)

    def listed_then_renamed(path: str, *, rotated_only: bool) -> list[Sibling]:
        found = list_siblings(path, rotated_only=rotated_only)
        names[0].rename(names[1])
        del names[0]
        return found

    monkeypatch.setattr(siblings, "list_siblings", listed_then_renamed)
    assert not settled_siblings(str(log), rotated_only=True).is_settled
    monkeypatch.undo()
    assert settled_siblings(str(log), rotated_only=True).is_settled


def test_content_is_found_by_what_a_reader_has_read_of_it(log: Path) -> None:
    rotated = log.with_name("app.log.1")
    rotated.write_bytes(CONTENT)
    log.with_name("app.log.2").write_bytes(CONTENT[:600] + b"x" * 800)
    mark = Mark.of(Position(Generation(1, None, CONTENT[:256]), 700, CONTENT[668:700]))
    found = find_content(str(log), (), mark, keep_open=True)
    assert found is not None
    assert found.path == str(rotated)
    found.release()
    rotated.unlink()
    assert find_content(str(log), (), mark, keep_open=True) is None


@pytest.mark.parametrize("offset", [0, 5, 100])
def test_the_bytes_that_prove_a_place_are_those_before_it(log: Path, offset: int) -> None:
    log.write_bytes(CONTENT)
    file = LogFile(str(log), (), keep_open=True)
    assert marker_at(file, offset) == CONTENT[max(0, offset - MARKER_BYTES) : offset]
    file.release()


def test_dates_say_which_is_newer_whenever_it_was_written_to(log: Path) -> None:
    """Late lines make no file newer than the one that came after it; of one day, times say it."""
    dates = ["20261201", "20261123-1795479123", "20261123-1795471111", "20261101"]
    wanted = [f"app.log-{date}" for date in dates]
    for at, name in zip((1, 4, 3, 5), wanted, strict=True):
        log.with_name(name).write_bytes(b"x\n")
        os.utime(log.with_name(name), (at, at))
    assert names(settled_siblings(str(log), rotated_only=True)) == wanted
    log.with_name("app.log.1").write_bytes(b"x\n")  # of which no date is known
    assert names(settled_siblings(str(log), rotated_only=True))[1] == "app.log-20261101"
