"""ws: who is refused and how, where a client begins, and that nobody is counted twice or waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from logstream_server.app import create_app
from logstream_server.commandline.forms import NamedPath
from logstream_server.encoding.frames import Opcode
from logstream_server.encoding.view import Format, View
from logstream_server.endpoints import ws
from logstream_server.fanout.query import Wish
from logstream_server.history.resume import Resumed
from logstream_server.lines.cursor import Cursor, encode_cursor
from logstream_server.lines.patterns import POOL
from logstream_server.server import Server, make_config
from logstream_server.service import Service
from logstream_server.settings import Settings
from logstream_server.tailing.stream import Stream

from ..inside import PATIENCE_S, Inside, RawClient
from ..process import eventually

JSON, RAW = "logstream.json.v1", "logstream.raw.v1"


class Site:
    """A server in this process, its service, and its file."""

    def __init__(self, folder: Path, kind: type[Service] = Service, **settings: Any) -> None:
        self.log = folder / "a.log"
        self.log.write_text("one\ntwo\nthree\n")
        values = {
            "paths": (NamedPath(str(self.log)), NamedPath(str(folder / "later.log"))),
            "poll_interval_s": 0.02,
            "partial_after_s": 0.1,
            "drain_s": 0.1,
            **settings,
        }
        chosen = Settings(**values)
        self.service = kind.build(chosen)
        config = make_config(create_app(chosen, self.service), chosen)
        self._inside = Inside(lambda: Server(config, self.service))
        self._clients = contextlib.ExitStack()

    def client(self, *protocols: str, headers: dict[str, str] | None = None, **query: object) -> ClientConnection:
        """A client of /ws; `from_` is `from`."""
        pairs = urlencode({name.rstrip("_"): value for name, value in query.items()})
        opening = connect(
            f"ws://127.0.0.1:{self._inside.port}/ws?{pairs}",
            subprotocols=[Subprotocol(name) for name in protocols] or None,
            additional_headers=headers,
            compression=None,
        )
        return self._clients.enter_context(opening)

    @property
    def port(self) -> int:
        return self._inside.port

    def call(self, function: Callable[[], Any]) -> Any:
        """What a function returns on the server's loop."""
        return self._inside.call(function)

    def append(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def stop(self) -> None:
        self._clients.close()
        self._inside.stop()


class Sites:
    """Starts servers that end with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Site] = []

    def __call__(self, kind: type[Service] = Service, **settings: Any) -> Site:
        self._made.append(Site(self._folder, kind, **settings))
        return self._made[-1]

    def stop(self) -> None:
        for site in self._made:
            site.stop()
            assert (site.service.handshakes, site.service.arriving) == (0, 0)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Sites]:
    sites = Sites(tmp_path)
    yield sites
    sites.stop()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose file no test writes to."""
    site = Site(tmp_path_factory.mktemp("still"))
    yield site
    site.stop()


def lines(client: ClientConnection, count: int) -> list[str | bytes]:
    """The next messages."""
    return [client.recv(timeout=PATIENCE_S) for _ in range(count)]


def message(client: ClientConnection) -> dict[str, Any]:
    """The next JSON message."""
    found: dict[str, Any] = json.loads(client.recv(timeout=PATIENCE_S))
    return found


def closing(client: ClientConnection) -> tuple[int, str]:
    """How the server closes; nothing may come before it."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=PATIENCE_S)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


# -- refusals before the accept ---------------------------------------------------------------------------------------


def refused(site: Site, **keywords: Any) -> tuple[int, str, str | None]:
    """Status, sentence and Retry-After of a refusal."""
    with pytest.raises(InvalidStatus) as caught:
        site.client(**keywords)
    response = caught.value.response
    assert response.body is not None
    return response.status_code, response.body.decode(), response.headers.get("Retry-After")


def test_a_foreign_page_is_refused(still: Site) -> None:
    status, sentence, _ = refused(still, headers={"Origin": "http://evil.example"})
    assert (status, sentence) == (403, "origin http://evil.example is not allowed (--allowed-origin)\n")


def test_a_token_is_needed_where_there_are_tokens(make: Sites, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    site = make(token_files=(str(tmp_path / "tokens"),))
    assert refused(site)[0] == 401
    assert lines(site.client(tail=1, access_token="secret"), 1) == ["three"]
    assert lines(site.client(tail=1, headers={"Authorization": "Bearer secret"}), 1) == ["three"]


def test_a_server_that_shuts_down_takes_nobody(make: Sites) -> None:
    site = make()
    site.service.is_draining = True
    assert refused(site) == (503, "the server is shutting down\n", "1")


def test_a_full_server_says_how_many_it_takes(make: Sites) -> None:
    """A client that goes makes room."""
    site = make(max_clients=2)
    first, second = site.client(tail=1), site.client(tail=1)
    assert refused(site) == (503, "the server has its 2 clients\n", "5")
    first.close()
    eventually(lambda: len(site.service.hub.connections) == 1)
    assert lines(site.client(tail=1), 1) == ["three"]
    assert lines(second, 1) == ["three"]


# -- what takes long, or fails ----------------------------------------------------------------------------------------


class SlowService(Service):
    """Where a client begins is not known before `found` is set."""

    found: asyncio.Event

    async def begin_at(self, *arguments: Any) -> Resumed:
        """As ever, but later."""
        await self.found.wait()
        return await super().begin_at(*arguments)


def test_of_those_who_want_the_same_lines_only_the_first_waits_for_a_look_at_the_file(make: Sites) -> None:
    site = make()
    stream, view = site.service.monitor.streams["a.log"], View(Format.TEXT)

    def known(**wish: Any) -> bool:
        begun: Resumed | None = site.call(lambda: site.service.begin_now(stream, Wish("a.log", **wish), view))
        return begun is not None

    assert known(tail=0)
    assert known(from_start=True)
    assert not known(tail=2)
    assert lines(site.client(tail=2), 2) == ["two", "three"]
    assert known(tail=2)
    assert not known(tail=3)
    assert not known(tail=2, cursor="x")
    watcher = site.client(tail=0)
    site.append("four\n")
    assert lines(watcher, 1) == ["four"]
    assert not known(tail=2)
    assert lines(site.client(tail=2), 2) == ["three", "four"]


def test_a_client_that_is_being_opened_is_one_client(make: Sites) -> None:
    site = make(SlowService, max_clients=3)
    site.service.found = asyncio.Event()  # type: ignore[attr-defined]
    clients = [site.client(tail=1) for _ in range(3)]
    eventually(lambda: len(site.service.hub.connections) == 3)
    assert (site.service.handshakes, site.service.arriving) == (3, 0)
    assert refused(site)[0] == 503
    site.call(site.service.found.set)  # type: ignore[attr-defined]
    assert [lines(client, 1) for client in clients] == [["three"]] * 3
    eventually(lambda: site.service.handshakes == 0)


def test_only_so_many_are_opened_at_once(make: Sites) -> None:
    site = make(SlowService, max_handshakes=2)
    site.service.found = asyncio.Event()  # type: ignore[attr-defined]
    clients = [site.client(tail=1) for _ in range(2)]
    assert refused(site) == (429, "too many clients are connecting at once\n", "1")
    site.call(site.service.found.set)  # type: ignore[attr-defined]
    assert [lines(client, 1) for client in clients] == [["three"]] * 2
    eventually(lambda: site.service.handshakes == 0)
    assert lines(site.client(tail=1), 1) == ["three"]


class BrokenService(Service):
    """Where a client begins cannot be told."""

    async def begin_at(self, *_arguments: Any) -> Resumed:
        """Fails."""
        raise OSError(5, "the mount is gone")


def test_a_client_that_cannot_be_served_is_told_and_not_kept_waiting(
    make: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    site = make(BrokenService)
    assert closing(site.client()) == (1011, "an error inside the server")
    assert "the mount is gone" in caplog.text
    eventually(lambda: not site.service.hub.connections)


class HalfBrokenService(Service):
    """Where a client begins can be told of the first stream only."""

    async def begin_at(self, stream: Stream, *arguments: Any) -> Resumed:
        """Fails for the second."""
        if stream.name == "later.log":
            raise OSError(5, "the mount is gone")
        return await super().begin_at(stream, *arguments)


def test_a_client_that_asks_for_one_more_stream_is_told_too(make: Sites, caplog: pytest.LogCaptureFixture) -> None:
    """All its streams end: it comes back with its cursors, as after any other loss of the connection."""
    site = make(HalfBrokenService)
    client = site.client(JSON, tail=1)
    assert [message(client)["type"] for _ in range(2)] == ["hello", "lines"]
    client.send(json.dumps({"type": "subscribe", "stream": "later.log"}))
    error = message(client)
    assert (error["type"], error["code"], error["stream"]) == ("error", 1011, "later.log")
    assert closing(client) == (1011, "an error inside the server")
    assert "later.log: a client could not be served" in caplog.text
    assert "the mount is gone" in caplog.text
    eventually(lambda: not site.service.hub.connections)
    assert not site.service._pending


def slow_service() -> tuple[type[Service], asyncio.Event]:
    """A service that does not know where a client begins in the first stream before it is told to."""
    known = asyncio.Event()

    class SlowService(Service):
        async def begin_at(self, stream: Stream, *arguments: Any) -> Resumed:
            if stream.name == "a.log":
                await known.wait()
            return await super().begin_at(stream, *arguments)

    return SlowService, known


def test_the_greeting_is_first_whatever_a_client_says_before(make: Sites) -> None:
    kind, known = slow_service()
    site = make(kind)
    client = site.client(JSON, tail=1)
    for asked in ({"type": "subscribe", "stream": "later.log"}, {"type": "filter", "stream": "a.log", "grep": "four"}):
        client.send(json.dumps(asked))
    assert client.ping().wait(PATIENCE_S)  # they have come
    site.call(known.set)
    hello, added = message(client), message(client)
    assert (hello["type"], hello["stream"]) == ("hello", "a.log")
    assert (added["type"], added["stream"]) == ("subscribed", "later.log")
    site.append("five\nfour\n")
    assert message(client)["lines"] == ["four"]


def test_a_client_that_does_not_wait_for_the_greeting_may_say_so_much(make: Sites) -> None:
    kind, known = slow_service()
    site = make(kind)
    client = site.client(JSON)
    for _ in range(65):
        client.send("")
    assert closing(client) == (1008, "too many messages before the first one of the server")
    site.call(known.set)


def test_what_a_client_says_of_a_file_that_does_not_answer_holds_when_it_does(
    make: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "GREETING_S", 0.01)
    kind, known = slow_service()
    site = make(kind)
    leaves, filters, asks_again = (site.client(JSON, tail=3) for _ in range(3))
    for client in (leaves, filters, asks_again):
        assert message(client)["cursor"] is None
    leaves.send(json.dumps({"type": "unsubscribe", "stream": "a.log"}))
    assert message(leaves) == {"type": "unsubscribed", "stream": "a.log"}
    filters.send(json.dumps({"type": "filter", "stream": "a.log", "grep": "two|four"}))
    asks_again.send(json.dumps({"type": "subscribe", "stream": "a.log", "tail": 1}))
    assert filters.ping().wait(PATIENCE_S)
    assert asks_again.ping().wait(PATIENCE_S)
    site.call(known.set)
    for client, first in ((filters, "two"), (asks_again, "three")):
        assert message(client)["type"] == "subscribed"
        assert message(client)["lines"] == [first]
    leaves.send(json.dumps({"type": "subscribe", "stream": "a.log", "tail": 0}))
    assert message(leaves)["type"] == "subscribed"
    site.append("four\n")
    for client in (leaves, filters, asks_again):
        assert message(client)["lines"] == ["four"]
    assert len(site.service.openings) == 0


# -- what is wrong with a query ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        pytest.param({"tail": "x"}, 4009, "tail='x': a whole number from 0 to 1000000 is needed", id="no number"),
        pytest.param({"grep": "("}, 4009, 'grep: missing ): "("', id="no pattern"),
        pytest.param({"stream": "b.log"}, 4004, "no stream 'b.log'; there are: a.log, later.log", id="no such stream"),
        pytest.param({"lag": "skip"}, 4009, "lag=skip needs format=json", id="a contradiction"),
        pytest.param({"x" * 200: 1}, 4009, "unknown parameter", id="a reason that does not fit is cut"),
    ],
)
def test_it_is_told_by_the_close_for_browsers_to_read(
    still: Site, query: dict[str, Any], code: int, reason: str
) -> None:
    found, told = closing(still.client(**query))
    assert found == code
    assert told.startswith(reason)
    assert len(told.encode()) <= 123


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        pytest.param((JSON,), JSON, id="ours"),
        pytest.param(("chat", "logstream.json.v9"), "logstream.json.v9", id="one of ours that we do not know"),
        pytest.param((), None, id="none"),
    ],
)
def test_a_browser_that_offers_subprotocols_needs_one_back_to_read_the_reason(
    still: Site, offered: tuple[str, ...], answered: str | None
) -> None:
    client = still.client(*offered, tail="x")
    assert client.subprotocol == answered
    assert closing(client)[0] == 4009


# -- where a client begins --------------------------------------------------------------------------------------------


def test_patterns_go_with_the_clients_that_have_them() -> None:
    """They are large, and anybody may send ever new ones."""
    before = POOL.taken
    for name in ("grep", "%67rep", "exclude"):
        for number in range(20):
            ws._parse_query(f"{name}=gone.*{number}".encode(), ())
    gc.collect()
    assert POOL.taken <= before


def test_the_patterns_of_all_clients_are_bounded(still: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes too late is told so, and that it is worth another try; plain words always work."""
    with contextlib.closing(still.client(tail=10, grep="one.*")) as first:
        assert lines(first, 1) == ["one"]
        monkeypatch.setattr(POOL, "limit", POOL.taken)
        code, reason = closing(still.client(tail=10, grep="two.*"))
        assert (code, reason.partition(":")[0]) == (
            4008,
            "the patterns of all clients take up the memory that there is for them",
        )
        assert lines(still.client(tail=10, grep="two"), 1) == ["two"]
        assert lines(still.client(tail=10, grep="one.*"), 1) == ["one"]
        with pytest.raises(HTTPError, match="429"):
            urlopen(f"http://127.0.0.1:{still.port}/api/v1/streams/a.log/lines?grep=two.*", timeout=PATIENCE_S)


def test_plain_clients_get_the_last_lines(still: Site) -> None:
    assert lines(still.client(), 3) == ["one", "two", "three"]
    assert lines(still.client(tail=1), 1) == ["three"]
    assert lines(still.client(tail=10, grep="o"), 2) == ["one", "two"]
    assert lines(still.client(RAW, from_="start"), 1) == [b"one\ntwo\nthree\n"]


def test_lines_of_a_file_that_comes_later(make: Sites) -> None:
    site = make()
    client = site.client(stream="later.log")
    site.log.with_name("later.log").write_text("first\n")
    assert lines(client, 1) == ["first"]
    site.append("not this\n")
    with site.log.with_name("later.log").open("a") as later:
        later.write("second\n")
    assert lines(client, 1) == ["second"]


def test_json_clients_are_greeted_with_their_place(still: Site) -> None:
    client = still.client(JSON, tail=2)
    assert client.subprotocol == JSON
    hello = message(client)
    assert (hello["type"], hello["stream"], hello["recovered"]) == ("hello", "a.log", None)
    assert [stream["name"] for stream in hello["streams"]] == ["a.log", "later.log"]
    batch = message(client)
    assert (batch["lines"], batch["offset"]) == (["two", "three"], 4)
    again = still.client(format="json", cursor=hello["cursor"])
    assert message(again)["recovered"] is True
    assert message(again)["lines"] == ["two", "three"]


def test_a_json_client_may_begin_without_a_stream(still: Site) -> None:
    hello = message(still.client(JSON, stream=""))
    assert (hello["stream"], hello["cursor"]) == (None, None)


def test_a_json_client_may_come_before_any_file(make: Sites, tmp_path: Path) -> None:
    """A plain one would wait for something that it could not name."""
    (tmp_path / "empty").mkdir()
    site = make(paths=(NamedPath(str(tmp_path / "empty")),))
    assert message(site.client(JSON))["stream"] is None
    assert closing(site.client()) == (4004, "there is no file to follow yet")


LOST = encode_cursor(Cursor("another.log"))


def test_a_cursor_leads_to_its_own_stream(make: Sites, tmp_path: Path) -> None:
    (tmp_path / "later.log").write_text("later one\nlater two\n")
    site = make()
    hello = message(site.client(JSON, stream="later.log", tail=1))
    assert lines(site.client(cursor=hello["cursor"]), 1) == ["later two"]
    again = message(site.client(JSON, cursor=hello["cursor"]))
    assert (again["stream"], again["recovered"]) == ("later.log", True)
    assert closing(site.client(stream="a.log", cursor=hello["cursor"]))[0] == 4005


def test_a_cursor_that_cannot_be_honoured_is_never_a_guess(still: Site) -> None:
    """A plain client is closed, since it could not be told; a JSON client is told, and gets what it asked for."""
    code, reason = closing(still.client(cursor=LOST))
    assert code == 4005
    assert reason == "the cursor cannot be honoured: the cursor belongs to the stream 'another.log'"
    client = still.client(JSON, cursor=LOST, tail=1)
    hello = message(client)
    assert (hello["recovered"], hello["reason"]) == (False, "the cursor belongs to the stream 'another.log'")
    assert message(client)["lines"] == ["three"]


def test_a_file_without_byte_lines_is_refused_where_that_cannot_be_told_otherwise(make: Sites) -> None:
    site = make()
    site.log.with_name("later.log").write_bytes("zwölf\n".encode("utf-16"))
    eventually(lambda: site.service.monitor.streams["later.log"].state.status == "unsupported")
    code, reason = closing(site.client(stream="later.log"))
    assert code == 4010
    assert reason.startswith("later.log: the file is UTF-16; ")
    hello = message(site.client(JSON, stream="later.log"))
    assert hello["streams"][1]["state"] == "unsupported"


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_client_that_goes_while_it_is_being_opened_leaves_nothing(make: Sites) -> None:
    site = make(SlowService)
    site.service.found = asyncio.Event()  # type: ignore[attr-defined]
    client = site.client(tail=1)
    eventually(lambda: site.service.hub.connections)
    client.close()
    eventually(lambda: not site.service.hub.connections)
    site.call(site.service.found.set)  # type: ignore[attr-defined]
    eventually(lambda: site.service.handshakes == 0)
    stream: Stream = site.service.monitor.streams["a.log"]
    assert not stream.ring.is_watched


def test_a_client_that_is_being_closed_while_it_is_opened_gets_no_lines(make: Sites) -> None:
    """Its peer takes its time to answer the close; until then it must not look like one that reads the file."""
    site = make(SlowService)
    site.service.found = asyncio.Event()  # type: ignore[attr-defined]
    with RawClient(site.port, "/ws?tail=1&format=json").open() as peer:
        (connection,) = eventually(lambda: list(site.service.hub.connections))
        site.call(lambda: connection.finish(4001, "enough"))
        site.call(site.service.found.set)  # type: ignore[attr-defined]
        eventually(lambda: site.service.handshakes == 0)
        assert connection.is_closing
        assert not connection.is_gone
        assert not connection.subscriptions
        assert [opcode for opcode, _ in peer.frames()] == [Opcode.CLOSE]
    assert not site.service.monitor.streams["a.log"].ring.is_watched


def test_the_end_of_the_server_is_a_close_that_invites_to_come_back(make: Sites) -> None:
    site = make()
    plain, talkative = site.client(tail=0), site.client(JSON, tail=0)
    assert message(talkative)["type"] == "hello"
    site._inside.server.should_exit = True
    bye = message(talkative)
    assert (bye["type"], bye["reconnect"]) == ("bye", True)
    for client in (plain, talkative):
        assert closing(client) == (1012, "the server is shutting down")
    with contextlib.suppress(ConnectionClosed):
        plain.close()
