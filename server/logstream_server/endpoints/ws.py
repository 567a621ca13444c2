"""`/ws`: from the request to a connection that the hub looks after.

Refusals that a browser need not understand come before the accept, with an HTTP status; what is wrong with the query
comes after it, as a close code and a reason that a person can read.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import lru_cache, partial
from typing import Final

from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import Scope
from starlette.websockets import WebSocket

from logstream_server.access.gate import Guest, Refused, Why
from logstream_server.encoding.view import Format, View
from logstream_server.errors import INTERNAL_ERROR, BadQuery, CloseCode
from logstream_server.fanout.connection import Connection
from logstream_server.fanout.query import SocketQuery, parse_socket_query
from logstream_server.history.resume import Resumed
from logstream_server.service import Service
from logstream_server.tailing.stream import Stream, StreamStatus
from logstream_server.transport.fallback import AsgiConnection
from logstream_server.transport.protocol import EXTENSION, TakeOver

from .problems import deny

log = logging.getLogger(__name__)

QUERIES_KEPT: Final = 128
"""Clients of one page ask the same, and a thousand of them come at once after a restart."""
GREETING_S: Final = 2.0
"""How long a client may have to wait for its first words: reading the last lines takes milliseconds."""


async def socket_endpoint(websocket: WebSocket) -> None:
    """One WebSocket request."""
    service: Service = websocket.scope["state"]["service"]
    try:
        handshake = open_handshake(service, service.gate.admit(websocket), websocket.scope)
    except Refused as refused:
        answer = PlainTextResponse(refused.reason + "\n", refused.status, refused.headers)
        await deny(answer, websocket.scope, websocket.receive, websocket.send)
        return
    try:
        await _serve(service, websocket, handshake)
    finally:
        handshake.end()


class Handshake:
    """A request on its way: one of those that are being opened, and one client, from the beginning, and only once."""

    def __init__(self, service: Service, guest: Guest) -> None:
        self._service = service
        self._guest = guest
        self._is_open = self._is_client = False
        service.handshakes += 1
        service.arriving += 1

    def join(self, connection: Connection) -> None:
        """The hub looks after it, and counts it, from now on."""
        self._arrived()
        connection.guest = self._guest
        self._guest.end = partial(connection.finish, CloseCode.AUTH_EXPIRED)
        self._service.hub.add(connection)

    def end(self) -> None:
        """It gets its lines, or it was not to be."""
        if not self._is_client:
            self._service.gate.stand_up(self._guest)
        self._arrived()
        if not self._is_open:
            self._is_open = True
            self._service.handshakes -= 1

    def _arrived(self) -> None:
        if not self._is_client:
            self._is_client = True
            self._service.arriving -= 1


def open_handshake(service: Service, guest: Guest, scope: Scope) -> Handshake:
    """One more client, who asks by the request in `scope`. Raises Refused where there is no place for it."""
    gate, settings = service.gate, service.settings
    if service.is_draining:
        raise gate.refused(Why.DRAINING, 503, "the server is shutting down", _retry(1))
    if len(service.hub.connections) + service.arriving >= settings.max_clients:
        raise gate.refused(Why.CLIENTS, 503, f"the server has its {settings.max_clients} clients", _retry(5))
    service.door.check_long(scope)
    if service.handshakes >= settings.max_handshakes:
        raise gate.refused(Why.HANDSHAKES, 429, "too many clients are connecting at once", _retry(1))
    gate.sit_down(guest)
    return Handshake(service, guest)


def _retry(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


async def _serve(service: Service, websocket: WebSocket, handshake: Handshake) -> None:
    try:
        query = _parse_query(websocket.scope["query_string"], tuple(websocket.scope["subprotocols"]))
        stream = _stream(service, query)
    except BadQuery as error:
        offered = websocket.scope["subprotocols"]
        await websocket.accept(next((name for name in offered if name.startswith("logstream.")), None))
        await websocket.close(error.code, error.close_reason)
        return
    await websocket.accept(query.subprotocol)
    take_over: TakeOver | None = websocket.scope.get("extensions", {}).get(EXTENSION)
    if take_over is None:
        plain = AsgiConnection(service.hub, query.format, websocket)
        handshake.join(plain)
        await plain.run(begin(service, plain, query, stream, handshake))
        return
    connection = Connection(service.hub, query.format)
    handshake.join(connection)
    take_over(connection)
    await begin(service, connection, query, stream, handshake)


def _parse_query(query_string: bytes, offered: tuple[str, ...]) -> SocketQuery:
    """Raises BadQuery."""
    # Patterns are large: they go with the last client who has them.
    return (_parse if _MAY_FILTER.search(query_string) else _parse_once)(query_string, offered)


def _parse(query_string: bytes, offered: tuple[str, ...]) -> SocketQuery:
    return parse_socket_query(QueryParams(query_string).multi_items(), offered)


_MAY_FILTER: Final = re.compile(rb"grep|exclude|%")  # names may be encoded
_parse_once: Final = lru_cache(QUERIES_KEPT)(_parse)


def _stream(service: Service, query: SocketQuery) -> Stream | None:
    """The stream to begin with, which may be that of the cursor; None where a JSON client names none, or there is none
    yet."""
    name, cursor = query.wish.stream, query.wish.cursor
    if name is None and cursor is not None and cursor.stream in service.monitor.streams:
        name = cursor.stream
    if query.format is Format.JSON and (name == "" or (name is None and not service.monitor.streams)):
        return None
    stream = service.find_stream(name)
    if query.format is not Format.JSON and stream.state.status is StreamStatus.UNSUPPORTED:
        raise BadQuery(CloseCode.UNSUPPORTED_FILE, f"{stream.name}: {stream.state.detail}")
    return stream


async def begin(
    service: Service, connection: Connection, query: SocketQuery, stream: Stream | None, handshake: Handshake
) -> None:
    """Give a new connection its first lines, and all that follow."""
    try:
        await _open(service, connection, query, stream, handshake)
    except Exception:  # the opening's outermost frame: a client that gets no line must not wait for ever
        log.exception("a client could not be served")
        connection.finish(1011, INTERNAL_ERROR)
    finally:
        handshake.end()


async def _open(
    service: Service, connection: Connection, query: SocketQuery, stream: Stream | None, handshake: Handshake
) -> None:
    if stream is None:
        service.greet(connection, None, Resumed(()))
        return
    view = View(query.format, query.wish.filter)
    begun = service.begin_now(stream, query.wish, view)
    is_greeted = False

    def wait_longer() -> None:
        """The file system does not answer: its clients must not take the places of those who ask for other files, and
        those who can be told are told why nothing comes."""
        nonlocal is_greeted
        handshake.end()
        if query.format is Format.JSON:
            is_greeted = True
            service.greet(connection, stream, None)

    if begun is None:
        patience = asyncio.get_running_loop().call_later(GREETING_S, wait_longer)
        opening = service.openings.begin(connection, stream.name)
        try:
            begun = await service.begin_for(connection, opening, stream, query.wish, view)
        finally:
            patience.cancel()
            is_wanted = service.openings.end(opening)
        if not is_wanted:  # the client has gone, or had another wish since it was greeted
            return
        view = opening.view(view)
    if begun.recovered is False and query.format is not Format.JSON:
        connection.finish(CloseCode.GAP, f"the cursor cannot be honoured: {begun.reason}")
        return
    subscription = service.prepare(connection, stream, query.wish, view, begun.positions)
    if is_greeted:
        service.announce(connection, stream, begun)
    elif query.format is Format.JSON:
        service.greet(connection, stream, begun)
    if subscription is not None:
        service.hub.pump(subscription)
