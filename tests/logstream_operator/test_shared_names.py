"""Names that server, operator and chart share: each has its own copy, and this compares them."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from logstream_operator import names
from logstream_operator import settings as operator_settings
from logstream_operator.assess import BAD_STATES
from logstream_operator.roots import DEFAULT_ROOTS, parse_roots
from logstream_operator.servers import Answer
from logstream_operator.workload import DEFAULT_RESOURCES, USER, render_environment
from logstream_server.commandline.forms import NamedPath
from logstream_server.commandline.options import specs_of
from logstream_server.endpoints.status import TROUBLED, describe
from logstream_server.lines.ring import Ring
from logstream_server.service import Service
from logstream_server.settings import Settings as ServerSettings
from logstream_server.tailing.stream import Stream, StreamStatus

from .examples import resolved

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "charts/logstream-operator"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
FULL = {
    "source": {"hostPath": "/minikube-host/a", "files": ["a b.log", "c,d/*.log"]},
    "server": {
        "allowedOrigins": ["https://a.example"],
        "authSecretRef": {"name": "t"},
        "tailLines": 3,
        "maxClients": 5,
    },
    "ingress": {"path": "/team/app/ws"},
}


@pytest.mark.parametrize("change", [{}, FULL], ids=["the least spec", "a full one"])
def test_the_server_takes_every_variable_that_it_is_given(change: dict[str, Any]) -> None:
    environment = render_environment(resolved(change))
    known = {spec.variable for spec in specs_of(ServerSettings).values()}
    assert environment.keys() <= known
    settings = ServerSettings.from_env(environment, [])
    assert (settings.port, settings.metrics_port) == (names.HTTP_PORT, names.METRICS_PORT)
    assert [path.name for path in settings.paths] == [None] * len(settings.paths)


def test_the_server_reads_what_the_spec_says() -> None:
    settings = ServerSettings.from_env(render_environment(resolved(FULL)), [])
    assert [path.path for path in settings.paths] == ["/minikube-host/a/a b.log", "/minikube-host/a/c,d/*.log"]
    assert settings.roots == ("/minikube-host",)
    assert (settings.base_path, settings.tail_lines, settings.max_clients) == ("/team/app", 3, 5)
    assert settings.allowed_origins == ("https://a.example",)
    assert settings.token_files == ("/run/logstream/tokens",)
    assert not settings.insecure_open


def test_the_servers_defaults_are_the_definitions() -> None:
    settings = ServerSettings.from_env(render_environment(resolved()), [])
    assert (settings.tail_lines, settings.max_clients) == (ServerSettings().tail_lines, ServerSettings().max_clients)


def test_states_are_the_servers() -> None:
    assert {"following", "waiting", *BAD_STATES} <= {status.value for status in StreamStatus}
    assert {status.value for status in TROUBLED} == set(BAD_STATES)


def test_what_a_server_says_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service.build(ServerSettings(paths=(NamedPath("/no/such/file"),)))
    stream = Stream("a.log", "/a.log", (), Ring(4096))
    stream.state = replace(stream.state, status=StreamStatus.HUNG, detail="no answer")
    monkeypatch.setattr(service.monitor, "_streams", {"a.log": stream})
    answer = Answer.parse(json.dumps(describe(service)).encode())
    assert answer == Answer(0, answer.streams, ("a.log: no answer",))
    assert +answer.streams == {"hung": 1}


def test_the_chart_sets_every_variable_of_the_operator() -> None:
    text = (CHART / "templates/deployment.yaml").read_text()
    set_here = set(re.findall(r"LOGSTREAM_OPERATOR_\w+", text))
    known = {operator_settings.variable_of(field.name) for field in fields(operator_settings.Settings)}
    assert set_here == known


def test_the_charts_values_are_the_operators_defaults() -> None:
    assert VALUES["server"]["resources"] == DEFAULT_RESOURCES
    roots = [{key: value for key, value in each.items() if value} for each in VALUES["allowedRoots"]]
    assert parse_roots(str(roots).replace("'", '"')) == DEFAULT_ROOTS
    settings = operator_settings.Settings()
    assert VALUES["operator"]["workers"] == settings.workers
    assert VALUES["operator"]["resyncInterval"] == f"{settings.resync_interval_s:g}s"
    assert VALUES["requireAuth"] is settings.require_auth


def test_the_pod_of_helm_test_is_one_that_the_servers_let_in() -> None:
    """Also where the administrator says who else may reach them."""
    pod = (CHART.parent / "logstream/templates/tests/line.yaml").read_text()
    assert f'{names.LABEL_CLIENT}: {{{{ include "logstream.name" . | quote }}}}\n' in pod
    stream = (CHART.parent / "logstream/templates/logstream.yaml").read_text()
    assert '  name: {{ include "logstream.name" . | quote }}\n' in stream


def test_the_policy_knows_our_claims() -> None:
    assert f"startsWith('{names.SOURCE_PREFIX}')" in (CHART / "templates/policy-claims.yaml").read_text()


def test_users_are_those_of_the_chart() -> None:
    assert f"runAsUser: {USER}" in (CHART / "templates/deployment.yaml").read_text()
