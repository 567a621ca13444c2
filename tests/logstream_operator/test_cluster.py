"""cluster: requests as the API server takes them, and its refusals as our errors.

The API server itself answers in the tests of the cluster; here a small HTTP server keeps what it was asked, and answers
what a real one cannot be made to answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient

from logstream_operator import names
from logstream_operator.cluster import Cluster, _NoDiscovery, connect, read_message, translate
from logstream_operator.errors import CannotStart, Refused, Unreachable

DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "team", "uid": "u"}}


@dataclass
class Api:
    """What was asked, and what to answer, first come first served."""

    url: str = ""
    asked: list[tuple[str, str, dict[str, list[str]], str, Any]] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            sent = json.loads(body) if body else None
            kind = self.headers.get("Content-Type", "")
            found.asked.append((self.command, parts.path, parse_qs(parts.query), kind, sent))
            status, content = found.answers.pop(0)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_POST = do_DELETE = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def call(api: Api, ask: Callable[[Cluster], Coroutine[Any, Any, Any]]) -> Any:
    settings = client.Configuration(host=api.url)
    settings.retries = 0

    async def run() -> Any:
        with client.ApiClient(settings) as low:
            cluster = Cluster(DynamicClient(low, discoverer=_NoDiscovery))
            try:
                return await ask(cluster)
            finally:
                cluster.close()

    return asyncio.run(run())


def test_apply_is_a_forced_server_side_apply_with_our_name(api: Api) -> None:
    api.answers = [(200, DEPLOYMENT)]
    assert call(api, lambda cluster: cluster.apply(DEPLOYMENT)) == DEPLOYMENT
    ((verb, path, query, kind, body),) = api.asked
    assert (verb, path) == ("PATCH", "/apis/apps/v1/namespaces/team/deployments/a")
    assert query == {"fieldManager": ["logstream-operator"], "force": ["true"]}
    assert (kind, body) == ("application/apply-patch+yaml", DEPLOYMENT)


def test_a_status_is_written_to_its_subresource(api: Api) -> None:
    api.answers = [(200, {}), (404, {"message": "gone"})]
    call(api, lambda cluster: cluster.apply_status("team", "app", {"url": "x"}))
    assert api.asked[0][1] == "/apis/logstream.dev/v1alpha1/namespaces/team/logstreams/app/status"
    assert api.asked[0][4]["status"] == {"url": "x"}
    assert call(api, lambda cluster: cluster.apply_status("team", "app", {})) is None, "it may have gone meanwhile"


def test_only_the_very_object_is_deleted(api: Api) -> None:
    api.answers = [(200, {}), (404, {})]
    call(api, lambda cluster: cluster.delete(DEPLOYMENT))
    call(api, lambda cluster: cluster.delete(DEPLOYMENT))
    verb, _, _, _, body = api.asked[0]
    assert (verb, body["preconditions"]) == ("DELETE", {"uid": "u"})


def test_a_list_is_read_to_its_end(api: Api) -> None:
    api.answers = [
        (200, {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}),
        (200, {"metadata": {}, "items": [{"metadata": {"name": "b"}}]}),
    ]
    found = call(api, lambda cluster: cluster.list(names.POD, "team", labels="a=b", fields="c=d"))
    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("Pod", "a"), ("Pod", "b")]
    assert api.asked[0][2] == {"labelSelector": ["a=b"], "fieldSelector": ["c=d"], "limit": ["500"]}
    assert api.asked[1][2]["continue"] == ["more"]


def test_what_is_not_there_is_none(api: Api) -> None:
    api.answers = [(404, {"message": "not found"})] * 3
    assert call(api, lambda cluster: cluster.get(names.NODE, None, "n")) is None
    assert call(api, lambda cluster: cluster.list(names.POD_MONITOR, "team")) == []
    assert call(api, lambda cluster: cluster.knows(names.LOGSTREAM, None)) is False


def test_an_event_is_created(api: Api) -> None:
    api.answers = [(201, {})]
    call(api, lambda cluster: cluster.record({"reason": "R", "metadata": {"namespace": "team"}}))
    assert api.asked[0][:2] == ("POST", "/api/v1/namespaces/team/events")


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, 'admission webhook "w" denied the request: no', Refused),
        (403, "exceeded quota", Refused),
        (403, "unable to create new content in namespace team because it is being terminated", Unreachable),
        (404, "not found", Refused),
        (409, "the object has been modified", Unreachable),
        (422, "is invalid", Refused),
        (429, "storage is (re)initializing", Unreachable),
        (500, "etcdserver: leader changed", Unreachable),
        (500, 'Internal error occurred: failed calling webhook "w": no endpoints available', Refused),
        (503, "busy", Unreachable),
    ],
)
def test_whose_fault_it_is(api: Api, status: int, message: str, error: type[Exception]) -> None:
    api.answers = [(status, {"kind": "Status", "message": message})]
    with pytest.raises(error) as caught:
        call(api, lambda cluster: cluster.apply(DEPLOYMENT))
    assert message in str(caught.value)


def test_nobody_there(api: Api) -> None:
    api.url = "http://127.0.0.1:1"
    with pytest.raises(Unreachable, match=r"Errno 111. Connection refused$"):
        call(api, lambda cluster: cluster.get(names.NODE, None, "n"))


@pytest.mark.parametrize("body", [None, "", "<html>", "[]", "{}"])
def test_an_answer_without_words(body: str | None) -> None:
    error = ApiException(status=0, reason="cut off")
    error.body = body
    assert read_message(error)
    assert isinstance(translate(error, names.POD, "p"), Unreachable)


def test_an_api_server_that_does_not_answer_is_not_asked_over_and_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By one call: of one that hangs, it would hold its thread for two minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked: list[str] = []

        def answer_nothing() -> None:
            with suppress(OSError):
                while True:
                    with silent.accept()[0] as connection:
                        asked.append(connection.recv(4096).decode())

        thread = threading.Thread(target=answer_nothing)
        thread.start()
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        cluster = Cluster(connect())
        with pytest.raises(Unreachable, match="Connection"):
            asyncio.run(cluster.get(names.NODE, None, "n"))
        cluster.close()
        silent.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(asked) == 2


def test_no_cluster_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CannotStart, match="KUBECONFIG names none"):
        connect()
