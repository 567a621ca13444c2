"""tls: what is served over it, who never gets so far, and a server that has a certificate, from outside.

Clients that stall, come back or break the rules over TLS are in scenarios/test_clients, bytes and flow in
test_connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from logstream_server.encoding.frames import Message, Opcode, encode_frame, parse_close
from logstream_server.fanout.connection import Connection
from logstream_server.transport.arrival import http_protocol
from logstream_server.transport.protocol import EXTENSION
from logstream_server.transport.tls import MAX_EARLY_BYTES, SLICE_S, Reception, TlsTransport, behind_tls

from ..browser import CHROMIUM, Browser
from ..conftest import Serve
from ..inside import PATIENCE_S, Inside, RawClient, serve_app
from ..process import Server, eventually
from ..tls import Authority

SHORT_S, LONG_S = 0.2, 3600.0
LARGE = bytes(range(256)) * 4096
"""More than many TLS records carry, and than the kernel takes."""
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class App:
    """Answers with the scheme, `/large` with much; sockets are taken over at `/take`, and echo else."""

    now = 0.0

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.messages: list[bytes] = []

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "websocket":
            await self.talk(scope, receive, send)
            return
        body = LARGE if scope["path"] == "/large" else scope["scheme"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def talk(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/take":
            self.connections.append(Connection(self, "text"))
            scope["extensions"][EXTENSION](self.connections[-1])
            return
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})

    def connection_ready(self, connection: Connection) -> None:
        """As the hub has it."""

    def connection_message(self, _connection: Connection, _opcode: Opcode, payload: bytes) -> None:
        self.messages.append(payload)

    def connection_gone(self, connection: Connection) -> None:
        """As the hub has it."""


Serving = Callable[..., Inside]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(scope="session")
def context(authority: Authority) -> ssl.SSLContext:
    """Of a server."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_2  # as the server's own: Debian's OpenSSL offers less by default
    made.load_cert_chain(*authority.issue())
    return made


@pytest.fixture(params=["asyncio", "uvloop"])
def serving(
    app: App, context: ssl.SSLContext, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[Serving]:
    """Start a server on each kind of loop; whatever its clients do, it logs nothing of it."""
    caplog.set_level(logging.INFO, "asyncio")
    servers: list[Inside] = []

    def start(timeout_s: float = LONG_S, find: Callable[[], ssl.SSLContext] = lambda: context) -> Inside:
        http = behind_tls(http_protocol(LONG_S), Reception(find, timeout_s))
        servers.append(serve_app(app, http=http, timeout_keep_alive=3600, loop=request.param))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
    assert [each for each in caplog.messages if "Using selector" not in each] == []


def plain(server: Inside) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)


def talk_tls(server: Inside, authority: Authority) -> ssl.SSLSocket:
    """A client that also notices when the server ends without a goodbye."""
    return authority.trust.wrap_socket(plain(server), server_hostname="localhost", suppress_ragged_eofs=False)


def rest(sock: socket.socket) -> bytes:
    """All that comes until the server closes; fails when it does not."""
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def end_of(sock: socket.socket) -> bytes:
    """The same, of a connection that may be cut."""
    try:
        return rest(sock)
    except ConnectionError:
        return b""


def newcomers(server: Inside) -> int:
    return server.call(lambda: len(server.server.server_state.connections))


# -- what is served ---------------------------------------------------------------------------------------------------


def test_requests_and_answers_of_any_size(serving: Serving, authority: Authority) -> None:
    with closing(talk_tls(serving(), authority)) as sock, closing(sock.makefile("rb")) as stream:
        for path, body in ((b"/", b"https"), (b"/large", LARGE), (b"/", b"https")):
            sock.sendall(REQUEST.replace(b"/ ", path + b" "))
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
            assert stream.read(len(body)) == body


def test_a_request_that_comes_with_the_end_of_the_handshake_is_served(serving: Serving, authority: Authority) -> None:
    """In one piece, and the handshake cut into its bytes before."""
    server = serving()
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.trust.wrap_bio(back, there, server_hostname="localhost")
    with closing(plain(server)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        for byte in there.read():
            sock.sendall(bytes([byte]))
        while True:
            back.write(sock.recv(65536))
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        client.write(REQUEST)
        sock.sendall(there.read())
        answer = b""
        while b"https" not in answer:
            try:
                answer += client.read()
            except ssl.SSLWantReadError:
                back.write(sock.recv(65536))


def test_a_socket_is_taken_over(serving: Serving, app: App, authority: Authority) -> None:
    server = serving()
    with RawClient(server.port, "/take", authority.trust).open() as client:
        client.send(Opcode.TEXT, b"hello")
        eventually(lambda: app.messages == [b"hello"])
        (connection,) = app.connections
        frames = encode_frame(Opcode.BINARY, LARGE)
        server.call(lambda: connection.write(frames[:100], frames[100:]))
        assert client.frames() == [Message(Opcode.BINARY, LARGE)]
        eventually(lambda: not connection.blocked)
        server.call(lambda: connection.finish(4005, "a gap"))
        (close,) = client.frames()
        assert parse_close(close.payload) == (4005, "a gap")
        client.send(Opcode.CLOSE, close.payload)
        assert client.rest() == b""
    eventually(lambda: connection.is_gone)


def test_an_app_that_does_not_take_it_over_talks_over_tls_too(serving: Serving, authority: Authority) -> None:
    """With much at once: uvicorn's class stops reading now and then."""
    with RawClient(serving().port, "/echo", authority.trust).open() as client:
        for _ in range(20):
            client.send(Opcode.BINARY, LARGE[:60_000])
        assert client.frames(20) == [Message(Opcode.BINARY, LARGE[:60_000])] * 20


def test_who_says_goodbye_is_answered_and_gone(serving: Serving, authority: Authority) -> None:
    server = serving()
    sock = talk_tls(server, authority)
    sock.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"https"):
        answer += sock.recv(65536)
    sock.unwrap().close()
    eventually(lambda: newcomers(server) == 0)


def test_an_end_is_said_so_that_nobody_takes_a_part_for_the_whole(serving: Serving, authority: Authority) -> None:
    with closing(talk_tls(serving(), authority)) as sock:
        sock.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert rest(sock).endswith(b"https")


def test_a_record_that_was_tampered_with_ends_the_connection(serving: Serving, app: App, authority: Authority) -> None:
    server = serving()
    with RawClient(server.port, "/take", authority.trust).open() as client:
        raw = socket.socket(fileno=client.sock.detach())
        with closing(raw):
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            raw.settimeout(PATIENCE_S)
            rest(raw)
    eventually(lambda: app.connections[0].is_gone)


# -- who never gets so far --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["nothing", "a byte", "half a hello"]
)
def test_who_does_not_begin_is_closed_after_a_time(serving: Serving, sent: bytes) -> None:
    with closing(plain(serving(SHORT_S))) as sock:
        sock.sendall(sent)
        assert rest(sock) == b""


def test_bytes_that_come_one_by_one_do_not_buy_time(serving: Serving) -> None:
    with closing(plain(serving(SHORT_S))) as sock:
        sock.settimeout(0.01)
        for byte in b"\x16\x03\x01\x40\x00" + bytes(round(PATIENCE_S / 0.01)):
            try:
                sock.sendall(bytes([byte]))
                assert sock.recv(10) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                pass
            return
        pytest.fail("it is still there")


def test_plain_http_is_told_where_to_go(serving: Serving) -> None:
    with closing(plain(serving())) as sock:
        sock.sendall(REQUEST)
        answer = rest(sock)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"\r\n\r\nthis port speaks TLS: use https:// or wss://\n")


@pytest.mark.parametrize("sent", [b"\x00\x01\x02", b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02"])
def test_what_is_neither_gets_no_answer_that_it_would_not_understand(serving: Serving, sent: bytes) -> None:
    with closing(plain(serving())) as sock:
        sock.sendall(sent)
        answer = end_of(sock)
    assert answer[:1] in (b"", b"\x15")  # an alert (RFC 8446, 6)


def test_a_beginning_without_end_is_not_kept(serving: Serving) -> None:
    """The loop is held up meanwhile, so that it gets all of it before it answers the first of it."""
    server = serving()
    with closing(plain(server)) as sock:
        eventually(lambda: newcomers(server) == 1)
        sent = server.call(lambda: sock.send(b"\x16\x03\x01\x40\x00" + bytes(MAX_EARLY_BYTES)))
        assert sent > MAX_EARLY_BYTES
        assert end_of(sock) == b""


def test_an_old_version_is_refused_by_name(serving: Serving, authority: Authority) -> None:
    trust = authority.trust
    trust.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        trust.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        trust.maximum_version = ssl.TLSVersion.TLSv1_1
    with closing(plain(serving())) as sock, pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        trust.wrap_socket(sock, server_hostname="localhost")


def test_whoever_goes_in_the_middle_is_forgotten(serving: Serving) -> None:
    server = serving()
    socks = [plain(server) for _ in range(5)]
    eventually(lambda: newcomers(server) == 5)
    for sock, sent in zip(socks, (b"", b"\x16", b"GET", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x00\x00"), strict=True):
        if sent:
            sock.sendall(sent)
        sock.close()
    eventually(lambda: newcomers(server) == 0)


def test_the_end_of_the_server_waits_for_no_handshake(serving: Serving) -> None:
    server = serving()
    with closing(plain(server)) as sock:
        eventually(lambda: newcomers(server) == 1)
        server.stop()
        assert rest(sock) == b""


def test_many_who_come_at_once_are_all_let_in(serving: Serving, authority: Authority) -> None:
    server = serving()
    trust = authority.trust

    async def wait() -> list[bytes]:
        async def one() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trust)
            writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answer = await reader.read()
            writer.close()
            return answer

        return await asyncio.gather(*(one() for _ in range(100)))

    answers = asyncio.run(wait())
    assert all(answer.endswith(b"https") for answer in answers)


def test_between_handshakes_other_work_of_the_loop_has_its_turn(context: ssl.SSLContext) -> None:
    """However many wait. Each of these takes longer than all may take at a time."""
    order: list[str] = []

    class Slow(TlsTransport):
        def go_on(self) -> None:
            time.sleep(SLICE_S)
            order.append("handshake")

    async def main() -> None:
        reception = Reception(lambda: context, LONG_S)
        for _ in range(3):
            reception.ask(Slow(reception, asyncio.Protocol, set()))
        while len(order) < 6:
            await asyncio.sleep(0)
            order.append("other")

    asyncio.run(main())
    assert order[:6] == ["handshake", "other"] * 3


def test_an_error_with_one_of_them_does_not_hold_up_the_others(
    app: App, context: ssl.SSLContext, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([MemoryError("on purpose")])

    def find() -> ssl.SSLContext:
        for fault in faults:
            raise fault
        return context

    server = serve_app(app, http=behind_tls(http_protocol(LONG_S), Reception(find, LONG_S)))
    try:
        with pytest.raises(OSError):  # noqa: PT011 - an end, whichever
            talk_tls(server, authority)
        with closing(talk_tls(server, authority)) as sock:
            sock.sendall(REQUEST)
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
    finally:
        server.stop()
    assert "on purpose" in caplog.text


# -- a server with a certificate --------------------------------------------------------------------------------------

TOKEN = "a-long-and-random-token"
STREAM = "/api/v1/streams/app.log"


class Site:
    """A log, a pair of certificate and key where others renew it, and who signs it."""

    def __init__(self, folder: Path, authority: Authority, serve: Serve) -> None:
        self.log = folder / "app.log"
        self.log.write_text("one\ntwo\n")
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self._authority, self._serve = authority, serve
        self.renew()

    def renew(self) -> None:
        """Replace both files, one after the other."""
        for file, new in zip((self.cert, self.key), self._authority.issue(), strict=True):
            copy = file.with_suffix(".new")
            copy.write_bytes(new.read_bytes())
            copy.chmod(0o600)
            copy.replace(file)

    def serve(self, *options: str | Path) -> Server:
        """A server."""
        server = self._serve(self.log, "--tls-cert", self.cert, "--tls-key", self.key, *options)
        server.trust = self._authority.trust
        return server

    @property
    def trust(self) -> ssl.SSLContext:
        """Of its clients."""
        return self._authority.trust

    @property
    def certificate(self) -> bytes:
        """That the file has now."""
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----")

    def met(self, server: Server) -> bytes | None:
        """The certificate that a new client meets."""
        sock = socket.create_connection((server.host, server.port), PATIENCE_S)
        with self.trust.wrap_socket(sock, server_hostname="127.0.0.1") as client:
            return client.getpeercert(binary_form=True)


@pytest.fixture
def site(tmp_path: Path, authority: Authority, serve: Serve) -> Site:
    return Site(tmp_path, authority, serve)


def test_all_that_is_served_is_served_over_tls(site: Site) -> None:
    server = site.serve()
    assert server.url.startswith("https://127.0.0.1:")
    assert b"<html" in server.get("/").body
    assert server.get("/healthz").status == 200
    assert server.get(f"{STREAM}/raw").body == b"one\ntwo\n"
    assert server.get(f"{STREAM}/raw", range="bytes=4-6").body == b"two"
    assert server.get(f"{STREAM}/lines").json["lines"] == ["one", "two"]
    with connect(server.ws_url, ssl=site.trust, compression="deflate") as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert [client.recv(PATIENCE_S), client.recv(PATIENCE_S)] == ["one", "two"]
        with site.log.open("a") as log:
            log.write("three\n")
        assert client.recv(PATIENCE_S) == "three"
    assert "strict-transport-security" not in server.get("/").headers


def test_events_come_as_they_happen(site: Site) -> None:
    server = site.serve()
    sock = socket.create_connection((server.host, server.port), PATIENCE_S)
    with site.trust.wrap_socket(sock, server_hostname="127.0.0.1") as client, client.makefile("rb") as stream:
        client.sendall(f"GET {STREAM}/events?tail=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        for line in ("two", "three"):
            while line.encode() not in stream.readline():
                pass
            with site.log.open("a") as log:
                log.write("three\n")


def test_a_large_download_is_whole_for_who_reads_slowly(site: Site) -> None:
    content = b"".join(b"%07d of many lines\n" % number for number in range(400_000))
    site.log.write_bytes(content)
    assert site.serve().get(f"{STREAM}/raw").body == content


def test_health_and_metrics_on_their_own_port_are_for_prometheus_and_plain(site: Site) -> None:
    server = site.serve("--metrics-port", "0")
    metrics = server.get("/metrics", port=server.metrics_port).body.decode()
    (end,) = re.findall(r"^logstream_certificate_expiry_timestamp_seconds (\S+)$", metrics, re.MULTILINE)
    assert float(end) > time.time()
    assert f"http://127.0.0.1:{server.metrics_port}/" in server.log
    assert server.get("/healthz", port=server.metrics_port).status == 200
    assert server.get("/healthz").status == 404


def test_the_end_of_the_server_is_announced_over_tls(site: Site) -> None:
    server = site.serve("--drain", "5")
    with connect(server.ws_url, ssl=site.trust) as client:
        assert [client.recv(PATIENCE_S), client.recv(PATIENCE_S)] == ["one", "two"]
        server.process.terminate()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    server.process.wait(PATIENCE_S)
    assert "ERROR" not in server.log


def test_a_session_of_the_page_is_for_https_only_and_of_its_own_page(site: Site, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(TOKEN + "\n")
    server = site.serve("--token-file", tmp_path / "tokens")
    own = {"origin": server.url.rstrip("/"), "content_type": "application/x-www-form-urlencoded"}
    answer = server.get("/login", method="POST", body=f"token={TOKEN}", **own)
    assert answer.status == 303
    cookie = answer.headers["set-cookie"]
    assert "; Secure" in cookie
    with connect(
        server.ws_url,
        ssl=site.trust,
        origin=own["origin"],  # type: ignore[arg-type]
        additional_headers={"Cookie": cookie.partition(";")[0]},
    ) as client:
        assert client.recv(PATIENCE_S) == "one"
    assert server.get(STREAM, authorization=f"Bearer {TOKEN}", origin="https://elsewhere.example").status == 403


def test_without_a_token_it_goes_by_its_own_names(site: Site) -> None:
    server = site.serve("--allowed-origin", "https://logs.example")
    statuses = [server.get("/", host=host).status for host in (f"localhost:{server.port}", "logs.example", "evil.test")]
    assert statuses == [200, 200, 403]


def test_a_person_logs_in_and_reads_the_page(site: Site, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    (tmp_path / "tokens").write_text(TOKEN + "\n")
    server = site.serve("--token-file", tmp_path / "tokens")
    with Browser(tmp_path, "--ignore-certificate-errors") as browser:
        page = browser.page(server.url)
        page.wait("document.activeElement.id === 'token'")
        page.type(TOKEN)
        page.wait("[...document.querySelectorAll('.line')].map((row) => row.textContent).join() === 'one,two'")
        with site.log.open("a") as log:
            log.write("three\n")
        page.wait("document.querySelectorAll('.line').length === 3")


def test_a_renewed_certificate_is_for_who_comes_next_and_disturbs_nobody(site: Site) -> None:
    server, before = site.serve(), site.certificate
    assert site.met(server) == before
    with connect(server.ws_url, ssl=site.trust) as client:
        assert [client.recv(PATIENCE_S), client.recv(PATIENCE_S)] == ["one", "two"]
        site.cert.write_text("half of it")
        eventually(lambda: "holds no certificate in PEM form; the certificate before goes on being used" in server.log)
        assert site.met(server) == before
        site.renew()
        eventually(lambda: site.met(server) == site.certificate)
        with site.log.open("a") as log:
            log.write("three\n")
        assert client.recv(PATIENCE_S) == "three"
    assert server.log.count("holds no certificate") == 1
    assert server.log.count("a new certificate is used from now on") == 1
