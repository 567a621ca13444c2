"""Running the application: sockets, limits of the process, uvicorn, signals and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import uvicorn

from .access.certificate import CertificateFiles
from .app import create_app, create_metrics_app
from .descriptors import complaint, current_shares
from .errors import CannotListen
from .journal import configure_log
from .lines.patterns import POOL, limit_of
from .memory import usable_memory
from .service import Service
from .settings import LogLevel, Settings
from .transport.arrival import http_protocol
from .transport.protocol import TakeoverProtocol
from .transport.tls import Reception, behind_tls

log = logging.getLogger(__name__)

ALL_ADDRESSES: Final = "::"
BACKLOG: Final = 4096
_OF_THE_PORT: Final = (errno.EADDRINUSE, errno.EACCES)
"""Refusals that another port does not meet; the second is that of ports below 1024."""
NOTSENT_BYTES: Final = 256 << 10
"""Bytes that the kernel takes for a client beyond what is on the wire (TCP_NOTSENT_LOWAT): a client that stops reading
holds no more kernel memory than that, while what is in flight still follows the line's bandwidth."""

FORCED_END_S: Final = 1.0
"""How long the application may take to end after a second signal: closing files takes milliseconds."""

STALL_MARGIN_S: Final = 5.0
"""How much later than the hub the kernel ends a client that takes nothing: the hub counts it."""


class SideServer(uvicorn.Server):
    """Health and metrics on a port of their own, beside the server; signals are that one's to take."""

    def __init__(self, config: uvicorn.Config, sock: socket.socket) -> None:
        super().__init__(config)
        self._sock = sock
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of them."""
        yield

    def begin(self) -> None:
        """Serve from now on, on the running event loop."""
        self._task = asyncio.create_task(self.serve([self._sock]))

    async def end(self) -> None:
        """Serve no more."""
        self.should_exit = True
        if self._task is not None:
            await self._task


class Server(uvicorn.Server):
    """uvicorn's server, which says goodbye before it ends: uvicorn closes all WebSockets at once and then waits for
    ever. A second signal ends it without waiting for anybody."""

    def __init__(self, config: uvicorn.Config, service: Service, side: SideServer | None = None) -> None:
        super().__init__(config)
        self.service = service
        self._side = side
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Health is to be asked for while the first look at the files still lasts."""
        self._loop = asyncio.get_running_loop()
        if self._side is not None:
            self._side.begin()
        await super().startup(sockets)
        self._check_room()

    def _check_room(self) -> None:
        """Tell in time that not all clients will find a descriptor. Each file takes one, which it has not yet where it
        has not been looked at: a few too many do not matter."""
        used = len(os.listdir("/proc/self/fd")) + len(self.service.monitor.streams)
        words = complaint(current_shares().limit, self.service.settings.max_clients, used)
        if words is not None:
            log.warning("%s", words)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal. uvicorn itself lets only a second SIGINT hurry, and looks for it only after the drain."""
        hurry = self.should_exit
        super().handle_exit(sig, frame)
        if hurry:
            self.force_exit = True
            if self._side is not None:
                self._side.force_exit = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop_draining)  # it also wakes the loop from its sleep

    def _stop_draining(self) -> None:
        if self._drain is not None:
            self._drain.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Not ready, no new clients, `bye` and 1012 spread over the drain time, then uvicorn's own end."""
        self.service.is_draining = True
        if not self.force_exit:
            self._drain = asyncio.create_task(
                self.service.hub.drain(self.service.settings.drain_s, "the server is shutting down")
            )
            await asyncio.wait((self._drain,))
            if not self._drain.cancelled():
                self._drain.result()
        await super().shutdown(sockets)
        if self.force_exit:  # then uvicorn leaves the application as it is, and its end is an error in the log
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FORCED_END_S):
                    await self.lifespan.shutdown()
        if self._side is not None:
            await self._side.end()


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks of some hundred KiB for the next ones, instead of giving them back to the
    kernel and paying for each page again: that halves the throughput of large batches. Does nothing where there is no
    mallopt."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)
        mallopt(_M_ARENA_MAX, 2)


def calm_collector() -> None:
    """Have the cycle collector look less often, and never at what is there from the start: with its defaults it takes a
    twentieth of the time in which thousands of clients connect, and finds little."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


_M_TRIM_THRESHOLD: Final = -1  # malloc.h of the GNU C library
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def raise_file_limit() -> int:
    """As many descriptors as the hard limit allows; returns the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def listen(host: str, port: int, stall_s: float = 0.0, *, option: str = "--port") -> socket.socket:
    """A listening socket; its options are inherited by every connection. Raises CannotListen, which names the `option`
    that takes another port.

    `host`: `::` is all addresses of the machine, of both kinds. A name is taken for its IPv4 address if it has one.
    `stall_s`: after so many seconds in which a peer takes nothing of what waits for it, the kernel ends the connection
    (0: never). The hub does that for its clients; for plain HTTP nobody else would: uvicorn waits for ever.
    """
    with contextlib.ExitStack() as failed:
        try:
            sock, address = _open_socket(host, port)
            failed.enter_context(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError, AttributeError):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_s * 1000))
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            advice = f"{option} takes another, or 0 for any that is free" if error.errno in _OF_THE_PORT else ""
            raise CannotListen(host, port, error.strerror or str(error), advice) from error
        failed.pop_all()
    sock.setblocking(False)
    return sock


def _open_socket(host: str, port: int) -> tuple[socket.socket, Any]:
    """A socket for `host`, and the address to bind it to."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if host != ALL_ADDRESSES or error.errno != errno.EAFNOSUPPORT:
            raise
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM), ("", port)  # IPv4 is all that this machine has
    if host == ALL_ADDRESSES:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # whatever the machine's default is
    return sock, address


def url_of(sock: socket.socket, path: str, scheme: str = "http") -> str:
    """Where a person finds what listens on `sock`. All addresses include 127.0.0.1, but perhaps not ::1."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", ALL_ADDRESSES):  # noqa: S104 - shown
        host = "127.0.0.1"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"


def make_config(app: Any, settings: Settings, certificate: CertificateFiles | None = None) -> uvicorn.Config:
    """Uvicorn as we need it: our protocol class, no pings of its own, nothing of a request in its log."""
    http: Any = http_protocol(settings.ping_timeout_s)
    if certificate is not None:
        http = behind_tls(http, Reception(lambda: certificate.certificate.context, settings.ping_timeout_s))
    return uvicorn.Config(
        app,
        ws=TakeoverProtocol,
        ws_max_size=64 << 10,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        loop="auto",
        http=http,
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level=_library_level(settings),
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        server_header=False,
        proxy_headers=False,
    )


def make_side_server(service: Service, sock: socket.socket) -> SideServer:
    """Health and metrics on `sock`."""
    config = uvicorn.Config(
        create_metrics_app(service),
        http=http_protocol(service.settings.ping_timeout_s),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level=_library_level(service.settings),
        timeout_graceful_shutdown=1,
        server_header=False,
        proxy_headers=False,
    )
    return SideServer(config, sock)


def _library_level(settings: Settings) -> str:
    """What uvicorn may mention: never requests, which it would with their queries from `info` on."""
    return "error" if settings.log_level is LogLevel.ERROR else "warning"


def run(settings: Settings, remarks: Sequence[str] = (), greet: Callable[[str], None] | None = None) -> int:
    """Serve until a signal; returns the exit status. `remarks`: on the settings, for the log.
    `greet` is called with the address once it listens, before that is printed."""
    configure_log(settings.log_format, settings.log_level)
    for remark in remarks:
        log.warning("%s", remark)
    service = Service.build(settings)
    raise_file_limit()
    keep_freed_memory()
    POOL.limit = limit_of(usable_memory())
    stall_s = settings.ping_interval_s + settings.ping_timeout_s + STALL_MARGIN_S
    with contextlib.ExitStack() as sockets:
        sock = sockets.enter_context(contextlib.closing(listen(settings.host, settings.port, stall_s)))
        side = None
        if settings.metrics_port is not None:
            side = listen(settings.host, settings.metrics_port, stall_s, option="--metrics-port")
            sockets.enter_context(contextlib.closing(side))
            log.info("health and metrics at %s", url_of(side, "/"))
        config = make_config(create_app(settings, service), settings, service.certificate)
        calm_collector()
        server = Server(config, service, None if side is None else make_side_server(service, side))
        scheme = "http" if service.certificate is None else "https"
        address = url_of(sock, settings.base_path + "/", scheme)
        if greet is not None:
            greet(address)
        print(address, flush=True)
        server.run(sockets=[sock])
    return 0
