"""memory: what a process may use, from files as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logstream_server.memory import usable_memory

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/\n", {}, PHYSICAL),
        ("0::/\n", {"memory.max": "max"}, PHYSICAL),
        ("0::/\n", {"memory.max": "536870912"}, 512 << 20),
        ("0::/\n", {"memory.max": "536870912", "memory.high": "1048576"}, 1 << 20),
        ("0::/a.slice/b.service\n", {"a.slice/b.service/memory.max": "max", "a.slice/memory.max": "4096"}, 4096),
        ("0::/a.slice/b.service\n", {"c.slice/memory.max": "4096"}, PHYSICAL),
        ("0::/../../elsewhere\n", {}, PHYSICAL),
        ("4:memory:/pod\n3:cpu,cpuacct:/pod\n", {"memory/pod/memory.limit_in_bytes": "8192"}, 8192),
        ("4:memory:/pod\n0::/\n", {"memory/memory.limit_in_bytes": str(1 << 62)}, PHYSICAL),
    ],
)
def test_the_smallest_bound_counts(tmp_path: Path, own: str, limits: dict[str, str], expected: int) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in limits.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert usable_memory(tmp_path / "groups", tmp_path / "own") == expected


def test_where_there_are_no_groups_the_machine_counts(tmp_path: Path) -> None:
    assert usable_memory(tmp_path, tmp_path / "none") == PHYSICAL


def test_this_process_may_use_some() -> None:
    assert 64 << 20 < usable_memory() <= PHYSICAL
