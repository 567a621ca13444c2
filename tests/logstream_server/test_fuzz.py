"""Strangers who send anything: random frames and random queries against the real server, which must not care.

A few seconds by default; LOGSTREAM_FUZZ_SECONDS=600 is what a change of the parsers should have had once. The seed is
printed when something is wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from .conftest import Serve
from .process import Server, eventually

SECONDS: Final = float(os.environ.get("LOGSTREAM_FUZZ_SECONDS", "4"))
WORDS: Final = (
    *("stream", "tail", "cursor", "from", "grep", "exclude", "format", "lag", "access_token", "_", "tial"),
    *("json", "raw", "text", "start", "skip", "close", "catchup", "a.log", "0", "10", "-1", "1e9", "99999999999999999"),
    *("(", "[", "a{1000}{1000}", "(?P<x>", "\\C", ".*", "^$", "\x00", "\ud800", "é", "☃", "%", "+", "&", "=", "\n", ""),
    *("AQAFYS5sb2cA", "A" * 5000, "//..//", "AQAHYXBwLmxvZwEAAAAAAJwqigAAAAAAAAAz"),
)
MESSAGES: Final = (
    b'{"type":"subscribe","stream":"a.log"}',
    b'{"type":"subscribe","stream":"a.log","tail":5,"grep":["x"],"lag":"skip"}',
    b'{"type":"subscribe","stream":"a.log","from":"start"}',
    b'{"type":"unsubscribe","stream":"a.log"}',
    b'{"type":"filter","stream":"a.log","grep":"x|y"}',
    b'{"type":"filter","stream":"a.log","grep":["("]}',
    b'{"type":"nonsense"}',
    b"[" * 10_000,
    b"null",
    b"",
)


def frame(rng: random.Random, payload: bytes) -> bytes:
    """A client's frame that is mostly right."""
    first = rng.choice((0x81, 0x81, 0x81, 0x82, 0x88, 0x89, 0x8A, 0x01, 0x80, 0x00, rng.randrange(256)))
    size = len(payload) if rng.random() < 0.95 else rng.choice((0, 125, 126, 127, 1 << 16, 1 << 40, (1 << 63) + 1))
    masked = 0x80 if rng.random() < 0.97 else 0
    if size < 126:
        header = bytes((first, masked | size))
    elif size < 1 << 16:
        header = struct.pack("!BBH", first, masked | 126, size)
    else:
        header = struct.pack("!BBQ", first, masked | 127, size % (1 << 64))
    key = rng.randbytes(4)
    return header + (key if masked else b"") + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


def random_frames(rng: random.Random) -> bytes:
    """What one stranger sends after the handshake."""
    out = []
    for _ in range(rng.randrange(12)):
        payload = rng.choice((rng.choice(MESSAGES), rng.randbytes(rng.randrange(200))))
        if rng.random() < 0.2 and payload:
            at = rng.randrange(len(payload))
            payload = payload[:at] + rng.randbytes(1) + payload[at + 1 :]
        out.append(frame(rng, payload))
    data = b"".join(out)
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data


def random_query(rng: random.Random) -> str:
    """A query string of plausible and implausible words."""
    pairs = []
    for _ in range(rng.randrange(6)):
        words = [rng.choice(WORDS) for _ in range(2)]
        pairs.append("=".join(w if rng.random() < 0.1 and w.isascii() and w.isalnum() else escape(w) for w in words))
    return "&".join(pairs)


def escape(word: str) -> str:
    return quote(word.encode("utf-8", "surrogatepass"))


def handshake(query: str, protocol: str) -> bytes:
    """The request that opens a WebSocket."""
    offered = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return (
        f"GET /ws?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n"
    ).encode("latin-1", "replace")


def visit(server: Server, rng: random.Random) -> None:
    """One stranger: connects, sends, reads a little or nothing, leaves in one of several ways."""
    with socket.create_connection((server.host, server.port), 10) as sock, contextlib.suppress(ConnectionError):
        protocol = rng.choice(("", "", "logstream.json.v1", "logstream.raw.v1", "nonsense"))
        query = random_query(rng) if rng.random() < 0.6 else rng.choice(("", "format=json", "tail=5&format=raw"))
        sock.sendall(handshake(query, protocol))
        if rng.random() < 0.8:
            sock.settimeout(5)
            answer = sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 "), answer
        sock.sendall(random_frames(rng))
        sock.settimeout(rng.choice((0.001, 0.01)))
        with contextlib.suppress(TimeoutError):
            sock.recv(65536)
        if rng.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ask(server: Server, rng: random.Random) -> None:
    """One REST request of a stranger."""
    path = rng.choice(("streams", "streams/a.log", "streams/a.log/lines", f"streams/{escape(rng.choice(WORDS))}/lines"))
    answer = server.get(f"/api/v1/{path}?{random_query(rng)}")
    assert answer.status in (200, 400, 404, 405, 414, 415, 422), (path, answer.status, answer.body[:300])


@pytest.mark.timeout(SECONDS + 120)
def test_strangers_change_nothing_for_others(serve: Serve, tmp_path: Path) -> None:
    """The server stays up, its memory flat, its log free of tracebacks, and the lines go on for everybody else."""
    log = tmp_path / "a.log"
    log.write_text("first\n")
    server = serve("--ping-interval", "2", "--ping-timeout", "2", log)
    seed = int(os.environ.get("LOGSTREAM_FUZZ_SEED", time.time_ns()))
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    end = time.monotonic() + SECONDS
    begun = rss_kib(server)
    number = 0
    try:
        while time.monotonic() < end:
            kind: Callable[[Server, random.Random], None] = rng.choice((visit, visit, visit, ask))
            kind(server, rng)
            number += 1
            if number % 50 == 0:
                with log.open("a") as file:
                    file.write(f"line {number}\n")
                assert server.process.poll() is None
        eventually(lambda: server.get("/api/v1/streams/a.log").json["clients"] == 0)
        last = f"line {number // 50 * 50}" if number >= 50 else "first"
        eventually(lambda: server.get("/api/v1/streams/a.log/lines?tail=1").json["lines"] == [last])
        assert "Traceback" not in server.log
        assert rss_kib(server) - begun < 64 << 10
    except Exception as error:  # noqa: BLE001 - told with its seed
        pytest.fail(f"seed {seed}, visit {number}: {error!r}\n{server.log[-3000:]}")


def rss_kib(server: Server) -> int:
    """Memory of the server, KiB."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
