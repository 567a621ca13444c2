"""How the descriptors that a process may have are shared out.

The kernel gives a new descriptor the lowest free number (POSIX, open), so its number says whether the ones below it are
all taken: nobody needs to count. Clients get the low numbers. What is above is for the log files, since a client can be
refused and come back, and a line that is not read may be gone; and a few are for requests that are soon over (health,
metrics, a page of lines, the refusal itself), so that a full server still answers.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from typing import Final

MOST_SPARE: Final = 256
"""Descriptors that no client gets: files that appear or are rotated, downloads, and reads for those who are behind."""
ADVICE: Final = (
    "raise the limit (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of a container), or lower the number"
)


@dataclass(frozen=True, slots=True)
class Shares:
    """Of `limit` descriptors: a client's number is below `clients`, that of a file below `files`; so many connections
    as `brief` says may have a number above those of clients at one time. The last numbers are for connections that are
    closed at once."""

    limit: int
    clients: int
    brief: int
    files: int


def share_out(limit: int) -> Shares:
    """The shares where so many descriptors may be open; negative: without end."""
    if limit < 0:
        limit = sys.maxsize
    spare = min(MOST_SPARE, limit // 4)
    brief = spare // 4
    return Shares(limit, limit - spare, brief, limit - brief - spare // 16 - 1)


def current_shares() -> Shares:
    """Of this process, by the limit that holds now."""
    return share_out(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def complaint(limit: int, wanted: int, used: int) -> str | None:
    """What to say where `wanted` clients (`--max-clients`) do not fit beside the `used` descriptors that the server and
    its files need; None where they do."""
    room = max(0, share_out(limit).clients - used)
    if room >= wanted:
        return None
    return (
        f"--max-clients {wanted} does not fit into the limit of {limit} open files: there is room for {room} clients "
        f"beside the server and its log files, and more are refused; {ADVICE}"
    )
