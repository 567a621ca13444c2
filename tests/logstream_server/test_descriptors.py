"""descriptors: who gets which of the descriptors that a process may have."""

from __future__ import annotations

import resource

import pytest

from logstream_server.descriptors import complaint, current_shares, share_out


@pytest.mark.parametrize("limit", [0, 1, 8, 64, 256, 1024, 20_000, 1 << 30, resource.RLIM_INFINITY])
def test_files_have_some_that_nobody_else_gets(limit: int) -> None:
    """And who is refused has some that no file gets, else nobody could be refused."""
    shares = share_out(limit)
    assert shares.clients <= shares.limit
    if not 0 <= limit < 64:
        assert 0 < shares.clients < shares.files - shares.brief
        assert shares.files + shares.brief < shares.limit


def test_of_many_nearly_all_are_for_clients() -> None:
    assert share_out(1024).clients == 768
    assert share_out(100_000).clients == 99_744


def test_the_limit_of_the_process_counts() -> None:
    assert current_shares().limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_clients_that_do_not_fit_are_told_of_with_what_to_do() -> None:
    assert complaint(1024, 700, 20) is None
    assert complaint(1024, 748, 20) is None
    words = complaint(1024, 749, 20)
    assert words is not None
    for part in ("--max-clients 749", "1024 open files", "room for 748 clients", "ulimit -n", "LimitNOFILE="):
        assert part in words
    assert "room for 0 clients" in (complaint(64, 1, 2000) or "")
