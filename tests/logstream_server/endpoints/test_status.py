"""status: words about files that give no lines, on the metrics port alone, and never many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from websockets.sync.client import connect

from logstream_server.commandline.forms import NamedPath
from logstream_server.endpoints.status import MAX_CHARS, MAX_TROUBLED, TROUBLED, describe
from logstream_server.lines.ring import Ring
from logstream_server.service import Service
from logstream_server.settings import Settings
from logstream_server.tailing.stream import Stream, StreamStatus

from ..conftest import Serve
from ..process import eventually


def a_service(monkeypatch: pytest.MonkeyPatch, *states: tuple[StreamStatus, str, str]) -> Service:
    """A service that follows nothing, with streams in these states: status, name, detail."""
    service = Service.build(Settings(paths=(NamedPath("/no/such/file"),)))
    streams = {}
    for status, name, detail in states:
        streams[name] = Stream(name, f"/{name}", (), Ring(4096))
        streams[name].state = replace(streams[name].state, status=status, detail=detail)
    monkeypatch.setattr(service.monitor, "_streams", streams)
    return service


def test_only_those_that_give_no_lines_though_there_is_a_file_are_told_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = a_service(monkeypatch, *((status, f"{status.value}.log", "because") for status in StreamStatus))
    found = describe(service)
    assert found["streams"] == {status.value: 1 for status in StreamStatus}
    assert [(each["state"], each["detail"]) for each in found["troubled"]] == [(s.value, "because") for s in TROUBLED]
    assert (found["clients"], found["untold"]) == (0, 0)


def test_however_many_and_long_they_are_the_answer_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    many = ((StreamStatus.HUNG, f"{number:04}{'n' * 4000}", "d" * 4000) for number in range(1000))
    found = describe(a_service(monkeypatch, *many))
    assert len(found["troubled"]) == MAX_TROUBLED
    assert found["untold"] == 1000 - MAX_TROUBLED
    for each in found["troubled"]:
        assert len(each["name"]) == len(each["detail"]) == MAX_CHARS
        assert each["detail"].endswith("d…")


def test_it_is_asked_for_without_a_token_on_its_own_port(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    (tmp_path / "good.log").write_text("confidential\n")
    (tmp_path / "wide.log").write_bytes("confidential\n".encode("utf-16"))
    server = serve(
        *("--token-file", tmp_path / "tokens", "--metrics-port", "0", "--poll-interval", "0.02"),
        *(tmp_path / "good.log", tmp_path / "wide.log", tmp_path / "missing.log"),
    )
    with connect(f"{server.ws_url}?stream=good.log&access_token=secret", compression=None):
        answer = server.get("/status", port=server.metrics_port)
    assert answer.headers["content-type"] == "application/json"
    found = answer.json
    assert found["clients"] == 1
    assert {state: count for state, count in found["streams"].items() if count} == {
        "following": 1,
        "unsupported": 1,
        "waiting": 1,
    }
    (wide,) = found["troubled"]
    assert (wide["name"], wide["state"]) == ("wide.log", "unsupported")
    assert "UTF-16" in wide["detail"]
    assert b"confidential" not in answer.body
    assert server.get("/status", method="HEAD", port=server.metrics_port).status == 200
    eventually(lambda: server.get("/status", port=server.metrics_port).json["clients"] == 0)


def test_where_clients_connect_there_is_no_such_thing(serve: Serve, tmp_path: Path) -> None:
    one, two = serve(tmp_path / "a.log"), serve("--metrics-port", "0", tmp_path / "a.log")
    assert one.get("/status").status == two.get("/status").status == 404
