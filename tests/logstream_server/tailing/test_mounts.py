"""mounts: which file system a path leads to, without a look at that file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logstream_server.tailing.mounts import Mounts, mount_of, read_mounts

from ..process import eventually
from ..scenarios.harness import mounted, why_no_mount

TABLE = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:50 / /mnt/logs rw - 9p /host rw,trans=fd
31 22 0:51 / /mnt/with\040space\134 rw shared:1 master:2 - nfs4 server:/export rw
32 30 0:52 / /mnt/logs rw - fuse.sshfs later rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    """The folders of the test as mounts: `remote` has a server, `local` has none."""
    real = os.path.realpath(tmp_path)
    for name in ("remote", "local/logs"):
        (tmp_path / name).mkdir(parents=True)
    return {"/": ("8:1", "ext4"), f"{real}/remote": ("0:66", "9p"), f"{real}/local": ("8:2", "xfs")}


def test_the_table_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    assert read_mounts(str(tmp_path / "mountinfo")) == {
        "/": ("8:1", "ext4"),
        "/mnt/logs": ("0:52", "fuse.sshfs"),
        "/mnt/with space\\": ("0:51", "nfs4"),
    }


def test_where_there_is_no_table_nothing_is_known() -> None:
    assert read_mounts("/no/such/table") == {}
    assert mount_of("/var/log/a.log", {}) == ""


def test_this_machine_has_a_root() -> None:
    mounts = read_mounts()
    assert mount_of("/no/such/file", mounts) == mounts["/"][0]


@pytest.mark.parametrize(
    ("link", "path", "device"),
    [
        pytest.param(None, "a.log", "8:1", id="no mount on the way"),
        pytest.param(None, "remote/a.log", "0:66", id="a file there"),
        pytest.param(None, "remote", "0:66", id="the folder itself"),
        pytest.param(None, "remotely/a.log", "8:1", id="a name that only begins so"),
        pytest.param(None, "local/logs/a.log", "8:2", id="another local one"),
        pytest.param(("local/logs/link", "../../remote"), "local/logs/link/a.log", "0:66", id="a relative link"),
        pytest.param(("link", "{}/remote/a.log"), "link", "0:66", id="a link to a file"),
        pytest.param(("link", "other"), "link/a.log", "8:1", id="a link to nothing"),
        pytest.param(("link", "link"), "link/a.log", "8:1", id="a loop"),
        pytest.param(("remote/link", "{}/local"), "remote/link/a.log", "0:66", id="a link where it is not looked at"),
        pytest.param(None, "remote/../a.log", "8:1", id="and back"),
    ],
)
def test_a_path_is_where_its_links_lead(
    tmp_path: Path, mounts: Mounts, link: tuple[str, str] | None, path: str, device: str
) -> None:
    real = os.path.realpath(tmp_path)
    if link is not None:
        os.symlink(link[1].format(real), tmp_path / link[0])
    assert mount_of(f"{real}/{path}", mounts) == device


def test_a_mount_that_hangs_is_told_apart_without_a_look_at_it(tmp_path: Path) -> None:
    reason = why_no_mount()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "source").mkdir()
    (tmp_path / "link").symlink_to("target/deep/a.log")
    with mounted(tmp_path / "source", tmp_path / "target") as mount:
        mount.hang()
        try:
            found = mount_of(str(tmp_path / "link"), read_mounts())
        finally:
            mount.go_on()
        status = eventually(lambda: os.stat(tmp_path / "target"))
        assert found == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
