"""Running the application: sockets, limits of the process, uvicorn, signals and the drain."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import sys
from typing import Any, Final

import uvicorn

from .app import create_app
from .errors import CannotListen
from .protocol import TakeoverProtocol
from .service import Service
from .settings import Settings

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
NOTSENT_BYTES: Final = 128 << 10
"""Bytes that the kernel takes for a client beyond what is on the wire (TCP_NOTSENT_LOWAT): a client that stops reading holds no
more kernel memory than that, while what is in flight still follows the line's bandwidth."""


class Server(uvicorn.Server):
    """uvicorn's server, which says goodbye before it ends: uvicorn closes all WebSockets at once and then waits for ever."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Not ready, no new clients, `bye` and 1012 spread over the drain time, then uvicorn's own end."""
        self.service.is_draining = True
        await self.service.hub.drain(self.service.settings.drain_s, "the server is shutting down")
        await super().shutdown(sockets)


def raise_file_limit() -> int:
    """As many descriptors as the hard limit allows; returns the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; its options are inherited by every connection. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, AttributeError):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(host, port, error.strerror or str(error)) from error
    sock.setblocking(False)
    return sock


def url_of(settings: Settings, sock: socket.socket) -> str:
    """Where a person finds the server."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - shown
    return f"http://{host}:{port}{settings.base_path}/"


def make_config(app: Any, settings: Settings) -> uvicorn.Config:
    """uvicorn as we need it: our protocol class, no pings of its own, nothing of a request in its log."""
    return uvicorn.Config(
        app,
        ws=TakeoverProtocol,
        ws_max_size=64 << 10,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        loop="auto",
        http="auto",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        server_header=False,
        proxy_headers=False,
    )


def run(settings: Settings) -> int:
    """Serve until a signal; returns the exit status."""
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    raise_file_limit()
    sock = listen(settings.host, settings.port)
    service = Service.build(settings)
    config = make_config(create_app(settings, service), settings)
    server = Server(config, service)
    print(url_of(settings, sock), flush=True)
    with contextlib.closing(sock):
        server.run(sockets=[sock])
    return 0
