"""cli: the real program, from its arguments to its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

from logstream_server import __version__

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("LOGSTREAM_")}


def run(*words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "logstream_server", *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env=CLEAN | environ
    )


def run_python(code: str, *, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start a process that ends through `cli.ended`; `code` defines the `command` that it runs."""
    program = textwrap.dedent(code) + "\nimport sys\nfrom logstream_server.cli import ended\nsys.exit(ended(command))\n"
    return subprocess.Popen([sys.executable, "-c", program], stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_the_installed_script_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("logstream")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"logstream {__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_is_an_answer_on_standard_output(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: logstream COMMAND")
    assert "serve" in done.stdout
    assert "tail" in done.stdout


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"]])
def test_the_version_is_an_answer_on_standard_output(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"logstream {__version__}\n", "")


def test_help_on_a_command_is_its_own_page() -> None:
    assert run("help", "tail").stdout == run("tail", "--help").stdout
    assert run("help", "tial").stderr.startswith("logstream: no such command: 'tial'; did you mean tail?\n")


def test_the_page_of_a_command_without_options_ends_with_its_examples() -> None:
    page = run("manual", "--help").stdout
    assert page.startswith("usage: logstream manual\n\n")
    assert page.endswith("man -l -\n")


@pytest.mark.parametrize("words", [["--help"], ["tail", "--help"], ["manual"], ["completion", "bash"]])
def test_a_full_disk_is_named_in_the_system_s_words(words: list[str]) -> None:
    command = [sys.executable, "-m", "logstream_server", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "logstream: cannot write the output: No space left on device\n")


def test_no_command_at_all_gets_the_same_page_as_an_error() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == run("--help").stdout


@pytest.mark.parametrize(
    ("command", "word"), [("serve", "LOGSTREAM_RING_BYTES"), ("tail", "--from-start"), ("bench", "--reconnect")]
)
def test_each_command_has_its_help_with_examples(command: str, word: str) -> None:
    done = run(command, "--no-such-flag", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: logstream {command} ")
    assert f"  logstream {command} " in done.stdout
    assert word in done.stdout


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("sevre", "logstream: no such command: 'sevre'; did you mean serve?"),
        ("/var/log/x", "logstream: no such command: '/var/log/x'; did you mean logstream serve /var/log/x?"),
        ("--versoin", "logstream: no such command: '--versoin'; did you mean --version?"),
        ("quux", "logstream: no such command: 'quux'"),
    ],
)
def test_an_unknown_command_is_answered_with_what_was_probably_meant(word: str, answer: str) -> None:
    done = run(word)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.split("\n")[0] == answer


def test_bad_settings_are_all_listed_and_nothing_starts() -> None:
    done = run("serve", "--port=x", "--tial=1", LOGSTREAM_WATCH="never")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.split("\n") == [
        "--tial: no such option; did you mean --tail?",
        "LOGSTREAM_WATCH 'never': must be one of auto, notify, poll",
        "--port 'x': must be a whole number from 0 to 65535",
        "PATH: give at least one file, folder or glob, or set LOGSTREAM_PATHS",
        "logstream: nothing was started; --help lists what is allowed",
        "",
    ]


def test_a_misspelt_variable_is_remarked_on() -> None:
    done = run("serve", LOGSTREAM_POLL_INTERVALL="1")
    assert "logstream: LOGSTREAM_POLL_INTERVALL is not read; did you mean LOGSTREAM_POLL_INTERVAL?\n" in done.stderr


def test_a_remark_on_a_server_that_starts_is_a_line_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "logstream_server", "serve", "--port=0", str(tmp_path / "app.log")]
    environ = CLEAN | {"LOGSTREAM_LOG_FORMAT": "json", "LOGSTREAM_ROOTS": "/"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://")
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert json.loads(err.splitlines()[0])["message"] == "LOGSTREAM_ROOTS is not read; did you mean LOGSTREAM_ROOT?"


def test_the_server_starts_in_a_locale_that_knows_ascii_alone(tmp_path: Path) -> None:
    """Its login page has a dash that is none of them."""
    (tmp_path / "token").write_text("x" * 40 + "\n")
    words = ("serve", "--port=0", f"--token-file={tmp_path}/token", str(tmp_path / "app.log"))
    command = [sys.executable, "-m", "logstream_server", *words]
    environ = CLEAN | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        page = httpx.get(f"{address}login").text if address else ""
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert "<title>logstream \N{EN DASH} log in</title>" in page, err


def test_a_token_file_that_is_of_no_use_is_named_and_nothing_starts(tmp_path: Path) -> None:
    done = run("serve", "--port=0", f"--token-file={tmp_path}/no", "--token-file=/dev/null", str(tmp_path / "a.log"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.split("\n")[:2] == [
        f"--token-file '{tmp_path}/no': cannot be read: No such file or directory",
        "--token-file '/dev/null': holds no token",
    ]


def test_a_certificate_that_is_of_no_use_is_named_and_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("hello\n")
    done = run("serve", "--port=0", f"--tls-cert={tmp_path}/tls.crt", str(tmp_path / "a.log"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.split("\n")[0] == f"--tls-cert '{tmp_path}/tls.crt': holds no certificate in PEM form"


def test_files_that_are_of_no_use_are_named_together_with_all_other_faults(tmp_path: Path) -> None:
    """By the variable, where the name came from one."""
    no = f"{tmp_path}/no"
    done = run("serve", "--port=x", f"--token-file={no}", str(tmp_path / "a.log"), LOGSTREAM_TLS_CERT=no)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.split("\n")[:3] == [
        "--port 'x': must be a whole number from 0 to 65535",
        f"--token-file '{no}': cannot be read: No such file or directory",
        f"LOGSTREAM_TLS_CERT '{no}': cannot be read: No such file or directory",
    ]
    right = run("serve", "--port=0", f"--token-file={no}", str(tmp_path / "a.log"), LOGSTREAM_TLS_CERT=no)
    assert (right.returncode, right.stdout) == (2, "")
    assert [line for line in done.stderr.split("\n")[1:4] if line not in right.stderr] == []


@pytest.mark.parametrize("command", ["tail", "bench"])
def test_a_client_names_them_together_too(tmp_path: Path, command: str) -> None:
    no = f"{tmp_path}/no"
    files = (f"--token-file={no}", f"--ca-file={no}")
    done = run(command, "https://127.0.0.1:1", "--nope", *files)
    assert (done.returncode, done.stdout) == (2, "")
    expected = [f"{flag} '{no}': cannot be read: No such file or directory" for flag in ("--token-file", "--ca-file")]
    assert done.stderr.split("\n")[1:3] == expected
    assert run(command, "http://127.0.0.1:1", *files).stderr.split("\n")[:2] == expected


def test_tail_has_the_same_manners() -> None:
    done = run("tail")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("FILE|URL: say what to follow\n")


def test_a_value_with_odd_bytes_is_shown_and_not_choked_on() -> None:
    command = [os.fsencode(sys.executable), b"-m", b"logstream_server", b"bench", b"a", b"b\xff\x1b[2J"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.split(b"\n")[0] == rb"argument 'b\udcff\x1b[2J': is one too many"


def test_an_error_of_ours_is_one_sentence() -> None:
    process = run_python(
        """
        from logstream_server.errors import CannotListen
        def command():
            raise CannotListen("127.0.0.1", 80, "Address already in use")
        """
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err == "logstream: cannot listen on 127.0.0.1 port 80: Address already in use\n"


def test_a_mistake_of_ours_shows_where_it_is() -> None:
    process = run_python("def command(): return {}['x']")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" in err


def test_ctrl_c_ends_it_quietly() -> None:
    process = run_python(
        """
        import signal
        def command():
            print("ready", flush=True)
            while True:
                signal.pause()
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("print_how", ["print('x' * 10)", "print('x' * 1_000_000, flush=True)"])
def test_a_closed_pipe_ends_it_quietly(print_how: str) -> None:
    """Whether the failure shows while writing, or only as the rest is flushed."""
    reader, writer = os.pipe()
    os.close(reader)
    process = run_python(f"def command():\n    {print_how}\n    return 0", stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def test_a_full_disk_is_said_in_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        process = run_python("def command():\n    print('x')\n    return 0", stdout=full.fileno())
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "logstream: cannot write the output: No space left on device\n")


@pytest.mark.parametrize("closed", [(2,), (0, 2), (0, 1, 2)])
def test_what_is_said_to_people_goes_nowhere_else_where_there_is_no_standard_error(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    """Not to standard output, and into no file that has taken its place."""
    log = tmp_path / "a.log"
    log.write_text("one\n")
    words = f"{sys.executable} -m logstream_server tail --no-follow no.log a.log"
    shell = ["sh", "-c", f"exec {words} " + " ".join(f"{each}>&-" for each in closed)]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "" if 1 in closed else "a.log  | one\n", "")
    assert log.read_text() == "one\n"


def test_a_standard_output_that_was_closed_from_the_start_is_no_error() -> None:
    shell = ["sh", "-c", f"exec {sys.executable} -m logstream_server --version >&-"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_serve_prints_its_address_alone_and_ends_quietly_on_ctrl_c(tmp_path: Path) -> None:
    """The system picks the port, so the address that is printed is the only way to know it."""
    command = [sys.executable, "-m", "logstream_server", "serve", "--port=0", str(tmp_path / "app.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=CLEAN) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:[1-9][0-9]*/", address)
            httpx.get(address, timeout=60)  # it listens before it prints, and serves once this is answered
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", f"--port={port}", str(tmp_path / "app.log"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"logstream: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "--port takes another, or 0 for any that is free\n"
    )
