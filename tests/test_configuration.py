"""docs/configuration.md: its tables are what docs/generate makes, and that leaves nothing out."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from logstream_operator import settings as operator_settings
from logstream_server.commandline.options import specs_of
from logstream_server.settings import Settings

ROOT = Path(__file__).parent.parent
GENERATE = ROOT / "docs/generate"
PAGE = ROOT / "docs/configuration.md"
NOT_THE_SERVERS = {
    *("source.nodeSelector", "source.sharedAcrossNodes", "source.supplementalGroups", "server.resources"),
    *("ingress.enabled", "ingress.className", "ingress.host", "ingress.viewer", "ingress.tls", "ingress.flavor"),
    "ingress.annotations",
}
"""Fields of a LogStream that are for Kubernetes: a server is told nothing of them."""


@pytest.fixture(scope="module")
def generate() -> dict[str, Any]:
    return runpy.run_path(str(GENERATE))


def test_the_committed_page_is_what_is_made() -> None:
    ended = subprocess.run([sys.executable, GENERATE, "--check"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_an_old_table_is_mended_and_what_is_written_by_hand_stays(generate: dict[str, Any]) -> None:
    page = PAGE.read_text()
    assert "`4MiB`" in page
    assert generate["fill"](page.replace("`4MiB`", "`3MiB`")) == page
    assert generate["fill"](page.replace("# Configuration", "# Settings")) != page


def test_a_table_that_there_is_not_is_no_table(generate: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="weather"):
        generate["fill"]("<!-- made by docs/generate: weather -->\n<!-- end -->")


def test_all_options_are_in_it_with_their_variables() -> None:
    page = PAGE.read_text()
    for spec in specs_of(Settings).values():
        assert f"`{spec.variable}`" in page
        assert f"`{spec.flag}" in page
    for name in operator_settings.options_of():
        assert f"`{operator_settings.flag_of(name)}`<br>`{operator_settings.variable_of(name)}`" in page


def test_each_field_of_a_logstream_was_thought_of(generate: dict[str, Any]) -> None:
    definition = yaml.safe_load((ROOT / "operator/logstream_operator/crd.yaml").read_text())
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    fields = {f"{part}.{name}" for part in ("source", "server", "ingress") for name in spec[part]["properties"]}
    assert fields == generate["PROBES"].keys() | NOT_THE_SERVERS


def test_each_variable_of_a_logstream_has_its_field(generate: dict[str, Any]) -> None:
    table = generate["render_logstream"]()
    for field in generate["PROBES"]:
        assert f"`spec.{field}`" in table, "it changes nothing"


def test_the_charts_values_are_there(generate: dict[str, Any]) -> None:
    values = generate["_chart_values"]()
    assert [name for name, value in values.items() if not value] == ["LOGSTREAM_OPERATOR_PORT"]
    chart = yaml.safe_load((ROOT / "charts/logstream-operator/values.yaml").read_text())
    for path in filter(None, values.values()):
        value = chart
        for key in path.split("."):
            value = value[key]
