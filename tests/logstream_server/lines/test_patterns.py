"""patterns: one for equal texts, bounded in what all of them take, and given back with the last who has them."""

from __future__ import annotations

import gc
import threading

import pytest
import re2

from logstream_server.lines.patterns import (
    DEFAULT_LIMIT,
    MAX_PATTERN_MEMORY,
    SMALL_PATTERN_MEMORY,
    Patterns,
    PatternsFull,
    limit_of,
)

SMALL = ["error|warn", r"user=\d+ .*status=5\d\d", r"(?i)failed to (connect|resolve) .*", r"(\d{1,3}\.){3}\d{1,3}"]
LARGE = [r"(?i)\pL+\s\pL+", "(a{1,900}b{0,90})", "(x|y){500}"]


@pytest.mark.parametrize("text", ["plain", r"1\.2\.3", "ä"])
def test_a_plain_word_takes_nothing(text: str) -> None:
    pool = Patterns(limit=0)
    assert pool.get(text).memory == 0
    assert pool.get(text).find is None


@pytest.mark.parametrize(
    ("texts", "memory"), [(SMALL, SMALL_PATTERN_MEMORY), (LARGE, MAX_PATTERN_MEMORY)], ids=["small", "large"]
)
def test_a_pattern_may_take_what_its_program_is_worth(texts: list[str], memory: int) -> None:
    pool = Patterns()
    held = [pool.get(text) for text in texts]
    assert [pattern.memory for pattern in held] == [memory] * len(texts)
    assert pool.taken == len(texts) * memory


def test_equal_texts_are_one_pattern_as_long_as_somebody_has_it() -> None:
    pool = Patterns()
    first, second = pool.get("a+"), pool.get("a+")
    assert first is second
    del first
    assert pool.taken == SMALL_PATTERN_MEMORY
    del second
    assert pool.taken == 0


def test_the_patterns_of_all_are_bounded() -> None:
    pool = Patterns(limit=3 * SMALL_PATTERN_MEMORY)
    held = [pool.get(f"a+{number}") for number in range(3)]
    with pytest.raises(PatternsFull):
        pool.get("a+3")
    assert pool.get("a+1") is held[1]
    pool.get("plain")
    held.pop()
    held.append(pool.get("a+3"))
    assert pool.taken == pool.limit


def test_one_that_is_refused_takes_nothing() -> None:
    pool = Patterns()
    for text in ("(", "(" * 500, r"((\pL{100}){100}){10}"):
        with pytest.raises(re2.error):
            pool.get(text)
    pool.limit = 0
    with pytest.raises(PatternsFull):
        pool.get("a+")
    gc.collect()
    assert pool.taken == 0


def test_what_threads_take_and_give_back_is_counted() -> None:
    pool = Patterns()

    def work(own: int) -> None:
        for number in range(100):
            pool.get(f"shared+{number % 5}")
            pool.get(f"own+{own}")

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.taken == 0


@pytest.mark.parametrize(
    ("usable", "limit"), [(64 << 20, 16 << 20), (512 << 20, DEFAULT_LIMIT), (24 << 30, 1 << 30), (0, 16 << 20)]
)
def test_the_limit_goes_by_what_the_process_may_use(usable: int, limit: int) -> None:
    assert limit_of(usable) == limit
