"""Completion for bash and zsh, from the same declarations as the help pages. shtab writes the scripts.

It reads a parser of argparse, so one is made here, which nobody parses with. Why: docs/decisions/0010-completion.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import shtab

from .forms import one_of
from .options import Spec, argument, read_arguments, specs_of

_BASH_EQUALS: Final = r"""
# Bash makes three words of --color=al, and shtab reads the first and the third: the equals sign is taken out here.
_logstream() {
  local -a words=()
  local index cword=$COMP_CWORD
  for index in "${!COMP_WORDS[@]}"; do
    if [[ ${COMP_WORDS[index]} == "=" && ${words[*]: -1} == --* ]]; then
      if (( index == COMP_CWORD )); then words+=(""); elif (( index < COMP_CWORD )); then (( cword -= 1 )); fi
    else
      words+=("${COMP_WORDS[index]}")
    fi
  done
  local -a COMP_WORDS=("${words[@]}")
  local COMP_CWORD=$cword
  _shtab_logstream "$1" "${words[cword]}" "${words[cword - 1]}"
}

complete -o bashdefault -F _logstream logstream
"""


class Shell(StrEnum):
    """Those that there is completion for."""

    BASH = "bash"
    ZSH = "zsh"


@dataclass(frozen=True, slots=True)
class CompletionOptions:
    """What `logstream completion` can be told."""

    shell: Shell = argument(one_of(Shell), Shell.BASH, "for which shell")

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> CompletionOptions:
        """Read the arguments; SettingsError names all faults."""
        return read_arguments(cls, argv)


def render_completion(shell: Shell, commands: Mapping[str, tuple[str, type]]) -> str:
    """The script; `commands` are the name of each with its summary and its options."""
    parser = argparse.ArgumentParser("logstream", description="Follows growing log files")
    parser.add_argument("--version", action="store_true", help="print the version")
    found = parser.add_subparsers()
    for name, (summary, options) in commands.items():
        command = found.add_parser(name, help=summary)
        for field, spec in specs_of(options).items():
            _add(command, field, spec)
    script = str(shtab.complete(parser, shell=shell.value)).rstrip("\n") + "\n"
    if shell is Shell.BASH:
        return script + _BASH_EQUALS
    for name, (_, options) in commands.items():
        script = _with_equals(script, f"_shtab_logstream_{name}_options=(\n", options)
    return _sourced(script)


def _with_equals(script: str, begin: str, options: type) -> str:
    """Set the marks of zsh that shtab does not: a value may stand behind an equals sign, a flag may be repeated."""
    before, begin, rest = script.partition(begin)
    block, end, after = rest.partition("\n)\n")
    for spec in specs_of(options).values():
        if spec.flag and not spec.is_switch:
            block = block.replace(f'  "{spec.flag}[', f'  "{"*" if spec.many else ""}{spec.flag}=[')
            block = block.replace(f',{spec.flag}}}"[', f',{spec.flag}=}}"[')
    return before + begin + block + end + after


def _sourced(script: str) -> str:
    """Registered by `source <(...)` as by `eval`; shtab knows the latter alone, and takes all else for autoloading."""
    asked = "[[ $zsh_eval_context[-1] == eval ]]"
    assert asked in script
    return script.replace(asked, "[[ $zsh_eval_context[-1] == (eval|file) ]]")


def _add(parser: argparse.ArgumentParser, field: str, spec: Spec) -> None:
    """One option or argument, with what may stand for its value."""
    words = spec.form.metavar
    purpose = spec.purpose.replace("%", "%%")
    flags = [flag for flag in (spec.short, spec.flag) if flag]
    if spec.is_switch:
        parser.add_argument(*flags, action="store_true", help=purpose)
        return
    choices = words.split("|") if "|" in words and words.islower() else None
    if flags:
        action = parser.add_argument(*flags, metavar=words, choices=choices, help=purpose)
    else:
        action = parser.add_argument(
            field, metavar=words, choices=choices, help=purpose, nargs="*" if spec.many else "?"
        )
    if {"FILE", "PATH"} & set(words.split("|")):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif words == "DIR":
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
