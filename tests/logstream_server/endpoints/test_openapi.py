"""openapi: every path of the API is described, and the server does what the description says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from logstream_server.app import create_app
from logstream_server.commandline.forms import NamedPath
from logstream_server.endpoints.openapi import PATHS, describe
from logstream_server.fanout import query
from logstream_server.service import Service
from logstream_server.settings import Settings
from logstream_server.tailing.stream import StreamStatus

from ..conftest import Serve

CONFIG = """
# Whether a pattern, a cursor or an entity tag is good is more than a schema can say.
checks.positive_data_acceptance.enabled = false
# A request line over 64 KiB is refused before anybody looks at what is in it.
checks.negative_data_rejection.expected-statuses = [400, 401, 404, 405, 406, 431, 503]
"""


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [item[method] for item in document["paths"].values() for method in ("get", "head")]


def test_every_route_is_described(tmp_path: Path) -> None:
    settings = Settings(paths=(NamedPath(str(tmp_path / "a.log")),))
    app = create_app(settings, Service.build(settings))
    api = next(route for route in app.routes if getattr(route, "path", "") == "/api/v1")
    routes = {route.path for route in api.app._app.router.routes}  # type: ignore[attr-defined]
    assert routes == set(PATHS)


@pytest.mark.parametrize(
    ("path", "known"),
    [("lines", query.LINES_PARAMETERS), ("events", query.EVENTS_PARAMETERS), ("search", query.SEARCH_PARAMETERS)],
)
def test_every_parameter_is_described(path: str, known: frozenset[str]) -> None:
    described = describe("", needs_token=False)["paths"][f"/streams/{{name}}/{path}"]["get"]["parameters"]
    assert {each["name"] for each in described if each["in"] == "query"} == known - {"access_token"}


def test_all_that_is_referred_to_is_there() -> None:
    document = describe("", needs_token=True)
    refs = set(re.findall(r'"\$ref":\s*"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert refs <= document["components"]["schemas"].keys()
    ids = [operation["operationId"] for operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_the_states_are_those_that_a_stream_may_have() -> None:
    states = describe("", needs_token=False)["components"]["schemas"]["Stream"]["properties"]["state"]["enum"]
    assert states == [status.value for status in StreamStatus]


def test_a_token_is_asked_for_where_it_is_needed() -> None:
    for needs_token in (False, True):
        document = describe("/team/app", needs_token=needs_token)
        assert document["servers"] == [{"url": "/team/app/api/v1"}]
        assert bool(document["security"]) == needs_token
        assert all(("401" in operation["responses"]) == needs_token for operation in operations(document))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    return path


def test_a_server_tells_its_own(serve: Serve, log: Path) -> None:
    answer = serve("--base-path", "/x", log).get("/x/api/v1/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == json.loads(json.dumps(describe("/x", needs_token=False)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("needs_token", [False, True], ids=["open", "token"])
def test_the_server_does_what_it_says(serve: Serve, log: Path, needs_token: bool) -> None:
    """Requests of all kinds, good and bad, by a program that knows nothing but the description. A live log without end
    is nothing for it: only its HEAD is asked for."""
    tokens, config = log.with_name("tokens"), log.with_name("schemathesis.toml")
    tokens.write_text("secret\n")
    config.write_text(CONFIG)
    server = serve("--base-path", "/x", *(("--token-file", tokens) if needs_token else ()), log)
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    words += [server.url + "api/v1/openapi.json", "--exclude-operation-id", "events", "--max-examples", "10"]
    words += [
        "--generation-deterministic",
        "--no-color",
        # Of its many wrong tokens, all but the first few would be refused as guesses, and the right one with them.
        *(("-H", "Authorization: Bearer secret", "--exclude-checks", "ignored_auth") if needs_token else ()),
    ]
    done = subprocess.run(words, cwd=log.parent, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, re.sub(r"(.{300}).*", r"\1", done.stdout)
    assert "Tested: 12" in done.stdout, done.stdout  # without `events`, and the description itself
