"""The door: whether there is a descriptor left for a connection that was accepted (see `descriptors`).

`arrival` asks it for each new connection, and who answers at length or without end asks before that. A shortage is told
in the log once, however many are sent away in it, and counted for each.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from logstream_server.descriptors import ADVICE, current_shares

from .gate import Gate, Refused, Why

log = logging.getLogger(__name__)

QUIET_S: Final = 60.0
"""After so long without a refusal the next one is news."""
RETRY_S: Final = 5
BRIEF: Final = "brief"
"""In a request's state: its connection has a descriptor for a short time only."""
ENTRY: Final = "logstream.entry"
"""What a transport may say of itself (`get_extra_info`): its Entry, where the door was passed before."""


class Entry(Enum):
    """For what there is a descriptor: for everything, for a brief request, for nothing."""

    FREE = "free"
    BRIEF = "brief"
    SHUT = "shut"


class Door:
    """Used on the event loop."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._brief = 0
        self._refused_at = -math.inf

    def enter(self, transport: asyncio.BaseTransport) -> Entry:
        """What a new connection may be used for. Who has a BRIEF one must `leave`."""
        sock = transport.get_extra_info("socket")
        shares = current_shares()
        if sock is None or sock.fileno() < shares.clients:
            return Entry.FREE
        if self._brief >= shares.brief:
            self.refusal()
            return Entry.SHUT
        self._brief += 1
        return Entry.BRIEF

    def leave(self) -> None:
        """A brief connection has ended."""
        self._brief -= 1

    def check_long(self, scope: Mapping[str, Any]) -> None:
        """The request is to be answered at length. Raises Refused where its connection is not for that."""
        if BRIEF in scope["state"]:
            raise self.refusal()

    def refusal(self) -> Refused:
        """What to say to who is sent away, counted."""
        now, before = time.monotonic(), self._refused_at
        self._refused_at = now
        if now - before > QUIET_S:
            limit = current_shares().limit
            log.warning(
                "no room for more clients within the limit of %d open files, they are refused: %s", limit, ADVICE
            )
        headers = {"Retry-After": str(RETRY_S)}
        return self._gate.refused(Why.DESCRIPTORS, 503, "the server has no room for more connections", headers)
