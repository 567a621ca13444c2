"""Asks the servers' pods what they do: how many clients they have, and which files they follow.

`/status` on their metrics port answers without a token, with words for files that give no lines. A server that does not
answer in time is left out: this is for people to read.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

from .assess import BAD_STATES, Report
from .names import METRICS_PORT
from .workload import Manifest

TIMEOUT: Final = aiohttp.ClientTimeout(total=3)
MAX_BYTES: Final = 1 << 20
"""Of an answer; a server's own bound is far below."""
MAX_DETAILS: Final = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What one server says: clients, streams by state, and words about those that give no lines."""

    clients: int
    streams: Counter[str]
    details: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises ValueError for what no server says."""
        try:
            said: Any = json.loads(data)
            streams = Counter({str(state): int(number) for state, number in said["streams"].items()})
            troubled = [each for each in said["troubled"] if each["state"] in BAD_STATES and each["detail"]]
            details = tuple(f"{each['name']}: {each['detail']}" for each in troubled)
            return cls(int(said["clients"]), streams, details)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the status of a server: {error!r}") from error


class Servers:
    """An HTTP client for pods."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, pods: Sequence[Manifest]) -> Report | None:
        """What all pods that are ready say together; None when none has answered."""
        addresses = [address for pod in pods for address in ready_addresses(pod)]
        answers = await asyncio.gather(*(self._ask(address) for address in addresses))
        said = [answer for answer in answers if answer is not None]
        if not said:
            return None
        streams: Counter[str] = Counter()
        for answer in said:
            streams |= answer.streams  # servers of one LogStream see the same files; the one that sees most is right
        details = dict.fromkeys(detail for answer in said for detail in answer.details)
        return Report(sum(answer.clients for answer in said), streams, tuple(details)[:MAX_DETAILS])

    async def _ask(self, address: str) -> Answer | None:
        try:
            async with self._session.get(_url(address), timeout=TIMEOUT) as response:
                return Answer.parse(await _read(response)) if response.ok else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = b""
    async for part in response.content.iter_chunked(64 << 10):
        data += part
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
    return data


def _url(address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{METRICS_PORT}/status"


def ready_addresses(pod: Manifest) -> Iterator[str]:
    """The pod's address, when it is ready and stays."""
    status = pod.get("status") or {}
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    if ready and status.get("podIP") and "deletionTimestamp" not in pod["metadata"]:
        yield status["podIP"]
