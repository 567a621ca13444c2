"""options: from one declaration, what is read from arguments and variables, what is refused, what the help shows."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from logstream_server.commandline import forms, options
from logstream_server.errors import Problem, SettingsError

NUMBER = forms.whole("N", 0, 99)


@dataclass(frozen=True, slots=True)
class Kitchen:
    """A command with one option of each kind."""

    rooms: tuple[str, ...] = options.arguments(forms.text("ROOM", "a room"), "LOGSTREAM_ROOMS", "where", "Rooms")
    plates: int = options.option("-p, --plates", NUMBER, 7, "how many plates")
    stove_port: int = options.option("--stove-port", NUMBER, 1, "where the stove is")
    cook: str | None = options.option("--cook", forms.text("NAME", "a name"), None, "who cooks")
    spices: tuple[str, ...] = options.repeatable("--spice", forms.text("SPICE", "a spice"), "what to put in", "Taste")
    hot: bool = options.switch("--hot", "serve it hot")


@dataclass(frozen=True, slots=True)
class Shelf:
    """A command that takes one argument."""

    book: str = options.argument(forms.text("BOOK", "a book"), "", "what to read")


def read(*argv: str, **environ: str) -> Kitchen:
    collected = options.collect(Kitchen, environ, argv)
    assert collected.problems == ()
    return Kitchen(**collected.values)


def problems(*argv: str, **environ: str) -> list[str]:
    return [str(problem) for problem in options.collect(Kitchen, environ, argv).problems]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        pytest.param([], Kitchen(), id="nothing given leaves the defaults"),
        pytest.param(["--plates", "3"], Kitchen(plates=3), id="a value in the next word"),
        pytest.param(["--plates=3"], Kitchen(plates=3), id="a value after an equals sign"),
        pytest.param(["-p", "3"], Kitchen(plates=3), id="a short flag"),
        pytest.param(["-p3"], Kitchen(plates=3), id="a short flag with its value attached"),
        pytest.param(["--plates=3", "--plates=4"], Kitchen(plates=4), id="the last of two counts"),
        pytest.param(["--spice", "b", "--spice=a"], Kitchen(spices=("b", "a")), id="a repeatable flag keeps the order"),
        pytest.param(["--hot"], Kitchen(hot=True), id="a switch"),
        pytest.param(["--hot=no"], Kitchen(hot=False), id="a switch taken back"),
        pytest.param(["--hot", "hall"], Kitchen(hot=True, rooms=("hall",)), id="a switch takes no value"),
        pytest.param(["a", "--plates=3", "b"], Kitchen(plates=3, rooms=("a", "b")), id="arguments before and after"),
        pytest.param(["--", "--plates", "-p"], Kitchen(rooms=("--plates", "-p")), id="after -- all are arguments"),
        pytest.param(["-"], Kitchen(rooms=("-",)), id="a single dash is an argument"),
        pytest.param(["--cook", "-dash"], Kitchen(cook="-dash"), id="a value may begin with a dash"),
        pytest.param(["--cook", "a=b"], Kitchen(cook="a=b"), id="a value may contain an equals sign"),
        pytest.param(["--cook=a=b"], Kitchen(cook="a=b"), id="only the first equals sign separates"),
    ],
)
def test_arguments_are_read(argv: list[str], expected: Kitchen) -> None:
    assert read(*argv) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({"LOGSTREAM_PLATES": "3"}, Kitchen(plates=3), id="a variable is named like its flag"),
        pytest.param({"LOGSTREAM_PLATES": ""}, Kitchen(), id="an empty variable is not set"),
        pytest.param({"LOGSTREAM_HOT": "true"}, Kitchen(hot=True), id="a switch"),
        pytest.param({"LOGSTREAM_SPICE": "a, b,"}, Kitchen(spices=("a", "b")), id="one line is split at commas"),
        pytest.param({"LOGSTREAM_SPICE": "a,b\nc\n"}, Kitchen(spices=("a,b", "c")), id="several lines are not"),
        pytest.param({"LOGSTREAM_SPICE": "a,b\n"}, Kitchen(spices=("a,b",)), id="a newline keeps one value's comma"),
        pytest.param({"LOGSTREAM_ROOMS": "a"}, Kitchen(rooms=("a",)), id="arguments have a variable too"),
        pytest.param({"PLATES": "3", "LOGSTREAM_CUPS": "x"}, Kitchen(), id="others are not looked at"),
        pytest.param({"LOGSTREAM_STOVE_PORT": "tcp://10.0.0.1:80"}, Kitchen(), id="a service link is not ours"),
    ],
)
def test_variables_are_read(environ: dict[str, str], expected: Kitchen) -> None:
    assert read(**environ) == expected


def test_flags_beat_variables_and_do_not_add_to_them() -> None:
    expected = Kitchen(plates=3, spices=("c",), hot=False)
    given = {"LOGSTREAM_PLATES": "4", "LOGSTREAM_SPICE": "a,b", "LOGSTREAM_HOT": "1"}
    assert read("--plates=3", "--spice=c", "--hot=no", **given) == expected


def test_a_bad_variable_that_a_flag_beats_does_not_matter() -> None:
    assert read("--plates=3", LOGSTREAM_PLATES="many").plates == 3


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        pytest.param(["--plates", "x"], "--plates 'x': must be a whole number from 0 to 99", id="a bad value"),
        pytest.param(["--plates="], "--plates '': must be a whole number from 0 to 99", id="an empty value"),
        pytest.param(["--plates"], "--plates: needs a value: a whole number from 0 to 99", id="no value at the end"),
        pytest.param(["--plate=3"], "--plate: no such option; did you mean --plates?", id="a misspelt flag"),
        pytest.param(["--palets=3"], "--palets: no such option; did you mean --plates?", id="swapped letters"),
        pytest.param(["-px"], "--plates 'x': must be a whole number from 0 to 99", id="a short flag's bad value"),
        pytest.param(["-plates"], "-plates: no such option; did you mean --plates?", id="one dash, like a short flag"),
        pytest.param(["-3"], "-3: no such option", id="a number, where there is no -n"),
        pytest.param(["-hot"], "-hot: no such option; did you mean --hot?", id="one dash too few"),
        pytest.param(["--quux"], "--quux: no such option", id="a flag like no other"),
        pytest.param(["--hot=maybe"], "--hot 'maybe': must be " + forms.BOOLEAN.allowed, id="a switch's bad value"),
    ],
)
def test_a_fault_names_the_flag_the_value_and_what_is_allowed(argv: list[str], expected: str) -> None:
    assert problems(*argv) == [expected]


def test_a_flag_is_never_taken_for_the_value_of_the_one_before_it() -> None:
    assert problems("--cook", "--hot") == ["--cook: needs a value: a name"]
    assert problems("--cook", "--plates=3") == ["--cook: needs a value: a name"]


def test_a_fault_in_a_variable_names_the_variable() -> None:
    assert problems(LOGSTREAM_PLATES="x") == ["LOGSTREAM_PLATES 'x': must be a whole number from 0 to 99"]


def test_every_fault_is_reported_and_good_values_are_kept() -> None:
    collected = options.collect(Kitchen, {"LOGSTREAM_HOT": "x"}, ["--plates=x", "--cook=y", "--nope"])
    assert [problem.name for problem in collected.problems] == ["--nope", "--plates", "LOGSTREAM_HOT"]
    assert collected.values == {"cook": "y"}


def test_a_value_knows_where_it_came_from() -> None:
    collected = options.collect(Kitchen, {"LOGSTREAM_PLATES": "3"}, ["--cook=y", "hall"])
    assert collected.sources == {"rooms": "ROOM", "plates": "LOGSTREAM_PLATES", "cook": "--cook"}


def test_a_second_argument_is_refused_where_there_is_one() -> None:
    collected = options.collect(Shelf, {}, ["a", "b"])
    assert collected.problems == (Problem("argument", "b", "is one too many"),)
    assert collected.values == {"book": "a"}


@pytest.mark.parametrize(
    ("name", "remarks"),
    [
        ("LOGSTREAM_PLATE", ["LOGSTREAM_PLATE is not read; did you mean LOGSTREAM_PLATES?"]),
        ("LOGSTREAM_PLATES", []),
        ("LOGSTREAM_SERVICE_HOST", []),
        ("LOGSTREAM_PORT_8080_TCP_ADDR", []),
        ("LOGSTREAM_TEST_REQUIRE", []),
        ("PLATE", []),
    ],
)
def test_a_misspelt_variable_is_remarked_on_and_a_foreign_one_is_not(name: str, remarks: list[str]) -> None:
    """Kubernetes sets names of its own for a Service called `logstream`."""
    assert options.misspelt_variables(Kitchen, {name: "1"}) == remarks


@pytest.mark.parametrize(
    ("argv", "wanted"), [(["-h"], True), (["x", "--help"], True), (["--", "--help"], False), ([], False)]
)
def test_help_may_stand_anywhere_before_two_dashes(argv: list[str], wanted: bool) -> None:
    assert options.wants_help(argv) is wanted


def test_the_help_page_shows_flags_variables_defaults_and_headings() -> None:
    assert (
        options.render_options(Kitchen, variables=True)
        == """\
Rooms:
  ROOM...                  where [LOGSTREAM_ROOMS]
  -p, --plates N           how many plates [LOGSTREAM_PLATES, default 7]
  --stove-port N           where the stove is [LOGSTREAM_STOVE_PORT, default 1]
  --cook NAME              who cooks [LOGSTREAM_COOK]

Taste:
  --spice SPICE            what to put in [LOGSTREAM_SPICE, repeatable]
  --hot                    serve it hot [LOGSTREAM_HOT]"""
    )


def test_the_help_page_of_a_command_without_variables_shows_none() -> None:
    page = options.render_options(Kitchen, variables=False)
    assert "LOGSTREAM_" not in page
    assert "how many plates [default 7]" in page
    assert "serve it hot\n" in page + "\n"


def test_what_opens_files_is_asked_where_something_is_wrong_already() -> None:
    """All faults are told at once; where there is none, whoever starts opens the files anyway."""
    asked: list[Shelf] = []

    def use(shelf: Shelf) -> None:
        asked.append(shelf)
        raise SettingsError((Problem("BOOK", shelf.book, "is not there"),))

    assert options.read_arguments(Shelf, ["emma"], use=use) == Shelf("emma")
    assert asked == []
    with pytest.raises(SettingsError) as caught:
        options.read_arguments(Shelf, ["emma", "--nope"], use=use)
    assert [str(each) for each in caught.value.problems] == ["--nope: no such option", "BOOK 'emma': is not there"]


def test_a_fault_that_is_found_later_is_named_by_where_the_value_came_from() -> None:
    error = SettingsError((Problem("--cook", "x", "is ill"), Problem("--plates", "7", "are broken")))
    named = options.named_by_source(error, Kitchen, {"LOGSTREAM_COOK": "x"}, ["--plates=7"])
    assert [each.name for each in named.problems] == ["LOGSTREAM_COOK", "--plates"]


def test_a_command_s_arguments_become_its_value_or_all_their_faults() -> None:
    assert options.read_arguments(Shelf, ["war and peace"]) == Shelf("war and peace")

    def conflicts(shelf: Shelf, given: options.Collected) -> list[Problem]:
        return [Problem("BOOK", shelf.book, f"is lent, says {given.sources['book']}")]

    with pytest.raises(SettingsError) as caught:
        options.read_arguments(Shelf, ["war", "--and", "peace"], conflicts)
    assert [problem.name for problem in caught.value.problems] == ["--and", "argument", "BOOK"]
