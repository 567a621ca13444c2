"""The charts, the samples and skaffold.yaml as files: what can be seen of them without Helm.

What they render, and that a cluster takes it, is shown on a cluster (tests/cluster).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from logstream_operator import names
from logstream_operator.roots import FORBIDDEN, OCCUPIED, Root, parse_roots
from logstream_operator.spec import parse_logstream
from logstream_operator.workload import Manifest

ROOT = Path(__file__).parent.parent.parent
CHARTS = [ROOT / "charts/logstream-operator", ROOT / "charts/logstream"]
OPERATOR = CHARTS[0]
SAMPLES = sorted((ROOT / "manifests/samples").glob("*.yaml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def paths(values: Any, prefix: str = "") -> Iterator[str]:
    """The dotted path of every value that is no mapping, or an empty one."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from paths(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix


def described(schema: dict[str, Any], path: str) -> bool:
    """Whether the schema has an entry for the value, or leaves its inside to the cluster's own schema."""
    for key in path.split("."):
        if "properties" not in schema:
            return True
        if key not in schema["properties"]:
            return False
        schema = schema["properties"][key]
    return True


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_value_is_in_the_schema(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    assert [path for path in paths(load(chart / "values.yaml")) if not described(schema, path)] == []
    assert schema["additionalProperties"] is False, "a misspelt value must be refused"


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_value_is_explained(chart: Path) -> None:
    """A line `# --` above each value, or above one that it is part of."""
    explained: set[str] = set()
    stack: list[tuple[int, str]] = []
    above = ""
    for line in (chart / "values.yaml").read_text().splitlines():
        found = re.match(r"( *)(\w+):", line)
        if found:
            stack = [each for each in stack if each[0] < len(found[1])] + [(len(found[1]), found[2])]
            if above:
                explained.add(".".join(name for _, name in stack))
        if line.lstrip().startswith("#"):
            above = "#" if above or "# --" in line else ""
        elif found or not line.strip():
            above = ""
    prefixes = [(path, [path.rsplit(".", n)[0] for n in range(9)]) for path in paths(load(chart / "values.yaml"))]
    assert [path for path, parts in prefixes if not explained & set(parts)] == []


@pytest.mark.parametrize(
    "template", [path for chart in CHARTS for path in (chart / "templates").rglob("*.yaml")], ids=lambda path: path.name
)
def test_a_template_makes_one_kind_of_object(template: Path) -> None:
    kinds = re.findall(r"^kind: (\w+)$", template.read_text(), re.MULTILINE)
    assert len(kinds) <= 1


def test_both_charts_have_the_same_version() -> None:
    first, second = (load(chart / "Chart.yaml") for chart in CHARTS)
    for key in ("version", "appVersion", "kubeVersion"):
        assert first[key] == second[key]
    assert load(CHARTS[1] / "values.yaml")["test"]["image"] == f"logstream-server:{first['appVersion']}"


def test_the_operator_has_the_rights_that_it_uses_and_no_more() -> None:
    text = (OPERATOR / "templates/_helpers.tpl").read_text() + (OPERATOR / "templates/clusterrole.yaml").read_text()
    rules = re.findall(r"- apiGroups: \[(.*?)\]\n\s+resources: \[(.*?)\]\n\s+verbs: \[(.*?)\]", text)
    granted = {
        (group.strip('"'), resource.strip()): set(re.split(r",\s*", verbs))
        for group, resources, verbs in rules
        for resource in resources.split(",")
    }
    used: dict[tuple[str, str], set[str]] = {
        (kind.api_version.rpartition("/")[0], kind.plural): {"get", "list", "watch", "create", "patch", "delete"}
        for kind in names.CHILDREN
    }
    used |= {
        ("monitoring.coreos.com", "podmonitors"): {"get", "list", "create", "patch", "delete"},
        ("logstream.dev", "logstreams"): {"get", "list", "watch"},
        ("logstream.dev", "logstreams/status"): {"patch"},
        ("", "nodes"): {"list", "watch"},
        ("", "namespaces"): {"get"},
        ("", "pods"): {"list", "watch"},
        ("", "events"): {"list", "create"},
        ("networking.k8s.io", "ingressclasses"): {"list"},
        # By kopf, to see the definition come and go.
        ("apiextensions.k8s.io", "customresourcedefinitions"): {"list", "watch"},
    }
    assert granted == used, "every right that is used, and none more"


@pytest.mark.parametrize(
    "path",
    [
        *(path for forbidden in FORBIDDEN for path in (forbidden, f"{forbidden}/below", f"{forbidden}2")),
        *(path for occupied in OCCUPIED for path in (occupied, f"{occupied}/below")),
        *("/", "/logs", "/logs/", "/logs/..", "/a/./b", "/a//b", "logs", "/minikube-host", "/var/log", "/var/log/apps"),
    ],
)
def test_the_chart_takes_the_folders_that_the_operator_takes(path: str) -> None:
    """Else `helm install` would be content, and the operator would not start."""
    schema = json.loads((OPERATOR / "values.schema.json").read_text())
    root = schema["properties"]["allowedRoots"]["items"]["properties"]["path"]
    template = (OPERATOR / "templates/validate.yaml").read_text()
    refused = [root["not"]["pattern"], *re.findall(r'\$(?:forbidden|occupied) := "(.*?)"', template)]
    assert len(refused) == 3
    takes = bool(re.search(root["pattern"], path)) and not any(re.search(each, path) for each in refused)
    try:
        parse_roots(json.dumps([{"path": path}]))
    except ValueError:
        assert not takes
    else:
        assert takes


# -- monitoring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["alerts.yaml", "dashboard.json"])
def test_monitoring_asks_for_metrics_that_there_are(file: str) -> None:
    sources = [
        ROOT / f"{module}/metrics.py" for module in ("server/logstream_server/endpoints", "operator/logstream_operator")
    ]
    known = {name for source in sources for name in re.findall(r'"([a-z_]+)"', source.read_text())}
    asked = re.findall(r"\blogstream_(?:operator_)?([a-z_]+)", (OPERATOR / "files" / file).read_text())
    asked = [re.sub("_(total|sum|count)$", "", name) for name in asked]
    assert asked
    assert set(asked) - known == set()


def test_alerts_say_what_and_where() -> None:
    for alert in load(OPERATOR / "files/alerts.yaml"):
        assert {"summary", "description"} == set(alert["annotations"]), alert
        assert alert["labels"]["severity"] in {"warning", "critical"}


# -- helm test ---------------------------------------------------------------------------------------------------------


@contextmanager
def serving(*options: str) -> Iterator[int]:
    """A server on a free port."""
    program = [sys.executable, "-m", "logstream_server", "serve", "--port", "0", "--log-format", "json", *options]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            yield next(int(found[1]) for line in server.stdout if (found := re.search(r"http://[^/]*:(\d+)/", line)))
        finally:
            server.terminate()
            server.communicate()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("tokens", ["", "# who may come in\n\nsecret-of-the-tests the tests\nanother\n"])
def test_the_program_of_helm_test_gets_a_line(host: str, tokens: str, tmp_path: Path) -> None:
    """With a token as it stands in a Secret, and in a cluster of either kind of address."""
    (tmp_path / "app.log").write_text("one\n")
    (tmp_path / "tokens").write_text(tokens)
    (tmp_path / "tokens").chmod(0o600)
    text = (CHARTS[1] / "templates/tests/line.yaml").read_text()
    program = textwrap.dedent(text.partition("- |\n")[2].partition("      {{- with")[0])
    values = {"name": '"APP"', "path": '"/ws"', "timeoutSeconds": "20"}
    program = re.sub(r"\{\{.*?\b(name|path|timeoutSeconds)\b.*?\}\}", lambda found: values[found[1]], program)
    options = ["--token-file", str(tmp_path / "tokens")] if tokens else []
    with serving("--host", host, *options, str(tmp_path / "app.log")) as port:
        given = {"APP_LOGSTREAM_SERVICE_HOST": host, "APP_LOGSTREAM_SERVICE_PORT": str(port), "TOKEN": tokens}
        ended = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **given}, capture_output=True, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith(" : 'one'\n")


# -- samples and skaffold ----------------------------------------------------------------------------------------------


def logstreams() -> list[Manifest]:
    found = [document for path in SAMPLES for document in yaml.safe_load_all(path.read_text())]
    return [document for document in found if document["kind"] == "LogStream"]


def test_there_are_samples() -> None:
    assert "minikube.yaml" in [path.name for path in SAMPLES]
    assert len(logstreams()) == len(SAMPLES)


@pytest.mark.parametrize("sample", logstreams(), ids=lambda sample: sample["metadata"]["name"])
def test_a_sample_is_taken_and_scales(sample: Manifest) -> None:
    body = {**sample, "metadata": {**sample["metadata"], "namespace": "default", "uid": "u"}}
    stream = parse_logstream(body)
    assert stream.spec.autoscaling is not None, "every sample shows autoscaling"
    roots = (Root("/minikube-host"), Root("/var/log/apps", groups=(4,)))
    host_path = stream.spec.source.host_path
    assert host_path is None or any(root.holds(host_path) for root in roots)


def test_the_minikube_sample_needs_the_charts_own_values_only() -> None:
    (sample,) = [each for each in logstreams() if each["metadata"]["name"] == "app"]
    allowed = [Root(each["path"]) for each in load(OPERATOR / "values.yaml")["allowedRoots"]]
    assert any(root.holds(sample["spec"]["source"]["hostPath"]) for root in allowed)


def test_skaffold_sets_values_that_there_are() -> None:
    config = load(ROOT / "skaffold.yaml")
    artifacts = {artifact["image"] for artifact in config["build"]["artifacts"]}
    assert artifacts == {"logstream-server", "logstream-operator"}
    for release in config["deploy"]["helm"]["releases"]:
        values = load(ROOT / release["chartPath"] / "values.yaml")
        schema = json.loads((ROOT / release["chartPath"] / "values.schema.json").read_text())
        for path, text in {**release.get("setValues", {}), **release.get("setValueTemplates", {})}.items():
            assert path.split(".")[0] in values
            assert described(schema, path), path
            for name in re.findall(r"IMAGE_(?:REPO|TAG|FULLY_QUALIFIED)_(\w+)", str(text)):
                assert name.replace("_", "-") in artifacts
    assert [profile["name"] for profile in config["profiles"]] == ["minikube"]
