"""The command line: picks the command, reads its options, and turns how it ended into an exit status.

    0    done                      2    not understood: the arguments or the settings
    1    failed, and said why    130    interrupted (Ctrl-C)      141    nobody reads standard output any more

Standard output carries what was asked for, standard error everything about it. The commands' modules are imported only
when they run, so that `--help` and a mistyped option answer at once. What is not here: what the options are
(`settings`), and what the commands do (`server`, `tail`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from . import __version__
from .client.tailoptions import TailOptions
from .commandline.options import (
    did_you_mean,
    misspelt_variables,
    named_by_source,
    read_arguments,
    render_options,
    wants_help,
)
from .demo.demooptions import DemoOptions
from .errors import LogstreamError, SettingsError
from .settings import Settings

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 128 + 2  # as a shell reports a program that SIGINT ended
EXIT_PIPE_CLOSED: Final = 128 + 13  # likewise SIGPIPE


@dataclass(frozen=True, slots=True)
class NoOptions:
    """What a command without options can be told."""

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> NoOptions:
        """Refuse all."""
        return read_arguments(cls, argv)


@dataclass(frozen=True, slots=True)
class Command:
    """One word after `logstream`: `run` gets the environment and the remaining arguments."""

    summary: str
    usage: str
    text: str
    options: Callable[[], type]
    reads_variables: bool
    run: Callable[[Mapping[str, str], Sequence[str]], int]

    def help(self, name: str) -> str:
        """The whole help page."""
        options = render_options(self.options(), variables=self.reads_variables)
        usage = f"usage: logstream {name} {self.usage}".rstrip()
        return "\n\n".join(filter(None, (usage, self.text, options))) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; by default the process's own) to its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    _fill_descriptors()
    return ended(lambda: _dispatch(os.environ, words))


def _fill_descriptors() -> None:
    """Have nothing else take the place of a standard file that was closed before the start: what is meant for people
    would go into it, and Python prints on standard output what it is to print where there is no standard error."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end


def ended(command: Callable[[], int]) -> int:
    """Run `command`, translating every expected way for it to end into an exit status and a sentence."""
    try:
        status = command()
        if sys.stdout is not None:  # Python's word for a standard output that was closed before the start
            sys.stdout.flush()  # here, where a failure is understood, and not as Python exits
    except SettingsError as error:
        return _say(f"{error}\nlogstream: nothing was started; --help lists what is allowed", EXIT_USAGE)
    except LogstreamError as error:
        return _say(f"logstream: {error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return EXIT_PIPE_CLOSED
    except OSError as error:
        _drop_output()
        return _say(f"logstream: {_sentence(error)}", EXIT_FAILED)
    return status


def _sentence(error: OSError) -> str:
    """In the system's words; where no file is named, it was standard output: all else is dealt with in its place."""
    if error.strerror is None:
        return str(error)
    return f"{'cannot write the output' if error.filename is None else error.filename}: {error.strerror}"


def _drop_output() -> None:
    """Let what standard output still holds go nowhere: Python flushes it at exit, and would complain again."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def serve(environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """`logstream serve`: until a signal ends it."""
    try:
        return _serve(environ, argv)
    except SettingsError as error:
        raise named_by_source(error, Settings, environ, argv) from error


def _serve(environ: Mapping[str, str], argv: Sequence[str]) -> int:
    remarks = misspelt_variables(Settings, environ)
    from .access.credentials import open_credentials  # noqa: PLC0415 - reason in the module's docstring

    try:
        settings = Settings.from_env(environ, argv, open_credentials)
    except SettingsError:
        for remark in remarks:
            _say(f"logstream: {remark}", 0)
        raise
    from .server import run  # noqa: PLC0415 - likewise

    return run(settings, remarks)


def tail(environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """`logstream tail`: until interrupted, or until there is no more."""
    from .client.targets import open_targets  # noqa: PLC0415 - reason in the module's docstring

    options = TailOptions.from_argv(argv, open_targets)
    from .client.tail import run_tail  # noqa: PLC0415 - likewise

    return run_tail(options, environ)


def bench(_environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """`logstream bench`: until the time is over."""
    from .bench.benchoptions import BenchOptions  # noqa: PLC0415 - reason in the module's docstring
    from .client.trust import open_access  # noqa: PLC0415 - likewise

    options = BenchOptions.from_argv(argv, lambda o: open_access([o.target], o.token_file, o.ca_file, o.insecure))
    from .bench.bench import run_bench  # noqa: PLC0415 - likewise

    return run_bench(options)


def demo(_environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """`logstream demo`: until a signal ends it."""
    options = DemoOptions.from_argv(argv)
    from .demo.demo import run_demo  # noqa: PLC0415 - reason in the module's docstring

    return run_demo(options)


def completion(_environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """`logstream completion`: prints a script."""
    from .commandline.completion import CompletionOptions, render_completion  # noqa: PLC0415 - reason in the module's docstring

    options = CompletionOptions.from_argv(argv)
    commands = {name: (each.summary, each.options()) for name, each in COMMANDS.items()}
    return _print(render_completion(options.shell, commands))


def manual(_environ: Mapping[str, str], argv: Sequence[str]) -> int:
    """`logstream manual`: prints a page for `man`."""
    from .commandline.manual import Entry, render_manual  # noqa: PLC0415 - reason in the module's docstring

    NoOptions.from_argv(argv)
    entries = {name: Entry(c.usage, c.text, c.options(), c.reads_variables) for name, c in COMMANDS.items()}
    return _print(render_manual(__version__, entries))


def _bench_options() -> type:
    from .bench.benchoptions import BenchOptions  # noqa: PLC0415 - with the formats, and so with half of the server

    return BenchOptions


def _completion_options() -> type:
    from .commandline.completion import CompletionOptions  # noqa: PLC0415 - with what writes the scripts, which nothing else needs

    return CompletionOptions


COMMANDS: Final = {
    "serve": Command(
        summary="follow files and send each new line to everyone who connects",
        usage="[OPTION]... PATH...",
        text="""\
Follows the files and serves their lines: as a page for browsers at /, over WebSocket at /ws, over HTTP at /api/v1.
Flags beat variables (in brackets), which beat defaults. A variable that holds several values has one a line, or all in
one line with commas between.

examples:
  logstream serve /var/log/dpkg.log
  logstream serve --port 9000 web=/srv/app/log/access.log '/var/log/**/*.log'
  logstream serve --host 0.0.0.0 --token-file /etc/logstream/token /var/log/app
  logstream serve --host :: --token-file token --tls-cert fullchain.pem --tls-key privkey.pem app.log""",
        options=lambda: Settings,
        reads_variables=True,
        run=serve,
    ),
    "tail": Command(
        summary="print a file's or a server's last lines, then each new one",
        usage="[OPTION]... FILE|URL...",
        text="""\
Prints the last lines and then each new one, and nothing else. When a server's connection breaks, it connects again,
goes on where it was, and says on standard error whether something is missing. Ctrl-C ends it, with status 130;
--no-follow ends it by itself.

examples:
  logstream tail /var/log/dpkg.log
  logstream tail /var/log/nginx/*.log --since 10m
  logstream tail http://127.0.0.1:8080 -n 100 --grep 'ERROR|WARN'
  logstream tail https://logs.example.com --stream 'web*' --token-file token --json
  logstream tail http://127.0.0.1:8080 --no-follow -n 1000 > app.log""",
        options=lambda: TailOptions,
        reads_variables=False,
        run=tail,
    ),
    "bench": Command(
        summary="put many clients at a server, and check every line that each of them gets",
        usage="[OPTION]... URL",
        text="""\
Connects many clients, has lines written to the log (or listens to what comes), and says what was lost, repeated, out of
order or damaged, and how long lines took. Exit status 1 when anything was wrong, or not all clients were connected.

examples:
  logstream bench http://127.0.0.1:8080 --clients 1000 --write /var/log/app.log --rate 1000
  logstream bench http://127.0.0.1:8080 -c 200 -d 1m --reconnect 5s --write app.log
  logstream bench https://logs.example.com --token-file token --json > result.json""",
        options=_bench_options,
        reads_variables=False,
        run=bench,
    ),
    "demo": Command(
        summary="write a lively log in a temporary folder, and serve it",
        usage="[OPTION]...",
        text="""\
Shows what all this is about: a log with requests, warnings, stack traces and JSON, rotated now and then. Open the
address in a browser, or follow it from another terminal. At the end, all of it is removed.

examples:
  logstream demo
  logstream demo --port 9000 --rate 100""",
        options=lambda: DemoOptions,
        reads_variables=False,
        run=demo,
    ),
    "completion": Command(
        summary="print what bash or zsh need to complete these commands",
        usage="bash|zsh",
        text="""\
Prints a script from which a shell learns the commands, options and words.

examples:
  eval "$(logstream completion bash)"
  logstream completion bash > ~/.local/share/bash-completion/completions/logstream
  logstream completion zsh > "${fpath[1]}/_logstream\"""",
        options=_completion_options,
        reads_variables=False,
        run=completion,
    ),
    "manual": Command(
        summary="print the manual page",
        usage="",
        text="""\
Prints the manual page in the language of man, with all that the help pages say. pip installs it, too: man logstream.

examples:
  logstream manual | man -l -""",
        options=lambda: NoOptions,
        reads_variables=False,
        run=manual,
    ),
}


def _dispatch(environ: Mapping[str, str], words: Sequence[str]) -> int:
    if not words:
        return _say(_overview(), EXIT_USAGE)
    first, *rest = words
    if first == "help" and rest:  # for those who are used to it: `help tail` is `tail --help`
        first, *rest = rest[0], "--help"
    if first in ("-h", "--help", "help"):
        return _print(_overview())
    if first in ("-V", "--version", "version"):
        return _print(f"logstream {__version__}\n")
    command = COMMANDS.get(first)
    if command is None:
        return _say(_unknown(first), EXIT_USAGE)
    if wants_help(rest):
        return _print(command.help(first))
    return command.run(environ, rest)


def _unknown(word: str) -> str:
    near = did_you_mean(word, (*COMMANDS, "--help", "--version"))
    if not near and ("/" in word or "." in word):  # a path: the command was left out
        near = f"; did you mean logstream serve {word}?"
    return f"logstream: no such command: {word!r}{near}\nlogstream --help lists the commands"


def _overview() -> str:
    commands = "\n".join(f"  {name:12}{command.summary}" for name, command in COMMANDS.items())
    return f"""\
usage: logstream COMMAND [OPTION]...

Follows growing log files and sends each new line over WebSocket.

commands:
{commands}

logstream COMMAND --help lists a command's options; logstream --version prints the version.

examples:
  logstream serve /var/log/dpkg.log
  logstream tail http://127.0.0.1:8080
  logstream demo
"""


def _print(text: str) -> int:
    print(text, end="")
    return 0


def _say(text: str, status: int) -> int:
    print(text.rstrip("\n"), file=sys.stderr)
    return status
