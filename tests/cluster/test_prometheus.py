"""What a Prometheus sees of a LogStream: by the pods' annotations, with the chart's alerts and its dashboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from logstreams import CHART, RELEASE, SYSTEM, LogStream
from testcluster import settings
from testcluster.commands import wait_for
from testcluster.prometheus import Prometheus, prometheus

ALERTS: list[dict[str, Any]] = yaml.safe_load((CHART / "files/alerts.yaml").read_text())


@pytest.fixture
def watching() -> Iterator[Prometheus]:
    """A Prometheus beside the cluster; alerts need not wait here for as long as they do with people."""
    hurried = [{**alert, "for": "0s"} for alert in ALERTS]
    with prometheus(settings.Cache.from_env(), hurried) as running:
        yield running


def discover(running: Prometheus, stream: LogStream) -> None:
    """Scrape the servers of a LogStream, and the operator."""
    operators: list[Any] = stream.cluster.kubectl.get("pods", f"--namespace={SYSTEM}")["items"]
    running.discover([*stream.find("pods"), *operators])


def dashboard_expressions(namespace: str) -> list[str]:
    """All that the dashboard asks for, as Grafana would ask it."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if "expr" in node:
                yield node["expr"]
            node = list(node.values())
        if isinstance(node, list):
            for each in node:
                yield from walk(each)

    found = walk(json.loads((CHART / "files/dashboard.json").read_text()))
    return [each.replace("$namespace", namespace).replace("$__rate_interval", "30s") for each in found]


def empty_panels(running: Prometheus, namespace: str) -> list[str]:
    """What the dashboard asks for and does not get."""
    return [each for each in dashboard_expressions(namespace) if not running.ask(each)]


def firing(running: Prometheus, namespace: str) -> set[str]:
    """The alerts about a namespace or about the operator."""
    found = running.get("alerts")["alerts"]
    return {
        each["labels"]["alertname"]
        for each in found
        if each["state"] == "firing" and each["labels"].get("namespace") in (namespace, SYSTEM)
    }


def test_prometheus_has_the_figures_of_server_and_operator(stream: LogStream, watching: Prometheus) -> None:
    stream.write(*map(str, range(100)))
    stream.apply()
    stream.wait("Ready", "True", "Serving")
    discover(watching, stream)
    here = f'{{namespace="{stream.namespace}"}}'
    wait_for("the server to be scraped", lambda: [v for _, v in watching.ask(f"up{here}")] == [1], timeout_s=30)
    operator = f'up{{namespace="{SYSTEM}",pod=~"{RELEASE}-.*"}}'
    wait_for("the operator to be scraped", lambda: [v for _, v in watching.ask(operator)] == [1], timeout_s=30)
    with stream.open("?tail=0"):
        wait_for(
            "the client to be seen",
            lambda: [v for _, v in watching.ask(f"sum(logstream_clients{here})")] == [1],
            timeout_s=30,
        )
        stream.write(*map(str, range(100, 150)))
        sent = f"sum(logstream_lines_sent_total{here})"
        wait_for("what the client got", lambda: [v for _, v in watching.ask(sent)] == [50], timeout_s=30)
        read = f'logstream_lines_read_total{{namespace="{stream.namespace}",stream="app.log"}}'
        assert [v for _, v in watching.ask(read)] == [50], "those from before it began are read when somebody asks"
        wait_for("all of the dashboard", lambda: empty_panels(watching, stream.namespace) == [], timeout_s=60)
    rules = watching.get("rules")["groups"][0]["rules"]
    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in ALERTS}
    wait_for("all rules to be looked at", lambda: _health(watching) == {"ok"}, timeout_s=30)
    assert firing(watching, stream.namespace) == set()


def _health(running: Prometheus) -> set[str]:
    return {rule["health"] for rule in running.get("rules")["groups"][0]["rules"]}


def test_an_alert_tells_of_files_that_cannot_be_read_and_ends(stream: LogStream, watching: Prometheus) -> None:
    secret = stream.folder / "app.log"
    stream.write("one")
    secret.chmod(0o600)
    stream.apply()
    stream.wait("Available", "True")
    discover(watching, stream)
    wait_for("the alert", lambda: firing(watching, stream.namespace) == {"LogStreamFilesUnreadable"}, timeout_s=60)
    secret.chmod(0o644)
    wait_for("its end", lambda: firing(watching, stream.namespace) == set(), timeout_s=60)
    stream.wait("Ready", "True", "Serving")
