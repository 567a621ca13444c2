"""tail: the command, with a server and with a file."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.frames import Close

from logstream_server.client.tail import run_tail
from logstream_server.client.tailoptions import TailOptions
from logstream_server.errors import CannotFollow, SettingsError

from ..conftest import Serve
from ..process import DEADLINE_S, command, eventually
from ..scenarios.checker import assert_exact
from ..scenarios.harness import Writer, append, append_bytes, copytruncate, numbered, rotate, seeded, write
from ..script import Script, hello, lines, playing, run, scene
from ..tls import make_certificate


def tail(options: TailOptions) -> None:
    """run_tail beside a server in the same loop: in a thread, since it brings a loop of its own."""
    assert run_tail(options, {}) == 0


def test_tail_prints_goes_on_and_ends_with_the_refusal(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    """The main job of the command, over a broken connection."""
    token = tmp_path / "token"
    token.write_text("\nt0ken\nother\n")

    async def test() -> None:
        script = Script(
            scene(hello(), lines("c1", "a", "ü")),
            scene(hello(), lines("c2", "b"), Close(4004, "no stream app.log")),
        )
        async with playing(script) as url:
            chosen = TailOptions((url,), lines=3, streams=("app.log",), grep=("g",), exclude=("e",))
            options = replace(chosen, token_file=str(token))
            with pytest.raises(CannotFollow, match=rf"cannot follow {url}: no stream app.log \(close code 4004\)"):
                await asyncio.to_thread(tail, options)
        assert script.queries[0] == {"stream": ["app.log"], "tail": ["3"], "grep": ["g"], "exclude": ["e"]}
        assert script.headers[0]["Authorization"] == "Bearer t0ken"

    run(test())
    captured = capfdbinary.readouterr()
    assert captured.out == "a\nü\nb\n".encode()
    assert b"no connection" in captured.err
    assert b"connected again" in captured.err


def test_tail_without_resume_ends_with_the_connection(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """And says why."""

    async def test() -> None:
        script = Script(scene(hello(), lines("c1", "a"), Close(1001, "going")))
        async with playing(script) as url:
            with pytest.raises(CannotFollow, match=r"going \(close code 1001\)"):
                await asyncio.to_thread(tail, TailOptions((url,), no_resume=True))

    run(test())
    assert capfdbinary.readouterr().out == b"a\n"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param(TailOptions(("http://h",), token_file="/no/such/file"), "--token-file", id="no token file"),
        pytest.param(TailOptions(("http://h",), token_file=os.devnull), "--token-file", id="an empty token file"),
    ],
)
def test_tail_names_the_option_that_is_wrong(options: TailOptions, name: str) -> None:
    """As a problem of the settings, which ends with status 2."""
    with pytest.raises(SettingsError) as caught:
        run_tail(options, {})
    assert [problem.name for problem in caught.value.problems] == [name]


async def tail_process(url: str, out: int) -> asyncio.subprocess.Process:
    """The program itself, its standard output going to a descriptor."""
    return await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "logstream_server", "tail", url],
        stdout=out,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_tail_as_a_program_ends_quietly_at_ctrl_c() -> None:
    """Status 130, as shells have it, nothing on standard error."""

    async def test() -> None:
        async with playing(Script(scene(hello(), lines("c1", "a"), stay=True))) as url:
            process = await tail_process(url, subprocess.PIPE)
            assert process.stdout is not None
            assert await process.stdout.readline() == b"a\n"
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
            assert (process.returncode, errors) == (130, b"")

    run(test())


def test_tail_as_a_program_ends_quietly_when_nobody_reads() -> None:
    """As `logstream tail URL | head -1` does: status 141, nothing on standard error."""

    async def test() -> None:
        async def endless(connection: ServerConnection, _: Script) -> None:
            await connection.send(json.dumps(hello()))
            while True:
                await connection.send(json.dumps(lines("c", *["x" * 1000] * 100)))
                await asyncio.sleep(0.01)

        reader, writer = os.pipe()
        async with playing(Script(endless)) as url:
            process = await tail_process(url, writer)
            os.close(writer)
            assert await asyncio.to_thread(os.read, reader, 1) == b"x"
            os.close(reader)
            _, errors = await process.communicate()
            assert (process.returncode, errors) == (141, b"")

    run(test())


def test_tail_of_a_server_ends_as_soon_as_nobody_reads() -> None:
    """Also when no line comes any more."""

    async def test() -> None:
        reader, writer = os.pipe()
        async with playing(Script(scene(hello(), lines("c1", "a"), stay=True))) as url:
            process = await tail_process(url, writer)
            os.close(writer)
            assert await asyncio.to_thread(os.read, reader, 100) == b"a\n"
            os.close(reader)
            _, errors = await process.communicate()
            assert (process.returncode, errors) == (141, b"")

    run(test())


# A file: the program itself


class Tail:
    """A process of `logstream tail`; what it writes goes to files."""

    def __init__(self, folder: Path, *arguments: str | Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        words, environment = command(("tail", *arguments))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(words, stdout=out, stderr=err, env=environment)

    @property
    def out(self) -> str:
        """Standard output."""
        return self._out.read_text()

    @property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.out.splitlines()

    @property
    def remarks(self) -> list[str]:
        """The lines of standard error."""
        return self._err.read_text().splitlines()

    def prints(self, *lines: str) -> None:
        """Wait until exactly these lines have come in all."""
        eventually(lambda: len(self.lines) >= len(lines) or self.process.poll() is not None, f"{len(lines)} lines")
        assert (self.lines, self.process.poll()) == (list(lines), None)

    def remarks_on(self, remark: str) -> None:
        """Wait until this was said."""
        eventually(lambda: remark in self.remarks, remark)

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def interrupt(self) -> int:
        """Ctrl-C; gives the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def tail_of(tmp_path: Path) -> Iterator[Callable[..., Tail]]:
    """Start `logstream tail` with these arguments; it ends with the test, and has raised nothing inside."""
    tails: list[Tail] = []

    def start(*arguments: str | Path) -> Tail:
        folder = tmp_path / f"tail-{len(tails)}"
        folder.mkdir()
        tails.append(Tail(folder, *arguments))
        return tails[-1]

    yield start
    for each in tails:
        each.process.kill()
        each.process.wait()
        assert "Traceback" not in "".join(each.remarks)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file of twelve lines."""
    path = tmp_path / "app.log"
    append(path, *numbered("old", 12))
    return path


def test_tail_prints_the_last_lines_and_then_each_new_one(tail_of: Callable[..., Tail], log: Path) -> None:
    """Each as soon as it is written, an unfinished one when it ends."""
    tail = tail_of("-n", "2", log)
    tail.prints("old 11", "old 12")
    append(log, "new 1", "", "new 3")
    tail.prints("old 11", "old 12", "new 1", "", "new 3")
    append_bytes(log, b"begin")
    append_bytes(log, b"ning\r\n\xff\n")
    tail.prints("old 11", "old 12", "new 1", "", "new 3", "beginning", "\ufffd")
    assert tail.interrupt() == 130
    assert tail.remarks == []


@pytest.mark.parametrize(
    ("options", "first"),
    [
        pytest.param([], numbered("old", 10, 3), id="by default ten"),
        pytest.param(["-n", "50"], numbered("old", 12), id="all, when there are fewer"),
        pytest.param(["--from-start"], numbered("old", 12), id="from the start"),
        pytest.param(["-n", "2", "--grep", "2$|9"], ["old 9", "old 12"], id="the last that match"),
        pytest.param(["--from-start", "--grep", "old 1", "--exclude", "1$"], ["old 10", "old 12"], id="filtered"),
        pytest.param(
            ["--from-start", "--grep", "old 1", "--exclude", "1$", "--exclude", "0", "--grep", "2"],
            ["old 12"],
            id="by several patterns",
        ),
    ],
)
def test_tail_of_a_file_begins_where_it_is_told(
    tail_of: Callable[..., Tail], log: Path, options: list[str], first: list[str]
) -> None:
    tail = tail_of(*options, log)
    tail.prints(*first)
    append(log, "new 1", "old 12")
    if "--grep" not in options:
        tail.prints(*first, "new 1", "old 12")
    else:
        tail.prints(*first, "old 12")


def test_tail_of_a_file_without_last_lines_gives_what_comes_after_its_hello(
    tail_of: Callable[..., Tail], log: Path
) -> None:
    tail = tail_of("--json", "-n", "0", log)
    eventually(lambda: tail.lines, "the hello")
    append(log, "new 1")
    eventually(lambda: len(tail.lines) == 2)
    assert [json.loads(line).get("lines") for line in tail.lines] == [None, ["new 1"]]


def test_tail_follows_the_name_through_a_rename(tail_of: Callable[..., Tail], log: Path) -> None:
    """What a writer still puts into the old file comes, too."""
    tail = tail_of("-n", "1", log)
    tail.prints("old 12")
    with Writer(log) as late:
        rotate(log)
        write(log, "new 1")
        tail.prints("old 12", "new 1")
        late.write("late")
        tail.prints("old 12", "new 1", "late")
    append(log, "new 2")
    tail.prints("old 12", "new 1", "late", "new 2")


def test_tail_follows_a_file_that_is_copied_and_truncated(tail_of: Callable[..., Tail], log: Path) -> None:
    """Also when it has grown beyond its old size by the next look."""
    tail = tail_of("-n", "1", log)
    tail.prints("old 12")
    append(log, "new 1")
    copytruncate(log)
    append(log, *numbered("next", 50))
    tail.prints("old 12", "new 1", *numbered("next", 50))
    assert len(tail.remarks) == 1
    assert "truncated" in tail.remarks[0]


def test_tail_says_that_a_file_is_not_there_and_waits_for_it(tail_of: Callable[..., Tail], tmp_path: Path) -> None:
    """Then all of it is news; the same when it is deleted and made again."""
    log = tmp_path / "app.log"
    tail = tail_of(log)
    tail.remarks_on("logstream: app.log: waiting: the file does not exist yet")
    append(log, *numbered("line", 20))
    tail.prints(*numbered("line", 20))
    log.unlink()
    tail.remarks_on("logstream: app.log: deleted: the path leads nowhere; waiting for it")
    write(log, "again")
    tail.prints(*numbered("line", 20), "again")


def test_tail_loses_and_repeats_nothing_however_the_file_is_moved(tail_of: Callable[..., Tail], log: Path) -> None:
    """Some hundred steps of a writer and of rotations, without waiting for each other."""
    chance, written = seeded(5), numbered("old", 12)
    tail = tail_of("-n", "12", log)
    tail.prints(*written)
    for _ in range(300):
        some = numbered("line", chance.choice([1, 1, 5, 40]), len(written), width=chance.choice([0, 200]))
        append(log, *some)
        written += some
        step = chance.random()
        if step < 0.05:
            rotate(log)
            write(log)
        elif step < 0.1:
            rotate(log)
        time.sleep(chance.choice([0, 0, 0.001, 0.01]))
    append(log, "the last")
    written.append("the last")
    eventually(lambda: len(tail.lines) >= len(written), "all lines")
    assert_exact(tail.lines, written)


def test_tail_as_json_tells_where_to_go_on(tail_of: Callable[..., Tail], log: Path) -> None:
    """Cursors are the server's: exact after the end of this process, also in the middle of a rotation."""
    first = tail_of("--json", "-n", "1", log)
    eventually(lambda: len(first.lines) == 2)
    begun, batch = map(json.loads, first.lines)
    assert (begun["type"], begun["stream"], begun["streams"][0]["state"]) == ("hello", "app.log", "following")
    assert (batch["type"], batch["lines"], batch["offset"]) == ("lines", ["old 12"], 68)
    first.interrupt()
    append(log, "missed 1")
    rotate(log)
    write(log, "missed 2")
    second = tail_of("--cursor", batch["cursor"], log)
    second.prints("missed 1", "missed 2")
    log.with_name("app.log.1").unlink()
    third = tail_of("--cursor", batch["cursor"], log)
    third.prints("missed 2")
    assert any("cannot go on where it was, lines may be missing" in remark for remark in third.remarks)


def test_tail_that_falls_behind_reads_the_file(log: Path) -> None:
    """Whoever reads the pipe does not, for more lines than memory holds; then all come, those of the old file, too."""
    words, environment = command(("tail", "-n", "1", log))
    written = numbered("line", 60_000, width=200)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"old 12\n"
        append(log, *written[:40_000])
        rotate(log)
        append(log, *written[40_000:])
        time.sleep(0.5)
        got = [process.stdout.readline().decode().rstrip("\n") for _ in written]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=DEADLINE_S)
    assert_exact(got, written)
    assert (rest, b"missing here" in errors) == (b"", False)


def test_tail_of_a_file_ends_quietly_as_soon_as_nobody_reads(log: Path) -> None:
    """As `logstream tail FILE | head -1` does, though no line comes any more."""
    words, environment = command(("tail", "-n", "1", log))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"old 12\n"
        process.stdout.close()
        assert (process.wait(DEADLINE_S), process.stderr.read()) == (141, b"")


def test_tail_sleeps_while_nothing_happens(tail_of: Callable[..., Tail], log: Path) -> None:
    tail = tail_of("-n", "1", log)
    tail.prints("old 12")
    before = tail.cpu_s
    time.sleep(1)
    assert tail.cpu_s - before < 0.2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param(".", "that may be several files; name one, or serve them (logstream serve)", id="a folder"),
        pytest.param("pipe", "it is a FIFO", id="a FIFO"),
        pytest.param("utf16.log", "the file is UTF-16; only UTF-8", id="UTF-16"),
    ],
)
def test_tail_says_what_it_cannot_follow(tmp_path: Path, name: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "utf16.log").write_bytes("text\n".encode("utf-16"))
    words, environment = command(("tail", tmp_path / name))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"logstream: cannot follow {tmp_path / name}: {reason}")
    assert done.stderr.count("\n") == 1


def test_tail_names_every_pattern_and_cursor_that_is_wrong(tmp_path: Path) -> None:
    words, environment = command(("tail", tmp_path / "app.log", "--grep", "(", "--cursor", "x"))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[:2] == [
        "--cursor: not a cursor: it is not base64url text",
        "--grep '(': missing ): \"(\"",
    ]


@pytest.mark.parametrize("name", ["localhost:8080", "127.0.0.1:8080/base", "[::1]:8080"])
def test_tail_of_an_address_without_its_beginning_says_how_it_begins(tmp_path: Path, name: str) -> None:
    """Before, it waited for a file of that name."""
    words, environment = command(("tail", name, "app.log"))
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"FILE|URL '{name}': is no file; for a server say http://{name}"


def test_tail_of_a_file_that_is_called_like_an_address(
    tail_of: Callable[..., Tail], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path / "localhost:8080", "one")
    monkeypatch.chdir(tmp_path)
    tail_of("localhost:8080").prints("one")


def test_tail_without_a_standard_output_says_so(log: Path) -> None:
    words, environment = command(("tail", log))
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
    done = subprocess.run(shell, env=environment, stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"logstream: cannot follow {log}: standard output is closed\n",
    )


# Several sources


def test_tail_of_several_files_says_which_line_is_whose(
    tail_of: Callable[..., Tail], log: Path, tmp_path: Path
) -> None:
    """Also of one that comes later; Ctrl-C ends all."""
    other = tmp_path / "other.log"
    tail = tail_of("-n", "1", log, other)
    eventually(lambda: "app.log   | old 12" in tail.lines)
    tail.remarks_on("logstream: other.log: waiting: the file does not exist yet")
    append(other, "there")
    append(log, "new")
    eventually(lambda: sorted(tail.lines) == ["app.log   | new", "app.log   | old 12", "other.log | there"])
    assert tail.interrupt() == 130


def test_tail_of_several_without_prefixes(tail_of: Callable[..., Tail], log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    append(other, "there")
    tail = tail_of("-n", "1", "--no-prefix", log, other)
    eventually(lambda: sorted(tail.lines) == ["old 12", "there"])


def test_tail_of_files_with_the_same_name_shows_their_paths(
    tail_of: Callable[..., Tail], log: Path, tmp_path: Path
) -> None:
    other = tmp_path / "b" / "app.log"
    other.parent.mkdir()
    append(other, "there")
    tail = tail_of("-n", "1", log, other)
    eventually(lambda: {line.split(" | ")[0].strip() for line in tail.lines} == {str(log), str(other)})


def test_tail_goes_on_with_the_others_when_one_cannot_be_followed(
    tail_of: Callable[..., Tail], log: Path, tmp_path: Path
) -> None:
    """And ends with status 1 when none is left."""
    tail = tail_of("-n", "1", log, tmp_path, "http://127.0.0.1:1")
    eventually(lambda: sum("cannot follow" in remark for remark in tail.remarks) == 2)
    eventually(lambda: tail.lines)
    append(log, "new")
    eventually(lambda: len(tail.lines) == 2)
    assert any("cannot follow http://127.0.0.1:1: " in remark for remark in tail.remarks)
    words, environment = command(("tail", tmp_path, "http://127.0.0.1:1"))
    done = subprocess.run(words, env=environment, capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr.count(b"cannot follow")) == (1, b"", 2)


def test_tail_of_several_ends_quietly_as_soon_as_nobody_reads(log: Path, tmp_path: Path) -> None:
    words, environment = command(("tail", "-n", "1", log, tmp_path / "other.log"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"old 12\n")
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 141


# A real server


def test_tail_says_how_long_it_was_away_and_that_nothing_is_missing(
    serve: Serve, tail_of: Callable[..., Tail], log: Path
) -> None:
    server = serve(log)
    tail = tail_of("-n", "1", server.url)
    tail.prints("old 12")
    server.kill()
    append(log, "while away")
    serve("--port", str(server.port), log)
    tail.prints("old 12", "while away")
    back = eventually(lambda: [remark for remark in tail.remarks if "connected again" in remark])
    assert re.fullmatch(r"logstream: connected again after \d+\.\d s; nothing is missing", back[0])


def test_tail_says_when_something_is_missing_after_it_was_away(
    serve: Serve, tail_of: Callable[..., Tail], log: Path
) -> None:
    server = serve(log)
    tail = tail_of("-n", "1", server.url)
    tail.prints("old 12")
    server.kill()
    log.unlink()
    append(log, "another file")
    serve("--port", str(server.port), log)
    back = eventually(lambda: [remark for remark in tail.remarks if "connected again" in remark])
    assert "cannot go on where it was, lines may be missing" in back[0]


def test_tail_of_several_streams_by_a_glob(
    serve: Serve, tail_of: Callable[..., Tail], log: Path, tmp_path: Path
) -> None:
    web, other = tmp_path / "web.log", tmp_path / "other.txt"
    append(web, "GET")
    append(other, "no")
    server = serve(log, web, other)
    tail = tail_of("-n", "1", "--stream", "*.log", server.url)
    eventually(lambda: sorted(tail.lines) == ["app.log | old 12", "web.log | GET"])
    append(web, "POST")
    eventually(lambda: "web.log | POST" in tail.lines)
    words, environment = command(("tail", "--stream", "x*", server.url))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "no stream matches 'x*'; there are: app.log, web.log, other.txt" in done.stderr


def test_tail_begins_with_the_first_line_that_is_not_older(
    serve: Serve, tail_of: Callable[..., Tail], tmp_path: Path
) -> None:
    """Of a file and of a server."""
    log = tmp_path / "app.log"
    append(log, *(f"2026-11-24T0{hour}:00:00Z line {hour}" for hour in range(8)), "  at frame")
    server = serve(log)
    wanted = ["2026-11-24T06:00:00Z line 6", "2026-11-24T07:00:00Z line 7", "  at frame"]
    for target in (log, server.url):
        tail = tail_of("--since", "2026-11-24T05:30:00Z", target)
        tail.prints(*wanted)
    append(log, "new")
    tail.prints(*wanted, "new")


def test_tail_since_goes_on_from_rotated_files_and_says_where_there_are_none(
    serve: Serve, tail_of: Callable[..., Tail], tmp_path: Path
) -> None:
    """A server does not show them; a filter hides nothing of that."""
    log = tmp_path / "app.log"
    old, new = ([f"2026-11-24T0{hour}:00:00Z line {hour}" for hour in hours] for hours in (range(4), range(4, 8)))
    append(log, *old)
    rotate(log)
    append(log, *new)
    server = serve(log)
    since = datetime.fromisoformat("2026-11-24T02:30:00Z")

    def remark(hour: int, why: str) -> str:
        return (
            f"logstream: app.log: the first line is from {since.replace(hour=hour, minute=0).astimezone():%F %T}; {why}"
        )

    far = tail_of("--since", since.isoformat(), log)
    far.prints(old[3], *new)
    rotate(log)
    append(log, "new")
    far.prints(old[3], *new, "new")
    assert [each for each in far.remarks if "first line" in each] == []

    tail = tail_of("--since", "2026-11-23", "--grep", "[37]$", log)
    tail.prints(old[3], new[3])
    tail.remarks_on(remark(0, "there is nothing older to read"))

    write(log, *new)
    eventually(lambda: server.get("/api/v1/streams/app.log").json["size"] == log.stat().st_size)
    tail = tail_of("--since", since.isoformat(), "--grep", "[37]$", server.url)
    tail.prints(new[3])
    tail.remarks_on(remark(4, "of a server, rotated files are not shown"))


def test_tail_since_of_a_server_whose_file_is_empty_waits_for_lines(
    serve: Serve, tail_of: Callable[..., Tail], tmp_path: Path
) -> None:
    log = tmp_path / "app.log"
    log.touch()
    tail = tail_of("--json", "--since", "1h", serve(log).url)
    eventually(lambda: tail.lines, "the hello")
    line = f"{datetime.now(UTC).isoformat()} new"
    append(log, line)
    eventually(lambda: line in tail.out)
    assert tail.remarks == []


def test_tail_goes_through_the_proxy_of_the_environment(serve: Serve, log: Path) -> None:
    """As other tools do; NO_PROXY leaves it out."""
    server = serve(log)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        words, environment = command(("tail", "-n", "1", server.url))
        environment["http_proxy"] = environment["https_proxy"] = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environment.pop("no_proxy", None)
        environment.pop("NO_PROXY", None)
        done = subprocess.run(words, env=environment, capture_output=True, timeout=DEADLINE_S, check=False)
        thread.join()
    assert done.returncode == 1
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{server.port} ".encode())
    environment["no_proxy"] = "127.0.0.1"
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"old 12\n"
        process.kill()


def test_tail_over_tls_believes_whom_it_is_told_to(serve: Serve, log: Path, tmp_path: Path) -> None:
    """And nobody else, unless it is told to believe everybody."""
    certificate = make_certificate(tmp_path)
    url = serve(log, "--tls-cert", certificate).url
    words, environment = command(("tail", "-n", "1", url))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert f"cannot follow {url}: its certificate is not trusted: self-signed certificate" in done.stderr
    for trust in (["--ca-file", str(certificate)], ["--insecure"]):
        words, environment = command(("tail", "-n", "1", *trust, url))
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"old 12\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 130


# Without following


def tailed(*words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`logstream tail --no-follow`, at its end."""
    words, environment = command(("tail", "--no-follow", *words))
    environment |= more
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_tail_that_does_not_follow_ends_with_the_last_line(serve: Serve, log: Path) -> None:
    """The same of a file and of a server, with all that says which lines."""
    append(log, "2026-11-24T04:00:00Z early", "2026-11-24T06:00:00Z new")
    append_bytes(log, b"half")
    server = serve(log)
    eventually(lambda: server.get("/api/v1/streams/app.log/lines?tail=1").json["lines"] == ["half"])
    for target in (log, server.url):
        for words, wanted in (
            (("-n", "3"), "2026-11-24T04:00:00Z early\n2026-11-24T06:00:00Z new\nhalf"),
            (("--from-start", "--grep", "^old", "--exclude", "1"), "".join(f"old {n}\n" for n in range(2, 10))),
            (("--since", "2026-11-24T05:00:00Z"), "2026-11-24T06:00:00Z new\nhalf"),
            (("-n", "0"), ""),
        ):
            done = tailed(*words, target)
            assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
        messages = list(map(json.loads, tailed("--json", "-n", "2", target).stdout.splitlines()))
        assert [each["type"] for each in messages][:2] == ["hello", "lines"]
        cursor = messages[-1]["cursor"]
        assert tailed("--cursor", cursor, target).stdout == ""
    append(log, "", "more")
    assert tailed("--cursor", cursor, log).stdout.splitlines()[-1] == "more"


def test_tail_since_says_where_lines_have_no_time(serve: Serve, log: Path) -> None:
    """None of them is shown then."""
    words = "its first lines have no time that is known; --since begins with the first line that has one"
    url = serve(log).url
    for target in (log, url):
        done = tailed("--since", "1h", target)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"logstream: app.log: {words}\n")
    words_of_it, environment = command(("tail", "--since", "1h", url))
    with subprocess.Popen(words_of_it, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"logstream: app.log: {words}\n"
        process.kill()


def test_tail_since_takes_a_day_that_no_calendar_here_has(tmp_path: Path) -> None:
    """By the clock of a machine in the east, the last second of the year 9999 is one of the next."""
    log = tmp_path / "ca.log"
    append(log, "9999-12-31T23:59:59Z expires")
    done = tailed("--since", "1h", log, TZ="JST-9")
    assert (done.returncode, done.stdout) == (0, "9999-12-31T23:59:59Z expires\n")
    assert done.stderr.startswith("logstream: ca.log: the first line is from 10000-01-01 08:59:59;")


def test_tail_that_does_not_follow_shows_one_after_the_other(serve: Serve, log: Path, tmp_path: Path) -> None:
    """What cannot be read is named, and the status says so."""
    web = tmp_path / "web.log"
    append(web, "GET")
    server = serve(log, web)
    done = tailed("-n", "1", log, server.url, tmp_path / "no.log", web, "--stream", "*.log")
    host = server.url.removeprefix("http://").rstrip("/")
    assert [line.replace(" ", "") for line in done.stdout.splitlines()] == [
        "app.log|old12",
        f"{host}/app.log|old12",
        f"{host}/web.log|GET",
        "web.log|GET",
    ]
    assert done.stderr == f"logstream: cannot follow {tmp_path}/no.log: the file does not exist yet\n"
    assert done.returncode == 1
    assert tailed("-n", "1", log, web).returncode == 0


def test_tail_that_does_not_follow_chooses_the_stream_as_one_that_does(serve: Serve, log: Path, tmp_path: Path) -> None:
    """The first, the one of the address, the one of the cursor."""
    web = tmp_path / "web.log"
    append(web, "GET", "POST")
    server = serve(log, web)
    url = server.url
    assert tailed("-n", "1", url).stdout == "old 12\n"
    assert tailed("-n", "1", f"{url}?stream=web.log").stdout == "POST\n"
    twice = tailed("-n", "1", "--no-prefix", "--stream", "web.log", "--stream", "web.log", url)
    assert twice.stdout == "POST\n"
    cursor = json.loads(tailed("--json", "-n", "1", "--stream", "web.log", url).stdout.splitlines()[-1])["cursor"]
    append(web, "PUT")
    eventually(lambda: server.get("/api/v1/streams/web.log").json["size"] == web.stat().st_size)
    assert tailed("--cursor", cursor, url).stdout == "PUT\n"
    empty = serve("--root", tmp_path, str(tmp_path / "*.none")).url
    done = tailed(empty)
    assert (done.returncode, done.stderr) == (
        1,
        f"logstream: cannot follow {empty}: there is no file to follow yet\n",
    )


def test_tail_shows_a_token_of_any_letters(serve: Serve, log: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-tökén-with-a-€-sign\n")
    url = serve("--token-file", token, log).url
    assert tailed("--token-file", token, "-n", "1", url).stdout == "old 12\n"
    words, environment = command(("tail", "--token-file", token, "-n", "1", url))
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"old 12\n"
        process.kill()


def test_tail_says_which_scheme_is_meant(serve: Serve, log: Path) -> None:
    """Of a server without TLS; one with it says so itself."""
    url = serve(log).url.replace("http://", "https://")
    words, environment = command(("tail", url))
    follows = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    expected = f"logstream: cannot follow {url}: it speaks no TLS: say http:// or ws://\n"
    for done in (tailed(url), follows):
        assert (done.returncode, done.stderr) == (1, expected)


# A terminal


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        pytest.param([], {}, b"\x1b[31mERROR \\x1b[2J\x1b[0m", id="colours, and nothing that harms"),
        pytest.param([], {"NO_COLOR": "1"}, b"ERROR \\x1b[2J", id="NO_COLOR"),
        pytest.param(["--color", "never"], {}, b"ERROR \\x1b[2J", id="never"),
        pytest.param(["--color", "always"], {"NO_COLOR": "1"}, b"\x1b[31mERROR \\x1b[2J\x1b[0m", id="always"),
    ],
)
def test_tail_on_a_terminal(log: Path, arguments: list[str], environ: dict[str, str], expected: bytes) -> None:
    append(log, "ERROR \x1b[2J")
    words, environment = command(("tail", "-n", "1", *arguments, log))
    environment = {name: value for name, value in environment.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    screen, terminal = pty.openpty()
    with subprocess.Popen(words, stdout=terminal, stderr=terminal, env=environment | environ) as process:
        os.close(terminal)
        shown = b""
        while not shown.endswith(b"\n"):
            shown += os.read(screen, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
    os.close(screen)
    assert shown == expected + b"\r\n"


def test_tail_into_a_pipe_gives_the_bytes_as_they_are(tail_of: Callable[..., Tail], log: Path) -> None:
    append(log, "ERROR \x1b[2J")
    tail_of("-n", "1", log).prints("ERROR \x1b[2J")
    tail_of("-n", "1", "--color", "always", log).prints("\x1b[31mERROR \\x1b[2J\x1b[0m")
