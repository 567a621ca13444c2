"""completion: real shells complete commands, options, words and files."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from ..process import command

BASH = shutil.which("bash") or "/bin/bash"
DEADLINE_S = 30.0


def script(shell: str) -> str:
    words, environment = command(("completion", shell))
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


def completed(folder: Path, line: str) -> set[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    (folder / "completion").write_text(script("bash"))
    code = f"""
        source ./completion
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
        COMP_LINE='{line}'; COMP_POINT={len(line)}
        function=$(complete -p logstream | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function" logstream '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([BASH, "--norc", "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return {word.strip() for word in done.stdout.splitlines()} - {""}


def test_bash_completes_commands_options_and_words(tmp_path: Path) -> None:
    assert {"serve", "tail", "bench", "demo", "completion", "manual"} <= completed(tmp_path, "logstream ")
    assert completed(tmp_path, "logstream ta") == {"tail"}
    assert completed(tmp_path, "logstream tail --no-") == {"--no-follow", "--no-prefix", "--no-resume"}
    assert "--ring-bytes" in completed(tmp_path, "logstream serve --ri")
    assert {"text", "json", "raw"} <= completed(tmp_path, "logstream bench --format ")
    assert completed(tmp_path, "logstream tail --color al") == {"always"}


def test_bash_completes_behind_an_equals_sign(tmp_path: Path) -> None:
    """Which bash makes a word of its own."""
    assert completed(tmp_path, "logstream tail --color = al") == {"always"}
    assert completed(tmp_path, "logstream tail --color =") == {"auto", "always", "never"}
    assert completed(tmp_path, "logstream tail --color = always --no-") == {"--no-follow", "--no-prefix", "--no-resume"}
    (tmp_path / "application.log").write_text("")
    assert completed(tmp_path, "logstream tail --token-file = appl") == {"application.log"}


def test_bash_completes_files(tmp_path: Path) -> None:
    (tmp_path / "application.log").write_text("")
    assert "application.log" in completed(tmp_path, "logstream tail appl")
    assert "application.log" in completed(tmp_path, "logstream tail --token-file appl")


def test_bash_takes_it_by_eval() -> None:
    words = [BASH, "--norc", "-c", 'eval "$1" && complete -p logstream', "bash", script("bash")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("taken", ["from a folder", "source <(cat {})", 'eval "$(cat {})"'])
def test_zsh_completes(tmp_path: Path, taken: str) -> None:
    """Typed on a terminal, with a tab."""
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("zsh is not installed (package zsh)")
    name = "_logstream" if taken == "from a folder" else "script"
    (tmp_path / name).write_text(script("zsh"))
    sourced = "" if taken == "from a folder" else taken.format(tmp_path / name)
    (tmp_path / ".zshrc").write_text(
        f"fpath=({tmp_path} $fpath)\nautoload -U compinit\ncompinit -u -D\n{sourced}\nPS1='READY> '\n"
    )
    environment = {"ZDOTDIR": str(tmp_path), "HOME": str(tmp_path), "PATH": os.environ["PATH"], "TERM": "dumb"}
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (50, 200))
    with subprocess.Popen(
        [zsh, "-i"],
        cwd=tmp_path,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        shown = ""

        def until(text: str) -> None:
            nonlocal shown
            end = time.monotonic() + DEADLINE_S
            os.set_blocking(screen, False)
            while text not in shown:
                assert time.monotonic() < end, shown
                try:
                    shown += os.read(screen, 65536).decode(errors="replace")
                except BlockingIOError:
                    time.sleep(0.02)

        try:
            until("READY>")
            for typed, text in (
                ("logstream ta\t", "logstream tail"),
                ("--no-p\t", "--no-prefix"),
                ("--color al\t", "always"),
                ("\x15logstream tail --color=ne\t", "never"),
                ("--grep x --gr\t", "--grep x --grep"),
                ("=y --line\t", "--lines"),
            ):
                shown = ""
                os.write(screen, typed.encode())
                until(text)
        finally:
            process.kill()
    os.close(screen)


@pytest.mark.parametrize("words", [["fish"], ["bash", "zsh"]])
def test_another_shell_is_refused(words: list[str]) -> None:
    command_line, environment = command(("completion", *words))
    done = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")


def test_its_library_is_loaded_only_when_it_is_asked_for() -> None:
    names = ("shtab", "argparse", "tqdm", "websockets", "uvicorn", "msgspec", "re2")
    code = f"import sys, logstream_server.cli; print([name for name in {names} if name in sys.modules])"
    _, environment = command(())
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
