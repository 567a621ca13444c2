"""docs/operations.md: its lists are what there is (metrics, alerts, states), and its NGINX passes sockets on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from logstream_operator.metrics import Metrics
from logstream_server.access.gate import Why
from logstream_server.tailing.stream import StreamStatus

from .conftest import Serve
from .pages import blocks
from .process import eventually
from .proxied import nginx
from .tls import make_certificate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
ALERTS = ROOT / "charts/logstream-operator/files/alerts.yaml"
OF_ITSELF = {"le", "quantile"}
"""Labels that a type brings along."""


def part(heading: str) -> str:
    """What stands below a heading, up to the next one."""
    (found,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without their heads."""
    lines = [line for line in part(heading).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def described(heading: str) -> set[tuple[str, str, str]]:
    """Name, type and labels of each metric in a table."""
    return {(name.strip("`"), kind, ", ".join(sorted(labels.split(", ")))) for name, kind, labels, *_ in rows(heading)}


def exposed(families: Iterable[Metric]) -> set[tuple[str, str, str]]:
    """The same of what Prometheus gets; it has a counter by its whole name. When something was made, it needs not."""
    found = set()
    for family in families:
        if family.name.endswith("_created"):
            continue
        labels = {label for sample in family.samples for label in sample.labels} - OF_ITSELF
        name = family.name + ("_total" if family.type == "counter" else "")
        found.add((name, family.type, ", ".join(sorted(labels))))
    return found


def test_the_servers_metrics_are_those_of_a_scrape(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\n")
    certificate = make_certificate(tmp_path)
    server = serve(tmp_path / "a.log", "--tls-cert", certificate, "--metrics-port", "0")
    port = server.metrics_port
    eventually(lambda: server.get("/readyz", port=port).status == 200, "all streams")
    text = server.get("/metrics", port=port).body.decode()
    assert described("Metrics of a server") == exposed(text_string_to_metric_families(text))


def test_the_operators_metrics_are_those_of_its_registry() -> None:
    text = generate_latest(Metrics(lambda: 0).registry).decode()
    process = {row for row in described("Metrics of a server") if row[0].startswith("process_")}
    assert described("Metrics of the operator") | process == exposed(text_string_to_metric_families(text))


def test_each_metric_says_what_it_is_and_what_to_do() -> None:
    for heading in ("Metrics of a server", "Metrics of the operator"):
        for row in rows(heading):
            assert len(row) == 5, row
            assert all(row[at] for at in (0, 1, 3, 4)), row


def test_the_alerts_are_the_charts_and_each_has_its_section() -> None:
    alerts = [alert["alert"] for alert in yaml.safe_load(ALERTS.read_text())]
    assert re.findall(r"^### (LogStream\w+)$", PAGE, re.MULTILINE) == alerts
    for alert in alerts:
        assert part(alert).strip()


def test_states_and_reasons_are_all_there() -> None:
    assert {row[0].strip("`") for row in rows("States of a stream")} == {status.value for status in StreamStatus}
    reasons = {word for row in rows("Who is refused") for word in re.findall(r"`(\w+)`", row[0])}
    assert reasons == {why.value for why in Why}


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    places = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= places


@pytest.mark.parametrize("message", [row[0].strip("`") for row in rows("The log")])
def test_what_the_log_says_stands_in_the_code(message: str) -> None:
    """So that somebody who looks for words of the log finds them."""
    folders = (ROOT / "server/logstream_server", ROOT / "operator/logstream_operator")
    code = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    for words in filter(None, (piece.strip(" :,;") for piece in message.split("…"))):
        assert words in code, words


def test_nginx_by_hand_passes_the_socket_on(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n")
    server = serve(log)
    before, location = blocks(PAGE, "nginx")
    with nginx(tmp_path, location.replace("http://127.0.0.1:8080", server.url.rstrip("/")), before) as port:

        def read() -> bool:
            try:
                with connect(f"ws://127.0.0.1:{port}/ws", origin=f"http://127.0.0.1:{port}") as client:
                    return client.recv(timeout=20) == "one"
            except ConnectionRefusedError:  # it has not started yet
                return False

        assert eventually(read)
