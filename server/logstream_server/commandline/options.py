"""Options declared once: the flag, its variable, the form of its value, its default and its help text.

A command's options are the fields of a frozen dataclass, each made by `option`, `repeatable`, `switch` or `argument`.
From that one declaration come the values (`collect`) and the help page (`render_options`). Flags beat variables, which
beat defaults; a flag given twice counts the last time, so that wrappers can be overridden; a repeatable one collects.
Every problem is kept, so that a person fixes all of them at once. What is not here: which options there are
(`settings`), how single values are written (`forms`), the process's own environment and arguments (`cli` passes them).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from difflib import get_close_matches
from textwrap import wrap
from typing import Any, Final, TypeVar, overload

from logstream_server.errors import Problem, SettingsError, kept_in, refuse

from .forms import BOOLEAN, Form

T = TypeVar("T")

PREFIX: Final = "LOGSTREAM_"
_SPEC: Final = "logstream.option"
_CLOSE: Final = 0.7
"""How alike a misspelt name must be to be worth suggesting (difflib's ratio; its own default of 0.6 guesses wildly)."""
_HELP_WIDTH: Final = 100
_HELP_INDENT: Final = 27
"""The longest ordinary flag with its value, `--allowed-origin ORIGIN`, and two spaces on either side."""
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+")
"""What Kubernetes puts into NAME_PORT in every pod beside a Service called NAME: with one called `logstream`, into
LOGSTREAM_PORT. https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""


@dataclass(frozen=True, slots=True)
class Spec:
    """How one field is given: `flag` is empty for arguments without one, `variable` where there is none."""

    form: Form[Any]
    purpose: str
    flag: str = ""
    short: str = ""
    variable: str = ""
    many: bool = False
    is_switch: bool = False
    section: str = ""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.flag or self.form.metavar


@dataclass(frozen=True, slots=True)
class Collected:
    """Everything that was given: values by field, the flag or variable that each came from, and what was wrong."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    problems: tuple[Problem, ...]


@overload
def option(flag: str, form: Form[T], default: T, purpose: str, section: str = "") -> T: ...


@overload
def option(flag: str, form: Form[T], default: None, purpose: str, section: str = "") -> T | None: ...


def option(flag: str, form: Form[T], default: T | None, purpose: str, section: str = "") -> T | None:
    """Declare a field given as `flag VALUE` or by the variable named like the flag.

    `flag` may begin with a short form: `-n, --lines`. `section` is a heading that the help page puts before it.
    """
    short, _, long = flag.rpartition(", ")
    spec = Spec(form, purpose, long, short=short, variable=variable_of(long), section=section)
    return field(default=default, metadata={_SPEC: spec})


def repeatable(flag: str, form: Form[T], purpose: str, section: str = "") -> tuple[T, ...]:
    """Declare a field that collects each `flag VALUE`; its variable holds several, see `split_variable`."""
    spec = Spec(form, purpose, flag, variable=variable_of(flag), many=True, section=section)
    return field(default=(), metadata={_SPEC: spec})


def switch(flag: str, purpose: str, section: str = "") -> bool:
    """Declare a field that is false until `flag` is given; `flag=no` takes a variable's yes back."""
    short, _, long = flag.rpartition(", ")
    spec = Spec(BOOLEAN, purpose, long, short=short, variable=variable_of(long), is_switch=True, section=section)
    return field(default=False, metadata={_SPEC: spec})


def argument(form: Form[T], default: T, purpose: str) -> T:
    """Declare the field that takes the one argument without a flag."""
    return field(default=default, metadata={_SPEC: Spec(form, purpose)})


def arguments(form: Form[T], variable: str, purpose: str, section: str = "") -> tuple[T, ...]:
    """Declare the field that takes all arguments without a flag."""
    return field(default=(), metadata={_SPEC: Spec(form, purpose, variable=variable, many=True, section=section)})


def variable_of(flag: str) -> str:
    """`--ring-bytes` is given by LOGSTREAM_RING_BYTES."""
    return PREFIX + flag.removeprefix("--").upper().replace("-", "_")


def specs_of(command: type) -> dict[str, Spec]:
    """Field name to declaration, in the order of declaration."""
    declared: tuple[Field[Any], ...] = fields(command)
    return {each.name: each.metadata[_SPEC] for each in declared if _SPEC in each.metadata}


def collect(command: type, environ: Mapping[str, str], argv: Sequence[str]) -> Collected:
    """Read what `command` declares from the arguments first and the variables second; a bad value is left out."""
    specs = specs_of(command)
    scan = _Scan(specs)
    scan.read(argv)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems = list(scan.problems)
    for name, spec in specs.items():
        source, texts = (spec.name, scan.given[name]) if name in scan.given else _from_variable(spec, environ)
        read, wrong = _read_texts(spec, source, texts)
        problems += wrong
        if read and not wrong:
            values[name] = tuple(read) if spec.many else read[-1]
            sources[name] = source
    return Collected(values, sources, tuple(problems))


def read_options(
    command: type[T],
    environ: Mapping[str, str],
    argv: Sequence[str],
    conflicts: Callable[[T, Collected], Iterable[Problem]] = lambda *_: (),
    use: Callable[[T], object] = lambda _: None,
) -> T:
    """The value of a command. Raises SettingsError, which names all faults.

    `conflicts`: what is wrong with values that are each well written. `use`: what opens the files that the options name
    and raises a SettingsError of its own; called only where something is wrong already, to tell all of it at once.
    """
    collected = collect(command, environ, argv)
    options = command(**collected.values)
    problems = [*collected.problems, *conflicts(options, collected)]
    if problems:
        with kept_in(problems):
            use(options)
    refuse(problems)
    return options


def read_arguments(
    command: type[T],
    argv: Sequence[str],
    conflicts: Callable[[T, Collected], Iterable[Problem]] = lambda *_: (),
    use: Callable[[T], object] = lambda _: None,
) -> T:
    """The value of a command that reads no variables; see `read_options`."""
    return read_options(command, {}, argv, conflicts, use)


def named_by_source(
    error: SettingsError, command: type, environ: Mapping[str, str], argv: Sequence[str]
) -> SettingsError:
    """The same faults, each with the variable that the value came from in place of the flag, which nobody typed."""
    sources = collect(command, environ, argv).sources
    names = {spec.flag: sources[name] for name, spec in specs_of(command).items() if name in sources}
    return SettingsError(tuple(replace(each, name=names.get(each.name, each.name)) for each in error.problems))


def split_variable(text: str) -> list[str]:
    """Split a variable that holds several values: one a line, or, when it is a single line, at each comma.

    So a value that contains a comma can be given, by ending it with a newline.
    """
    parts = text.split("\n") if "\n" in text else text.split(",")
    return [part.strip() for part in parts if part.strip()]


def misspelt_variables(command: type, environ: Mapping[str, str]) -> list[str]:
    """One sentence for each LOGSTREAM_ variable that nobody reads and that looks like one that is read.

    Others are not mentioned: an environment is shared, and Kubernetes adds names of its own to it.
    """
    known = {spec.variable.removeprefix(PREFIX): spec.variable for spec in specs_of(command).values() if spec.variable}
    found = []
    for name in sorted(environ):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest in known:
            continue
        close = get_close_matches(rest, known, n=1, cutoff=0.85)
        if close:
            found.append(f"{name} is not read; did you mean {known[close[0]]}?")
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the closest known word, or nothing."""
    close = get_close_matches(word, list(known), cutoff=_CLOSE)
    close.sort(key=lambda other: sorted(other) != sorted(word))  # swapped letters are the likeliest slip
    return f"; did you mean {close[0]}?" if close else ""


def wants_help(argv: Sequence[str]) -> bool:
    """Whether the help page is asked for, anywhere before a `--`."""
    before = argv[: argv.index("--")] if "--" in argv else argv
    return "-h" in before or "--help" in before


def render_options(command: type, *, variables: bool) -> str:
    """The part of a help page that lists the options: each with its default and, if they count, its variable."""
    lines: list[str] = []
    defaults = {each.name: each.default for each in fields(command)}
    for name, spec in specs_of(command).items():
        if spec.section:
            lines += ["", f"{spec.section}:"]
        facts = [spec.variable] if variables else []
        facts += ["repeatable"] if spec.many and spec.flag else []
        facts += render_default(spec, defaults[name])
        lines += _render_option(spec, f"{spec.purpose} [{', '.join(facts)}]" if facts else spec.purpose)
    return "\n".join(lines).lstrip("\n")


class _Scan:
    """One pass over the arguments: which texts each field was given, and what no field takes."""

    def __init__(self, specs: Mapping[str, Spec]) -> None:
        self.given: dict[str, list[str]] = {}
        self.problems: list[Problem] = []
        self._specs = specs
        self._flags = {spec.flag: name for name, spec in specs.items() if spec.flag}
        self._shorts = {spec.short: name for name, spec in specs.items() if spec.short}
        self._positional = next((name for name, spec in specs.items() if not spec.flag), None)

    def read(self, argv: Sequence[str]) -> None:
        words = deque(argv)
        while words:
            word = words.popleft()
            if word == "--":
                break
            if word.startswith("--"):
                self._long(word, words)
            elif word.startswith("-") and word != "-":
                self._short(word, words)
            else:
                self._argument(word)
        for word in words:
            self._argument(word)

    def _long(self, word: str, words: deque[str]) -> None:
        flag, equals, text = word.partition("=")
        name = self._flags.get(flag)
        if name is None:
            self.problems.append(Problem(flag, None, "no such option" + did_you_mean(flag, self._flags)))
        elif equals:
            self._add(name, text)
        else:
            self._add_next(name, words)

    def _short(self, word: str, words: deque[str]) -> None:
        if word[1:].isdecimal() and "-n" in self._shorts:  # as head and tail have it: -100 is -n 100
            word = f"-n{word[1:]}"
        name = self._shorts.get(word[:2])
        twice = "-" + word.partition("=")[0]  # one dash where two were meant
        if name is None or twice in self._flags:
            self.problems.append(Problem(word, None, "no such option" + did_you_mean(twice, self._flags)))
        elif self._specs[name].is_switch and len(word) > len("-n") and word[2] != "=":  # several in one word, as -fn5
            self._add(name, "yes")
            self._short("-" + word[2:], words)
        elif len(word) > len("-n"):
            self._add(name, word[2:].removeprefix("="))
        else:
            self._add_next(name, words)

    def _add_next(self, name: str, words: deque[str]) -> None:
        spec = self._specs[name]
        if spec.is_switch:
            self._add(name, "yes")
        elif words and not self._is_flag(words[0]):
            self._add(name, words.popleft())
        else:
            self.problems.append(Problem(spec.flag, None, f"needs a value: {spec.form.allowed}"))

    def _is_flag(self, word: str) -> bool:
        return word.partition("=")[0] in self._flags or word in self._shorts or word == "--"

    def _argument(self, word: str) -> None:
        name = self._positional
        if name is None or (name in self.given and not self._specs[name].many):
            self.problems.append(Problem("argument", word, "is one too many"))
        else:
            self._add(name, word)

    def _add(self, name: str, text: str) -> None:
        self.given.setdefault(name, []).append(text)


def _from_variable(spec: Spec, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """What the option's variable holds: an empty one counts as not set, a Kubernetes service link as not ours."""
    text = environ.get(spec.variable, "") if spec.variable else ""
    if not text or (spec.variable.endswith("_PORT") and _SERVICE_LINK.fullmatch(text)):
        return spec.variable, []
    return spec.variable, split_variable(text) if spec.many else [text]


def _read_texts(spec: Spec, source: str, texts: Sequence[str]) -> tuple[list[Any], list[Problem]]:
    """The values of all texts that have the right form, and a problem for each that has not."""
    read: list[Any] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            read.append(spec.form.read(text))
        except ValueError:
            problems.append(Problem(source, text, f"must be {spec.form.allowed}"))
    return read, problems


def _render_option(spec: Spec, words: str) -> list[str]:
    """One option as lines: what to type on the left, what it does on the right; beside each other where they fit."""
    right = wrap(words, _HELP_WIDTH - _HELP_INDENT, break_long_words=False, break_on_hyphens=False)
    left = f"  {render_usage(spec)}"
    if len(left) + 2 > _HELP_INDENT:
        return [left, *(" " * _HELP_INDENT + line for line in right)]
    return [left.ljust(_HELP_INDENT) + right[0], *(" " * _HELP_INDENT + line for line in right[1:])]


def render_usage(spec: Spec) -> str:
    """What to type: the flags, and what stands for the value."""
    if not spec.flag:
        return spec.form.metavar + ("..." if spec.many else "")
    typed = f"{spec.short}, {spec.flag}" if spec.short else spec.flag
    return typed if spec.is_switch else f"{typed} {spec.form.metavar}"


def show_default(spec: Spec, default: object) -> str:
    """A default as it would be typed; nothing where there is none."""
    return "" if spec.is_switch or spec.many else spec.form.show(default)


def render_default(spec: Spec, default: object) -> list[str]:
    """What a page says of an option's default, if there is anything to say."""
    shown = show_default(spec, default)
    return [f"default {shown}"] if shown else []
