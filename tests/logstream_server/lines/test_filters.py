"""filters: what passes, what is refused and in which words, and that a batch is judged as its lines are one by one."""

from __future__ import annotations

import resource
import threading

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.errors import BadQuery, CloseCode
from logstream_server.lines.filters import (
    MAX_PATTERN_BYTES,
    MAX_PATTERNS,
    BadFilter,
    LineFilter,
    parse_filter,
)

# What passes


@pytest.mark.parametrize(
    ("grep", "exclude", "line", "passes"),
    [
        pytest.param([], [], b"anything", True, id="no pattern lets all pass"),
        pytest.param([""], [""], b"anything", True, id="empty patterns say nothing"),
        pytest.param(["b"], [], b"abc", True, id="plain text is found anywhere"),
        pytest.param(["x"], [], b"abc", False, id="plain text that is missing holds the line back"),
        pytest.param(["a", "c"], [], b"abc", True, id="both greps are found"),
        pytest.param(["a", "x"], [], b"abc", False, id="one grep of two is not enough"),
        pytest.param([], ["b"], b"abc", False, id="an exclude that is found holds the line back"),
        pytest.param([], ["x", "b"], b"abc", False, id="one exclude of two is enough"),
        pytest.param(["a"], ["b"], b"abc", False, id="exclude beats grep"),
        pytest.param(["ab"], ["x"], b"abc", True, id="grep found and exclude not"),
        pytest.param([r"5\d\d"], [], b"status 503", True, id="a class"),
        pytest.param([r"^b"], [], b"abc", False, id="a caret is the line's beginning"),
        pytest.param([r"b$"], [], b"abc", False, id="a dollar is the line's end"),
        pytest.param([r"^abc$"], [], b"abc", True, id="a whole line"),
        pytest.param([r"\Aabc\z"], [], b"abc", True, id="the edges of the text are those of the line"),
        pytest.param([r"^$"], [], b"", True, id="an empty line"),
        pytest.param([r"^$"], [], b"abc", False, id="not an empty line"),
        pytest.param(["(?i)ERROR"], [], b"an error", True, id="case ignored on request"),
        pytest.param(["ERROR"], [], b"an error", False, id="case matters by default"),
        pytest.param([r"\[error\]"], [], b"[error] x", True, id="escaped punctuation is plain"),
        pytest.param([r"a.c"], [], b"a.c", True, id="a dot matches a dot"),
        pytest.param([r"a\.c"], [], b"abc", False, id="an escaped dot matches nothing else"),
        pytest.param([r"\Qa.c"], [], b"a.c", True, id="quoted text without its end"),
        pytest.param([r"\Qa.c"], [], b"abc", False, id="quoted text is plain"),
        pytest.param(["(?m-s)a"], [], b"a", True, id="flags may be switched off"),
        pytest.param(["größe"], [], "die größe".encode(), True, id="text beyond ASCII"),
        pytest.param(["gr..e"], [], "größe".encode(), True, id="a dot is a character, not a byte"),
        pytest.param([r"(?i)GRÖSSE|GRÖßE"], [], "größe".encode(), True, id="case beyond ASCII"),
        pytest.param([r"\x00"], [], b"a\0b", True, id="a NUL"),
        pytest.param(["\0"], [], b"a\0b", True, id="a NUL as plain text"),
        pytest.param(["a\nb"], [], b"a", False, id="a newline is in no line"),
        pytest.param([r"a\nb"], [], b"a", False, id="an escaped newline is in no line"),
        pytest.param(["500"], [], b"\xff\xfe 500", True, id="plain text after bytes that are not UTF-8"),
        pytest.param(["GET .* 500"], [], b"GET \xff\xfe 500", True, id="a dot takes the U+FFFD that is shown"),
        pytest.param(["GET [^x]+ 500"], [], b"GET \xff 500", True, id="a class takes the U+FFFD that is shown"),
        pytest.param(["\ufffd"], [], b"a\xffb", True, id="U+FFFD finds bytes that are not UTF-8"),
        pytest.param(["ÿ"], [], b"a\xffb", False, id="bytes that are not UTF-8 are not taken for Latin-1"),
        pytest.param(["a$"], [], b"a\xe2\x82", False, id="a character that is cut is still something"),
    ],
)
def test_a_line_passes_or_not(grep: list[str], exclude: list[str], line: bytes, passes: bool) -> None:
    """Alone, and between others."""
    line_filter = parse_filter(grep, exclude)
    assert line_filter.matches(line) == passes
    assert (1 in line_filter.select([b"\xff#", line, b"", b"#"])) == passes


def test_select_gives_the_indexes_in_order() -> None:
    """Ascending, each once, however often a pattern is found in a line."""
    lines = [b"a a a", b"b", b"a b", b"", b"a"]
    assert parse_filter(["a"]).select(lines) == [0, 2, 4]
    assert parse_filter(["[a]"]).select(lines) == [0, 2, 4]
    assert parse_filter(["a"], ["b"]).select(lines) == [0, 4]
    assert parse_filter([], ["[a]"]).select(lines) == [1, 3]
    assert parse_filter(["x*"]).select(lines) == [0, 1, 2, 3, 4]
    assert parse_filter().select(lines) == [0, 1, 2, 3, 4]
    assert parse_filter(["a"]).select([]) == []


pieces = st.sampled_from(
    ["a", "b", " ", ".", "a*", "a+", "[^a]", r"\s", r"\b", "^", "$", "(?:a|b)", "a|", "(?i)A", r"\.", "x?", "é", r"\w"]
)
patterns = st.lists(pieces, min_size=1, max_size=4).map("".join)
log_lines = st.one_of(
    st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),
    st.lists(st.sampled_from([b"a", b"b", b" ", b".", b"x", "é".encode(), b"\xff"]), max_size=6).map(b"".join),
)


@given(st.lists(patterns, max_size=2), st.lists(patterns, max_size=2), st.lists(log_lines, max_size=20))
def test_a_batch_is_judged_as_its_lines_are_one_by_one(grep: list[str], exclude: list[str], lines: list[bytes]) -> None:
    """Against RE2's plain search over each line, as text."""

    def found(pattern: str, line: bytes) -> bool:
        return re2.search(pattern, line.decode("utf-8", "replace")) is not None

    expected = [
        index
        for index, line in enumerate(lines)
        if all(found(pattern, line) for pattern in grep) and not any(found(pattern, line) for pattern in exclude)
    ]
    assert parse_filter(grep, exclude).select(lines) == expected


@pytest.mark.parametrize("character", [chr(code) for code in range(128)], ids=repr)
def test_an_escaped_character_means_what_it_means_to_re2(character: str) -> None:
    """The quick way for plain text takes no escape for text that RE2 reads as something else."""
    pattern = "x\\" + character
    options = re2.Options()
    options.log_errors = False
    try:
        expected = re2.compile(pattern, options=options)
    except re2.error:
        with pytest.raises(BadFilter):
            parse_filter([pattern])
        return
    for code in set(range(128)) - {ord("\n")}:
        line = b"x" + bytes((code,))
        assert parse_filter([pattern]).matches(line) == (expected.search(line) is not None)


# A value


def test_a_filter_is_a_value() -> None:
    """Order and repeats do not matter, so that viewers who ask for the same share one channel."""
    first = parse_filter(["b", "a", "a", ""], ["x"])
    second = parse_filter(["a", "b"], ["x", "x"])
    assert first == second
    assert hash(first) == hash(second)
    assert first.grep == ("a", "b")
    assert first != parse_filter(["a", "b"])
    assert parse_filter() == LineFilter()


def test_a_filter_that_holds_nothing_back_is_false() -> None:
    """So that a caller can leave it out."""
    assert not parse_filter([""], [""])
    assert parse_filter(["a"])
    assert parse_filter([], ["a"])


# What is refused


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        pytest.param("(abc", 'grep: missing ): "(abc"', id="a bracket that stays open"),
        pytest.param("a)", 'grep: unexpected ): "a)"', id="a bracket that was never opened"),
        pytest.param("a**", 'grep: bad repetition operator: "**"', id="a repeat of a repeat"),
        pytest.param("*", 'grep: no argument for repetition operator: "*"', id="a repeat of nothing"),
        pytest.param("[z-a]", 'grep: invalid character class range: "z-a"', id="a range the wrong way round"),
        pytest.param("[[:foo:]]", 'grep: invalid character class range: "[:foo:]"', id="an unknown class"),
        pytest.param("a{2000}", 'grep: invalid repetition size: "{2000}"', id="too many repeats"),
        pytest.param("a\\", "grep: trailing \\", id="a backslash at the end"),
        pytest.param(r"\q", r'grep: invalid escape sequence: "\q"', id="an unknown escape"),
        pytest.param(
            r"(a)\1", r'grep: invalid escape sequence: "\1" (RE2 has no back-references)', id="a back-reference"
        ),
        pytest.param("(?=a)", 'grep: invalid perl operator: "(?=" (RE2 has no look-around)', id="a look-ahead"),
        pytest.param("(?<!a)b", 'grep: invalid perl operator: "(?<!" (RE2 has no look-around)', id="a look-behind"),
        pytest.param(r"a\Z", r'grep: invalid escape sequence: "\Z" (RE2 spells it \z)', id="another syntax's end"),
        pytest.param("\udcff", r'grep: not UTF-8: "\udcff"', id="a lone surrogate"),
        pytest.param(
            r"(?i)\pL{500}", "grep: the pattern needs more than 1 MiB of memory; repeat less", id="a huge program"
        ),
        pytest.param("[" + "\t" * 60, 'grep: missing ]: "[' + r"\t" * 39 + '"...', id="a long part is cut and escaped"),
        pytest.param("x" * 1025, f'grep: "{"x" * 40}"... has 1025 bytes, at most 1024 are allowed', id="1025 bytes"),
        pytest.param("é" * 513, f'grep: "{"é" * 40}"... has 1026 bytes, at most 1024 are allowed', id="bytes count"),
    ],
)
def test_a_bad_pattern_is_refused_by_its_offending_part(
    pattern: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """In words that fit a close frame, and RE2 writes nothing to standard error by itself."""
    with pytest.raises(BadFilter) as caught:
        parse_filter(["fine", pattern])
    assert caught.value.reason == reason
    assert (caught.value.parameter, caught.value.pattern) == ("grep", pattern)
    assert caught.value.code is CloseCode.BAD_REQUEST
    assert isinstance(caught.value, BadQuery)
    assert len(caught.value.close_reason.encode()) <= 123
    assert capfd.readouterr().err == ""


def test_a_bad_exclude_is_named_as_such() -> None:
    """The parameter's name opens the sentence."""
    with pytest.raises(BadFilter, match=r'^exclude: missing \): "\("'):
        parse_filter([], ["("])


@pytest.mark.parametrize("parameter", ["grep", "exclude"])
def test_the_number_of_patterns_is_bounded(parameter: str) -> None:
    """Eight of each are fine, nine are not."""
    many = [f"p{index}" for index in range(MAX_PATTERNS + 1)]
    parse_filter(**{parameter: many[:-1]})
    with pytest.raises(BadFilter, match=f"{parameter}: 9 patterns, at most 8"):
        parse_filter(**{parameter: many})


@given(st.text(max_size=60), st.binary(max_size=60))
def test_any_pattern_is_compiled_or_refused(pattern: str, line: bytes) -> None:
    """Nothing but BadFilter comes out of any text."""
    try:
        line_filter = parse_filter([pattern], [pattern])
    except BadFilter:
        return
    line = line.replace(b"\n", b"")
    assert line_filter.select([line]) == ([] if pattern else [0])


# Bounds and threads


def test_patterns_that_blow_up_elsewhere_stay_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    """Exponential time elsewhere, or exponentially many states: the right answer, little memory, no complaint."""
    hostile = ["(a*)*b", "(a|aa)+$", "(.*a){8}.{20}c", "[ab]*a[ab]{40}c", "(x+x+)+y"]
    lines = [b"a" * 5000, b"ab" * 2500, b"x" * 5000, b"b" * 100 + b"a" * 100 + b"c"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    judged = [parse_filter([pattern]).select(lines) for pattern in hostile]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert judged == [[1, 3], [0], [3], [3], []]
    assert grown < 32 * 1024  # KiB
    assert capfd.readouterr().err == ""


def test_the_largest_allowed_filter_compiles() -> None:
    """Eight patterns of 1 KiB in each list."""
    many = [chr(ord("a") + index) * (MAX_PATTERN_BYTES - 1) + "+" for index in range(MAX_PATTERNS)]
    line_filter = parse_filter(many[:4], many[4:])
    assert line_filter.select([b"a" * 2000, b"".join(pattern[:-1].encode() for pattern in many[:4])]) == [1]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [(["x+y"], True), (["^b.d$"], False), ([r"\Ab"], False), (["b", "x?y"], True), (["bad"], False), ([], False)],
)
def test_many_lines_are_refused_at_once_where_that_is_sure(patterns: list[str], expected: bool) -> None:
    """Also from the beginning of a line on."""
    line_filter = parse_filter(patterns)
    assert line_filter.passes_none(b"a\nbad\nc") is expected
    assert line_filter.passes_none(b"xxy\na\nbad\nc", 4) is expected


@given(st.lists(st.text("ab^$.\n é", max_size=6)), st.sampled_from(["^a", "b$", "a.b", "^$", "a|é", "(?i)A", "^ *$"]))
def test_what_is_refused_at_once_has_no_line_that_passes(lines: list[str], pattern: str) -> None:
    line_filter, text = parse_filter([pattern]), "\n".join(lines).encode()
    assert line_filter.passes_none(text) == (not line_filter.select(text.split(b"\n")))


def test_threads_may_share_a_filter() -> None:
    """RE2 lets go of the interpreter's lock while it searches, so threads really do run at once."""
    line_filter = parse_filter([r"status=\d+", "GET"], [r"5\d\d$"])
    lines = [b"GET /%d status=%d" % (index, 200 + index % 400) for index in range(500)]
    expected = line_filter.select(lines)
    failures: list[list[int]] = []

    def work() -> None:
        for _ in range(20):
            answer = parse_filter([r"status=\d+", "GET"], [r"5\d\d$"]).select(lines)
            if not answer == expected == line_filter.select(lines):
                failures.append(answer)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert expected
    assert not failures
