"""app: what is served where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from .conftest import Serve

OPERATIONS = ("/healthz", "/readyz", "/metrics")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("one\n")
    return path


def test_everything_is_on_one_port(serve: Serve, log: Path) -> None:
    server = serve(log)
    for path in ("/", "/api/v1/streams", *OPERATIONS):
        assert server.get(path).status == 200, path
    with connect(server.ws_url) as client:
        assert client.recv(timeout=20) == "one"


def test_the_socket_asked_for_without_an_upgrade_says_what_it_is(serve: Serve, log: Path) -> None:
    answer = serve(log).get("/ws")
    assert (answer.status, answer.headers["upgrade"], answer.headers["connection"]) == (426, "websocket", "Upgrade")
    assert "WebSocket" in answer.json["detail"]


def test_below_a_base_path_is_everything_but_what_no_client_needs(serve: Serve, log: Path) -> None:
    server = serve("--base-path", "/team/app", log)
    assert server.url.endswith("/team/app/")
    for path in ("/", "/api/v1/streams", "/api/v1/streams/a.log/lines", "/assets/app.js"):
        assert server.get("/team/app" + path).status == 200, path
        assert server.get(path).status == 404, path
    for path in OPERATIONS:
        assert server.get(path).status == 200, path
        assert server.get("/team/app" + path).status == 404, path
    with connect(server.ws_url) as client:
        assert client.recv(timeout=20) == "one"


@pytest.mark.parametrize("path", ["/", "/ws", "/team/app/", "/team/app/wss", "/team/app/api/v1/streams", "/healthz"])
def test_where_there_is_no_socket_a_client_is_told_so(serve: Serve, log: Path, path: str) -> None:
    """403 would have its author look for an origin that is not allowed."""
    server = serve("--base-path", "/team/app", log)
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{server.host}:{server.port}{path}")
    answer = caught.value.response
    assert answer.status_code == 404
    assert json.loads(answer.body or b"")["detail"] == f"there is no WebSocket at {path}"


def test_the_base_path_without_its_slash_leads_to_the_page(serve: Serve, log: Path) -> None:
    """By a relative address, which is true whatever name and scheme the outside knows the server by."""
    server = serve("--base-path", "/team/app", log)
    for query in ("", "?stream=a.log&grep=%22a%20b%22"):
        answer = server.get("/team/app" + query)
        assert (answer.status, answer.headers["location"]) == (308, "app/" + query)


def test_with_a_metrics_port_health_and_metrics_are_there_and_nowhere_else(serve: Serve, log: Path) -> None:
    server = serve("--metrics-port", "0", "--base-path", "/app", log)
    port = server.metrics_port
    assert port != server.port
    for path in OPERATIONS:
        assert server.get(path).status == 404, path
        assert server.get(path, port=port).status == 200, path
    for path in ("/app/", "/app/api/v1/streams", "/"):
        assert server.get(path, port=port).status == 404, path


def test_a_name_with_a_newline_is_found_below_a_base_path(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "new\nline.log").write_text("one\n")
    server = serve("--base-path", "/app", tmp_path)
    assert server.get("/app/api/v1/streams/new%0Aline.log/lines").json["lines"] == ["one"]
