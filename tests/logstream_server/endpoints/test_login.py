"""login: a browser trades the token for a cookie, and gives that up again; over real sockets, and in real Chromium."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ..browser import CHROMIUM, Browser
from ..conftest import Serve
from ..process import Answer, Server, eventually

TOKEN, OTHER = "a-token-for-everybody-1", "a-token-for-somebody-2"
STREAMS = "/team/app/api/v1/streams"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(f"{TOKEN} everybody\n{OTHER} somebody\n")
    return path


@pytest.fixture
def server(serve: Serve, tmp_path: Path, tokens: Path) -> Server:
    (tmp_path / "a.log").write_text("the first line\n")
    return serve("--token-file", tokens, "--base-path", "/team/app", tmp_path / "a.log")


def post(
    server: Server, path: str = "/team/app/login", token: str = TOKEN, body: str | None = None, **headers: str
) -> Answer:
    """The form, as a browser sends it."""
    headers = {"content_type": "application/x-www-form-urlencoded", **headers}
    return server.get(path, method="POST", body=urlencode({"token": token}) if body is None else body, **headers)


def cookie_of(answer: Answer) -> str:
    """The cookie that an answer sets, as it is sent back."""
    return answer.headers["set-cookie"].partition(";")[0]


def test_the_token_is_traded_for_a_cookie_that_does_not_hold_it(server: Server) -> None:
    answer = post(server)
    assert (answer.status, answer.headers["location"]) == (303, "./")
    name_value, *attributes = answer.headers["set-cookie"].split("; ")
    assert {each.lower() for each in attributes} == {"httponly", "max-age=43200", "path=/team/app", "samesite=strict"}
    assert TOKEN not in name_value
    assert answer.headers["cache-control"] == "no-store"
    assert server.get(STREAMS).status == 401
    assert server.get(STREAMS, cookie=name_value).status == 200
    with connect(server.ws_url, additional_headers={"Cookie": name_value}) as client:
        assert client.recv(timeout=20) == "the first line"


def test_the_cookie_is_good_on_every_server_with_the_same_token(serve: Serve, server: Server, tmp_path: Path) -> None:
    """And after a restart: no server remembers anybody."""
    (tmp_path / "others").write_text(f"{TOKEN}\n")
    other = serve("--token-file", tmp_path / "others", "--base-path", "/team/app", tmp_path / "a.log")
    assert other.get(STREAMS, cookie=cookie_of(post(server))).status == 200
    assert other.get(STREAMS, cookie=cookie_of(post(server, token=OTHER))).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x_forwarded_proto": "https"}, id="a proxy says so"),
        pytest.param({"origin": "https://{host}"}, id="the browser says so"),
    ],
)
def test_who_came_by_https_gets_a_cookie_for_https_only(server: Server, headers: dict[str, str]) -> None:
    answer = post(server, **{k: v.format(host=f"{server.host}:{server.port}") for k, v in headers.items()})
    assert answer.status == 303
    assert "; secure" in answer.headers["set-cookie"].lower()


def test_a_wrong_token_shows_the_form_again(server: Server) -> None:
    answer = post(server, token="<b>no</b>")
    assert answer.status == 401
    assert "This is not a valid token." in answer.body.decode()
    assert b"<b>no" not in answer.body
    assert "set-cookie" not in answer.headers


def test_guesses_come_to_an_end_and_the_form_says_so(server: Server) -> None:
    statuses = [post(server, token=f"guess {number}").status for number in range(25)]
    assert statuses[:20] == [401] * 20
    assert 429 in statuses[20:]
    answer = post(server)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) <= 30
    assert "Too many wrong tokens" in answer.body.decode()
    assert server.get(STREAMS, authorization=f"Bearer {TOKEN}").status == 429
    assert server.get("/healthz").status == 200


@pytest.mark.parametrize(
    ("origin", "site", "status"),
    [
        pytest.param("http://{host}", None, 303, id="our own page"),
        pytest.param("null", "same-origin", 303, id="our own page, without a referrer"),
        pytest.param("null", None, 403, id="an opaque origin"),
        pytest.param("null", "cross-site", 403, id="a sandboxed frame elsewhere"),
        pytest.param("http://evil.example", "cross-site", 403, id="another site"),
    ],
)
@pytest.mark.parametrize("path", ["login", "logout"])
def test_a_form_from_elsewhere_is_refused(
    server: Server, path: str, origin: str, site: str | None, status: int
) -> None:
    """Cross-site request forgery: nobody is logged in or out by another site's page."""
    headers = {"origin": origin.format(host=f"{server.host}:{server.port}")}
    if site is not None:
        headers["sec_fetch_site"] = site
    answer = post(server, f"/team/app/{path}", **headers)
    assert answer.status == status
    assert ("set-cookie" in answer.headers) == (status == 303 and path == "login")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param("token=" + "x" * 9000, {}, 413, id="a form far too long"),
        pytest.param('{"token": "x"}', {"content_type": "application/json"}, 415, id="no form"),
        pytest.param("token=%ff", {}, 400, id="bytes that are no letters"),
        pytest.param("a=1&b=2&c=3&d=4&e=5", {}, 400, id="too many fields"),
        pytest.param("", {}, 401, id="nothing"),
        pytest.param("other=x", {}, 401, id="no token"),
    ],
)
def test_a_form_without_sense_is_refused(server: Server, body: str, headers: dict[str, str], status: int) -> None:
    assert post(server, body=body, **headers).status == status


def test_another_method_is_told_which_there_are(server: Server) -> None:
    for path, methods in (("login", {"GET", "HEAD", "POST"}), ("logout", {"POST"}), ("session", {"GET", "HEAD"})):
        answer = server.get(f"/team/app/{path}", method="DELETE")
        assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, methods)


def test_who_goes_in_the_middle_of_the_form_is_no_mistake_of_ours(server: Server) -> None:
    """Anybody could fill the log with it: no token is needed for that."""
    request = b"POST /team/app/login HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with socket.create_connection((server.host, server.port), timeout=20) as sock:
        sock.sendall(request + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")  # the form is waited for
        sock.sendall(b"token=")
    assert post(server).status == 303
    server.stop()
    assert "Traceback" not in server.log


def test_the_form_leads_to_the_same_stream_and_never_to_another_host(server: Server) -> None:
    answer = post(server, "/team/app/login?stream=a.log&access_token=x&grep=%0d%0aSet-Cookie:%20a")
    assert answer.headers["location"] == "./?stream=a.log&grep=%0D%0ASet-Cookie%3A+a"
    for query in ("//evil.example", "next=https://evil.example", "%2f%2fevil.example"):
        assert post(server, f"/team/app/login?{query}").headers["location"].startswith("./?")


def test_who_is_logged_in_or_need_not_be_is_sent_on_to_the_page(serve: Serve, server: Server, tmp_path: Path) -> None:
    assert server.get("/team/app/login").status == 200
    onward = server.get("/team/app/login", cookie=cookie_of(post(server)))
    assert (onward.status, onward.headers["location"]) == (303, "./")
    open_server = serve(tmp_path / "a.log")
    assert open_server.get("/login").status == 303
    assert post(open_server, "/login").status == 303


def test_the_form_is_under_the_pages_policy_and_sends_its_origin(server: Server) -> None:
    answer = server.get("/team/app/login")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(rb"<script|style=|\son\w+=", answer.body)


def test_logging_out_takes_the_cookie_back_and_ends_what_it_opened(server: Server) -> None:
    cookie, other = cookie_of(post(server)), cookie_of(post(server))
    with (
        connect(server.ws_url, additional_headers={"Cookie": cookie}) as mine,
        connect(server.ws_url, additional_headers={"Cookie": other}) as another,
    ):
        assert (mine.recv(timeout=20), another.recv(timeout=20)) == ("the first line", "the first line")
        answer = post(server, "/team/app/logout", cookie=cookie)
        assert (answer.status, answer.headers["location"]) == (303, "login")
        assert cookie.partition("=")[0] + '=""; ' in answer.headers["set-cookie"]
        assert "Max-Age=0" in answer.headers["set-cookie"]
        with pytest.raises(ConnectionClosed, match=r"4002.*logged out"):
            mine.recv(timeout=20)
        another.ping().wait(20)


def test_the_page_is_told_whether_there_is_a_session(server: Server) -> None:
    assert server.get("/team/app/session").json == {
        "token_needed": True,
        "session": False,
        "allowed": False,
        "reason": "a valid token is needed",
    }
    state = server.get("/team/app/session", cookie=cookie_of(post(server))).json
    assert (state["session"], state["allowed"]) == (True, True)
    assert 43100 < state["expires_in_s"] <= 43200
    shown = server.get("/team/app/session", authorization=f"Bearer {TOKEN}").json
    assert (shown["session"], shown["allowed"]) == (False, True)


def test_a_withdrawn_token_ends_what_it_opened_and_its_sessions(server: Server, tokens: Path) -> None:
    """Without a restart, and nobody else is disturbed."""
    cookie = cookie_of(post(server))
    with (
        connect(server.ws_url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as by_token,
        connect(server.ws_url, additional_headers={"Cookie": cookie}) as by_cookie,
        connect(server.ws_url, additional_headers={"Authorization": f"Bearer {OTHER}"}) as other,
    ):
        for client in (by_token, by_cookie, other):
            assert client.recv(timeout=20) == "the first line"
        tokens.write_text(f"{OTHER} somebody\na-token-that-is-new-3\n")
        for client in (by_token, by_cookie):
            with pytest.raises(ConnectionClosed, match=r"4002.*the token was withdrawn"):
                client.recv(timeout=20)
        assert server.get(STREAMS, authorization=f"Bearer {TOKEN}").status == 401
        assert server.get(STREAMS, cookie=cookie).status == 401
        assert server.get(STREAMS, authorization="Bearer a-token-that-is-new-3").status == 200
        other.ping().wait(20)
    assert "tokens: 2 valid, 1 new, 1 withdrawn (everybody)" in server.log


def test_a_withdrawn_token_ends_the_live_log_over_http(server: Server, tokens: Path) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", f"{STREAMS}/a.log/events", headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        assert answer.status == 200
        tokens.write_text(f"{OTHER} somebody\n")
        rest = answer.read().decode()  # to its end
    assert '"lines":["the first line"]' in rest
    assert re.search(r'"type":"bye".*the token was withdrawn', rest)


def test_one_address_has_its_clients_and_no_more(serve: Serve, tmp_path: Path) -> None:
    """Over both ways to be one; who has gone makes room."""
    log = tmp_path / "a.log"
    log.write_text("the first line\n")
    server = serve("--max-clients-per-address", "1", log)
    with connect(server.ws_url) as first:
        assert first.recv(timeout=20) == "the first line"
        with pytest.raises(InvalidStatus, match="429"), connect(server.ws_url):
            pass
        refused = server.get("/api/v1/streams/a.log/events")
        assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    eventually(lambda: server.get("/api/v1/streams/a.log").json["clients"] == 0)
    with connect(server.ws_url) as second:
        assert second.recv(timeout=20) == "the first line"


def test_an_emptied_file_shuts_nobody_out_and_the_log_says_so(server: Server, tokens: Path) -> None:
    tokens.write_text("")
    eventually(lambda: "holds no token; the tokens that it held before stay valid" in server.log)
    assert server.get(STREAMS, authorization=f"Bearer {TOKEN}").status == 200
    with pytest.raises(InvalidStatus):
        connect(server.ws_url)


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with Browser(tmp_path, names="*.example") as chromium:
        yield chromium


LINES = "[...document.querySelectorAll('.line')].map((row) => row.textContent).join()"


@pytest.mark.parametrize("host", ["127.0.0.1", "logs.example"], ids=["this machine", "another name, without TLS"])
def test_a_person_logs_in_reads_and_logs_out(browser: Browser, server: Server, host: str) -> None:
    """Under the second name the browser does not trust the connection, and says less about where it comes from."""
    page = browser.page(server.url.replace("127.0.0.1", host) + "?grep=first")
    page.wait("document.activeElement.id === 'token'")
    page.type("wrong")
    assert page.wait("document.querySelector('[role=alert]')?.textContent") == "This is not a valid token."
    page.wait("document.activeElement.id === 'token'")
    page.type(TOKEN)
    page.wait(f"{LINES} === 'the first line'")
    assert page.path == "/team/app/?grep=first"
    assert page.run("document.cookie") == ""
    page.wait("!document.getElementById('logout').hidden")
    page.run("document.querySelector('#logout button').click()")
    page.wait("location.pathname === '/team/app/login' && document.activeElement.id === 'token'")
    page.go(server.url.replace("127.0.0.1", host))
    page.wait("location.pathname === '/team/app/login'")


def test_a_page_that_is_open_asks_again_when_its_token_is_withdrawn(
    browser: Browser, server: Server, tokens: Path
) -> None:
    page = browser.page(server.url)
    page.wait("document.activeElement.id === 'token'")
    page.type(TOKEN)
    page.wait(f"{LINES} === 'the first line'")
    tokens.write_text(f"{OTHER}\n")
    page.wait("location.pathname === '/team/app/login'")


def test_a_link_from_another_site_leads_to_the_log_of_who_is_logged_in(browser: Browser, server: Server) -> None:
    """The cookie does not come with the link itself; the page that it opens has it all the same."""
    page = browser.page(server.url)
    page.wait("document.activeElement.id === 'token'")
    page.type(TOKEN)
    page.wait(f"{LINES} === 'the first line'")
    elsewhere = browser.page(server.url.replace("127.0.0.1", "chat.example"))
    elsewhere.wait("location.pathname === '/team/app/login'")
    elsewhere.run(f"location.href = {server.url!r}")
    elsewhere.wait(f"location.host === '{server.host}:{server.port}' && {LINES} === 'the first line'")


class _Empty(BaseHTTPRequestHandler):
    """A page of somebody else's, with nothing that forbids its scripts anything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_another_sites_page_opens_no_socket_and_reads_nothing(browser: Browser, server: Server) -> None:
    """Cross-site WebSocket hijacking, from a page of another site in the browser of somebody who is logged in."""
    page = browser.page(server.url)
    page.wait("document.activeElement.id === 'token'")
    page.type(TOKEN)
    page.wait(f"{LINES} === 'the first line'")
    opened = (
        "new Promise((done) => { const socket = new WebSocket('%s'); "
        "socket.onopen = () => done('open'); socket.onclose = () => done('closed'); setTimeout(done, 15000, 'mute'); })"
    )
    read = "fetch('%sapi/v1/streams', {credentials: 'include'}).then(() => 'read', () => 'refused')"
    with ThreadingHTTPServer(("127.0.0.1", 0), _Empty) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        foreign = browser.page(f"http://evil.example:{elsewhere.server_port}/")
        foreign.wait("location.hostname === 'evil.example' && document.readyState === 'complete'")
        assert foreign.run(opened % server.ws_url) == "closed"
        assert foreign.run(read % server.url) == "refused"
        elsewhere.shutdown()
    assert page.run(opened % server.ws_url) == "open"
