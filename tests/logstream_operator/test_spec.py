"""spec: what the definition lets through, as values, with the same defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given

import logstream_operator
from logstream_operator.errors import NotAccepted
from logstream_operator.names import GROUP, MAX_NAME, PLURAL, VERSION, Key
from logstream_operator.spec import (
    Autoscaling,
    Ingress,
    LogStreamSpec,
    SecretRef,
    Server,
    Source,
    parse_all,
    parse_logstream,
    parse_spec,
)

from .examples import a_body, a_spec, specs

DEFINITION: dict[str, Any] = yaml.safe_load((Path(logstream_operator.__file__).parent / "crd.yaml").read_text())
SCHEMA = DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def fill(schema: dict[str, Any], value: Any) -> Any:
    """What the API server makes of a value: the defaults of the schema, also inside of defaults."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, part in schema.get("properties", {}).items():
        if name not in filled and "default" in part:
            filled[name] = part["default"]
        if name in filled:
            filled[name] = fill(part, filled[name])
    return filled


def walk(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every part of a schema with its path."""
    found = [(path, schema)]
    for name, part in schema.get("properties", {}).items():
        found += walk(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += walk(schema[key], f"{path}[]")
    return found


@given(specs)
def test_defaults_are_those_of_the_definition(spec: dict[str, Any]) -> None:
    """So that rendering in a test is rendering in a cluster."""
    assert parse_spec(spec) == parse_spec(fill(SCHEMA["properties"]["spec"], spec))


def test_the_least_spec() -> None:
    assert parse_spec(a_spec()) == LogStreamSpec(Source(("*.log",), "/minikube-host"))


def test_the_whole_spec() -> None:
    spec = {
        "source": {
            "hostPath": "/var/log/apps",
            "files": ["a.log", "b/*.log"],
            "nodeSelector": {"z": "1", "a": "2"},
            "sharedAcrossNodes": True,
            "supplementalGroups": [4],
        },
        "server": {
            "tailLines": 5,
            "maxClients": 7,
            "allowedOrigins": ["*"],
            "authSecretRef": {"name": "s", "key": "k"},
            "resources": {"limits": {"cpu": 1}},
        },
        "replicas": 3,
        "autoscaling": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "targetCPUUtilizationPercentage": 50,
            "scaleDown": {"stabilizationWindowSeconds": 60},
        },
        "ingress": {
            "className": "",
            "host": "h",
            "path": "/a/ws",
            "viewer": True,
            "tls": [{"secretName": "t"}],
            "flavor": "none",
            "annotations": {"b": "1", "a": "2"},
        },
        "monitoring": {"podMonitor": True},
    }
    parsed = parse_spec(spec)
    assert parsed.source == Source(("a.log", "b/*.log"), "/var/log/apps", None, (("a", "2"), ("z", "1")), True, (4,))
    assert parsed.server == Server(5, 7, ("*",), SecretRef("s", "k"), {"limits": {"cpu": 1}})
    assert (parsed.replicas, parsed.autoscaling, parsed.pod_monitor) == (3, Autoscaling(2, 4, 50, 60), True)
    assert isinstance(parsed.ingress, Ingress)
    assert parsed.ingress.base_path == "/a"
    assert parsed.ingress.annotations == (("a", "2"), ("b", "1"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"source": None}, "source is missing", id="no source"),
        pytest.param({"source": {"hostPath": None}}, "exactly one", id="neither folder nor claim"),
        pytest.param({"source": {"persistentVolumeClaim": {"claimName": "c"}}}, "exactly one", id="both"),
        pytest.param({"source": {"files": ["../etc/passwd"]}}, "below the folder", id="a file outside"),
        pytest.param({"source": {"files": ["/etc/passwd"]}}, "below the folder", id="an absolute file"),
        pytest.param({"source": {"files": []}}, "below the folder", id="no files"),
        pytest.param({"ingress": {"path": "/x"}}, "must end in /ws", id="a path that does not end in /ws"),
        pytest.param({"ingress": {"flavor": "haproxy"}}, "haproxy", id="a flavour that there is not"),
        pytest.param({"replicas": "many"}, "many", id="a number that is none"),
    ],
)
def test_what_got_past_the_definition_is_not_accepted(change: dict[str, Any], words: str) -> None:
    with pytest.raises(NotAccepted) as caught:
        parse_logstream(a_body(change))
    assert caught.value.reason == "InvalidSpec"
    assert words in caught.value.message


def test_one_that_cannot_be_read_hides_no_other() -> None:
    assert [stream.key for stream in parse_all([a_body({"source": None}), a_body(name="b")])] == [Key("team", "b")]


# -- the definition itself ---------------------------------------------------------------------------------------------


def test_the_definition_names_what_the_operator_watches() -> None:
    assert DEFINITION["metadata"]["name"] == f"{PLURAL}.{GROUP}"
    assert DEFINITION["spec"]["versions"][0]["name"] == VERSION
    assert f"<= {MAX_NAME}" in SCHEMA["x-kubernetes-validations"][0]["rule"]


@pytest.mark.parametrize(
    ("path", "part"),
    walk(SCHEMA["properties"]["spec"], "spec"),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_field_is_described_and_bounded(path: str, part: dict[str, Any]) -> None:
    """What is not bounded makes rules too costly for the API server, and what is not described nobody finds."""
    if not path.endswith("[]"):
        assert part.get("description"), path
        assert part["description"].endswith((".", "other")), path
    if part.get("type") == "string":
        assert "maxLength" in part or "enum" in part, path
    if part.get("type") == "array":
        assert "maxItems" in part, path
    if "additionalProperties" in part:
        assert "maxProperties" in part, path
    for rule in part.get("x-kubernetes-validations", ()):
        assert rule["message"], path


def test_columns_show_what_one_needs() -> None:
    columns = DEFINITION["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [each["name"] for each in columns if not each.get("priority")] == [
        "Ready",
        "Replicas",
        "Clients",
        "URL",
        "Age",
    ]
    assert [each["name"] for each in columns if each.get("priority")] == ["Reason", "Node", "Path"]


@pytest.mark.parametrize(
    ("reason", "generation", "is_refused"),
    [
        pytest.param("Refused", 1, True, id="this Ingress"),
        pytest.param("Refused", 0, False, id="that of an older spec"),
        pytest.param("AddressPending", 1, False, id="another reason"),
    ],
)
def test_that_an_ingress_was_refused_is_read_from_the_status(reason: str, generation: int, is_refused: bool) -> None:
    condition = {"type": "IngressReady", "status": "False", "reason": reason, "observedGeneration": generation}
    assert not parse_logstream(a_body()).ingress_refused
    assert parse_logstream({**a_body(), "status": {"conditions": [condition]}}).ingress_refused is is_refused
