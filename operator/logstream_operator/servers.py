"""Asks the servers' pods what they do: how many clients they have, and which files they follow.

`/metrics` answers without a token. Words for files that give no lines are in the REST API, which is asked only where it
needs no token. A server that does not answer in time is left out: this is for people to read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from .assess import BAD_STATES, Report
from .names import HTTP_PORT, METRICS_PORT
from .workload import Manifest

TIMEOUT: Final = aiohttp.ClientTimeout(total=3)
MAX_BYTES: Final = 4 << 20
MAX_DETAILS: Final = 3
CLIENTS: Final = "logstream_clients"
STREAMS: Final = "logstream_streams"


class Servers:
    """An HTTP client for pods."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, pods: Sequence[Manifest], base_path: str, *, is_open: bool) -> Report | None:
        """What all pods that are ready say together; None when none has answered. `is_open`: REST needs no token."""
        addresses = [address for pod in pods for address in ready_addresses(pod)]
        answers = await asyncio.gather(*(self._read(address, METRICS_PORT, "/metrics") for address in addresses))
        said = [parse_metrics(answer.decode()) for answer in answers if answer is not None]
        if not said:
            return None
        streams: Counter[str] = Counter()
        for _, states in said:
            streams |= states  # servers of one LogStream see the same files; the one that sees most is right
        details: tuple[str, ...] = ()
        if is_open and any(streams[state] for state in BAD_STATES):
            details = await self._read_details(addresses[0], base_path)
        return Report(sum(clients for clients, _ in said), streams, details)

    async def _read_details(self, address: str, base_path: str) -> tuple[str, ...]:
        url = self._url(address, HTTP_PORT, f"{base_path}/api/v1/streams")
        try:
            async with self._session.get(url, timeout=TIMEOUT) as response:
                found: Any = await response.json()
            return tuple(find_details(found))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return ()

    async def _read(self, address: str, port: int, path: str) -> bytes | None:
        try:
            async with self._session.get(self._url(address, port, path), timeout=TIMEOUT) as response:
                return await response.content.read(MAX_BYTES) if response.ok else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    @staticmethod
    def _url(address: str, port: int, path: str) -> str:
        return f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"


def ready_addresses(pod: Manifest) -> Iterator[str]:
    """The pod's address, when it is ready and stays."""
    status = pod.get("status") or {}
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    if ready and status.get("podIP") and "deletionTimestamp" not in pod["metadata"]:
        yield status["podIP"]


def parse_metrics(text: str) -> tuple[int, Counter[str]]:
    """Clients, and streams by state."""
    clients, streams = 0, Counter[str]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == CLIENTS:
                clients += int(sample.value)
            elif sample.name == STREAMS:
                streams[sample.labels["state"]] += int(sample.value)
    return clients, streams


def find_details(answer: Any) -> Iterator[str]:
    """The words for files that are there and give no lines, a few of them."""
    bad = [stream for stream in answer["streams"] if stream["state"] in BAD_STATES and stream.get("detail")]
    for stream in bad[:MAX_DETAILS]:
        yield f"{stream['name']}: {stream['detail']}"
