"""The running server: what app, sockets, REST and metrics share. One object, made in the lifespan, no globals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import __version__
from .access.certificate import CertificateFiles
from .access.credentials import open_credentials
from .access.door import Door
from .access.gate import Gate
from .encoding import messages
from .encoding.frames import Opcode, encode_frame
from .encoding.messages import SetFilter, Subscribe, Unsubscribe, parse_client_message
from .encoding.view import Format, View
from .errors import INTERNAL_ERROR, BadQuery, CloseCode
from .fanout.channel import Subscription
from .fanout.connection import Connection
from .fanout.hub import Hub, HubOptions
from .fanout.openings import Opening, Openings
from .fanout.query import Wish, as_list, wish_of
from .history import history
from .history.history import NotNow, NotYet
from .history.resume import Resumed, from_start, resume
from .lines.cursor import Positions
from .lines.filters import parse_filter
from .settings import Settings
from .tailing.discovery import parse_sources
from .tailing.stream import Stream, StreamStatus
from .tailing.succession import FollowOptions
from .tailing.tailer import LogMonitor

log = logging.getLogger(__name__)

RETRY_S = 1.0
LOOK_S = 0.1
"""How often it is asked whether the follower has looked by now."""
"""How long to wait for a file system that refuses."""
MAX_SUBSCRIPTIONS = 64
"""Streams on one socket: more is a tool for collecting, which opens several."""
ACCESS_S = 1.0
"""How often the token files are looked at, and the sessions' ends."""
RENEWAL_S = 1.0
"""How often the certificate's files are looked at."""
TAILS, FILTERED_TAILS = 64, 8
"""Looks at last lines that are shared by those who ask for the same, without patterns and with them."""
MAX_PENDING = MAX_SUBSCRIPTIONS
"""Subscribe messages of one socket that are being worked on, and messages that wait for its `hello`."""
MAX_EARLY_BYTES = 64 << 10
"""In messages that wait for the `hello`."""


def build_monitor(settings: Settings) -> LogMonitor:
    """The monitor that the settings describe, not started."""
    sources = parse_sources([(p.path, p.name) for p in settings.paths], settings.roots)
    options = FollowOptions(
        max_line_bytes=settings.max_line_bytes,
        poll_interval_s=settings.poll_interval_s,
        partial_after_s=settings.partial_after_s,
        rotate_wait_s=settings.rotate_wait_s,
    )
    return LogMonitor(sources, options, watch=settings.watch, ring_bytes=settings.ring_bytes, ignore=settings.ignore)


@dataclass(eq=False)
class Service:
    """Everything that lives as long as the server."""

    settings: Settings
    monitor: LogMonitor
    hub: Hub
    gate: Gate
    door: Door
    certificate: CertificateFiles | None = None
    is_started: bool = False
    is_draining: bool = False
    handshakes: int = 0
    arriving: int = 0
    """Those among them that the hub does not look after yet."""
    resumes: dict[str, int] = field(default_factory=dict)
    openings: Openings = field(default_factory=Openings)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _pending: dict[Connection, int] = field(default_factory=dict)
    _tails: dict[tuple[Stream, int, object], tuple[Positions, asyncio.Future[Positions]]] = field(default_factory=dict)

    @classmethod
    def build(cls, settings: Settings) -> Service:
        """From settings; nothing is started yet."""
        monitor = build_monitor(settings)
        hub = Hub(
            monitor,
            HubOptions(settings.ping_interval_s, settings.ping_timeout_s, max_line_bytes=settings.max_line_bytes),
        )
        credentials = open_credentials(settings)
        gate = Gate(settings, credentials.tokens)
        return cls(settings, monitor, hub, gate, Door(gate), credentials.certificate)

    async def start(self) -> None:
        """Follow the files and serve their lines."""
        self.hub.on_message = self._message
        self.hub.on_gone = self._gone
        self.hub.start()
        await asyncio.to_thread(self.monitor.start)
        if self.gate.needs_token:
            self.gate.warn()
            self._go_on_with(self._watch_tokens())
        if self.certificate is not None:
            self.certificate.tell()
            self._go_on_with(self._watch_certificate(self.certificate))
        self.is_started = True

    async def stop(self) -> None:
        """End all of it."""
        for task in list(self._tasks):
            task.cancel()
        self.hub.stop()
        await asyncio.to_thread(self.monitor.stop)

    def _gone(self, connection: Connection) -> None:
        self.openings.forget(connection)
        if connection.guest is not None:
            self.gate.stand_up(connection.guest)

    def _go_on_with(self, work: Coroutine[Any, Any, None]) -> None:
        """Until it is done, or the server ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _watch_certificate(certificate: CertificateFiles) -> None:
        """Who comes next meets the newest one."""
        while True:
            await asyncio.sleep(RENEWAL_S)
            await asyncio.to_thread(certificate.look)

    async def _watch_tokens(self) -> None:
        """Who is welcome no longer is sent nothing more."""
        while True:
            await asyncio.sleep(ACCESS_S)
            if await asyncio.to_thread(self.gate.look):
                self.gate.take()
            self.gate.turn_out("the token was withdrawn, or the session has ended")

    # -- streams -------------------------------------------------------------------------------------------------------

    def find_stream(self, name: str | None) -> Stream:
        """The stream of that name, the first for None. Raises BadQuery (4004)."""
        streams = self.monitor.streams
        if name is None:
            if not streams:
                raise BadQuery(CloseCode.NO_SUCH_STREAM, "there is no file to follow yet")
            return next(iter(streams.values()))
        stream = streams.get(name)
        if stream is None:
            known = ", ".join(list(streams)[:5]) + (", …" if len(streams) > 5 else "")
            raise BadQuery(CloseCode.NO_SUCH_STREAM, f"no stream {name[:60]!r}; there are: {known or 'none'}")
        return stream

    def limits(self) -> dict[str, Any]:
        """What a client's author wants to know."""
        return {"max_line_bytes": self.settings.max_line_bytes, "ping_interval_s": self.settings.ping_interval_s}

    # -- beginning -----------------------------------------------------------------------------------------------------

    def begin_now(self, stream: Stream, wish: Wish, view: View) -> Resumed | None:
        """Where the reader of `wish` begins, if that is known without a look at the file: of a thousand clients that
        want the last lines, all but the first need not wait."""
        if wish.from_start:
            return Resumed(from_start(stream.ring.head()[1]))
        if wish.cursor is not None:
            return None
        head = self.hub.head(stream, view)
        if self._lines(wish) == 0 and head:
            return Resumed(head)
        if stream.state.status is StreamStatus.HUNG:
            return None
        known = self._tails.get(self._tail_key(stream, wish))
        if known is None or known[0] is not head or not known[1].done() or known[1].cancelled() or known[1].exception():
            return None
        return Resumed(known[1].result())

    async def begin_at(
        self, stream: Stream, wish: Wish, view: View, is_wanted: Callable[[], bool] = lambda: True
    ) -> Resumed:
        """Where the reader of `wish` begins; reads the file when it must. A file system that refuses is asked again
        until it answers, or nobody wants to know any more."""
        while True:
            try:
                return self.begin_now(stream, wish, view) or await self._look(stream, wish, view)
            except NotNow as error:
                if not is_wanted():
                    return Resumed(())
                await asyncio.sleep(LOOK_S if isinstance(error, NotYet) else RETRY_S)

    async def begin_for(
        self, connection: Connection, opening: Opening, stream: Stream, wish: Wish, view: View
    ) -> Resumed:
        """As `begin_at`, for as long as the client is there and waits for it."""
        return await self.begin_at(
            stream, wish, view, lambda: not connection.is_closing and self.openings.is_wanted(opening)
        )

    async def _look(self, stream: Stream, wish: Wish, view: View) -> Resumed:
        if stream.state.status is StreamStatus.HUNG:
            raise NotNow(stream.state.detail)  # one more who asks would be one more thread that waits
        if wish.cursor is None:
            return Resumed(await self._tail(stream, wish, self.hub.head(stream, view)))
        call = partial(resume, stream, wish.cursor, tail=wish.tail)
        resumed = await asyncio.wrap_future(self.monitor.scheduler.submit(call, stream))
        result = "recovered" if resumed.recovered else "reset"
        self.resumes[result] = self.resumes.get(result, 0) + 1
        return resumed

    async def _tail(self, stream: Stream, wish: Wish, head: Positions) -> Positions:
        """Everybody who asks for the same lines at about the same time shares one look at the file."""
        key = self._tail_key(stream, wish)
        known = self._tails.get(key)
        if known is not None and known[0] is head and not known[1].done():
            return await asyncio.shield(known[1])
        call = partial(history.tail_start, stream, self._lines(wish), wish.filter, head)
        future = asyncio.wrap_future(self.monitor.scheduler.submit(call, stream))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever asked may have gone
        self._forget_tails(wish)
        self._tails[key] = (head, future)
        return await asyncio.shield(future)

    def _forget_tails(self, wish: Wish) -> None:
        """Make room for what `wish` asks for: with it, its patterns are kept, which may be large."""
        alike = [key for key in self._tails if bool(key[2]) == bool(wish.filter)]
        if len(alike) >= (FILTERED_TAILS if wish.filter else TAILS):
            for key in alike:
                del self._tails[key]

    def _lines(self, wish: Wish) -> int:
        return self.settings.tail_lines if wish.tail is None else wish.tail

    def _tail_key(self, stream: Stream, wish: Wish) -> tuple[Stream, int, object]:
        return stream, self._lines(wish), wish.filter

    def open(self, connection: Connection, stream: Stream, wish: Wish, view: View, begin: Positions) -> None:
        """Lines of `stream` go to the connection from now on."""
        subscription = self.prepare(connection, stream, wish, view, begin)
        if subscription is not None:
            self.hub.pump(subscription)

    def prepare(
        self, connection: Connection, stream: Stream, wish: Wish, view: View, begin: Positions
    ) -> Subscription | None:
        """As `open`, but nothing is sent before `hub.pump`: what happens to the stream from now on is not missed by
        somebody who is told of its state in between. None: the client has gone, or is about to."""
        if connection.is_closing:
            return None
        old = connection.subscriptions.pop(stream.name, None)
        if old is not None:
            self.hub.unsubscribe(old)
        # In the table before the first write: a client that is refused in the middle of it must be found there.
        subscription = self.hub.prepare(connection, stream, view, begin, wish.lag)
        connection.subscriptions[stream.name] = subscription
        return subscription

    def greet(self, connection: Connection, stream: Stream | None, begun: Resumed | None) -> None:
        """The first words to a JSON client, and the answers to what it said before them. `begun`: None when that is not
        known yet, and is to be announced later."""
        name = None if stream is None else stream.name
        cursor = None if stream is None or begun is None else messages.token(stream.name, begun.positions)
        streams = [s.describe() for s in list(self.monitor.streams.values())[:1000]]
        hello = messages.hello_message(
            f"logstream/{__version__}",
            streams,
            name,
            cursor,
            None if begun is None else begun.recovered,
            None if begun is None else begun.reason,
            self.limits(),
        )
        _send(connection, hello)
        early, connection.early = connection.early or (), None
        for payload in early:
            self._obey(connection, payload)

    def announce(self, connection: Connection, stream: Stream, begun: Resumed) -> None:
        """Tell a JSON client where a stream begins for it."""
        token = messages.token(stream.name, begun.positions)
        _send(connection, messages.subscribed_message(stream.name, token, begun.recovered, begun.reason))

    # -- messages of JSON clients --------------------------------------------------------------------------------------

    def _message(self, connection: Connection, _opcode: Opcode, payload: bytes) -> None:
        if connection.format != Format.JSON:
            return  # the other formats have nothing to say; what they send is not ours
        early = connection.early
        if early is None:
            self._obey(connection, payload)
        elif len(early) < MAX_PENDING and sum(map(len, early)) + len(payload) <= MAX_EARLY_BYTES:
            connection.early = (*early, payload)
        else:
            connection.finish(1008, "too many messages before the first one of the server")

    def _obey(self, connection: Connection, payload: bytes) -> None:
        stream: str | None = None
        try:
            message = parse_client_message(payload)
            stream = message.stream
            if isinstance(message, Subscribe):
                self._subscribe(connection, message)
            elif isinstance(message, Unsubscribe):
                self._unsubscribe(connection, message)
            else:
                self._set_filter(connection, message)
        except BadQuery as error:
            _send(connection, messages.error_message(error.code, error.reason, stream))

    def _subscribe(self, connection: Connection, message: Subscribe) -> None:
        wish, stream = wish_of(message), self.find_stream(message.stream)
        others = {*connection.subscriptions, *self.openings.streams(connection)} - {stream.name}
        if len(others) >= MAX_SUBSCRIPTIONS:
            raise BadQuery(CloseCode.LIMIT, f"at most {MAX_SUBSCRIPTIONS} streams on one socket")
        if self._pending.get(connection, 0) >= MAX_PENDING:
            raise BadQuery(CloseCode.LIMIT, f"at most {MAX_PENDING} subscribe messages at a time")
        self._pending[connection] = self._pending.get(connection, 0) + 1
        opening = self.openings.begin(connection, stream.name)
        self._go_on_with(self._open_later(connection, stream, wish, opening))

    async def _open_later(self, connection: Connection, stream: Stream, wish: Wish, opening: Opening) -> None:
        try:
            await self._open(connection, stream, wish, opening)
        except Exception:  # the task's outermost frame: nobody else would tell the client that nothing will come
            log.exception("%s: a client could not be served", stream.name)
            _send(connection, messages.error_message(1011, INTERNAL_ERROR, stream.name))
            connection.finish(1011, INTERNAL_ERROR)

    async def _open(self, connection: Connection, stream: Stream, wish: Wish, opening: Opening) -> None:
        try:
            view = View(Format.JSON, wish.filter)
            begun = await self.begin_for(connection, opening, stream, wish, view)
        finally:
            is_wanted = self.openings.end(opening)
            self._pending[connection] -= 1
            if not self._pending[connection]:
                del self._pending[connection]
        if is_wanted:
            subscription = self.prepare(connection, stream, wish, opening.view(view), begun.positions)
            self.announce(connection, stream, begun)
            if subscription is not None:
                self.hub.pump(subscription)

    def _unsubscribe(self, connection: Connection, message: Unsubscribe) -> None:
        if not self.openings.give_up(connection, message.stream):
            self._subscription(connection, message.stream)
        old = connection.subscriptions.pop(message.stream, None)
        if old is not None:
            self.hub.unsubscribe(old)
        _send(connection, messages.unsubscribed_message(message.stream))

    def _set_filter(self, connection: Connection, message: SetFilter) -> None:
        opening = self.openings.find(connection, message.stream)
        old = connection.subscriptions.get(message.stream)
        if opening is None:
            old = self._subscription(connection, message.stream)
        chosen = parse_filter(as_list(message.grep), as_list(message.exclude))
        if opening is not None:
            opening.filter = chosen
        if old is not None:
            stream = self.find_stream(message.stream)
            wish = Wish(message.stream, filter=chosen, lag=old.lag)
            self.open(connection, stream, wish, View(Format.JSON, chosen), self.hub.place_of(old))

    @staticmethod
    def _subscription(connection: Connection, name: str) -> Subscription:
        found = connection.subscriptions.get(name)
        if found is None:
            raise BadQuery(CloseCode.NO_SUCH_STREAM, f"the stream {name[:60]!r} is not subscribed to on this socket")
        return found


def _send(connection: Connection, message: bytes) -> None:
    if not connection.is_closing:
        connection.write(encode_frame(Opcode.TEXT, message))
