"""problems: every error over HTTP is a problem detail (RFC 9457) with a fitting status."""

from __future__ import annotations

import json

import pytest

from logstream_server.endpoints.problems import _STATUS, problem
from logstream_server.errors import CloseCode

from ..conftest import Serve
from ..process import Server


def test_a_problem_says_what_is_wrong_to_programs_and_people() -> None:
    answer = problem(404, "no stream 'x'", code=CloseCode.NO_SUCH_STREAM)
    assert answer.media_type == "application/problem+json"
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no stream 'x'",
        "code": 4004,
    }


@pytest.mark.parametrize("status", [429, 503])
def test_what_passes_by_itself_says_when_to_come_back(status: int) -> None:
    assert problem(status, "later").headers["retry-after"].isdecimal()
    assert problem(status, "later", {"Retry-After": "60"}).headers["retry-after"] == "60"


def test_every_close_code_has_a_status() -> None:
    assert _STATUS.keys() == set(CloseCode)
    assert {CloseCode(code): _STATUS[CloseCode(code)] for code in (4009, 4004, 4008, 4010)} == {
        CloseCode.BAD_REQUEST: 400,
        CloseCode.NO_SUCH_STREAM: 404,
        CloseCode.LIMIT: 429,
        CloseCode.UNSUPPORTED_FILE: 415,
    }


@pytest.fixture(scope="module")
def still(serve_for_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose log no test writes to."""
    path = tmp_path_factory.mktemp("still") / "a.log"
    path.write_text("one\n")
    return serve_for_all(path)


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nothing/here", 404, "there is nothing at /nothing/here"),
        ("GET", "/api/v1/nothing", 404, "there is nothing at /api/v1/nothing"),
        ("GET", "/api/v1/streams/", 404, "there is nothing at /api/v1/streams/"),
        ("GET", "/api/v1/streams/a%2Fb/lines", 404, "there is nothing at /api/v1/streams/a/b/lines"),
        ("GET", "/assets/../../../etc/passwd", 404, "there is nothing at /assets/../../../etc/passwd"),
        ("POST", "/api/v1/streams", 405, "POST is not possible here"),
        ("DELETE", "/", 405, "DELETE is not possible here"),
        ("GET", "/api/v1/streams/none.log", 404, "no stream 'none.log'; there are: a.log"),
        ("GET", "/api/v1/streams/a.log/lines?tail=x", 400, "tail='x': a whole number from 0 to 1000000 is needed"),
    ],
)
def test_a_refusal_of_the_server_is_a_problem(still: Server, method: str, path: str, status: int, detail: str) -> None:
    answer = still.get(path, method=method)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json["detail"] == detail
    assert answer.json["status"] == status
    assert (status != 405) or "GET" in answer.headers["allow"]
