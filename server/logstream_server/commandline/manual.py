r"""The manual page, from the same declarations as the help pages: text for `man`, in the language of man(7). No I/O.

`logstream manual` prints it; docs/logstream.1 is what it printed last (`make manual`), and what pip installs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from textwrap import wrap
from typing import Final, NamedTuple

from .options import Spec, render_default, specs_of

_WIDTH: Final = 70
_DESCRIPTION: Final = (
    "Whoever follows a log gets its last lines and then each new one, the moment it is written: none is lost, and none "
    "comes twice, across rotation, truncation, restarts and broken connections."
)


class Entry(NamedTuple):
    """A command as the page shows it; `text` ends with examples, as in its help."""

    usage: str
    text: str
    options: type
    reads_variables: bool


def render_manual(version: str, commands: Mapping[str, Entry]) -> str:
    """The whole page. It carries no date, so that it changes only when it says something else."""
    lines = [
        f'.TH LOGSTREAM 1 "" "logstream {version}" "User Commands"',
        ".SH NAME",
        r"logstream \- follow growing log files, and send each new line over WebSocket",
        ".SH SYNOPSIS",
        *_with_breaks(
            [rf"\fBlogstream\fR {_escape(f'{name} {each.usage}'.strip())}" for name, each in commands.items()]
        ),
        ".SH DESCRIPTION",
        *_filled(_DESCRIPTION),
    ]
    for name, entry in commands.items():
        lines += [f".SH LOGSTREAM {name.upper()}", *_text(entry.text), *_options(entry)]
    lines += [
        ".SH EXIT STATUS",
        *_items({"0": "done", "1": "failed, and said why", "2": "the arguments or the settings were not understood"}),
        *_items({"130": "interrupted (Ctrl-C)", "141": "nobody reads standard output any more"}),
        ".SH SEE ALSO",
        ".BR tail (1),",
        ".BR websocat (1)",
    ]
    return "\n".join(lines) + "\n"


def _with_breaks(lines: list[str]) -> Iterator[str]:
    for at, line in enumerate(lines):
        yield from [".br"] if at else []
        yield line


def _text(text: str) -> Iterator[str]:
    """Paragraphs; the examples keep their lines."""
    said, _, examples = text.partition("\nexamples:\n")
    for at, paragraph in enumerate(said.strip().split("\n\n")):
        yield from [".PP"] if at else []
        yield from _filled(paragraph)
    if examples:
        yield from [".PP", "Examples:", ".PP", ".nf", ".RS"]
        yield from (_escape(line.strip()) for line in examples.rstrip().split("\n"))
        yield from [".RE", ".fi"]


def _options(entry: Entry) -> Iterator[str]:
    defaults = {each.name: each.default for each in fields(entry.options)}
    for name, spec in specs_of(entry.options).items():
        if spec.section:
            yield f".SS {_escape(spec.section)}"
        facts = [spec.variable] if entry.reads_variables and spec.variable else []
        facts += ["repeatable"] if spec.many and spec.flag else []
        facts += render_default(spec, defaults[name])
        yield from [".TP", _tag(spec), *_filled(spec.purpose + (f" [{', '.join(facts)}]" if facts else ""))]


def _tag(spec: Spec) -> str:
    value = "" if spec.is_switch else rf"\fI{_escape(spec.form.metavar)}\fR"
    if not spec.flag:
        return value + ("..." if spec.many else "")
    flags = ", ".join(rf"\fB{_escape(flag)}\fR" for flag in (spec.short, spec.flag) if flag)
    return f"{flags} {value}".rstrip()


def _items(items: Mapping[str, str]) -> Iterator[str]:
    for tag, text in items.items():
        yield from [".TP", rf"\fB{tag}\fR", *_filled(text)]


def _filled(text: str) -> Iterator[str]:
    """Words, in lines that are short also with what `_escape` adds."""
    return map(_escape, wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False))


def _escape(text: str) -> str:
    """Text as it is: no hyphen becomes a dash, and no line a request."""
    text = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").replace("^", r"\(ha").replace("`", r"\(ga")
    )
    return re.sub(r"(?m)^(?=[.'])", r"\&", text)
