"""files: only regular files inside the roots are opened, nothing blocks, and what was read is proven or not."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logstream_server.tailing.files import (
    LogFile,
    NotALog,
    file_system,
    is_inside,
    open_log,
    stat_path,
)

from ..process import few_descriptors

HOLE = 1 << 30


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntwo\n")
    return path


@pytest.fixture(params=[True, False], ids=["kept open", "by path"])
def opened(log: Path, request: pytest.FixtureRequest) -> Iterator[LogFile]:
    file = LogFile(str(log), (), keep_open=request.param)
    yield file
    file.release()


@pytest.fixture
def kept(log: Path) -> Iterator[LogFile]:
    file = LogFile(str(log), (), keep_open=True)
    yield file
    file.release()


@pytest.fixture
def by_path(log: Path) -> Iterator[LogFile]:
    file = LogFile(str(log), (), keep_open=False)
    yield file
    file.release()


def descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))


# -- what is opened ---------------------------------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def make_block_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 255))
    except PermissionError:
        pytest.skip("device files cannot be made here")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(os.mkfifo, "it is a FIFO", id="FIFO"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "it is a character device", id="character device"),
        pytest.param(make_block_device, "it is a block device", id="block device"),
        pytest.param(make_socket, "it is a socket", id="socket"),
        pytest.param(Path.mkdir, "it is a folder", id="folder"),
    ],
)
@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_refused_without_being_opened(
    make: Callable[[Path], None], kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A FIFO would block until somebody writes to it, and reading one takes what is in it away."""
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("x"))
    before = descriptors()
    with pytest.raises(NotALog, match=kind) as caught:
        open_log("x", ())
    assert str(caught.value) == f"'x' is not followed: {kind}"
    with pytest.raises(NotALog):
        LogFile("x", (), keep_open=True)
    assert descriptors() == before


def test_what_is_missing_or_cannot_be_reached_says_so(log: Path) -> None:
    tmp_path = log.parent
    (tmp_path / "loop").symlink_to("loop")
    for path, code in (("missing", errno.ENOENT), ("a.log/x", errno.ENOTDIR), ("loop", errno.ELOOP)):
        with pytest.raises(OSError, match=os.strerror(code)):
            open_log(str(tmp_path / path), ())


@pytest.mark.parametrize(
    ("link", "target", "allowed"),
    [
        pytest.param("root/link", "root/inside.log", True, id="to a file inside"),
        pytest.param("root/link", "root/deep/inside.log", True, id="to a file deeper inside"),
        pytest.param("root/link", "outside.log", False, id="to a file outside"),
        pytest.param("root/link", "root2/beside.log", False, id="to a folder whose name begins like the root's"),
        pytest.param("root/link", "/etc/hostname", False, id="to a file of the system"),
        pytest.param("root/link", "/proc/self/status", False, id="to another file system"),
    ],
)
def test_a_symlink_leads_nowhere_outside_the_roots(tmp_path: Path, link: str, target: str, allowed: bool) -> None:
    for name in ("root/deep/inside.log", "root/inside.log", "root2/beside.log", "outside.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    (tmp_path / link).symlink_to(tmp_path / target)
    roots = (str(tmp_path / "elsewhere"), str(tmp_path / "root"))
    if allowed:
        os.close(open_log(str(tmp_path / link), roots))
    else:
        with pytest.raises(NotALog, match=r"it leads to .*, outside .*/root' \(--root allows more\)"):
            open_log(str(tmp_path / link), roots)
    os.close(open_log(str(tmp_path / link), ()))


def test_dots_and_folders_that_are_links_do_not_lead_outside_either(log: Path) -> None:
    root = log.parent / "root"
    root.mkdir()
    (root / "folder").symlink_to("..")
    for path in (root / ".." / "a.log", root / "folder" / "a.log"):
        with pytest.raises(NotALog, match="outside"):
            open_log(str(path), (str(root),))


@pytest.mark.parametrize(
    ("real", "roots", "inside"),
    [
        ("/logs/a", ("/logs",), True),
        ("/logs/a/b", ("/other", "/logs"), True),
        ("/logs", ("/logs",), True),
        ("/logs2/a", ("/logs",), False),
        ("/a", ("/",), True),
        ("/logs/a", (), False),
    ],
)
def test_inside_is_below_a_whole_folder_name(real: str, roots: tuple[str, ...], inside: bool) -> None:
    assert is_inside(real, roots) is inside


def test_a_file_that_vanishes_while_it_is_opened_leaves_no_descriptor(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS, fstat of a file just opened may say that it is stale."""
    real, calls = os.fstat, [0]

    def fstat(descriptor: int) -> os.stat_result:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(descriptor)

    before = descriptors()
    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(OSError, match="Stale"):
        LogFile(str(log), (), keep_open=True)
    assert descriptors() == before


# -- looking ----------------------------------------------------------------------------------------------------------


def test_a_look_at_the_path_follows_symlinks(log: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(log)
    found, direct = stat_path(str(tmp_path / "link")), stat_path(str(log))
    assert found == direct
    assert found is not None
    assert (found.size, found.links, found.identity.inode) == (8, 1, log.stat().st_ino)


def test_a_look_at_nothing_is_no_error_but_one_at_what_cannot_be_reached_is(log: Path) -> None:
    tmp_path = log.parent
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("missing", "dangling", "a.log/x", "missing/x"):
        assert stat_path(str(tmp_path / path)) is None
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        stat_path(str(tmp_path / "loop"))


def test_file_systems_are_known_by_the_kernels_names(tmp_path: Path) -> None:
    assert file_system("/proc/self/status") == "proc"
    assert file_system("/sys/kernel") == "sysfs"
    assert file_system(str(tmp_path)) == file_system(str(tmp_path.parent)) != ""
    assert file_system(str(tmp_path / "missing")) == ""


def test_the_file_system_of_a_fifo_is_found_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert file_system(str(tmp_path / "fifo")) == file_system(str(tmp_path))


@pytest.mark.parametrize("mounts", [None, b"1 2 0:3 / / rw - ext4 /dev/x rw\n"], ids=["not readable", "without ours"])
def test_a_file_system_that_cannot_be_told_is_unknown(
    tmp_path: Path, mounts: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may hide parts of /proc."""
    real = open
    (tmp_path / "mountinfo").write_bytes(mounts or b"")

    def without_mounts(path: str, *args: object, **keywords: object) -> object:
        if path == "/proc/self/mountinfo":
            path = str(tmp_path / ("missing" if mounts is None else "mountinfo"))
        return real(path, *args, **keywords)  # type: ignore[call-overload]

    before = descriptors()
    monkeypatch.setattr("builtins.open", without_mounts)
    assert file_system(str(tmp_path)) == ""
    assert descriptors() == before


# -- reading ----------------------------------------------------------------------------------------------------------


def test_bytes_are_read_at_offsets(opened: LogFile) -> None:
    assert opened.read(0, 100).data == b"one\ntwo\n"
    assert opened.read(4, 3).data == b"two"
    assert opened.read(8, 10).data == b""
    assert opened.read(100, 10).data == b""
    assert opened.read(0, 0).data == b""
    assert opened.stat() == opened.read(0, 1).stat
    assert opened.stat().identity == opened.identity


def test_growth_is_seen_at_once(opened: LogFile, log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"three\n")
    read = opened.read(8, 100)
    assert (read.data, read.stat.size) == (b"three\n", 14)


@pytest.mark.parametrize(
    ("offset", "marker", "head", "intact"),
    [
        pytest.param(8, b"two\n", b"one", True, id="as they were"),
        pytest.param(4, b"one\n", b"", True, id="only before the offset"),
        pytest.param(8, b"twx\n", b"", False, id="other bytes before the offset"),
        pytest.param(8, b"two\n", b"onx", False, id="another beginning"),
        pytest.param(8, b"", b"onx", False, id="another beginning, and nothing before the offset"),
        pytest.param(0, b"", b"", True, id="nothing to prove"),
        pytest.param(9, b"two\n\n", b"", True, id="a file that is shorter: its size tells"),
    ],
)
def test_what_was_read_is_proven_by_what_precedes_it(
    opened: LogFile, offset: int, marker: bytes, head: bytes, intact: bool
) -> None:
    assert opened.read(offset, 10, marker, head=head).intact is intact


def test_where_nothing_changed_nothing_is_read(opened: LogFile, log: Path) -> None:
    """Not even the bytes that would prove it: most looks are of this kind."""
    seen = opened.stat()
    assert opened.read(8, 10, b"xxx", seen).intact
    assert not opened.read(8, 10, b"xxx").intact
    assert opened.read(4, 10, b"one\n", seen).data == b"two\n"
    os.utime(log, ns=(1, 1))
    assert not opened.read(8, 10, b"xxx", seen).intact


def test_a_file_kept_open_is_the_same_whatever_becomes_of_its_name(kept: LogFile, log: Path) -> None:
    log.rename(log.with_name("a.log.1"))
    log.write_bytes(b"new\n")
    assert kept.read(0, 100).data == b"one\ntwo\n"
    log.with_name("a.log.1").unlink()
    assert kept.read(0, 100).data == b"one\ntwo\n"
    assert kept.stat().links == 0


def test_a_file_read_by_its_path_is_what_is_there_now(by_path: LogFile, log: Path) -> None:
    before = by_path.identity
    log.rename(log.with_name("a.log.1"))
    log.write_bytes(b"new\n")
    read = by_path.read(0, 100)
    assert read.data == b"new\n"
    assert read.stat.identity != before
    log.unlink()
    with pytest.raises(FileNotFoundError):
        by_path.read(0, 100)
    os.mkfifo(log)
    with pytest.raises(NotALog):
        by_path.stat()


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[tuple[LogFile, Path]]:
    """A file read by a path that is a link to `inside`, in a root."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside").write_bytes(b"inside\n")
    (root / "link").symlink_to("inside")
    file = LogFile(str(root / "link"), (str(root),), keep_open=False)
    yield file, root
    file.release()


def test_a_file_read_by_a_link_is_the_one_that_it_led_to_when_it_was_opened(linked: tuple[LogFile, Path]) -> None:
    """The link may lead elsewhere at the next read; that is another file, and is opened as one."""
    file, root = linked
    (root / "other").write_bytes(b"other\n")
    (root / "link").unlink()
    (root / "link").symlink_to("other")
    assert file.read(0, 100).data == b"inside\n"


def test_a_file_read_by_its_path_is_kept_to_the_roots_at_every_look(linked: tuple[LogFile, Path], log: Path) -> None:
    file, root = linked
    (root / "inside").unlink()
    (root / "inside").symlink_to(log)
    with pytest.raises(NotALog, match="outside"):
        file.read(0, 100)


# -- holes ------------------------------------------------------------------------------------------------------------


def test_holes_are_skipped_in_one_step(opened: LogFile, log: Path) -> None:
    with log.open("r+b") as file:
        file.seek(HOLE)
        file.write(b"end\n")
        file.truncate(2 * HOLE)
    assert opened.next_data(0) == 0
    after = opened.next_data(1 << 20)
    assert HOLE - (1 << 20) < after <= HOLE
    assert opened.next_data(HOLE) == HOLE
    assert opened.next_data(HOLE + (1 << 20)) == 2 * HOLE


def test_a_file_system_that_knows_no_holes_has_none() -> None:
    file = LogFile("/proc/self/status", (), keep_open=True)
    assert file.next_data(3) == 3
    file.release()


# -- references -------------------------------------------------------------------------------------------------------


def test_the_last_user_closes_it(log: Path) -> None:
    before = descriptors()
    file = LogFile(str(log), (), keep_open=True)
    assert descriptors() == before + 1
    assert file.acquire()
    file.release()
    assert file.read(0, 3).data == b"one"
    file.release()
    assert descriptors() == before
    assert not file.acquire()
    with pytest.raises(OSError, match="closed"):
        file.read(0, 3)


def test_a_file_read_by_its_path_holds_nothing(log: Path) -> None:
    before = descriptors()
    file = LogFile(str(log), (), keep_open=False)
    assert file.read(0, 3).data == b"one"
    assert descriptors() == before
    file.release()


def test_a_reader_keeps_it_open_until_it_has_read(log: Path) -> None:
    file = LogFile(str(log), (), keep_open=True)
    with file.watchable() as path:
        file.release()
        assert Path(path).read_bytes() == b"one\ntwo\n"
    assert not file.acquire()


def test_a_watch_can_be_set_on_the_inode_whatever_its_name(opened: LogFile, log: Path) -> None:
    with opened.watchable() as path:
        log.rename(log.with_name("a.log.1"))
        assert os.stat(path).st_ino == opened.identity.inode


def test_without_descriptors_a_file_system_is_not_taken_for_an_unknown_one(log: Path) -> None:
    with few_descriptors(), pytest.raises(OSError, match="Too many open files"):
        file_system(str(log))


def test_the_last_descriptors_are_for_refusing_connections(log: Path) -> None:
    """A file gets none of them, and keeps none."""
    before = len(os.listdir("/proc/self/fd"))
    with few_descriptors(2), pytest.raises(OSError, match="Too many open files"):
        open_log(str(log), ())
    assert len(os.listdir("/proc/self/fd")) == before
