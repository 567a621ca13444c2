"""backward: the lines that a reader from the start would see and a filter lets pass, the other way round."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.endpoints import backward
from logstream_server.endpoints.backward import BackwardSearch, Found
from logstream_server.endpoints.snapshot import Changed, Snapshot
from logstream_server.lines.filters import EVERY_LINE, LineFilter, parse_filter
from logstream_server.lines.framing import MARKER_BYTES
from logstream_server.lines.ring import Ring
from logstream_server.tailing.stream import Stream

LIMIT = 64


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backward") / "a.log"


def searched(
    path: Path,
    chosen: LineFilter = EVERY_LINE,
    *,
    end: int | None = None,
    block_bytes: int = 1 << 20,
    limit: int = LIMIT,
) -> list[Found]:
    """All that is found, the oldest first."""
    snapshot = Snapshot.take(Stream("a.log", str(path), (), Ring(1 << 16)))
    try:
        return list(
            steps(
                BackwardSearch(snapshot, snapshot.size if end is None else end, chosen, limit, block_bytes=block_bytes)
            )
        )[::-1]
    finally:
        snapshot.release()


def steps(search: BackwardSearch) -> Iterator[Found]:
    while not search.is_over:
        yield from search.step()
    assert search.step() == []


def test_lines_come_newest_first_with_their_places(path: Path) -> None:
    path.write_bytes(b"one\ntwo\n\nthree")
    snapshot = Snapshot.take(Stream("a.log", str(path), (), Ring(1 << 16)))
    found = list(steps(BackwardSearch(snapshot, snapshot.size, EVERY_LINE, LIMIT)))
    snapshot.release()
    assert [(line.offset, line.text, line.partial) for line in found] == [
        (9, "three", True),
        (8, "", False),
        (4, "two", False),
        (0, "one", False),
    ]


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n", b"a", b"a\n", b"\na", b"a\n\n"])
def test_there_are_as_many_lines_as_newlines_and_a_rest(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    lines = content.decode().split("\n")
    expected = lines if lines[-1] else lines[:-1]
    for block_bytes in (1, 2, 100):
        assert [line.text for line in searched(path, block_bytes=block_bytes)] == expected


FILTERS = [
    EVERY_LINE,
    parse_filter(["ab"]),
    parse_filter(["a.b"]),
    parse_filter(["^a", "b$"]),
    parse_filter([], ["a"]),
    parse_filter(["ab.*c"], ["\ufffd"]),
    parse_filter(["^$"]),
    parse_filter(["ab|xx"]),
]
LINES = st.lists(
    st.one_of(
        st.sampled_from([b"ab", b"abc", b"a\xffb", b"\r", b"", b"x" * 63 + "é".encode()]), st.binary(max_size=100)
    )
)


@given(LINES, st.integers(1, 300), st.sampled_from(FILTERS), st.booleans())
def test_it_finds_what_a_reader_from_the_start_would_see(
    path: Path, lines: list[bytes], block_bytes: int, chosen: LineFilter, ends: bool
) -> None:
    """Whatever is in the lines, and wherever blocks begin."""
    content = b"\n".join(lines) + (b"\n" if ends else b"")
    path.write_bytes(content)
    expected = [line for line in forward(content) if chosen.matches(line.text.encode())]
    found = searched(path, chosen, block_bytes=block_bytes)
    assert found == expected


def forward(content: bytes) -> Iterator[Found]:
    """The same by the simplest means. Holes are left to their own test: short runs of NULs are text, but at the
    start."""
    at = 0
    for raw in content.splitlines(keepends=True) if b"\r" not in content else keep_ends(content):
        end = at + len(raw)
        partial = not raw.endswith(b"\n")
        line = raw.removesuffix(b"\n")
        nuls = len(line) - len(line.lstrip(b"\0")) if at == 0 else 0
        offset, text = at + nuls, line[nuls:]
        if at == 0 and line.startswith(b"\xef\xbb\xbf"):
            text = line[3:]
        size = len(line) - nuls - line.endswith(b"\r")
        shown = (
            text[:LIMIT].decode("utf-8", "replace")
            if size > LIMIT
            else text.removesuffix(b"\r").decode("utf-8", "replace")
        )
        if size > LIMIT:
            cut = text[:LIMIT]
            for back in (1, 2, 3):  # not within a character
                head = cut[-back:]
                if head and head[0] >= 0xC0:
                    need = 2 if head[0] < 0xE0 else 3 if head[0] < 0xF0 else 4 if head[0] < 0xF8 else 0
                    shown = (cut[:-back] if need > back else cut).decode("utf-8", "replace")
                    break
                if not head or head[0] & 0xC0 != 0x80:
                    break
        if not (partial and not shown):
            yield Found(
                offset,
                content[max(0, offset - MARKER_BYTES) : offset],
                shown,
                partial,
                end - offset if size > LIMIT else None,
            )
        at = end


def keep_ends(content: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in content.split(b"\n")]
    return [*lines[:-1], lines[-1][:-1]] if lines[-1] != b"\n" else lines[:-1]


@pytest.mark.parametrize("pattern", ["needle", "n.*e", "(?i)NEEDLE", "nee|dle"])
def test_many_lines_with_the_needle_in_one_block(path: Path, pattern: str) -> None:
    path.write_bytes(b"".join(b"%d needle\nhay\n" % number for number in range(2 * backward.MANY)))
    found = searched(path, parse_filter([pattern]))
    assert [line.text for line in found] == [f"{number} needle" for number in range(2 * backward.MANY)]


def test_a_search_goes_on_before_a_line(path: Path) -> None:
    path.write_bytes(b"one\ntwo\nthree\n")
    assert [line.text for line in searched(path, end=8)] == ["one", "two"]
    assert searched(path, end=0) == []


@pytest.mark.parametrize("block_bytes", [8192, 1 << 20])
def test_a_hole_is_no_line(path: Path, block_bytes: int) -> None:
    """And is jumped over, however large it is."""
    with path.open("wb") as file:
        file.write(b"first\nbefore")
        file.seek(5 << 30)
        file.write(b"behind\nlast\n")
    found = searched(path, block_bytes=block_bytes)
    assert [line.text for line in found] == ["first", "before", "behind", "last"]
    assert found[-1].offset == (5 << 30) + 7
    os.truncate(path, 0)
    with path.open("wb") as file:
        file.seek(5 << 30)
        file.write(b"behind\n")
    assert [line.text for line in searched(path, block_bytes=block_bytes)] == ["behind"]
    with path.open("wb") as file:
        file.write(b"\n")
        file.truncate(5 << 30)
    assert [line.text for line in searched(path, block_bytes=block_bytes)] == [""]
    path.write_bytes(b"")


def test_a_line_of_any_length_takes_little_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"one\nstart of it ")
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b"\nlast\n")
    found = searched(path)
    size = 12 + (64 << 20) + 1
    assert [(line.offset, line.text, line.cut_bytes) for line in found] == [
        (0, "one", None),
        (4, ("start of it " + "x" * LIMIT)[:LIMIT], size),
        (size + 4, "last", None),
    ]
    path.write_bytes(b"")


def test_a_file_that_changes_meanwhile_is_said_so(path: Path) -> None:
    path.write_bytes(b"line\n" * 1000)
    snapshot = Snapshot.take(Stream("a.log", str(path), (), Ring(1 << 16)))
    search = BackwardSearch(snapshot, snapshot.size, EVERY_LINE, LIMIT, block_bytes=100)
    search.step()
    path.write_bytes(b"other\n" * 1000)
    with pytest.raises(Changed):
        list(steps(search))
    snapshot.release()


def test_a_step_ends_after_a_while(path: Path) -> None:
    path.write_bytes(b"line\n" * 1000)
    snapshot = Snapshot.take(Stream("a.log", str(path), (), Ring(1 << 16)))
    search = BackwardSearch(snapshot, snapshot.size, parse_filter(["nothing"]), LIMIT, block_bytes=100)
    now = iter(range(1000))
    assert search.step(lambda: float(next(now))) == []
    assert (search.left_bytes, search.is_over) == (4899, False)
    snapshot.release()
